import hashlib
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
import scipy.special

from lle_jax import metrics
from lle_jax.metrics import naturalness, naturalness_models

REFERENCE = Path(__file__).parents[1] / "reference"
brisque_features = jax.jit(naturalness.brisque_features)
niqe_features = jax.jit(naturalness.niqe_features)
niqe = jax.jit(metrics.niqe)


@pytest.fixture(scope="module")
def reference():
    """Name -> (image, what pyiqa measured), and the model made up from all patches."""
    path = REFERENCE / "record_naturalness.py"
    spec = importlib.util.spec_from_file_location("record_naturalness", path)
    recorder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recorder)
    record = json.loads(recorder.PATH.read_text())["images"]
    images = recorder.images()
    for name, image in images.items():
        assert recorder.checksum(image) == record[name]["sha256"], f"{name}: not what was recorded"
    patches = np.concatenate([each["niqe"] for each in record.values()])
    both = {name: (image, record[name]) for name, image in images.items()}
    return both, recorder.model(patches)


def both_features(image):
    return naturalness.brisque_features(image), naturalness.niqe_features(image)


AS_OUTSIDE_TESTS = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}


@pytest.mark.parametrize("compiler_options", [None, AS_OUTSIDE_TESTS])
def test_features_equal_pyiqa(reference, compiler_options):
    """Ours interpolate between the entries of pyiqa's table of shapes, half of the 1e-3 allowed."""
    compiled = jax.jit(both_features, compiler_options=compiler_options)
    images, _ = reference
    for image, record in images.values():
        brisque, (features, sharpness) = compiled(image)
        np.testing.assert_allclose(brisque, record["brisque"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(features, record["niqe"], rtol=0, atol=1e-3)
        assert sharpness.shape == (len(record["niqe"]),)


def test_niqe_equals_pyiqa(reference):
    images, model = reference
    model = naturalness_models.niqe_model(*model)
    for name in ("colour", "dark"):
        image, record = images[name]
        np.testing.assert_allclose(niqe(image, model), record["score"], rtol=1e-3)


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
def test_the_fit_finds_the_shape_of_a_generalised_gaussian(shape):
    generator = np.random.default_rng(0)
    size = 400, 400
    magnitude = generator.gamma(1 / shape, size=size) ** (1 / shape)
    sign = np.where(generator.random(size) < 0.5, -1, 1)
    x = jnp.asarray(sign * magnitude, jnp.float32)
    found, variance = naturalness._symmetric(x)
    log_gamma = scipy.special.gammaln
    np.testing.assert_allclose(found, shape, rtol=0.03)
    expected = np.exp(log_gamma(3 / shape) - log_gamma(1 / shape))
    np.testing.assert_allclose(variance, expected, rtol=0.05)
    # twice as wide on the right, where then two in three samples are
    right = generator.random(size) < 2 / 3
    x = jnp.asarray(np.where(right, 2, -1) * magnitude, jnp.float32)
    (found, _, left, width), valid = naturalness._asymmetric(x, width=True)
    np.testing.assert_allclose([found, left, width], [shape, 1, 2], rtol=0.04)
    assert valid


def test_the_half_is_that_of_an_antialiased_bicubic_filter():
    # the same 8 taps from Pillow, which repeats no borders but leaves them out
    from PIL import Image

    generator = np.random.default_rng(0)
    plane = generator.random((40, 52)).astype(np.float32)
    half = np.asarray(Image.fromarray(plane).resize((26, 20), Image.Resampling.BICUBIC))
    ours = naturalness._half(jnp.asarray(plane))
    np.testing.assert_allclose(ours[2:-2, 2:-2], half[2:-2, 2:-2], atol=1e-5)
    assert naturalness._half(jnp.ones((7, 9))).shape == (4, 5)


def test_flat_patches_are_left_out_and_flat_images_have_no_value(reference):
    images, model = reference
    model = naturalness_models.niqe_model(*model)
    image = jnp.asarray(images["colour"][0])
    black = image.at[:, :96].set(0.0)
    features, _ = niqe_features(black)
    flat = np.isnan(features).all(axis=-1)
    assert flat.tolist() == [True, False, False] * 3
    assert np.isfinite(features[~flat]).all()
    assert np.isfinite(niqe(black, model))
    for level in (0.0, 0.7):
        assert np.isnan(niqe(jnp.full_like(image, level), model))
        assert np.isnan(brisque_features(jnp.full_like(image, level))).all()


def test_the_models_that_come_with_lle_jax_are_whole_and_see_damage(reference):
    for name in ("niqe", "brisque"):
        record = json.loads((naturalness_models.FOLDER / f"{name}.json").read_text())
        data = (naturalness_models.FOLDER / f"{name}.npz").read_bytes()
        assert hashlib.sha256(data).hexdigest() == record["sha256"]
        assert len(data) < 100_000
    image = jnp.asarray(reference[0]["colour"][0])
    noise = 0.1 * jax.random.normal(jax.random.key(0), image.shape)
    noisy = jnp.clip(image + noise, 0, 1)
    assert niqe(noisy, naturalness_models.bundled_niqe()) > niqe(
        image, naturalness_models.bundled_niqe()
    )
    score = jax.jit(metrics.brisque)
    assert score(noisy) > score(image) + 5


def test_gradients_are_finite_and_a_batch_equals_a_loop():
    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.random((2, 96, 96, 1)) * [[[[0.2]]], [[[1.0]]]], jnp.float32)
    images = images.at[:, :, :40].set(0)

    def loss(images):
        return metrics.niqe(images).sum() + metrics.brisque(images).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(images)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0
    both = niqe_features(images)[0]
    assert both.shape == (2, 1, 36)
    alone = jnp.stack([niqe_features(image)[0] for image in images])
    np.testing.assert_allclose(both, alone, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (jnp.zeros((95, 200, 3)), "95x200 pixels; NIQE needs at least 96x96"),
        (jnp.zeros((96, 96, 2)), "1 or 3 channels"),
        (jnp.zeros((96, 96, 3), jnp.uint8), "floating point"),
    ],
)
def test_bad_images_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        metrics.niqe(image, naturalness_models.NiqeModel(jnp.zeros(36), jnp.eye(36)))
    with pytest.raises(ValueError, match="15x200" if "95x200" in message else message):
        metrics.brisque(image[:15])


@pytest.fixture
def made_up():
    generator = np.random.default_rng(0)
    spread = generator.standard_normal((36, 50))
    return generator.standard_normal(36), spread @ spread.T / 50


def test_niqe_reads_the_authors_format_and_its_own(made_up, tmp_path):
    mean, covariance = made_up
    scipy.io.savemat(tmp_path / "a.mat", {"mu_prisparam": mean[None], "cov_prisparam": covariance})
    np.savez(tmp_path / "a.npz", mean=mean, covariance=covariance)
    for path in (tmp_path / "a.mat", tmp_path / "a.npz"):
        model = naturalness_models.load_niqe(path)
        np.testing.assert_allclose(model.mean, mean, rtol=1e-6)
        white = np.float64(model.whitening)
        np.testing.assert_allclose(white @ covariance @ white.T, np.eye(36), atol=1e-4)


def test_wrong_files_of_niqe_are_refused(made_up, tmp_path):
    mean, covariance = made_up
    refused = naturalness_models.NaturalnessError
    with pytest.raises(refused, match=r"none\.npz: No such file"):
        metrics.load_niqe(tmp_path / "none.npz")
    (tmp_path / "text.mat").write_text("text" * 100)
    with pytest.raises(refused, match=r"text\.mat: not a MATLAB file"):
        metrics.load_niqe(tmp_path / "text.mat")
    np.savez(tmp_path / "a.npz", mean=mean)
    with pytest.raises(refused, match="it lacks covariance"):
        metrics.load_niqe(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", mean=mean, covariance=covariance[:, :3])
    with pytest.raises(refused, match=r"shapes \(36,\) and \(36, 3\)"):
        metrics.load_niqe(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", mean=mean, covariance=np.ones((36, 36)))
    with pytest.raises(refused, match="not positive definite"):
        metrics.load_niqe(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", mean=np.array([{}], dtype=object), covariance=covariance)
    with pytest.raises(refused, match=r"a\.npz: not an archive of arrays"):
        metrics.load_niqe(tmp_path / "a.npz")


MACHINE = """svm_type epsilon_svr
kernel_type rbf
gamma 0.05
nr_class 2
total_sv 2
rho -20.5
SV
3 1:0.5 36:-1
-2 2:1
"""
RANGES = "x\n-1 1\n" + "".join(f"{i} {-i} {i}\n" for i in range(1, 37))


def test_brisque_reads_the_text_of_libsvm(tmp_path):
    (tmp_path / "allmodel").write_text(MACHINE)
    (tmp_path / "allrange").write_text(RANGES)
    model = naturalness_models.load_brisque(tmp_path / "allmodel", tmp_path / "allrange")
    assert model.low.tolist() == [-i for i in range(1, 37)]
    assert model.coefficients.tolist() == [3, -2]
    vectors = np.zeros((2, 36))
    vectors[0, [0, 35]], vectors[1, 1] = (0.5, -1), 1
    assert (model.vectors == vectors).all()
    image = jnp.asarray(np.random.default_rng(0).random((96, 96, 3)), jnp.float32)
    scaled = np.float64(brisque_features(image)) / np.arange(1, 37)
    kernel = np.exp(-0.05 * ((scaled - vectors) ** 2).sum(axis=1))
    np.testing.assert_allclose(
        jax.jit(metrics.brisque)(image, model), kernel @ [3, -2] + 20.5, 1e-4
    )
    np.savez(tmp_path / "own.npz", **model._asdict())
    for ours, theirs in zip(metrics.load_brisque(tmp_path / "own.npz"), model, strict=True):
        assert (ours == theirs).all()


@pytest.mark.parametrize(
    ("machine", "ranges", "message"),
    [
        (MACHINE.replace("epsilon_svr", "c_svc"), RANGES, "a c_svc rbf machine"),
        (MACHINE.replace("rbf", "linear"), RANGES, "a epsilon_svr linear machine"),
        (MACHINE.replace("total_sv 2", "total_sv 3"), RANGES, "2 of 3 vectors"),
        (MACHINE.replace("gamma 0.05\n", ""), RANGES, "lacks 'gamma'"),
        (MACHINE.replace("36:-1", "37:-1"), RANGES, "feature 37 of 36"),
        (MACHINE.replace("1:0.5", "1:nan"), RANGES, "vectors is"),
        (MACHINE.replace("SV\n", ""), RANGES, "not a model of libsvm"),
        ("text", RANGES, "not a model of libsvm"),
        (MACHINE, "text", "not a file of ranges"),
        (MACHINE, RANGES.replace("-1 1\n1", "0 1\n1"), "does not scale to -1 1"),
        (MACHINE, RANGES.replace("36 -36 36\n", ""), "35 features, expected 36"),
        (MACHINE, RANGES.replace("7 -7 7", "7 7 7"), "a feature's range is empty"),
    ],
)
def test_wrong_files_of_brisque_are_refused(tmp_path, machine, ranges, message):
    (tmp_path / "model").write_text(machine)
    (tmp_path / "range").write_text(ranges)
    with pytest.raises(naturalness_models.NaturalnessError, match=message):
        metrics.load_brisque(tmp_path / "model", tmp_path / "range")


def test_the_text_of_brisque_needs_its_ranges(tmp_path):
    (tmp_path / "model").write_text(MACHINE)
    with pytest.raises(naturalness_models.NaturalnessError, match="needs the file of ranges"):
        metrics.load_brisque(tmp_path / "model")
    (tmp_path / "model.npz").write_bytes(b"text")
    with pytest.raises(naturalness_models.NaturalnessError, match="not an archive of arrays"):
        metrics.load_brisque(tmp_path / "model.npz")

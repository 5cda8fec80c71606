import hashlib
import shutil

import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.special
from flax import nnx
from skimage.metrics import structural_similarity

from lle_jax import metrics
from lle_jax.checkpoints import segmenters
from lle_jax.experiments import base
from lle_jax.metrics.learned import lpips_shapes
from lle_jax.models import segmenter
from lle_jax.training import losses


def weights(**changes):
    """The config of a loss with these weights and no others."""
    config = base.get_config().loss
    config.update({"charbonnier": 0.0, "ssim": 0.0} | changes)
    return config


def test_charbonnier_equals_its_formula(pair):
    image, target = pair
    expected = np.sqrt((image.astype(np.float64) - target) ** 2 + 1e-6).mean()
    np.testing.assert_allclose(losses.charbonnier(image, target), expected, rtol=1e-5)


def test_charbonnier_of_identical_images_is_epsilon(photographs):
    value = losses.charbonnier(photographs, photographs, epsilon=0.25)
    np.testing.assert_allclose(value, 0.25, rtol=1e-6)


def test_the_default_adds_one_minus_ssim_to_charbonnier(pair):
    image, target = pair
    ssim = [
        structural_similarity(
            b.astype(np.float64),
            a.astype(np.float64),
            data_range=1,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(image, target, strict=True)
    ]
    expected = losses.charbonnier(image, target) + 0.3 * (1 - np.mean(ssim))
    value = losses.make(weights(charbonnier=1.0, ssim=0.3))(image, target)
    np.testing.assert_allclose(value, expected, atol=1e-6)


def filtered(image):
    """Means in the 11-tap Gaussian window, by scipy, where the window fits."""
    for axis in (1, 2):
        image = scipy.ndimage.gaussian_filter1d(image, 1.5, axis=axis, radius=5)
    return image[:, 5:-5, 5:-5]


def ms_ssim(x, y):
    """Three scales (64 pixels have room for no more), straight from the paper's formulas."""
    weights = np.array([0.0448, 0.2856, 0.3001])
    weights /= weights.sum()
    product = 1
    for scale, weight in enumerate(weights):
        mx, my = filtered(x), filtered(y)
        vx, vy, cov = (
            filtered(a * b) - filtered(a) * filtered(b) for a, b in ((x, x), (y, y), (x, y))
        )
        local = (2 * cov + 0.03**2) / (vx + vy + 0.03**2)
        if scale == 2:
            local *= (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
        product = product * local.mean(axis=(1, 2)) ** weight
        x, y = (i.reshape(2, i.shape[1] // 2, 2, -1, 2, 3).mean(axis=(2, 4)) for i in (x, y))
    return product.mean()


def edges(error):
    return (np.abs(np.diff(error, axis=1)).mean() + np.abs(np.diff(error, axis=2)).mean()) / 2


def frequencies(error):
    # by the definition, as products with the matrix of a unitary transform
    n = error.shape[1]
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n)
    transformed = np.einsum("ui,vj,bijc->buvc", matrix, matrix, error)
    return (np.abs(transformed.real).mean() + np.abs(transformed.imag).mean()) / 2


def angles(x, y):
    x, y = (np.concatenate([i, np.full((*i.shape[:-1], 1), 1e-2)], axis=-1) for i in (x, y))
    norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return (1 - (x * y).sum(axis=-1) / norms).mean()


REFERENCES = {
    "mse": lambda x, y: ((x - y) ** 2).mean(),
    "ms_ssim": lambda x, y: 1 - ms_ssim(x, y),
    "edge": lambda x, y: edges(x - y),
    "frequency": lambda x, y: frequencies(x - y),
    "colour": angles,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_term_equals_its_formula(name, pair):
    expected = REFERENCES[name](*(image.astype(np.float64) for image in pair))
    assert expected > 1e-3
    np.testing.assert_allclose(losses.TERMS[name](*pair), expected, rtol=2e-4)


@pytest.mark.parametrize("name", losses.TERMS)
def test_a_term_is_least_and_has_a_finite_gradient_where_the_images_are_equal(name, photographs):
    value, gradient = jax.jit(jax.value_and_grad(losses.TERMS[name]))(photographs, photographs)
    np.testing.assert_allclose(value, 1e-3 if name == "charbonnier" else 0, atol=1e-6)
    assert np.isfinite(gradient).all()
    assert losses.TERMS[name](0.9 * photographs[:, ::-1], photographs) > value


@pytest.mark.parametrize("name", losses.TERMS)
def test_gradients_are_finite_for_black_bright_and_noise(name):
    noise = np.random.default_rng(0).random((1, 11, 14, 3), np.float32)
    measure = jax.jit(jax.value_and_grad(losses.TERMS[name]))
    black, white = np.zeros_like(noise), np.ones_like(noise)
    for image, target in [(black, white), (white, black), (black, black), (1 - noise, noise)]:
        value, gradient = measure(image, target)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_colour_does_not_see_brightness(photographs):
    bright = np.clip(photographs, 0.2, 1)
    assert losses.colour(0.5 * bright, bright) < 1e-3
    assert losses.colour(bright * np.float32([1, 1, 0.5]), bright) > 1e-2


def test_terms_are_added_by_their_weights(pair):
    expected = 2 * losses.mse(*pair) + 0.5 * losses.edge(*pair)
    np.testing.assert_allclose(losses.make(weights(mse=2.0, edge=0.5))(*pair), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ssim": -1.0}, r"loss\.ssim is -1\.0; expected a number >= 0"),
        ({}, "nothing to minimise"),
        ({"lpips": 0.1}, r"loss\.lpips needs loss\.lpips_weights, a file .*or take loss\.ms_ssim"),
        ({"lpips": 0.1, "lpips_weights": "no.npz"}, r"loss\.lpips_weights: no\.npz"),
        (
            {"segmentation_consistency": 0.1},
            r"loss\.segmentation_consistency needs loss\.segmenter, the folder",
        ),
        (
            {"segmentation_consistency": 0.1, "segmenter": "no/such"},
            r"loss\.segmenter: no/such",
        ),
    ],
)
def test_wrong_weights_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        losses.make(weights(**changes))


def test_lpips_is_added_by_the_weights_in_a_file(pair, tmp_path):
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in lpips_shapes("alex").items()
    }
    arrays = {name: np.abs(a) if name.startswith("lin") else a for name, a in arrays.items()}
    np.savez(tmp_path / "alex.npz", **arrays)
    loss = losses.make(weights(lpips=2.0, lpips_weights=str(tmp_path / "alex.npz")))
    expected = 2 * np.mean(metrics.lpips(*pair, metrics.load_lpips(tmp_path / "alex.npz")))
    assert expected > 1e-4
    value, gradient = jax.jit(jax.value_and_grad(loss))(*pair)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.fixture
def folder(tmp_path):
    """A small segmenter with random weights, as tools/train_tasks.py writes one."""
    network = {"widths": (4, 8), "reduce": 1, "fold": 2}
    params = nnx.state(segmenter.Segmenter(**network, rngs=nnx.Rngs(3)), nnx.Param)
    segmenters.save(tmp_path / "mine", network, params, {"threshold": 0.5})
    return tmp_path / "mine"


def test_segmentation_consistency_is_the_divergence_of_probabilities(pair, folder):
    config = weights(segmentation_consistency=2.0, segmenter=str(folder))
    loss, segment = jax.jit(losses.make(config)), segmenters.load(folder)
    p, q = (np.stack([segment(image) for image in images]).astype(np.float64) for images in pair)
    data = (folder / "params.npz").read_bytes()
    assert losses.files(config) == {str(folder): hashlib.sha256(data).hexdigest()}
    expected = np.mean(scipy.special.rel_entr(q, p) + scipy.special.rel_entr(1 - q, 1 - p))
    assert expected > 1e-4
    np.testing.assert_allclose(loss(*pair), 2 * expected, rtol=1e-3)
    np.testing.assert_allclose(loss(pair[1], pair[1]), 0, atol=1e-7)
    gradient = np.asarray(jax.jit(jax.grad(loss))(*pair), np.float64)
    step = np.random.default_rng(0).normal(0, 1e-3, gradient.shape).astype(np.float32)
    slope = (loss(pair[0] + step, pair[1]) - loss(pair[0] - step, pair[1])) / 2
    np.testing.assert_allclose(np.sum(gradient * step), slope, rtol=0.05)


def test_segmentation_consistency_is_finite_where_the_segmenter_is_certain():
    certain = losses.segmentation_consistency(
        np.zeros((2, 3, 1), np.float32), np.ones((2, 3, 1), np.float32), lambda x: x[..., 0]
    )
    np.testing.assert_allclose(certain, -np.log(1e-6), rtol=0.05)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.99])
def test_what_is_added_costs_as_much_as_what_is_missed(level):
    truth = np.zeros((1, 8, 8, 1), np.float32)
    truth[:, 2:4] = 1
    missed, added = truth.copy(), truth.copy()
    missed[:, 2] = 1 - level
    added[:, 5] = level

    def loss(image):
        return losses.segmentation_consistency(image, truth, lambda x: x[..., 0])

    np.testing.assert_allclose(loss(added), loss(missed), rtol=1e-4)
    assert loss(added) > 0.05 * level


def test_nothing_is_trained_by_an_evaluation_segmenter(tmp_path):
    shutil.copytree(segmenters.FOLDER / "vessels", tmp_path / "renamed")
    with pytest.raises(ValueError, match=r"evaluates enhanced images.*train_tasks\.py --seed 1"):
        losses.make(weights(segmentation_consistency=0.1, segmenter=str(tmp_path / "renamed")))

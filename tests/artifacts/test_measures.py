import io
import math

import jax
import numpy as np
import pytest
import skimage.data
from PIL import Image

from lle_jax import artifacts
from lle_jax.artifacts import measures, study


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A dark, noisy photograph, 64 x 64: of a side that is measured whole."""
    image = skimage.data.astronaut()[0:64, 180:244] / 255 * 0.3
    noisy = image + np.random.default_rng(0).normal(0, 0.03, image.shape)
    return (np.rint(np.clip(noisy, 0, 1) * 255) / 255).astype(np.float32)


@pytest.fixture(scope="module")
def measured(scene):
    return measures.measure(scene)


def public(scene):
    salt, pepper = artifacts.impulse_density(scene)
    traces = artifacts.jpeg_traces(scene)
    return {
        "noise_sigma": artifacts.noise_sigma(scene),
        **artifacts.noise_model(scene)._asdict(),
        **{
            f"noise_{plane}_{name}": value
            for plane, noise in artifacts.noise_correlation(scene)._asdict().items()
            for name, value in noise._asdict().items()
        },
        "salt": salt,
        "pepper": pepper,
        "blur_sigma": artifacts.blur_sigma(scene),
        "jpeg_quality": traces.quality,
        "jpeg_log_odds": traces.log_odds,
        "blockiness": artifacts.blockiness(scene),
        **artifacts.exposure(scene)._asdict(),
        **study.measure(scene),
    }


def test_values_are_those_of_the_public_functions(scene, measured):
    expected = jax.jit(public)(scene)
    assert list(measured) == list(measures.UNITS)
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(measured[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert 0.02 < measured["noise_sigma"] < 0.04


def test_the_pure_function_measures_a_batch_as_one_by_one(scene, measured):
    batch = jax.jit(measures.all_measures)(np.stack([scene, scene[::-1]]))
    for name, value in measured.items():
        assert batch[name].shape == (2,)
        np.testing.assert_allclose(batch[name][0], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("shape", [(73, 91, 3), (60, 50, 1), (49, 80, 3), (7, 9, 1), (1, 1, 1)])
def test_the_study_on_the_host_is_the_study(shape):
    image = np.random.default_rng(1).random(shape, np.float32) ** 3
    found = measures.study_measures(image)
    for name, function in study.MEASURES.items():
        try:
            expected = float(jax.jit(function)(image))
        except ValueError:
            assert math.isnan(found[name]), name
        else:
            np.testing.assert_allclose(found[name], expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("side", [1, 7, 15, 16])
def test_a_small_image_lacks_only_the_measures_that_need_a_larger_one(side):
    image = np.random.default_rng(0).uniform(0.2, 0.8, (side, side, 1)).astype(np.float32)
    found = measures.measure(image)
    lacking = {name for name, value in found.items() if math.isnan(value)}
    expected = {"gaussian_noise_variance", "gain", "read_noise"}
    expected |= {name for name in measures.UNITS if name.startswith(("noise_luma", "noise_chroma"))}
    if side < 16:
        expected |= {"noise_sigma", "blur_sigma", "jpeg_quality", "jpeg_log_odds", "blockiness"}
    if side < 8:
        expected |= {"jpeg_artifact_metric"}
    assert lacking - {"salt", "pepper"} == expected


def test_the_header_quality_is_preferred_to_that_of_the_pixels(scene, tmp_path):
    levels = Image.fromarray(np.rint(scene * 255).astype(np.uint8))
    for name, options in (("a.jpg", {"quality": 40}), ("a.png", {})):
        levels.save(tmp_path / name, **options)
    assert measures.header_quality(tmp_path / "a.jpg") == 40
    assert measures.header_quality(tmp_path / "a.png") is None
    assert measures.measure(scene, quality=40)["jpeg_quality"] == 40
    assert measures.measure(scene)["jpeg_quality"] == 100


def test_a_file_that_is_no_image_has_no_header_quality(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a JPEG")
    assert measures.header_quality(tmp_path / "a.jpg") is None


def test_many_sizes_are_measured_in_few():
    sides = range(8, 3000, 7)
    crops = {measures.centre_crop(np.empty((side, 3000, 1), np.float32)).shape for side in sides}
    subsampled = {measures.subsample(np.empty((side, 3000, 1), np.float32)).shape for side in sides}
    assert len(crops) <= 8
    assert len(subsampled) <= 7
    assert all(height == width <= 1024 for height, width, _ in crops)


@pytest.mark.parametrize("shape", [(8, 8), (72, 100), (97, 1031), (584, 565), (1080, 1920)])
def test_the_centre_crop_keeps_the_grid_of_blocks_and_half_of_the_shorter_side(shape):
    rows, columns = np.indices(shape).astype(np.float32)
    part = measures.centre_crop(np.stack([rows, columns, rows], axis=-1))
    assert part[0, 0, 0] % 8 == part[0, 0, 1] % 8 == 0
    assert part.shape[0] == part.shape[1] > min(min(shape) / 2, 1023)
    np.testing.assert_array_equal(np.diff(part[..., 0], axis=0), 1)


def test_the_subsampled_image_spreads_evenly_over_the_image():
    image = np.linspace(0, 1, 584 * 565, dtype=np.float32).reshape(584, 565, 1)
    part = measures.subsample(image)
    assert part.shape == (512, 512, 1)
    assert abs(part.mean() - 0.5) < 1e-3
    assert part.min() < 0.003
    assert part.max() > 0.997


def test_jpeg_quality_is_found_in_the_middle_of_an_image_of_any_size():
    levels = skimage.data.astronaut()[:141, 100:233]
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=60)
    decoded = np.asarray(Image.open(file), np.float32) / 255
    assert measures.measure(decoded)["jpeg_quality"] == 60


def test_batches_and_other_channels_are_refused_on_the_host():
    for shape in ((2, 8, 8, 3), (8, 8, 2), (8, 8)):
        with pytest.raises(ValueError, match=r"shape \("):
            measures.measure(np.zeros(shape, np.float32))


def test_measures_of_float32_are_float32_with_64_bits_enabled():
    image = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)
    names = ("noise_sigma", "impulse_density", "blur_sigma", "jpeg_traces", "blockiness")
    with jax.enable_x64(True):
        for name in (*names, "exposure", "noise_model", "noise_correlation"):
            found = jax.tree.leaves(getattr(artifacts, name)(image))
            assert {value.dtype for value in found} == {np.dtype(np.float32)}, name

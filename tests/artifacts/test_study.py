"""The study's measures against NumPy and SciPy in float64, and its severity table."""

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import skimage.data
from PIL import Image

from lle_jax.artifacts import study

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
measure = jax.jit(study.measure)  # one program a size; a test below compares it with eager calls


def reference(levels):
    """The definitions again, on uint8 `[H, W, C]`, in float64."""
    if levels.shape[-1] == 3:
        # Whole numbers divided by 10000 are correctly rounded, so a tie is exactly a half.
        grey = np.floor(levels.astype(np.int64) @ np.array([2989, 5870, 1140]) / 10000 + 0.5)
    else:
        grey = levels[..., 0].astype(np.float64)
    grey = grey / 255
    alpha = 0.2
    corner, side = alpha / 4, (1 - alpha) / 4
    kernel = np.array([[corner, side, corner], [side, -1, side], [corner, side, corner]])
    laplacian = scipy.ndimage.convolve(grey, 4 / (alpha + 1) * kernel, mode="nearest")
    starts = (
        (y, x) for y in range(0, grey.shape[0] - 7, 8) for x in range(0, grey.shape[1] - 7, 8)
    )
    return {
        "gaussian_noise_variance": np.var(grey[:50, :50], ddof=1),
        "salt_and_pepper_ratio": np.mean((grey > 0.95) | (grey < 0.05)),
        "blur_metric": np.mean(np.abs(laplacian)),
        "jpeg_artifact_metric": np.mean(
            [np.var(grey[y : y + 8, x : x + 8], ddof=1) for y, x in starts]
        ),
    }


def assert_equal_to_reference(levels):
    with jax.enable_x64(True):
        double = measure(jnp.asarray(levels / 255.0))
    single = measure(jnp.asarray((levels / 255.0).astype(np.float32)))
    for name, expected in reference(levels).items():
        assert double[name].dtype == np.float64
        assert single[name].dtype == np.float32
        assert abs(float(double[name]) - expected) <= 1e-12, name
        assert abs(float(single[name]) - expected) <= 1e-6, name
        np.testing.assert_allclose(single[name], expected, rtol=1e-5, atol=1e-12)


@pytest.fixture(scope="module")
def dark():
    """A photograph darkened to a fifth, sides that are no multiple of 8: uint8 `[101, 93, 3]`."""
    return (0.2 * skimage.data.astronaut()[:101, 180:273]).astype(np.uint8)


@pytest.mark.parametrize(
    "levels",
    [
        skimage.data.retina()[300:509, 300:601],
        skimage.data.immunohistochemistry(),
        (0.2 * skimage.data.astronaut()).astype(np.uint8),
        skimage.data.camera()[..., None],
    ],
    ids=["retina", "immunohistochemistry", "dark astronaut", "camera"],
)
def test_measures_equal_scipy_on_photographs(levels):
    assert_equal_to_reference(levels)


@pytest.mark.parametrize(
    "name",
    [
        "drive/images/01.png",
        "kvasir_seg/images",
        "ham10000/images",
        "chest_xray/images",
    ],
)
def test_measures_equal_scipy_on_medical_images(name):
    path = SHARED / "data" / name
    if path.is_dir():
        path = min(path.iterdir())
    if not path.is_file():
        pytest.skip(f"no {path.name} in ../shared/data beside the checkout")
    levels = np.asarray(Image.open(path))
    assert_equal_to_reference(levels.reshape(*levels.shape[:2], -1))


def test_grey_levels_round_halves_up_and_keep_white():
    colours = np.array([[[255, 255, 255], [0, 50, 0], [100, 0, 0], [0, 0, 0]]]) / 255
    # 0.2989 + 0.5870 + 0.1140 is 0.9999; 29.35 and 29.89 are rounded
    assert study.grey_levels(colours.astype(np.float32)).tolist() == [[255, 29, 30, 0]]
    tie = np.array([[[0, 100, 200]]])  # 58.7 + 22.8 = 81.5
    assert study.grey_levels((tie / 255).astype(np.float32)).tolist() == [[82]]


def test_measures_of_a_batch_under_jit_are_those_of_each_image(dark):
    batch = np.stack([dark, dark[::-1]]).astype(np.float32) / 255
    together = jax.jit(study.measure)(batch)
    for index, image in enumerate(batch):
        for name, value in study.measure(image).items():
            np.testing.assert_allclose(together[name][index], value, rtol=1e-6)


def test_measures_of_half_precision_are_not_lost_to_underflow(dark):
    half = study.measure((dark / 255).astype(np.float16))
    full = study.measure((dark / 255).astype(np.float32))
    for name, value in full.items():
        # 8-bit levels survive float16, so the integers are the same
        assert half[name] == value


def test_dark_images_are_called_salt_and_pepper():
    dark = skimage.data.retina()[::8, ::8].astype(np.float32) * (0.15 / 255)
    assert study.salt_and_pepper_ratio(dark) > 0.2
    assert study.salt_and_pepper_ratio(np.full((9, 9, 1), 0.3, np.float32)) == 0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gaussian_noise_variance", [0.0099, 0.01, 0.02, 0.0201], "wmms"),
        ("salt_and_pepper_ratio", [0.0199, 0.02, 0.0499, 0.05], "wmms"),
        ("laplacian_variance", [0.0501, 0.05, 0.02, 0.0199], "wmms"),
        ("jpeg_block_variance", [5, 5.01, 10, 10.01], "wmms"),
    ],
)
def test_severity_at_the_limits_of_the_table(name, value, expected):
    row = study.thresholds()[name]
    measures = dict.fromkeys(study.MEASURES, np.zeros(4))
    measures[row["measure"]] = np.array(value) / row["scale"]
    assert "".join(word[0] for word in study.severity(measures)[name]) == expected


def test_severity_table_is_the_published_one():
    path = SHARED / "reference" / "artifact_severity.csv"
    if not path.is_file():
        pytest.skip("no ../shared/reference/artifact_severity.csv beside the checkout")
    ours = study.thresholds()
    with path.open() as file:
        for row in csv.DictReader(file):
            for class_ in ("weak", "strong"):
                sign, limit = row[class_].split()
                assert ours[row["artifact"]][class_] == [sign, float(limit)]
            ends = {ours[row["artifact"]][class_][1] for class_ in ("weak", "strong")}
            numbers = row["moderate"].replace("<", "").replace(">", "").split(" to ")
            assert {float(number) for number in numbers} == ends


def test_severity_of_the_published_measures():
    path = SHARED / "reference" / "artifact_quantification.csv"
    if not path.is_file():
        pytest.skip("no ../shared/reference/artifact_quantification.csv beside the checkout")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    measures = {name: np.array([float(row[name]) for row in rows]) for name in study.MEASURES}
    found = study.severity(measures)
    assert (found["gaussian_noise_variance"] == "weak").all()
    assert (found["salt_and_pepper_ratio"] == "strong").all()
    assert set(found["jpeg_block_variance"]) == {"weak", "moderate", "strong"}


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="dtype uint8"):
        study.blur_metric(np.zeros((60, 60, 3), np.uint8))
    with pytest.raises(ValueError, match="at least 50 x 50"):
        study.gaussian_noise_variance(np.zeros((49, 60, 3), np.float32))
    with pytest.raises(ValueError, match="at least 8 x 8"):
        study.jpeg_artifact_metric(np.zeros((9, 7, 1), np.float32))
    with pytest.raises(ValueError, match="measures lacks gaussian_noise_variance"):
        study.severity({"blur_metric": 0.1})
    with pytest.raises(ValueError, match="blur_metric is NaN"):
        study.severity(dict.fromkeys(study.MEASURES, 0.0) | {"blur_metric": np.nan})

"""The quality found in decoded pixels against the quality Pillow compressed with."""

import io

import jax
import numpy as np
import pytest
import skimage.data
from PIL import Image

from lle_jax.artifacts import (
    blockiness,
    file_quality,
    jpeg_quality,
    jpeg_traces,
    quality_of_table,
)

QUALITIES = (10, 30, 50, 75, 85, 90, 95, 98)


def encode(levels, quality, **options):
    data = io.BytesIO()
    Image.fromarray(levels).save(data, "JPEG", quality=quality, **options)
    return data


def decoded(levels, quality, **options):
    pixels = np.asarray(Image.open(encode(levels, quality, **options)))
    return pixels.reshape(*levels.shape[:2], -1).astype(np.float32) / 255


@pytest.fixture(scope="module")
def photo():
    """Half as large as the original, so that no trace of its own history is left."""
    pixels = skimage.data.immunohistochemistry()[:352, :400].reshape(176, 2, 200, 2, 3)
    return np.rint(pixels.mean((1, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def measure():
    return jax.jit(jpeg_traces)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_quality_is_the_one_pillow_compressed_with(photo, measure, subsampling):
    for quality in QUALITIES:
        found = measure(decoded(photo, quality, subsampling=subsampling))
        assert found.quality == quality
        assert found.log_odds > 50


@pytest.mark.parametrize("quality", [20, 50, 90])
def test_quality_of_dark_images(photo, measure, quality):
    dark = np.rint(0.15 * photo).astype(np.uint8)
    # Steps of neighbouring qualities are the same where a dark image has coefficients.
    assert abs(measure(decoded(dark, quality)).quality - quality) <= 1


def test_quality_of_grey_images(photo):
    found = jpeg_quality(decoded(photo[..., 1], 80))
    assert found == 80


def test_never_compressed_images_raise_no_alarm(photo, measure):
    for levels in (photo, np.rint(0.15 * photo), np.rint(255 * 0.3 * (photo / 255) ** 2.2)):
        found = measure(levels.astype(np.float32) / 255)
        assert found.log_odds < 0
        assert found.quality == 100


def test_uniform_images_are_no_evidence():
    for level in (0, 3, 128, 255):
        flat = np.full((64, 64, 3), level / 255, np.float32)
        assert jpeg_quality(flat) == 100


def test_traces_are_lost_when_the_grid_is(photo, measure):
    cut = decoded(np.pad(photo, [(4, 0), (4, 0), (0, 0)], mode="edge"), 50)[4:, 4:]
    assert measure(cut).log_odds < 0


def test_quality_of_a_batch_is_that_of_each(photo):
    batch = np.stack([decoded(photo, 40), decoded(photo, 90)])
    assert jpeg_quality(batch).tolist() == [40, 90]


def test_header_tables_give_the_exact_quality(photo, tmp_path):
    for quality in range(1, 101):
        table = Image.open(encode(photo[:8, :8], quality)).quantization[0]
        assert quality_of_table(table) == quality
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(photo, 37).getvalue())
    assert file_quality(path) == 37
    Image.fromarray(photo).save(tmp_path / "a.png")
    assert file_quality(tmp_path / "a.png") is None
    (tmp_path / "a.txt").write_text("no image")
    assert file_quality(tmp_path / "a.txt") is None


def test_blockiness_grows_as_quality_falls(photo):
    values = [float(blockiness(decoded(photo, quality))) for quality in (5, 15, 30, 80)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.02
    assert abs(float(blockiness(photo.astype(np.float32) / 255))) < 0.003


def test_blockiness_of_a_known_pattern():
    # Uniform blocks in a checkerboard of 0.2 and 0.5: every border is a step of 0.3.
    board = np.kron(np.indices((4, 5)).sum(0) % 2, np.ones((8, 8)))[..., None]
    assert blockiness((0.2 + 0.3 * board).astype(np.float32)) == pytest.approx(0.3, rel=1e-5)
    shifted = np.roll(0.2 + 0.3 * board, 3, axis=(0, 1)).astype(np.float32)
    assert abs(blockiness(shifted)) < 1e-6


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="at least 8 x 8"):
        jpeg_quality(np.zeros((7, 64, 1), np.float32))
    with pytest.raises(ValueError, match="at least 16 x 16"):
        blockiness(np.zeros((15, 64, 1), np.float32))
    with pytest.raises(ValueError, match="63 steps"):
        quality_of_table(np.ones(63))

import subprocess
import sys

import jax
import numpy as np
import pytest
import skimage.data

import lle_jax
from lle_jax import images, models
from lle_jax.inference import enhance, tiles
from lle_jax.models import grid

# Images of 128 x 128 are as large as the tiles, for which one program is then compiled.


pytestmark = pytest.mark.usefixtures("whole_correction")


@pytest.fixture(scope="module")
def net(folder):
    return enhance.load(folder)


@pytest.fixture(scope="module")
def scene():
    """A photograph of 300 x 260, more than one strip high, dark at the left."""
    image = skimage.data.astronaut()[:300, 120:380]
    return (image / 255 * np.linspace(0.2, 1, 260)[:, None]).astype(np.float32)


@pytest.fixture(scope="module")
def whole(config, params, scene):
    restored = jax.jit(lambda params, image: models.bind(config)(params)(image))(
        params, scene[None]
    )
    return np.clip(restored[0], 0, 1)


def test_tiles_have_no_seams(net, scene, whole):
    assert np.abs(whole - scene).max() > 0.05
    for largest in (128, 192, 1024):
        out, unchanged = enhance.enhance_pixels(net, scene, largest=largest)
        assert not unchanged
        assert np.abs(out - whole).max() < 1e-4


def test_in_place_gives_the_same(net, scene, whole):
    for largest in (128, 192):
        image = scene.copy()
        out, _ = enhance.enhance_pixels(net, image, largest=largest, inplace=True)
        assert np.shares_memory(out, image)
        assert np.abs(image - whole).max() < 1e-4


@pytest.mark.parametrize("size", [*range(1, 40), 149, 150, 500, 1025, 2048, 12000])
@pytest.mark.parametrize("reach", [17, 63])
def test_tiles_cover_an_axis_and_keep_what_is_beyond_their_reach(size, reach):
    side, _ = tiles.choose_shape(size, size, 8, reach, 512)
    parts = list(tiles.cover(size, side, 8, reach))
    assert [part.first for part in parts] == [0, *(part.last for part in parts[:-1])]
    assert parts[-1].last == size
    assert parts[-1].stop == (-(-size // 8) * 8 if len(parts) > 1 else side)
    assert {part.stop - part.start for part in parts} == {side}
    assert side <= 512
    for part in parts:
        assert part.start % 8 == 0
        assert part.start == 0 or part.first - part.start >= reach
        assert part.last == size or part.stop - part.last >= reach


def test_many_sizes_need_few_programs():
    sizes = [(height, width) for height in range(1, 2000, 37) for width in range(1, 2000, 41)]
    shapes = {tiles.choose_shape(*size, 8, 63, 1024) for size in sizes}
    assert shapes <= set(tiles.SHAPES)
    assert len(tiles.SHAPES) < 30
    assert tiles.choose_shape(512, 512, 16, 79, 1024) == (512, 512)
    assert tiles.choose_shape(470, 340, 16, 79, 1024) == (512, 384)
    assert tiles.choose_shape(12000, 9000, 16, 79, 1024) == (1024, 1024)
    assert tiles.choose_shape(200, 480, 16, 79, 1024) == (256, 320)  # two, less than 384 x 512


@pytest.mark.parametrize("shape", [(1, 1), (37, 90), (100, 60), (128, 128)])
def test_what_lies_beyond_the_image_has_no_effect(config, params, net, scene, shape):
    image = np.ascontiguousarray(scene[: shape[0], : shape[1]])
    restored = jax.jit(lambda params, image: models.bind(config)(params)(image))(
        params, image[None]
    )
    out, _ = enhance.enhance_pixels(net, image)
    assert np.abs(out - np.clip(restored[0], 0, 1)).max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 1), (5, 70), (300, 31), (600, 7)])
def test_statistics_in_strips_are_those_of_the_network(shape):
    image = np.random.default_rng(0).random((*shape, 3)).astype(np.float32)
    for channels in (image, np.repeat(image[..., :1], 3, axis=-1)):
        brightness, noise = np.split(tiles.cell_means(channels), 2, axis=-1)
        found = np.concatenate(
            [np.log(brightness + 0.01) / 2 + 1, np.log(noise + 1e-3) / 3 + 1.3], axis=-1
        )
        expected = jax.jit(lambda i: grid.statistics(grid.cell_means(i)))(channels[None])
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 4), (2, 9, 7, 3)]
)
def test_shape_type_grey_and_opacity_are_kept(folder, dtype, shape):
    image = np.random.default_rng(0).random(shape)
    kind = np.dtype(dtype).kind
    image = (image * np.iinfo(dtype).max if kind == "u" else image).astype(dtype)
    before = image.copy()
    out = lle_jax.enhance(image, model=folder)
    np.testing.assert_array_equal(image, before)
    assert out.shape == shape
    assert out.dtype == (dtype if kind == "u" else np.float32)
    if shape[-1] in (2, 4):
        np.testing.assert_array_equal(out[..., -1], image[..., -1].astype(out.dtype))
    assert (out != image).any()


def test_sixteen_bits_stay_sixteen_bits(folder):
    ramp = np.linspace(0, 65535, 128 * 128).reshape(128, 128).astype(np.uint16)
    out = lle_jax.enhance(ramp, model=folder)
    assert len(np.unique(out)) > 1500
    unit = lle_jax.enhance(ramp / np.float32(65535), model=folder)
    np.testing.assert_array_equal(out, np.rint(unit * 65535))


def test_grey_stays_exactly_grey(folder, scene):
    grey = (scene[:128, :128] * 255).astype(np.uint8)[..., :1]
    as_colour = lle_jax.enhance(np.repeat(grey, 3, axis=-1), model=folder)
    assert (as_colour == as_colour[..., :1]).all()
    np.testing.assert_array_equal(as_colour[..., :1], lle_jax.enhance(grey, model=folder))


def test_strength_blends(folder, scene):
    image = scene[:128, :128]
    full = lle_jax.enhance(image, model=folder)
    half = lle_jax.enhance(image, model=folder, strength=0.5)
    inside = (full > 0) & (full < 1)
    np.testing.assert_allclose(half[inside], ((image + full) / 2)[inside], atol=1e-6)
    np.testing.assert_array_equal(lle_jax.enhance(image, model=folder, strength=0), image)


def test_a_file_is_read_as_images_are(folder, tmp_path, scene):
    images.write(tmp_path / "a.png", scene[:128, :128])
    out = lle_jax.enhance(tmp_path / "a.png", model=folder)
    pixels = images.read(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(out, lle_jax.enhance(pixels, model=folder))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.int32), "dtype int32"),
        (np.zeros((4, 4, 5), np.uint8), "1 to 4 channels"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.full((4, 4), 2.0), "outside"),
        (np.full((4, 4), np.nan), "outside"),
        ("nothing.png", "nothing.png: no such file"),
    ],
)
def test_what_is_no_image_is_said(folder, image, message):
    with pytest.raises(ValueError, match=message):
        lle_jax.enhance(image, model=folder)


def test_strength_outside_0_to_1_is_refused(folder):
    with pytest.raises(ValueError, match="strength is 2"):
        lle_jax.enhance(np.zeros((4, 4)), model=folder, strength=2)


@pytest.mark.parametrize("name", ["gate", "skip_well_exposed"])
def test_a_former_argument_is_refused_with_what_is_there_now(folder, name):
    with pytest.raises(TypeError, match=f"{name!r}; it is the default now; always=True"):
        lle_jax.enhance(np.zeros((4, 4)), model=folder, **{name: True})
    with pytest.raises(TypeError, match="unexpected argument 'strenght'"):
        lle_jax.enhance(np.zeros((4, 4)), model=folder, strenght=1)


def test_importing_the_package_does_not_import_jax():
    code = "import sys, lle_jax; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'enhence'"):
        _ = lle_jax.enhence

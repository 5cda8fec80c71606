"""TIFF against tifffile, Pillow and OpenCV, each as the writer and as the reader."""

import io
import lzma
import struct
import zlib

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image, ImageOps

from lle_jax import images

COLOUR = skimage.data.astronaut()[100:133, 200:241]
GREY = COLOUR[..., 1]
DEEP = (COLOUR.astype(np.uint16) * 257) ^ np.uint16(0x5A)


def unit(levels):
    return (levels / np.float32(np.iinfo(levels.dtype).max)).astype(np.float32)


def patched(data, code, value):
    """TIFF bytes with the 16-bit value of one tag replaced."""
    data = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        tag = tif.pages[0].tags[code]
        order = tif.byteorder
    struct.pack_into(order + "H", data, tag.valueoffset, value)
    return bytes(data)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib", "packbits"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("levels", [COLOUR, DEEP], ids=["8", "16"])
def test_layouts_are_read_alike(tmp_path, planar, compression, tile, levels):
    array = levels if planar == "contig" else np.moveaxis(levels, -1, 0)
    if compression == "packbits":
        file = io.BytesIO()
        Image.fromarray(COLOUR).save(file, "TIFF", compression="packbits")
        (tmp_path / "a.tif").write_bytes(file.getvalue())
        levels = COLOUR
    else:
        tifffile.imwrite(
            tmp_path / "a.tif",
            array,
            photometric="rgb",
            planarconfig=planar,
            compression=compression,
            tile=tile,
            byteorder=">" if tile else "<",
            bigtiff=planar == "separate",
        )
    picture = images.read(tmp_path / "a.tif")
    assert np.array_equal(picture.pixels, unit(levels))
    assert picture.bits == 8 * levels.itemsize


@pytest.mark.parametrize(
    "levels", [COLOUR, GREY, DEEP, DEEP[..., 0]], ids=["rgb8", "grey8", "rgb16", "grey16"]
)
def test_lzw_by_opencv_is_read_exactly(tmp_path, levels):
    bgr = levels[..., ::-1] if levels.ndim == 3 else levels
    assert cv2.imwrite(str(tmp_path / "a.tif"), bgr, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    pixels = images.read(tmp_path / "a.tif").pixels
    assert np.array_equal(pixels, unit(levels.reshape(*levels.shape[:2], -1)))


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
def test_compressions_by_pillow_are_read_as_pillow_reads_them(tmp_path, compression, mode):
    if compression == "jpeg" and mode in ("RGBA", "LA", "P", "1"):
        compression = "raw"
    image = Image.fromarray(np.dstack([COLOUR, GREY // 2]), "RGBA").convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as theirs:
        theirs = theirs.convert({"P": "RGB", "1": "L"}.get(mode, mode))
        expected = np.asarray(theirs).reshape(33, 41, -1)
    picture = images.read(tmp_path / "a.tif")
    if mode in ("RGBA", "LA"):
        assert np.array_equal(picture.alpha, expected[..., -1])
        expected = expected[..., :-1]
    assert picture.bits == 8
    assert np.abs(picture.pixels - unit(expected)).max() < 1e-6


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("levels", [GREY, DEEP[..., 0]], ids=["8", "16"])
def test_white_is_zero_is_turned_round(tmp_path, compression, levels):
    if compression == "lzw":
        data = cv2.imencode(".tiff", levels, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    else:
        file = io.BytesIO()
        tifffile.imwrite(file, levels, photometric="minisblack", compression=compression)
        data = file.getvalue()
    (tmp_path / "a.tif").write_bytes(patched(data, 262, 0))
    pixels = images.read(tmp_path / "a.tif").pixels
    assert np.abs(pixels[..., 0] - (1 - unit(levels))).max() < 1e-6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_orientation_is_applied(tmp_path, orientation, compression):
    Image.fromarray(COLOUR).save(
        tmp_path / "a.tif", compression=compression, tiffinfo={274: orientation}
    )
    with Image.open(tmp_path / "a.tif") as theirs:
        expected = np.asarray(ImageOps.exif_transpose(theirs))
    assert np.array_equal(images.read(tmp_path / "a.tif").pixels, unit(expected))


def test_pages_become_frames_and_go_back(tmp_path):
    stack = np.stack([DEEP, DEEP[::-1], 65535 - DEEP])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb")
    picture = images.read(tmp_path / "a.tif")
    assert np.array_equal(picture.pixels, unit(stack))
    one = images.read(tmp_path / "a.tif", frame=1)
    assert np.array_equal(one.pixels, unit(stack[1]))
    images.write(tmp_path / "b.tif", picture.pixels, like=picture)
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), stack)
    with pytest.raises(images.ImageError, match="3 pixels are more than the limit"):
        images.read(tmp_path / "a.tif", max_pixels=33 * 41)
    images.read(tmp_path / "a.tif", frame=2, max_pixels=33 * 41)
    with pytest.raises(images.ImageError, match="one frame"):
        images.write(tmp_path / "b.png", picture.pixels, like=picture)


def test_pages_that_differ_are_read_one_by_one_and_thumbnails_passed_over(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(COLOUR, photometric="rgb", metadata=None)
        tif.write(COLOUR[::2, ::2], photometric="rgb", metadata=None, subfiletype=1)
    assert np.array_equal(images.read(tmp_path / "a.tif").pixels, unit(COLOUR))
    with tifffile.TiffWriter(tmp_path / "b.tif") as tif:
        tif.write(COLOUR, photometric="rgb", metadata=None)
        tif.write(DEEP[..., 0], photometric="minisblack", metadata=None)
    with pytest.raises(images.ImageError, match="pages differ"):
        images.read(tmp_path / "b.tif")
    assert np.array_equal(images.read(tmp_path / "b.tif", frame=1).pixels, unit(DEEP[..., :1]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_in_the_unit_interval_is_kept(tmp_path, dtype):
    levels = (COLOUR / 255).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", levels, photometric="rgb")
    picture = images.read(tmp_path / "a.tif")
    assert picture.bits == 32
    assert np.array_equal(picture.pixels, levels.astype(np.float32))
    images.write(tmp_path / "b.tif", picture.pixels, like=picture)
    assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), picture.pixels)
    images.write(tmp_path / "c.png", picture.pixels, like=picture)
    assert images.read(tmp_path / "c.png").bits == 16
    for worst in (-0.1, 1.1, np.nan):
        levels[3, 4, 1] = worst
        tifffile.imwrite(tmp_path / "d.tif", levels, photometric="rgb")
        with pytest.raises(images.ImageError, match=r"not in \[0, 1\]"):
            images.read(tmp_path / "d.tif")


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.complex64])
def test_other_sample_types_are_refused_by_name(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(dtype), photometric="minisblack")
    with pytest.raises(images.ImageError, match=f"type {np.dtype(dtype)} are not supported"):
        images.read(tmp_path / "a.tif")


def test_cmyk_and_many_channels_are_refused(tmp_path):
    four = np.dstack([COLOUR, GREY])
    tifffile.imwrite(tmp_path / "a.tif", four, photometric="separated")
    with pytest.raises(images.ImageError, match="SEPARATED"):
        images.read(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.dstack([four, four]), photometric="rgb")
    with pytest.raises(images.ImageError, match="8 samples a pixel"):
        images.read(tmp_path / "b.tif")


def test_premultiplied_colour_is_divided_by_its_opacity(tmp_path):
    alpha = np.full_like(GREY, 128)
    levels = np.dstack([COLOUR // 2, alpha])
    tifffile.imwrite(tmp_path / "a.tif", levels, photometric="rgb", extrasamples=["assocalpha"])
    picture = images.read(tmp_path / "a.tif")
    assert np.abs(picture.pixels - (COLOUR // 2) / 128).max() < 1e-6
    assert np.array_equal(picture.alpha, alpha)


@pytest.mark.parametrize(
    ("code", "compress"),
    [
        (8, zlib.compress),
        (34925, lzma.compress),
        (34925, lambda data: lzma.compress(b"0") + lzma.compress(data)),
    ],
    ids=["deflate", "lzma", "lzma, two streams"],
)
def test_a_strip_that_unpacks_to_more_than_the_header_says_is_refused(tmp_path, code, compress):
    file = io.BytesIO()
    tifffile.imwrite(file, GREY, compression="zlib", metadata=None, rowsperstrip=33)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tif:
        compression, offsets, counts = (tif.pages[0].tags[tag] for tag in (259, 273, 279))
    bomb = compress(bytes(50_000_000))
    data = bytearray(file.getvalue())
    struct.pack_into("<H", data, compression.valueoffset, code)
    struct.pack_into("<I", data, offsets.valueoffset, len(data))
    struct.pack_into("<I", data, counts.valueoffset, len(bomb))
    (tmp_path / "a.tif").write_bytes(bytes(data) + bomb)
    with pytest.raises(images.ImageError, match="larger than its header says"):
        images.read(tmp_path / "a.tif")


def test_a_list_of_pages_that_turns_in_a_circle_is_refused(tmp_path):
    file = io.BytesIO()
    tifffile.imwrite(file, GREY, metadata=None)
    data = bytearray(file.getvalue())
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(images.ImageError, match="list of pages"):
        images.read(tmp_path / "a.tif")

"""Every layout of a TIFF file is read as it was written, or refused by name.

The files are written here, by the standard and no library:
TIFF 6.0: sections 2 (structure), 8 (orientation of bits), 9 (PackBits), 13 (LZW), 14 (predictor),
15 (tiles), 18 (associated alpha); Technical Note 3 (floating-point predictor).
"""

import io
import itertools
import lzma
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from lle_jax import images
from lle_jax.images import extra

COMPRESSIONS = {"none": 1, "lzw": 5, "jpeg": 7, "deflate": 8, "packbits": 32773, "lzma": 34925}
PHOTOMETRICS = {
    "miniswhite": 0, "minisblack": 1, "rgb": 2, "palette": 3, "cmyk": 5, "ycbcr": 6, "cielab": 8,
}  # fmt: skip
TILE, STRIP = 16, 10  # rows


def lzw(data):
    """Codes of 9 bits only: the table is cleared before it needs a tenth."""
    codes = [256]
    for start in range(0, len(data), 250):
        codes += [*data[start : start + 250], 256]
    codes[-1] = 257
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def packbits(data):
    parts = (data[start : start + 128] for start in range(0, len(data), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def jpeg(block):
    """8-bit `[H, W, S]`; the colour space is that of JFIF: grey or YCbCr."""
    file = io.BytesIO()
    Image.fromarray(block[..., 0] if block.shape[-1] == 1 else block).save(file, "JPEG", quality=95)
    return file.getvalue()


def packed(block, depth, order):
    """Rows of samples of `depth` bits, each row from a whole byte."""
    if block.dtype.kind == "f" or depth in (8, 16, 32):
        return block.astype(block.dtype.newbyteorder(order)).tobytes()
    bits = (block.reshape(len(block), -1, 1) >> np.arange(depth)[::-1]) & 1
    return np.packbits(bits.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()


def predicted(block, predictor):
    """Differences along rows, of samples (2) or of the bytes of floats, most significant first (3).

    Returns the block of predictor 2, or the bytes of 3.
    """
    if predictor == 2:
        if block.dtype.kind == "f":
            unsigned = block.view(f"u{block.dtype.itemsize}")
            return predicted(unsigned, 2).view(block.dtype)
        return np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
    rows, columns, samples = block.shape
    size = block.dtype.itemsize
    data = block.astype(block.dtype.newbyteorder(">")).view(np.uint8)
    data = data.reshape(rows, columns * samples, size).swapaxes(1, 2).reshape(rows, -1, samples)
    return np.diff(data, axis=1, prepend=np.zeros_like(data[:, :1])).tobytes()


def segments(levels, planar, tiled):
    """The blocks `[h, w, s]` in the order of the file, tiles filled up."""
    planes = [levels] if planar == 1 else np.split(levels, levels.shape[-1], axis=-1)
    height, width = levels.shape[:2]
    for plane in planes:
        if not tiled:
            yield from (plane[top : top + STRIP] for top in range(0, height, STRIP))
            continue
        for top, left in itertools.product(range(0, height, TILE), range(0, width, TILE)):
            block = plane[top : top + TILE, left : left + TILE]
            pad = [(0, TILE - block.shape[0]), (0, TILE - block.shape[1]), (0, 0)]
            yield np.pad(block, pad, "edge")


def encoded(block, depth, compression, predictor, order):
    if compression == "jpeg":
        return jpeg(block)
    block = predicted(block, predictor) if predictor > 1 else block
    data = block if isinstance(block, bytes) else packed(block, depth, order)
    return {
        "none": bytes, "lzw": lzw, "packbits": packbits, "deflate": zlib.compress,
        "lzma": lzma.compress,
    }[compression](data)  # fmt: skip


def tiff(
    levels, depth, photometric, compression="none", *, planar=1, predictor=1, tiled=False,
    order="<", extra=None, palette=None, more=(),
):  # fmt: skip
    """Bytes of a file of the levels `[H, W, S]`, with ExtraSamples `extra` and the tags `more`."""
    blocks = [
        encoded(np.ascontiguousarray(block), depth, compression, predictor, order)
        for block in segments(levels, planar, tiled)
    ]
    height, width, samples = levels.shape
    form = 3 if levels.dtype.kind == "f" else 1
    starts = [8 + sum(map(len, blocks[:i])) for i in range(len(blocks))]
    tags = [
        (256, "H", [width]), (257, "H", [height]), (258, "H", [depth] * samples),
        (259, "H", [COMPRESSIONS[compression]]), (262, "H", [PHOTOMETRICS[photometric]]),
        (277, "H", [samples]), (284, "H", [planar]), (317, "H", [predictor]),
        (339, "H", [form] * samples), *more,
    ]  # fmt: skip
    places = (324, 325) if tiled else (273, 279)
    tags += [(322, "H", [TILE]), (323, "H", [TILE])] if tiled else [(278, "H", [STRIP])]
    tags += [(places[0], "I", starts), (places[1], "I", [len(block) for block in blocks])]
    tags += [(338, "H", extra)] if extra is not None else []
    tags += [(320, "H", palette)] if palette is not None else []
    tags += [(530, "H", [2, 2])] if photometric == "ycbcr" else []
    body = b"".join(blocks)
    body += bytes(len(body) % 2)
    first = 8 + len(body)
    entries, beyond = b"", b""
    for code, kind, values in sorted(tags, key=lambda tag: tag[0]):
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        entries += struct.pack(f"{order}HHI", code, {"B": 1, "H": 3, "I": 4}[kind], len(values))
        if len(data) <= 4:
            entries += data.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "I", first + 2 + 12 * len(tags) + 4 + len(beyond))
            beyond += data + bytes(len(data) % 2)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, first)
    return head + body + struct.pack(order + "H", len(tags)) + entries + bytes(4) + beyond


HEIGHT, WIDTH = 21, 27  # neither a multiple of a tile, nor of 8 bits
DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 32, "f2", "f4", "f8")
OPACITIES = {None: [], "unspecified": [0], "associated": [1], "straight": [2], "two": [2, 0]}
COLOURS = {"rgb": 3, "ycbcr": 3, "cmyk": 4, "cielab": 3}
MATRIX = list(
    itertools.product(
        PHOTOMETRICS, DEPTHS, COMPRESSIONS, (1, 2), OPACITIES, (1, 2, 3),
        (False, True), "<>",
    )
)  # fmt: skip


def sound(photometric, depth, compression, planar, opacity, predictor, *_):
    """Whether a program may write such a file."""
    floating = isinstance(depth, str)
    samples = COLOURS.get(photometric, 1) + len(OPACITIES[opacity])
    return not (
        (photometric == "palette" and (floating or depth > 16))
        or (predictor == 3 and not floating)
        or (predictor == 2 and not floating and depth not in (8, 16, 32))
        or (predictor > 1 and compression in ("none", "jpeg", "packbits"))
        or (compression == "jpeg" and (depth != 8 or samples not in (1, 3) or planar == 2))
        or (compression == "jpeg" and photometric not in ("miniswhite", "minisblack", "ycbcr"))
        or (photometric in ("cmyk", "cielab", "ycbcr") and floating)
        or (planar == 2 and samples == 1)
    )


def smooth(samples):
    """Smooth values in [0, 1], `[HEIGHT, WIDTH, samples]`, unlike in samples, rows and columns."""
    rows, columns, sample = np.mgrid[:HEIGHT, :WIDTH, :samples]
    return 0.5 + 0.5 * np.sin((rows * (1 + sample) + columns * 1.7 * (3 - sample)) / 40)


def case(photometric, depth, compression, planar, opacity, predictor, tiled, order):
    """Bytes of a file, the pixels and the opacity that are to be read."""
    floating = isinstance(depth, str)
    bits = 8 * int(depth[1]) if floating else depth
    dtype = np.dtype(depth if floating else f"u{1 if bits <= 8 else 2 if bits <= 16 else 4}")
    largest = 1 if floating else 2**bits - 1
    more = OPACITIES[opacity]
    colours = COLOURS.get(photometric, 1)
    unit = smooth(colours + len(more))
    levels = (unit if floating else np.rint(unit * largest)).astype(dtype)
    options, alpha = {"extra": more or None}, None
    if more:
        alpha = levels[..., colours]
        if opacity == "associated":
            levels[..., :colours] = np.minimum(levels[..., :colours], alpha[..., None])
    expected = levels[..., :colours].astype(np.float64) / largest
    if opacity == "associated":
        expected = expected / np.maximum(alpha[..., None] / largest, 1e-6)
    if photometric == "miniswhite":
        expected = 1 - expected
    if photometric == "palette":
        table = np.random.default_rng(0).integers(0, 65536, (3, 2**bits))
        options["palette"] = table.ravel()
        expected = table.T[levels[..., 0]] / 65535
    data = tiff(
        levels, bits, photometric, compression, planar=planar, predictor=predictor, tiled=tiled,
        order=order, **options,
    )  # fmt: skip
    return data, expected, None if alpha is None else alpha / largest


def must_be_read(photometric, depth, compression, _, opacity, predictor, *__):
    """What needs no further package."""
    return (
        photometric in ("minisblack", "rgb", "miniswhite", "palette")
        and depth in (1, 8, 16, "f2", "f4", "f8")
        and predictor < 3
        and (photometric != "palette" or opacity is None)
        and opacity in (None, "straight", "associated")
        and (photometric, opacity) != ("miniswhite", "associated")
    )


def check(path, layout):
    """Reads one file; returns "" or the reason why it is refused."""
    data, expected, alpha = case(*layout)
    path.write_bytes(data)
    try:
        picture = images.read(path)
    except images.ImageError as error:
        reason = str(error)
        if must_be_read(*layout) or "damaged" in reason or ";" not in reason:  # reason; remedy
            raise AssertionError(layout) from error
        return reason
    tolerance = 6 / 255 if layout[2] == "jpeg" else 2e-3 if layout[1] == "f2" else 1e-6
    assert picture.pixels.shape == expected.shape, layout
    if layout[0] == "ycbcr":  # made from these as if they were RGB
        tolerance = 9 / 255
    assert np.abs(picture.pixels - expected).max() <= tolerance, layout
    assert (picture.alpha is None) == (alpha is None), layout
    if alpha is not None:
        largest = 1 if picture.alpha.dtype.kind == "f" else np.iinfo(picture.alpha.dtype).max
        assert np.abs(picture.alpha / largest - alpha).max() < 3e-3, layout
    return ""


@pytest.mark.parametrize("installed", [False, True])
def test_layouts_are_read_as_written_or_refused_by_name(tmp_path, monkeypatch, installed):
    if installed:
        pytest.importorskip("imagecodecs")
    else:
        monkeypatch.setattr(extra, "has", lambda _: False)
    layouts = [layout for layout in MATRIX if sound(*layout)]
    chosen = np.random.default_rng(0).choice(len(layouts), 1000, replace=False)
    reasons = [check(tmp_path / "a.tif", layouts[number]) for number in chosen]
    assert sum(reason == "" for reason in reasons) > (200 if installed else 70)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("white", [0, 1])
def test_fax_data_are_read(tmp_path, compression, white):
    levels = smooth(1)[..., 0] > 0.5
    image = Image.fromarray(levels)
    image.save(tmp_path / "a.tif", compression=compression, tiffinfo={262: white})
    with Image.open(tmp_path / "a.tif") as theirs:
        assert np.array_equal(np.asarray(theirs), images.read(tmp_path / "a.tif").pixels[..., 0])


@pytest.mark.parametrize("compression", ["none", "lzw", "packbits", "deflate"])
def test_reversed_bits_are_turned_round(tmp_path, compression):
    levels = np.rint(smooth(3) * 65535).astype(np.uint16)
    data = bytearray(tiff(levels, 16, "rgb", compression, more=[(266, "H", [2])]))
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        page = tif.pages[0]
        for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            part = np.frombuffer(data[start : start + size], np.uint8)
            turned = np.packbits(np.unpackbits(part[:, None], axis=1)[:, ::-1], axis=1)
            data[start : start + size] = turned.tobytes()
    (tmp_path / "a.tif").write_bytes(data)
    assert np.abs(images.read(tmp_path / "a.tif").pixels - levels / 65535).max() < 1e-6


@pytest.mark.parametrize("compression", ["zstd", "webp", "jpeg2000", "png", "lzma"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressions_of_imagecodecs_are_read(tmp_path, compression, dtype):
    pytest.importorskip("imagecodecs")
    if (compression, dtype) == ("webp", np.uint16):
        pytest.skip("WebP has 8 bits")
    levels = np.rint(smooth(3) * np.iinfo(dtype).max).astype(dtype)
    options = {"lossless": True} if compression == "webp" else {}
    tifffile.imwrite(
        tmp_path / "a.tif", levels, photometric="rgb", compression=compression,
        compressionargs=options,
    )  # fmt: skip
    expected = levels / np.iinfo(dtype).max
    assert np.abs(images.read(tmp_path / "a.tif").pixels - expected).max() < 1e-6


@pytest.mark.parametrize("compression", ["jpeg", "webp", "jpeg2000", "png"])
@pytest.mark.parametrize("tags", [(256,), (257, 278)])  # width; height and rows of a strip
def test_a_picture_larger_than_the_part_that_it_fills_is_refused(tmp_path, compression, tags):
    if compression != "jpeg":
        pytest.importorskip("imagecodecs")
    levels = np.rint(smooth(3) * 255).astype(np.uint8)
    path = tmp_path / "a.tif"
    if compression == "jpeg":
        Image.fromarray(levels).save(path, compression="jpeg")
    else:
        tifffile.imwrite(path, levels, photometric="rgb", compression=compression)
    assert images.read(path).pixels.shape == levels.shape
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        for tag in (file.pages[0].tags[code] for code in tags):
            struct.pack_into("<H" if tag.dtype == 3 else "<I", data, tag.valueoffset, 8)
    path.write_bytes(data)
    with pytest.raises(images.ImageError, match=r"it is damaged: a part of \d+ x \d+ pixels holds"):
        images.read(path)


@pytest.mark.parametrize("side", [256, 4096])
def test_a_tile_that_is_far_larger_than_its_image_is_refused(tmp_path, side):
    levels, path = np.full((16, 16), 7, np.uint8), tmp_path / "a.tif"
    tifffile.imwrite(path, levels, tile=(side, side), compression="zlib")
    if side == 256:  # as writers make them
        assert (images.read(path).pixels == np.float32(7 / 255)).all()
        return
    with pytest.raises(images.ImageError, match="its tiles are far larger than the image"):
        images.read(path)


def test_a_compression_that_needs_the_extra_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(extra, "has", lambda _: False)
    data = tiff(np.full((4, 4, 1), 7, np.uint8), 8, "minisblack")
    at = data.index(b"\x03\x01\x03\0\x01\0\0\0\x01\0") + 8
    (tmp_path / "a.tif").write_bytes(data[:at] + (50000).to_bytes(2, "little") + data[at + 2 :])
    with pytest.raises(images.ImageError, match=r"ZSTD needs .* pip install 'lle_jax\[formats\]'"):
        images.read(tmp_path / "a.tif")


def test_a_planar_configuration_that_is_none_is_refused(tmp_path):
    # tifffile takes whatever is not 1 for separate planes
    data = bytearray(tiff(np.rint(smooth(3) * 255).astype(np.uint8), 8, "rgb"))
    at = data.index(struct.pack("<HHIH", 284, 3, 1, 1))
    struct.pack_into("<H", data, at + 8, 7)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(images.ImageError, match=r"planar configuration|damaged"):
        images.read(tmp_path / "a.tif")


def test_a_palette_of_eight_bit_colours_is_read(tmp_path):
    levels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    colours = np.arange(768).reshape(3, 256) % 256
    (tmp_path / "a.tif").write_bytes(tiff(levels, 8, "palette", palette=colours.ravel()))
    assert np.allclose(images.read(tmp_path / "a.tif").pixels, colours.T[levels[..., 0]] / 255)


def test_images_that_are_not_in_the_list_of_pages_are_not_overlooked(tmp_path):
    stack = np.zeros((3, 8, 8), np.uint8)
    for name, imagej in {"a": True, "b": False}.items():
        with tifffile.TiffWriter(tmp_path / f"{name}.tif", imagej=imagej) as tif:
            tif.write(stack, photometric="minisblack", truncate=True)
        with pytest.raises(images.ImageError, match="3 images"):
            images.read(tmp_path / f"{name}.tif")

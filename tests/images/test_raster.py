"""PNG, JPEG and BMP against Pillow, OpenCV and scikit-image."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import skimage.data
import skimage.io
from PIL import ExifTags, Image, ImageCms, ImageOps

from lle_jax import images

COLOUR = skimage.data.astronaut()[100:197, 200:303]  # odd height and width
GREY = COLOUR[..., 1]
ALPHA = np.arange(97 * 103, dtype=np.uint16).reshape(97, 103)


def deep(levels):
    """8-bit levels -> uint16 that use all 16 bits."""
    return (levels.astype(np.uint16) * 257) ^ np.uint16(0x5A)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def save_png16(path, levels):
    """By OpenCV: `[H, W]`, RGB or RGBA uint16."""
    if levels.ndim == 3:
        levels = levels[..., [2, 1, 0, 3][: levels.shape[-1]]]
    assert cv2.imwrite(str(path), levels)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg", "tif"])
@pytest.mark.parametrize("levels", [COLOUR, GREY], ids=["colour", "grey"])
def test_eight_bit_pixels_are_those_of_scikit_image_over_255(tmp_path, suffix, levels):
    path = save(tmp_path / f"a.{suffix}", levels)
    picture = images.read(path)
    expected = skimage.io.imread(path).reshape(*levels.shape[:2], -1)
    assert picture.pixels.dtype == np.float32
    assert picture.bits == 8
    assert np.array_equal(picture.pixels, expected.astype(np.float32) / 255)


@pytest.mark.parametrize("levels", [deep(COLOUR), deep(GREY)], ids=["colour", "grey"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_round_trip_is_exact_and_read_alike_by_others(tmp_path, suffix, levels):
    source = save_png16(tmp_path / "a.png", levels)
    picture = images.read(source)
    assert picture.bits == 16
    expected = levels.reshape(*levels.shape[:2], -1)
    assert np.array_equal(picture.pixels, expected / np.float32(65535))
    out = tmp_path / f"b.{suffix}"
    images.write(out, picture.pixels, like=picture)
    assert np.array_equal(images.read(out).pixels, picture.pixels)
    assert np.array_equal(skimage.io.imread(out) if suffix == "tif" else levels, levels)
    theirs = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(theirs if levels.ndim == 2 else theirs[..., ::-1], levels)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
@pytest.mark.parametrize("levels", [COLOUR, GREY], ids=["colour", "grey"])
def test_eight_bit_round_trip_is_exact(tmp_path, suffix, levels):
    picture = images.read(save(tmp_path / f"a.{suffix}", levels))
    out = tmp_path / f"b.{suffix}"
    images.write(out, picture.pixels, like=picture)
    assert np.array_equal(skimage.io.imread(out), levels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_kept_apart_and_written_back_exactly(tmp_path, suffix, bits, channels):
    levels = np.dstack([COLOUR[..., :channels], ALPHA.astype(np.uint8)])
    if bits == 16:
        levels = np.dstack([deep(COLOUR[..., :channels]), ALPHA])
    source = tmp_path / f"a.{suffix}"
    like = images.Picture(
        np.float32(levels[..., :-1]) / (2**bits - 1), source, suffix, bits, levels[..., -1]
    )
    images.write(tmp_path / f"b.{suffix}", like.pixels, like=like)
    back = images.read(tmp_path / f"b.{suffix}")
    assert back.pixels.shape == (97, 103, channels)
    assert np.array_equal(back.pixels, like.pixels)
    assert np.array_equal(back.alpha, levels[..., -1])
    assert back.alpha.dtype == levels.dtype


def test_reading_alpha_agrees_with_pillow_and_opencv(tmp_path):
    rgba = np.dstack([COLOUR, ALPHA.astype(np.uint8)])
    for levels in (rgba, rgba[..., 2:]):
        picture = images.read(save(tmp_path / "a.png", levels))
        assert np.array_equal(picture.alpha, levels[..., -1])
        assert np.array_equal(picture.pixels, levels[..., :-1] / np.float32(255))
    deep_rgba = np.dstack([deep(COLOUR), ALPHA])
    picture = images.read(save_png16(tmp_path / "b.png", deep_rgba))
    assert np.array_equal(picture.alpha, ALPHA)
    assert np.array_equal(picture.pixels, deep(COLOUR) / np.float32(65535))


def test_one_bit_and_palette_images_are_read_as_pillow_shows_them(tmp_path):
    one = Image.fromarray(GREY > 100)
    one.save(tmp_path / "one.png")
    picture = images.read(tmp_path / "one.png")
    assert picture.bits == 8
    assert np.array_equal(picture.pixels[..., 0], np.float32(GREY > 100))
    palette = Image.fromarray(COLOUR).quantize(17)
    palette.save(tmp_path / "palette.png", transparency=3)
    picture = images.read(tmp_path / "palette.png")
    expected = np.asarray(Image.open(tmp_path / "palette.png").convert("RGBA"))
    assert np.array_equal(picture.pixels, expected[..., :3] / np.float32(255))
    assert np.array_equal(picture.alpha, expected[..., 3])
    assert set(np.unique(picture.alpha)) == {0, 255}


def test_a_transparent_grey_becomes_alpha(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", transparency=int(GREY[5, 5]))
    picture = images.read(tmp_path / "a.png")
    assert np.array_equal(picture.pixels[..., 0], GREY / np.float32(255))
    assert np.array_equal(picture.alpha == 0, GREY[5, 5] == GREY)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_orientation_is_applied_and_reset(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    path = save(tmp_path / f"a.{suffix}", COLOUR, exif=exif, dpi=(100, 200))
    picture = images.read(path)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(picture.pixels, expected / np.float32(255))
    images.write(tmp_path / "b.png", picture.pixels, like=picture)
    with Image.open(tmp_path / "b.png") as back:
        assert back.getexif().get(0x0112, 1) == 1
        assert back.getexif()[0x010F] == "Maker"
        assert np.array_equal(np.asarray(back), expected)
        assert np.allclose(back.info["dpi"], (200, 100) if orientation > 4 else (100, 200), atol=1)


def exif_of(tags, order, thumbnail):
    """A block of texts and an orientation, `{tag: value}`, with tags of a thumbnail or without."""
    entries, values = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        if isinstance(value, bytes):
            entries += struct.pack(order + "HHII", tag, 2, len(value), start + len(values))
            values += value
        else:
            entries += struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
    further = start + len(values) if thumbnail else 0
    head = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    block = b"Exif\0\0" + head + entries + struct.pack(order + "I", further) + values
    if thumbnail:
        block += struct.pack(order + "HHHIHHI", 1, 0x0103, 3, 1, 6, 0, 0)
    return block


@pytest.mark.parametrize("thumbnail", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_texts_in_any_alphabet_survive_and_the_thumbnail_does_not(
    tmp_path, suffix, order, orientation, thumbnail
):
    name = "Zoë Müller".encode() + b"\0"
    block = exif_of({0x0112: orientation, 0x013B: name, 0x8298: b"(c) 2026\0\0"}, order, thumbnail)
    picture = images.read(save(tmp_path / "a.jpg", COLOUR, exif=block))
    assert picture.pixels.shape[:2] == COLOUR.shape[:2][:: -1 if orientation == 6 else 1]
    for target in ("b", "c"):  # the copy of a copy too
        images.write(tmp_path / f"{target}.{suffix}", picture.pixels, like=picture)
        picture = images.read(tmp_path / f"{target}.{suffix}")
        assert name in picture.exif
        back = Image.Exif()
        back.load(picture.exif)
        assert back[0x013B].encode("latin-1") == name[:-1]
        assert back.get(0x0112, 1) == 1
        assert not back.get_ifd(ExifTags.IFD.IFD1)  # of the thumbnail


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_resolution_that_no_image_has_is_left_out(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", COLOUR, dpi=(70_000, 70_000))
    picture = images.read(path)
    assert picture.dpi is None
    images.write(tmp_path / "b.jpg", picture.pixels, like=picture)
    assert images.read(tmp_path / "b.jpg").dpi is None


@pytest.mark.parametrize(
    ("suffix", "bits"), [("png", 8), ("png", 16), ("jpg", 8), ("tif", 8), ("tif", 16)]
)
def test_exif_profile_and_resolution_are_kept(tmp_path, suffix, bits):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    save(tmp_path / "a.png", COLOUR, exif=exif, icc_profile=profile, dpi=(300, 150))
    picture = images.read(tmp_path / "a.png")
    picture = images.Picture(**{**vars(picture), "bits": bits})
    out = tmp_path / f"b.{suffix}"
    images.write(out, picture.pixels, like=picture)
    back = images.read(out)
    assert back.icc == profile
    assert back.bits == bits
    assert np.allclose(back.dpi, (300, 150), atol=1)
    block = Image.Exif()
    block.load(back.exif)
    assert block[0x010F] == "Maker"
    with Image.open(out) as theirs:
        assert theirs.info["icc_profile"] == profile
        assert theirs.getexif()[0x010F] == "Maker"


def test_values_are_rounded_to_the_nearest_level_half_to_even_and_clipped(tmp_path):
    values = np.array([-0.3, 0.49 / 255, 0.51 / 255, 0.5, 254.6 / 255, 1.7], np.float32)
    images.write(tmp_path / "a.png", values.reshape(2, 3, 1))
    # 127.5 is half way and goes to the even 128
    assert skimage.io.imread(tmp_path / "a.png").ravel().tolist() == [0, 0, 1, 128, 255, 255]


def test_jpeg_is_written_with_quality_95_and_full_colour_resolution(tmp_path):
    images.write(tmp_path / "a.jpg", np.float32(COLOUR) / 255)
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    assert cv2.imwrite(str(tmp_path / "b.jpg"), COLOUR[..., ::-1], options)
    with Image.open(tmp_path / "a.jpg") as ours, Image.open(tmp_path / "b.jpg") as theirs:
        assert ours.quantization == theirs.quantization
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_sixteen_bits_are_not_pushed_through_eight(tmp_path):
    picture = images.read(save_png16(tmp_path / "a.png", deep(COLOUR)))
    for suffix in ("jpg", "bmp"):
        with pytest.raises(images.ImageError, match="holds 8 bits"):
            images.write(tmp_path / f"b.{suffix}", picture.pixels, like=picture)
        images.write(tmp_path / f"b.{suffix}", picture.pixels)


def test_opacity_is_not_dropped_in_silence(tmp_path):
    picture = images.read(save(tmp_path / "a.png", np.dstack([COLOUR, ALPHA.astype(np.uint8)])))
    with pytest.raises(images.ImageError, match="opacity"):
        images.write(tmp_path / "b.jpg", picture.pixels, like=picture)
    with pytest.raises(images.ImageError, match="opacity"):
        images.write(tmp_path / "b.png", picture.pixels[1:], like=picture)
    opaque = images.read(save(tmp_path / "c.png", np.dstack([COLOUR, np.full_like(GREY, 255)])))
    images.write(tmp_path / "d.jpg", opaque.pixels, like=opaque)


def test_cmyk_is_refused(tmp_path):
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(images.ImageError, match="CMYK"):
        images.read(tmp_path / "a.jpg")


def encoded(format):
    """Small files of each kind, and their pixels."""
    file = io.BytesIO()
    small = COLOUR[:9, :11]
    if format == "png16":
        return cv2.imencode(".png", deep(small))[1].tobytes(), "png"
    if format == "progressive":
        Image.fromarray(small).save(file, "JPEG", progressive=True)
        return file.getvalue(), "jpg"
    Image.fromarray(small).save(file, format.upper())
    return file.getvalue(), format


@pytest.mark.parametrize("format", ["png", "png16", "jpeg", "progressive", "bmp", "tiff"])
def test_a_file_cut_at_any_byte_is_an_error_or_complete(tmp_path, format):
    data, suffix = encoded(format)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    whole = images.read(path).pixels
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            pixels = images.read(path).pixels
        except images.ImageError:
            continue
        # only what comes after the last pixel may be missing
        assert length > len(data) - 8
        assert np.array_equal(pixels, whole)


def test_damage_inside_a_png_is_always_found(tmp_path):
    for format in ("png", "png16"):
        data, _ = encoded(format)
        for position in range(8, len(data)):
            damaged = bytearray(data)
            damaged[position] ^= 0x10
            (tmp_path / "a.png").write_bytes(damaged)
            with pytest.raises(images.ImageError):
                images.read(tmp_path / "a.png")


def test_exif_behind_the_pixels_is_found_and_a_damaged_block_is_dropped(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body
    chunk += zlib.crc32(b"eXIf" + body).to_bytes(4)
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, "PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue()[:-12] + chunk + file.getvalue()[-12:])
    expected = np.rot90(COLOUR, -1) / np.float32(255)
    assert np.array_equal(images.read(tmp_path / "a.png").pixels, expected)
    save(tmp_path / "b.png", COLOUR, exif=b"Exif\0\0MM nonsense")
    picture = images.read(tmp_path / "b.png")
    assert picture.exif is None
    assert np.array_equal(picture.pixels, COLOUR / np.float32(255))


def test_a_transparent_level_of_sixteen_bits_becomes_alpha(tmp_path):
    levels = deep(GREY)
    save_png16(tmp_path / "a.png", levels)
    data = (tmp_path / "a.png").read_bytes()
    body = b"tRNS" + struct.pack(">H", levels[5, 5])
    chunk = struct.pack(">I", 2) + body + zlib.crc32(body).to_bytes(4)
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    picture = images.read(tmp_path / "a.png")
    assert np.array_equal(picture.pixels[..., 0], levels / np.float32(65535))
    assert np.array_equal(picture.alpha == 0, levels[5, 5] == levels)


def test_a_profile_of_grey_is_not_written_to_colour(tmp_path):
    profile = b"a profile of greyscale" * 9
    picture = images.read(save(tmp_path / "a.png", GREY, icc_profile=profile))
    assert picture.icc == profile
    colour = np.repeat(picture.pixels, 3, axis=-1)
    for suffix in ("png", "jpg", "tif"):
        images.write(tmp_path / f"b.{suffix}", colour, like=picture)
        assert images.read(tmp_path / f"b.{suffix}").icc is None
        images.write(tmp_path / f"b.{suffix}", picture.pixels, like=picture)
        assert images.read(tmp_path / f"b.{suffix}").icc == profile


@pytest.mark.parametrize("interlaced_bits", [8, 16])
def test_interlaced_png_is_read(tmp_path, interlaced_bits):
    # by hand, since neither Pillow nor OpenCV writes Adam7: the passes of a 5 x 3 ramp
    levels = np.arange(15, dtype=np.uint16).reshape(3, 5) * 17
    rows = b""
    for left, top, across, down in [
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]:  # fmt: skip
        for row in levels[top::down, left::across]:
            if row.size:
                rows += b"\0" + row.astype(f">u{interlaced_bits // 8}").tobytes()
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 5, 3, interlaced_bits, 0, 0, 0, 1)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4)
    (tmp_path / "a.png").write_bytes(data)
    picture = images.read(tmp_path / "a.png")
    assert picture.bits == interlaced_bits
    assert np.array_equal(picture.pixels[..., 0], levels / np.float32(2**interlaced_bits - 1))

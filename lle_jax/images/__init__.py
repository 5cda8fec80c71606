"""The one door for pixels on disk: PNG, JPEG, BMP, TIFF and DICOM <-> float32 [0, 1].

GIF, WebP, JPEG 2000, PNM, AVIF and HEIC are read only.

`read` gives pixels with everything needed to write a processed copy, `write` writes one:

    picture = images.read("retina.png")
    images.write("brighter.png", enhance(picture.pixels), like=picture)

Every file is treated as hostile: whatever is wrong with it becomes an `ImageError` of one line.
"""

import os
from pathlib import Path

from lle_jax.files import write_bytes
from lle_jax.images import derive, dicom, files, raster, tiff
from lle_jax.images.errors import ImageError, ImageNotFoundError, naming
from lle_jax.images.files import Scan, find, scan, sha256, skipped_formats, stem
from lle_jax.images.picture import MAX_PIXELS, Picture, checked_pixels

__all__ = [
    "MAX_PIXELS",
    "ImageError",
    "ImageNotFoundError",
    "Picture",
    "Scan",
    "find",
    "read",
    "scan",
    "sha256",
    "skipped_formats",
    "stem",
    "write",
]

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"\0\0\0\x0cjP  \r\n\x87\n": "jpeg2000",
    b"\xff\x4f\xff\x51": "jpeg2000",
}
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def _format(head: bytes) -> str | None:
    """Names the format of a file by its first bytes."""
    if head[128:132] == b"DICM" or files.is_bare_dicom(head):
        return "dicom"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "pnm"
    if head[4:8] == b"ftyp":
        brands = head[8 : int.from_bytes(head[:4])]
        if b"avif" in brands or b"avis" in brands:
            return "avif"
        return "heic" if any(brand in brands for brand in _HEIC) else None
    return next((_MAGIC[magic] for magic in _MAGIC if head.startswith(magic)), None)


_FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".dcm": "dicom",
    ".dicom": "dicom",
}


def read(
    path: str | os.PathLike, frame: int | None = None, *, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Reads an image file of any supported format, recognised by its content and not by its name.

    Integers are divided by the largest their bits can hold. Alpha is separated; 1-bit and palette
    images are read as 8-bit greyscale and RGB; orientation (of EXIF, else of XMP) is applied to the
    pixels and taken out of the EXIF block. Of an animation the first frame is read, which the log
    says. CMYK is refused. For DICOM
    see `lle_jax.images.dicom`.

    Args:
      path: the file.
      frame: which frame of a multi-frame file (0 is the first); None reads them all.
      max_pixels: refuse, from the header and before decoding, width * height * frames above this.

    Returns:
      a `Picture` with pixels `[H, W, C]`, or `[N, H, W, C]` for more than one frame.

    Raises:
      ImageNotFoundError: (a FileNotFoundError) if there is no such file.
      ImageError: for every other failure, in one line that quotes nothing from the file.
    """
    path = Path(path)
    with naming(path, "damaged or not supported; copy or export the file again"):
        head = files.header(path, 32 * max_pixels)
        source = path.resolve()
        format = _format(head)
        if format is None:
            raise ImageError(
                "not a file of a format that is read, whatever its name says; convert it to PNG, "
                "TIFF or DICOM"
            )
        if format == "dicom":
            return dicom.read(source, frame, max_pixels)
        if format == "tiff":
            return tiff.read(source, frame, max_pixels)
        return raster.read(source, format, frame, max_pixels)


def write(
    path: str | os.PathLike,
    pixels,
    like: Picture | None = None,
    *,
    description: str = "Processed with lle_jax",
    note: str = "",
) -> None:
    """Writes pixels in the format that the suffix of `path` names; whole or not at all.

    Values are clipped to [0, 1] and rounded to the nearest level, half to even. With `like` the
    copy has its bit depth, alpha, EXIF, ICC profile and resolution, as far as the format can hold
    them; without, it has 8 bits. JPEG is written with quality 95 and full colour resolution.
    DICOM is written as a derived object (see `lle_jax.images.derive`).

    Args:
      path: the file to write; its folder must exist. An older file there is replaced, but never
        the file that `like` was read from.
      pixels: floating point `[H, W, C]`, or `[N, H, W, C]` for TIFF and DICOM; C is 1 or 3.
      like: the picture that `pixels` were made from.
      description: what was done to the pixels; stored in a DICOM object. Images of one series that
        were processed alike are in one series again.
      note: follows it, and says what is particular to this image.

    Raises:
      ImageError: if `path` is the input, if the suffix is unknown, if pixels are not finite
        floats, or if the format cannot hold the bit depth or opacity of `like`.
    """
    path = Path(path)
    with naming(path, "cannot be written"):
        format = _FORMATS.get(path.suffix.lower())
        if format is None:
            raise ImageError(f"{path.suffix or 'no suffix'}: not written; use {' '.join(_FORMATS)}")
        files.refuse_input(path, like.path if like else None)
        levels = checked_pixels(pixels)
        if format == "dicom":
            data = derive.encode(levels, like, description, note)
        elif format == "tiff":
            data = tiff.encode(levels, like)
        else:
            data = raster.encode(format, levels, like)
        write_bytes(path, data)

"""TIFF: bytes <-> float32 [0, 1]; `lle_jax.images.tiff_page` decodes each page."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from lle_jax.images import decoders, tiff_page
from lle_jax.images.errors import ImageError, quiet
from lle_jax.images.picture import (
    Picture,
    alpha_levels,
    check_frame,
    check_size,
    checked_dpi,
    to_levels,
    upright,
)

_REDUCED_OR_MASK = 0b101
_RESOLUTION_UNITS = {2: 1.0, 3: 2.54}
_ORIENTATION, _ICC, _XMP = 274, 34675, 700
# Make, Model, Software, DateTime, Artist, Copyright: the EXIF tags that TIFF has as its own.
# ImageDescription is not among them: programs keep the layout of their file in it.
_TEXTS = (271, 272, 305, 306, 315, 33432)


def read(path: Path, frame: int | None, max_pixels: int) -> Picture:
    """Reads the full-resolution pages of a TIFF file, which must be alike."""
    _check_directories(path)
    with quiet(), tifffile.TiffFile(path) as tif:
        pages = [page for page in _pages(tif) if not page.subfiletype & _REDUCED_OR_MASK]
        check_frame(frame, len(pages))
        if not pages:
            raise ImageError("it holds no full-resolution page; export the image again")
        _check_count(tif, pages)
        chosen = pages if frame is None else [pages[frame]]
        first = chosen[0]
        if len({(page.shape, page.dtype, page.photometric) for page in chosen}) > 1:
            raise ImageError(f"its {len(pages)} pages differ; save each as a file of its own")
        check_size(first.imagewidth, first.imagelength, len(chosen), max_pixels)
        decoded = [tiff_page.decode(tif, page) for page in chosen]
        orientation = _orientation(first)
        pixels = upright(_stack([colour for colour, _ in decoded]), orientation)
        opacities = [opacity for _, opacity in decoded if opacity is not None]
        alpha = upright(_stack(opacities), orientation) if opacities else None
        if len(pixels) == 1:
            pixels, alpha = pixels[0], None if alpha is None else alpha[0]
        return Picture(
            pixels=pixels,
            path=path,
            format="tiff",
            bits=tiff_page.bits(first),
            alpha=None if alpha is None else alpha[..., 0],
            exif=_exif(first),
            icc=_value(first, _ICC, None),
            dpi=_dpi(first, orientation),
            frame=frame,
        )


def _stack(pages: list[np.ndarray]) -> np.ndarray:
    """Stacks pages; one page is not copied, as it may take a gigabyte."""
    return pages[0][None] if len(pages) == 1 else np.stack(pages)


def _pages(tif: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """Returns the pages with their own tags; tifffile makes them all so until told otherwise."""
    pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
    if len(pages) < len(tif.pages):
        raise ImageError("its list of pages is damaged; copy or export the file again")
    return pages


def _check_count(tif: tifffile.TiffFile, pages: list[tifffile.TiffPage]) -> None:
    """Raises ImageError where further images follow the first that no page lists (ImageJ)."""
    stated = int((tif.imagej_metadata or {}).get("images", 1))
    for shaped in tif.shaped_metadata or ():
        if shaped.get("truncated"):
            stated = int(np.prod(shaped["shape"])) // max(1, pages[0].size)
    if len(pages) == 1 and stated > 1:
        raise ImageError(f"it holds {stated} images in one page; save each as a page of its own")


def _check_directories(path: Path) -> None:
    """Raises ImageError when the chain of image file directories turns in a circle or overlaps.

    tifffile would follow it for minutes. TIFF 6.0, section 2; BigTIFF has 64-bit numbers.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        order = "<" if file.read(2) == b"II" else ">"
        (version,) = struct.unpack(order + "H", file.read(2))
        # number of entries, offset of the next directory; bytes of an entry
        many, offset, entry = ("Q", "Q", 20) if version == 43 else ("H", "I", 12)
        file.seek(8 if version == 43 else 4)
        total = 0
        while where := struct.unpack(order + offset, file.read(struct.calcsize(offset)))[0]:
            file.seek(where)
            (entries,) = struct.unpack(order + many, file.read(struct.calcsize(many)))
            total += entries * entry + struct.calcsize(many) + struct.calcsize(offset)
            if entries == 0 or total > size:
                raise ImageError("its list of pages is damaged; copy or export the file again")
            file.seek(entries * entry, 1)


def _value(page: tifffile.TiffPage, code: int, default):
    tag = page.tags.get(code)
    return default if tag is None else tag.value


def _orientation(page: tifffile.TiffPage) -> int:
    """Orientation (1 to 8) of the tag, else of XMP."""
    packet = _value(page, _XMP, b"")
    stated = _value(page, _ORIENTATION, None)
    return decoders.xmp_orientation(bytes(packet)) if stated is None else stated


def _dpi(page: tifffile.TiffPage, orientation: int) -> tuple[float, float] | None:
    unit = _RESOLUTION_UNITS.get(_value(page, 296, 2))
    across, down = (_value(page, code, None) for code in (282, 283))
    if unit is None or not across or not down or not (all(across) and all(down)):
        return None
    dpi = checked_dpi(across[0] / across[1] * unit, down[0] / down[1] * unit)
    return dpi[::-1] if dpi and orientation >= 5 else dpi


def _exif(page: tifffile.TiffPage) -> bytes | None:
    """An EXIF block of the texts, in UTF-8 as programs write them: Pillow writes ASCII only."""
    found = {code: _value(page, code, None) for code in _TEXTS}
    texts = [(c, f"{t}\0".encode()) for c, t in found.items() if t and isinstance(t, str)]
    entries, values, start = b"", b"", 8 + 2 + 12 * len(texts) + 4
    for code, text in texts:
        place = text if len(text) <= 4 else struct.pack("<I", start + len(values))
        values += text + bytes(len(text) % 2) if len(text) > 4 else b""
        entries += struct.pack("<HHI4s", code, 2, len(text), place)
    head = struct.pack("<6s4sIH", b"Exif\0\0", b"II*\0", 8, len(texts))
    return head + entries + bytes(4) + values if texts else None


def encode(pixels: np.ndarray, like: Picture | None) -> bytes:
    """Float pixels `[H, W, C]` or `[N, H, W, C]` -> bytes of a deflated TIFF, one page a frame."""
    bits = like.bits if like else 8
    alpha = alpha_levels(like, pixels.shape, bits)
    levels = to_levels(pixels, bits)
    options: dict[str, Any] = {}
    if alpha is not None:
        levels = np.concatenate([levels, alpha[..., None]], axis=-1)
        options["extrasamples"] = ["unassalpha"]
    if like and like.icc and pixels.shape[-1] == like.pixels.shape[-1]:
        options["iccprofile"] = like.icc
    if like and like.dpi:
        options |= {"resolution": like.dpi, "resolutionunit": "inch"}
    if like and like.exif:
        block = Image.Exif()
        block.load(like.exif)
        texts = [(code, block.get(code)) for code in _TEXTS]
        options["extratags"] = [  # Pillow reads, and tifffile writes, any bytes in Latin-1
            (code, 2, None, f"{text}\0".encode("latin-1", "replace"), True)
            for code, text in texts
            if isinstance(text, str)
        ]
    file = io.BytesIO()
    with quiet(), tifffile.TiffWriter(file, bigtiff=levels.nbytes > 2**31) as tif:
        for page in levels if levels.ndim == 4 else [levels]:
            tif.write(
                page[..., 0] if page.shape[-1] == 1 else page,
                photometric="rgb" if pixels.shape[-1] == 3 else "minisblack",
                planarconfig=None if page.shape[-1] == 1 else "contig",
                compression="zlib",
                metadata=None,
                software=False,
                **options,
            )
    return file.getvalue()

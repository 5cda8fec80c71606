"""What Pillow and OpenCV leave out for PNG: checking a file whole, and encoding 16-bit colour.

From the PNG specification, third edition (W3C, 2025): sections 5.3 (chunks), 8.1 (interlace),
9.2 (filters), 11.2 to 11.3 (IHDR, IDAT, IEND, iCCP, pHYs, eXIf).
"""

import dataclasses
import struct
import zlib

import numpy as np

from lle_jax.images.errors import ImageError
from lle_jax.images.picture import check_inflated, check_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: first column, first row, column step, row step
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


@dataclasses.dataclass(frozen=True)
class Header:
    """The fields of IHDR, the transparent level of a greyscale image (tRNS), and eXIf."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    transparent: int | None = None
    exif: bytes | None = None

    @property
    def data_bytes(self) -> int:
        """Bytes of all rows with their filter bytes, before compression."""
        passes = _PASSES if self.interlaced else ((0, 0, 1, 1),)
        total = 0
        for left, top, across, down in passes:
            columns = -(-(self.width - left) // across)
            rows = -(-(self.height - top) // down)
            if columns > 0 and rows > 0:
                total += rows * (1 + -(-columns * _CHANNELS[self.colour] * self.depth // 8))
        return total


def check(data: bytes, max_pixels: int) -> Header:
    """Reads the header and checks that every chunk is whole, up to and including IEND.

    Decoders stop as soon as they have their rows, and OpenCV fills missing ones in silence.

    Raises:
      ImageError: if the file is cut short, a checksum is wrong, or the image is too large.
    """
    header, position, compressed = None, len(SIGNATURE), []
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        position += 12 + length
        if len(checksum) < 4:
            break
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum):
            raise ImageError("a checksum is wrong, the file is damaged; copy or export it again")
        if header is None:
            header = _header(kind, body)
            check_size(header.width, header.height, 1, max_pixels)
        elif kind == b"tRNS" and header.colour == 0 and length == 2:
            header = dataclasses.replace(header, transparent=int.from_bytes(body))
        elif kind == b"eXIf":
            header = dataclasses.replace(header, exif=b"Exif\0\0" + body)
        elif kind == b"IDAT":
            compressed.append(body)
        elif kind == b"IEND":
            expected = header.data_bytes
            if header.depth == 16 and check_inflated(b"".join(compressed), expected) < expected:
                break
            return header
    raise ImageError("the file is cut short; copy or export it again")


def without_animation(data: bytes) -> bytes:
    """Leaves out the chunks of a checked APNG file that are not of its default image."""
    parts, position = [SIGNATURE], len(SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind not in (b"acTL", b"fcTL", b"fdAT"):
            parts.append(data[position : position + 12 + length])
        position += 12 + length
    return b"".join(parts)


def _header(kind: bytes, body: bytes) -> Header:
    if kind == b"IHDR" and len(body) == 13:
        width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
        if colour in _CHANNELS and depth in (1, 2, 4, 8, 16):
            return Header(width, height, depth, colour, interlace == 1)
    raise ImageError("its PNG header is damaged; copy or export the file again")


def encode16(
    levels: np.ndarray,
    exif: bytes | None = None,
    icc_profile: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> bytes:
    """Encodes uint16 `[H, W, C]`, C = 1..4 (grey, grey + alpha, RGB, RGBA), as a PNG file."""
    height, width, channels = levels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = [
        SIGNATURE,
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
    ]
    if icc_profile:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile)))
    if dpi:
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", *(round(x / 0.0254) for x in dpi), 1)))
    if exif:
        parts.append(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    rows = levels.astype(">u2").reshape(height, -1).view(np.uint8)
    # filter 2 on every row: the difference from the row above, modulo 256
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    parts += [_chunk(b"IDAT", zlib.compress(filtered.tobytes())), _chunk(b"IEND", b"")]
    return b"".join(parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return struct.pack(">I4s", len(body), kind) + body + checksum.to_bytes(4)

"""Video files through PyAV, of the extra `video`: frames in, frames out, sound copied.

A container's demuxer is chosen by the file's suffix and never by its content, since FFmpeg also
knows formats (playlists) that make it open other files and addresses.
"""

import collections
import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lle_jax.files import replacing
from lle_jax.images import extra
from lle_jax.images.errors import ImageError, naming
from lle_jax.images.files import VIDEOS, refuse_input
from lle_jax.images.picture import MAX_PIXELS, check_size, to_levels, to_unit

# Demuxer and muxer of each suffix of `files.VIDEOS`.
_CONTAINERS = {
    ".mp4": ("mov", "mp4"),
    ".mov": ("mov", "mov"),
    ".avi": ("avi", "avi"),
    ".mkv": ("matroska", "matroska"),
}
_DAMAGED = "damaged or not supported; copy or export the file again"
_PQ, _HLG = 16, 18  # ITU-T H.273, transfer characteristics
_LIMITED, _FULL = 1, 2  # FFmpeg's AVColorRange
# Matrix coefficients (H.273) -> those of PyAV; SD video, and what states none, is BT.601.
_MATRICES = {1: "ITU709", 4: "FCC", 7: "SMPTE240M", 9: "BT2020"}
_QUALITY = {"libx264": {"crf": "16"}, "mpeg4": {"qmin": "2", "qmax": "3"}}
_RATE = Fraction(25)  # where a file states none


class Info(NamedTuple):
    """What the header of a video and its first frame say.

    Attributes:
      width, height: of the upright frames.
      rate: frames per second, the mean.
      frames: number of frames, 0 where it is not stated.
      seconds: duration, 0 where it is not stated.
      turns: quarter turns, counterclockwise, that make a frame upright.
      matrix, primaries, transfer, full: colour tags, as ITU-T H.273 numbers them, and the range.
      sample_aspect: width of a pixel by its height.
    """

    width: int
    height: int
    rate: Fraction
    frames: int
    seconds: float
    turns: int
    matrix: int
    primaries: int
    transfer: int
    full: bool
    sample_aspect: Fraction


class Counts(NamedTuple):
    """What was read.

    Attributes:
      frames: that were decoded.
      damaged: packets that could not be decoded.
      seconds: up to the last picture or sound.
      last_frame: seconds up to the last picture.
    """

    frames: int
    damaged: int
    seconds: float
    last_frame: float

    def warning(self, info: Info) -> str:
        """Says what is missing of a damaged file; "" for a whole one."""
        parts = []
        if self.damaged:
            parts.append(f"{self.damaged} damaged packets were skipped")
        # in AVI a frame that repeats the one before counts and has no packet
        if info.frames > max(self.frames, round(self.last_frame * info.rate) + 1):
            parts.append(f"it is cut short: {self.frames} of its {info.frames} frames were read")
        elif not info.frames and info.seconds > self.seconds + 0.5:
            parts.append(f"it is cut short: {self.seconds:.1f} of {info.seconds:.1f} s were read")
        return "; ".join(parts)


def is_video(path: Path) -> bool:
    """Tells by its name whether a file is read here."""
    return path.suffix.lower() in VIDEOS


def _av() -> Any:
    """Imports PyAV, or raises ImageError with how to install it."""
    if not extra.has("av"):
        raise ImageError(f"reading video needs a further package: {extra.INSTALL_VIDEO}")
    av = importlib.import_module("av")
    av.logging.set_level(None)  # FFmpeg's messages quote what the file holds
    return av


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Opens a file for reading: its container, and its first video stream that is no cover."""
    av = _av()
    if not path.is_file():
        raise ImageError("not a regular file; give the path of a video file")
    demuxer, _ = _CONTAINERS[path.suffix.lower()]
    with av.open(
        str(path.resolve()), format=demuxer, options={"protocol_whitelist": "file"}
    ) as container:
        cover = av.stream.Disposition.attached_pic
        films = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not films:
            raise ImageError("it holds no video; give a file with pictures")
        yield container, films[0]


def probe(path: Path) -> Info:
    """Reads the header and the first frame; raises ImageError."""
    with naming(path, _DAMAGED), _opened(path) as (container, stream):
        check_size(stream.width, stream.height, 1, MAX_PIXELS)
        first = next(_decoded(container, [stream], _Reader()), None)
        if first is None:
            raise ImageError("no frame of it can be decoded; copy or export the file again")
        if first.color_trc in (_PQ, _HLG):
            raise ImageError("high dynamic range (PQ or HLG) is not read; convert it to SDR")
        if first.rotation % 90:
            raise ImageError(f"it is to be turned by {first.rotation} degrees; export it upright")
        turns = int(first.rotation) // 90 % 4
        sides = (first.width, first.height)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        duration = container.duration or 0
        return Info(
            *(sides[::-1] if turns % 2 else sides),
            rate=stream.average_rate or stream.guessed_rate or _RATE,
            frames=stream.frames,
            seconds=duration / 1_000_000,
            turns=turns,
            matrix=int(first.colorspace),
            primaries=int(first.color_primaries),
            transfer=int(first.color_trc),
            full=int(first.color_range) == _FULL or first.format.name.startswith("yuvj"),
            sample_aspect=1 / aspect if turns % 2 else aspect,
        )


class _Reader:
    """Counts what is read."""

    def __init__(self) -> None:
        self.frames = self.damaged = 0
        self.seconds = self.last_frame = 0.0

    def note_time(self, packet: Any, is_frame: bool) -> None:
        """Notes how far the file has been read."""
        if packet.pts is not None and packet.time_base:
            time = float(packet.pts * packet.time_base)
            self.seconds = max(self.seconds, time)
            self.last_frame = max(self.last_frame, time if is_frame else 0.0)

    def counts(self) -> Counts:
        return Counts(self.frames, self.damaged, self.seconds, self.last_frame)


def _decoded(
    container: Any, streams: list, reader: _Reader, copy: Callable[[Any], None] | None = None
) -> Iterator[Any]:
    """Yields the frames of the first of `streams`; `copy` gets the packets of the others.

    A packet that cannot be decoded is skipped, and where none can be found any more the file ends.
    """
    av = _av()
    packets = container.demux(streams)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, EOFError):
            reader.damaged += 1
            return
        if packet is None:
            return
        reader.note_time(packet, packet.stream is streams[0])
        if packet.stream is not streams[0]:
            if copy is not None and packet.dts is not None:
                copy(packet)
            continue
        try:
            decoded = packet.decode()
        except (av.error.FFmpegError, EOFError):
            reader.damaged += 1
            continue
        for frame in decoded:
            reader.frames += 1
            yield frame


def _exactly() -> int:
    """Interpolation of chroma, rounded; otherwise a copy would be darker by a level of 255."""
    modes = _av().video.reformatter.Interpolation
    return modes.BILINEAR | modes.ACCURATE_RND | modes.FULL_CHR_H_INT | modes.FULL_CHR_H_INP


def _pixels(frame: Any, info: Info) -> np.ndarray:
    """Converts a decoded frame to upright RGB, `[H, W, 3]` float32 in [0, 1]."""
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=_MATRICES.get(info.matrix, "ITU601"),
        src_color_range=_FULL if info.full else _LIMITED,
        dst_color_range=_FULL,
        interpolation=_exactly(),
    ).to_ndarray()
    rgb = np.ascontiguousarray(np.rot90(rgb, info.turns))
    if rgb.shape[:2] != (info.height, info.width):
        raise ImageError("the size of its frames changes; cut it where it does")
    return to_unit(rgb, 255)


def read(path: Path, info: Info) -> Iterator[np.ndarray]:
    """Yields the frames of a video, `[H, W, 3]` float32 in [0, 1]; raises ImageError.

    Args:
      path: the file.
      info: of `probe`.
    """
    with naming(path, _DAMAGED), _opened(path) as (container, stream):
        for frame in _decoded(container, [stream], _Reader()):
            yield _pixels(frame, info)


def rewrite(
    path: Path,
    target: Path,
    info: Info,
    process: Callable[[Iterator[np.ndarray]], Iterable[np.ndarray]],
    *,
    metadata: bool = True,
) -> Counts:
    """Writes a video with other frames; the times of the frames and the sound are the same.

    The suffix of `target` names the container. Pictures are written in H.264 (in AVI in MPEG-4)
    with 4:2:0 chroma (4:4:4 where a side is odd) and the colour tags of the source, sound as it is.
    The file appears whole or not at all.

    Args:
      path: the source.
      target: what to write, never the source.
      info: of `probe`.
      process: from the frames, as `read` yields them, to as many of the same size.
      metadata: also copy the title, date and so on of the container.

    Raises:
      ImageError: if one cannot be read or the other written.
    """
    if not is_video(target):
        raise ImageError(f"{target}: a video is written as one of {' '.join(VIDEOS)}")
    reader = _Reader()
    with contextlib.ExitStack() as stack:
        with naming(path, _DAMAGED):
            source, stream = stack.enter_context(_opened(path))
        with naming(target, "cannot be written; its container may not hold this sound"):
            refuse_input(target, path)
            temporary = stack.enter_context(replacing(target))
            writer = stack.enter_context(_writer(temporary, target, source, stream, info))
            if metadata:
                writer.container.metadata.update(source.metadata)
        times: collections.deque[Any] = collections.deque()

        def frames() -> Iterator[np.ndarray]:
            with naming(path, _DAMAGED):
                streams = [stream, *writer.copies]
                for frame in _decoded(source, streams, reader, writer.copy):
                    times.append(frame.pts)
                    yield _pixels(frame, info)

        for pixels in process(frames()):
            with naming(target, "cannot be written"):
                writer.write(pixels, times.popleft())
        with naming(target, "cannot be written"):
            writer.finish()
    return reader.counts()


@contextlib.contextmanager
def _writer(temporary: Path, target: Path, source: Any, stream: Any, info: Info):
    """Opens a file for writing, and closes it before it gets its name."""
    _, muxer = _CONTAINERS[target.suffix.lower()]
    with _av().open(str(temporary.resolve()), "w", format=muxer) as container:
        yield _Writer(container, muxer, source, stream, info)


class _Writer:
    """Encodes frames and copies sound.

    Attributes:
      container: of PyAV.
      copies: the stream of the copy for each stream of sound of the source.
    """

    def __init__(self, container: Any, muxer: str, source: Any, stream: Any, info: Info):
        # AVI stores no times of frames, which readers then guess wrongly of H.264
        name = "libx264" if muxer != "avi" and "libx264" in _av().codecs_available else "mpeg4"
        self.container = container
        self._info, self._time_base = info, stream.time_base
        self._last: int | None = None
        self._encoder = encoder = container.add_stream(name, rate=info.rate, options=_QUALITY[name])
        encoder.width, encoder.height = info.width, info.height
        odd = info.width % 2 or info.height % 2
        encoder.pix_fmt = "yuv444p" if odd and name == "libx264" else "yuv420p"
        encoder.codec_context.sample_aspect_ratio = info.sample_aspect
        encoder.codec_context.time_base = (
            1 / info.rate if muxer == "avi" else stream.time_base.limit_denominator(65535)
        )
        encoder.codec_context.color_range = _FULL if info.full else _LIMITED
        encoder.codec_context.colorspace = info.matrix
        encoder.codec_context.color_primaries = info.primaries
        encoder.codec_context.color_trc = info.transfer
        self.copies = {
            sound: container.add_stream_from_template(sound) for sound in source.streams.audio
        }

    def copy(self, packet: Any) -> None:
        """Writes a packet of sound as it is."""
        packet.stream = self.copies[packet.stream]
        self.container.mux(packet)

    def write(self, pixels: np.ndarray, time: int | None) -> None:
        """Encodes a frame to be shown at `time`, in the time base of the source."""
        info = self._info
        levels = np.ascontiguousarray(to_levels(pixels, 8))
        frame = (
            _av()
            .VideoFrame.from_ndarray(levels, "rgb24")
            .reformat(
                format=self._encoder.pix_fmt,
                src_color_range=_FULL,
                dst_colorspace=_MATRICES.get(info.matrix, "ITU601"),
                dst_color_range=_FULL if info.full else _LIMITED,
                interpolation=_exactly(),
            )
        )
        if time is None or (self._last is not None and time <= self._last):
            step = max(1, round(1 / (info.rate * self._time_base)))
            time = 0 if self._last is None else self._last + step
        self._last = frame.pts = time
        frame.time_base = self._time_base
        self.container.mux(self._encoder.encode(frame))

    def finish(self) -> None:
        """Writes what the encoder still holds."""
        self.container.mux(self._encoder.encode(None))

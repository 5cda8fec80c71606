import contextlib
import importlib
import json
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
import tifffile
from PIL import Image

from lle_jax import cli, images, interrupt
from lle_jax.images import extra, video
from lle_jax.inference import enhance, files, frames, sequences

av = importlib.import_module("av") if extra.has("av") else None
needs_av = pytest.mark.skipif(av is None, reason="PyAV, of the extra video, is not installed")
HEIGHT, WIDTH = 32, 48


@pytest.fixture(autouse=True)
def cache(monkeypatch):
    """Keeps the user's cache of compiled programs out of the tests."""
    monkeypatch.setattr("lle_jax.commands.enhance.compilation_cache", lambda: None)


@pytest.fixture
def lle(folder):
    def call(*arguments):
        return cli.main(["enhance", *map(str, arguments), "--model", str(folder)])

    return call


@pytest.fixture
def gentle(folder, monkeypatch):
    """A network whose output chroma subsampling hardly changes."""

    def restore(image):
        return 0.25 + image / 2

    net = enhance.load(folder)._replace(finish_context=None, restore=restore)
    monkeypatch.setattr(enhance, "load", lambda _: net)
    return restore


def noisy(count, seed=0):
    """Frames of a still scene, `[N, H, W, 3]` uint8, each brighter than the one before."""
    rng = np.random.default_rng(seed)
    scene = np.linspace(20, 60, WIDTH)[:, None] + rng.normal(0, 3, (count, HEIGHT, WIDTH, 3))
    return np.rint(scene + np.arange(count)[:, None, None, None]).astype(np.uint8)


@pytest.fixture
def folder_of_frames(tmp_path):
    (tmp_path / "in").mkdir()
    for number, frame in enumerate(noisy(12)):
        Image.fromarray(frame).save(tmp_path / "in" / f"frame_{number}.png")
    return tmp_path / "in"


def expected(folder, levels, rate):
    pixels = np.asarray(levels, np.float32) / 255
    return enhance.enhance_pixels(enhance.load(folder), pixels, frame_rate=rate)[0]


def test_names_are_in_natural_order():
    names = ["b2", "frame_10", "frame_9", "Frame_1", "frame_010x", "7", "11"]
    ordered = sorted(map(Path, names), key=sequences.natural_key)
    assert [path.name for path in ordered] == [
        "7", "11", "b2", "Frame_1", "frame_9", "frame_10", "frame_010x",
    ]  # fmt: skip


def test_a_folder_of_frames_is_a_sequence(lle, folder, folder_of_frames, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = (folder_of_frames, "-o", out, "--video", "--frame-rate", "10")
    assert lle(*arguments) == 0
    assert "1 enhanced\n" in capsys.readouterr().out
    results = np.stack([images.read(out / f"frame_{i}.png").pixels for i in range(12)])
    np.testing.assert_allclose(results, expected(folder, noisy(12), 10), atol=0.51 / 255)
    assert lle(*arguments) == 0
    assert "1 skipped (finished before)" in capsys.readouterr().out
    (out / "frame_3.png").unlink()
    assert lle(*arguments) == 0
    assert "1 enhanced\n" in capsys.readouterr().out
    assert lle(*arguments, "--dry-run") == 0
    assert capsys.readouterr().out == f"{folder_of_frames} -> {out} (finished)\n"


def test_frames_of_another_size_are_named(lle, folder_of_frames, tmp_path, capsys):
    Image.fromarray(noisy(1)[0, :16]).save(folder_of_frames / "frame_5.png")
    assert lle(folder_of_frames, "-o", tmp_path / "out", "--video") == 1
    printed = capsys.readouterr().err
    assert "frame_5.png: its size is 48 x 16, that of the first frame (frame_0.png)" in printed
    assert "Traceback" not in printed


def test_a_part_of_a_folder_is_no_sequence(lle, folder_of_frames, tmp_path, capsys):
    part = [folder_of_frames / f"frame_{number}.png" for number in range(11)]
    assert lle(*part, "-o", tmp_path / "out", "--video") == 2
    printed = capsys.readouterr().err
    assert "1 of 12 images are not given (as frame_11.png)" in printed
    assert not (tmp_path / "out").exists()
    assert lle(*part, folder_of_frames / "frame_11.png", "-o", tmp_path / "out", "--video") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frame-rate", "10"], "add --video"),
        (["--video", "--frame-rate", "0"], "frame_rate is 0"),
        (["--video", "--compare"], "--compare and --uncertainty are for"),
        (["--video", "--consistent"], "leave out --consistent"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    lle, folder_of_frames, tmp_path, options, message, capsys
):
    assert lle(folder_of_frames, "-o", tmp_path / "out", *options) in (1, 2)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*.png"))


def test_pages_and_dicom_frames_get_one_exposure(lle, folder, tmp_path):
    levels = noisy(6)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "pages.tif", levels, photometric="rgb")
    scan = pydicom.dcmread(pydicom.data.get_testdata_file("SC_rgb_small_odd.dcm"))
    scan.Rows, scan.Columns, scan.NumberOfFrames, scan.FrameTime = HEIGHT, WIDTH, 6, "50"
    scan.PlanarConfiguration, scan.PixelData = 0, levels.tobytes()
    scan.save_as(tmp_path / "in" / "cine.dcm")
    assert images.read(tmp_path / "in" / "cine.dcm").frame_rate == 20
    assert images.read(tmp_path / "in" / "pages.tif").frame_rate is None
    assert lle(tmp_path / "in", "-o", tmp_path / "out") == 0
    for name, rate in (("pages.tif", frames.DEFAULT_RATE), ("cine.dcm", 20)):
        result = images.read(tmp_path / "out" / name).pixels
        np.testing.assert_allclose(result, expected(folder, levels, rate), atol=0.51 / 255)
    alone = expected(folder, levels, None)
    assert np.abs(alone - expected(folder, levels, 20)).max() > 0.001


@pytest.mark.parametrize(
    ("elements", "rate"),
    [
        ({"FrameTime": "40"}, 25),
        ({"FrameTimeVector": ["0", "100", "100"]}, 10),
        ({"RecommendedDisplayFrameRate": "15"}, 15),
        ({"FrameTime": "0", "CineRate": "30"}, 30),
        ({"FrameTime": "", "FrameTimeVector": "0"}, None),
        ({"FrameTime": ["40", "50"]}, 25),
        ({"FrameTimeVector": ["0", "nan", "50"], "CineRate": "30"}, 30),
    ],
)
def test_the_frame_rate_of_dicom(tmp_path, elements, rate):
    scan = pydicom.dcmread(pydicom.data.get_testdata_file("SC_rgb_small_odd.dcm"))
    scan.NumberOfFrames, scan.PixelData = 3, 3 * scan.pixel_array.tobytes() + b"\0"
    with warnings.catch_warnings(action="ignore"):  # pydicom's, of what is no number
        for keyword, value in elements.items():
            setattr(scan, keyword, value)
        scan.save_as(tmp_path / "cine.dcm")
    assert images.read(tmp_path / "cine.dcm").frame_rate == rate


def test_without_pyav_a_video_is_named_with_the_remedy(lle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(extra, "has", lambda package: False)
    (tmp_path / "clip.mp4").write_bytes(b"anything")
    assert lle(tmp_path / "clip.mp4", "-o", tmp_path / "out") == 1
    assert "pip install 'lle_jax[video]'" in capsys.readouterr().err


def write_video(path, levels, rate=Fraction(30000, 1001), *, full=False, turn=0, matrix=None):
    """A video with sound; nearly lossless."""
    codec = "mpeg4" if path.suffix == ".avi" else "libx264"
    quality = {"qmin": "1", "qmax": "1"} if codec == "mpeg4" else {"crf": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=quality)
        stream.height, stream.width = levels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.color_range = 2 if full else 1
        if matrix:
            stream.codec_context.colorspace = matrix
        if turn:
            stream.set_display_rotation(turn)
        sound = container.add_stream("aac", rate=44100)
        container.metadata["title"] = "Doe^Jane"
        for number, frame in enumerate(levels):
            coded = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(
                format="yuv420p",
                src_color_range=2,
                dst_color_range=2 if full else 1,
                dst_colorspace="ITU709" if matrix == 1 else "ITU601",
            )
            coded.pts, coded.time_base = number, 1 / rate
            container.mux(stream.encode(coded))
        container.mux(stream.encode(None))
        for number in range(int(len(levels) / rate * 44100 / 1024)):
            wave = np.sin(np.arange(1024, dtype=np.float32) / 20)[None]
            part = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            part.sample_rate, part.pts = 44100, 1024 * number
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    return path


def boxes(data):
    """The boxes of ISO/IEC 14496-12, 4.2, by their type."""
    found = {}
    while data:
        size = int.from_bytes(data[:4])
        found[data[4:8]], data = data[:size], data[size:]
    return found


def with_cover(path, levels, cover):
    """An MP4 whose first stream is a picture: user data come before the tracks."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mjpeg")
        picture.height, picture.width = cover.shape[:2]
        picture.pix_fmt = "yuvj420p"
        picture.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = levels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        still = av.VideoFrame.from_ndarray(cover, "rgb24").reformat(format="yuvj420p")
        still.pts = 0
        container.mux([*picture.encode(still), *picture.encode(None)])
        for number, frame in enumerate(levels):
            coded = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="yuv420p")
            coded.pts, coded.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(coded))
        container.mux(stream.encode(None))
    parts = boxes(path.read_bytes())
    inner = boxes(parts[b"moov"][8:])
    order = b"".join(inner.pop(kind) for kind in (b"mvhd", b"udta"))
    assert list(parts)[-1] == b"moov"
    parts[b"moov"] = parts[b"moov"][:8] + order + b"".join(inner.values())
    path.write_bytes(b"".join(parts.values()))
    return path


def sound_of(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.dts is not None]


def times_of(path):
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


@needs_av
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".mkv"])
def test_a_video_keeps_container_times_and_sound(lle, gentle, tmp_path, suffix):
    source = write_video(tmp_path / f"clip{suffix}", noisy(20))
    before = source.read_bytes()
    assert lle(source, "-o", tmp_path / "out") == 0
    target = tmp_path / "out" / source.name
    assert source.read_bytes() == before
    info, result = video.probe(source), video.probe(target)
    assert result[:4] == info[:4]
    np.testing.assert_allclose(times_of(target), times_of(source), atol=1e-3)
    assert len(sound_of(target)) > 10
    assert sound_of(target) == sound_of(source)
    originals = np.stack(list(video.read(source, info)))
    assert len(originals) == 20
    results = np.stack(list(video.read(target, result)))
    assert np.abs(results - (0.25 + originals / 2)).mean() < 0.02
    # its gain falls as the frames brighten, and is smoothed
    goal = gentle(originals).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(results.mean(axis=(1, 2, 3)), goal, atol=0.01)
    with av.open(str(source)) as one, av.open(str(target)) as other:
        assert one.format.name == other.format.name
        assert other.streams.video[0].codec_context.pix_fmt == "yuv420p"
    assert not list((tmp_path / "out").glob("*.part"))


@needs_av
@pytest.mark.parametrize(
    "options", [{}, {"matrix": 1}, {"full": True}, {"turn": 90}, {"turn": -90}, {"turn": 180}]
)
def test_colours_and_rotation_are_kept(tmp_path, options):
    levels = np.repeat(noisy(1), 5, axis=0)
    levels[:, :16, :16] = (90, 20, 40)
    source = write_video(tmp_path / "clip.mp4", levels, **options)
    info = video.probe(source)
    upright = np.rot90(levels[0], options.get("turn", 0) // 90) / 255
    originals = np.stack(list(video.read(source, info)))
    assert originals.shape[1:] == upright.shape
    assert np.abs(originals[0] - upright).mean() < 0.03  # chroma is subsampled
    counts = video.rewrite(source, tmp_path / "copy.mp4", info, lambda given: given)
    assert counts.frames == 5
    copied = video.probe(tmp_path / "copy.mp4")
    assert copied.turns == 0
    assert (copied.matrix, copied.full) == (info.matrix, info.full)
    copies = np.stack(list(video.read(tmp_path / "copy.mp4", copied)))
    assert np.abs(copies.mean(axis=(0, 1, 2)) - originals.mean(axis=(0, 1, 2))).max() < 0.004
    assert np.abs(copies - originals).mean() < 0.015


@needs_av
def test_a_cover_before_the_film_is_not_the_film(tmp_path):
    levels = noisy(5)
    path = with_cover(tmp_path / "clip.mp4", levels, levels[0, :16, :16].copy())
    with av.open(str(path)) as container:
        assert [stream.height for stream in container.streams.video] == [16, levels.shape[1]]
    info = video.probe(path)
    assert (info.height, info.width) == levels.shape[1:3]
    assert len(list(video.read(path, info))) == 5


@needs_av
def test_odd_sizes_other_containers_and_anonymity(lle, tmp_path):
    source = write_video(tmp_path / "clip.avi", noisy(3)[:, :31, :47], Fraction(25))
    assert lle(source, "-o", tmp_path / "clip.mkv", "--anonymise") == 0
    assert video.probe(tmp_path / "clip.mkv")[:3] == (47, 31, 25)
    assert b"Doe^Jane" in source.read_bytes()
    assert b"Doe^Jane" not in (tmp_path / "clip.mkv").read_bytes()


@needs_av
def test_hostile_and_truncated_videos_are_one_line(lle, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    whole = write_video(tmp_path / "whole.mp4", noisy(30)).read_bytes()
    long = write_video(tmp_path / "long.mkv", noisy(60)).read_bytes()
    hostile = {
        "list.mp4": b"#EXTM3U\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n",
        "concat.mkv": b"ffconcat version 1.0\nfile whole.mp4\n",
        "empty.avi": b"",
        "cut.mp4": whole[: len(whole) // 2],
        "noise.mov": bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
    }
    for name, data in hostile.items():
        (tmp_path / "in" / name).write_bytes(data)
    (tmp_path / "in" / "short.mkv").write_bytes(long[: len(long) // 2])
    assert lle(tmp_path / "in", "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    for name in hostile:
        assert sum(f"{name}: " in line for line in lines) == 1
        assert not (tmp_path / "out" / name).exists()
    assert sum("short.mkv: it is cut short: " in line for line in lines) == 1
    assert 0 < len(times_of(tmp_path / "out" / "short.mkv")) < 60
    assert len(lines) == len(hostile) + 2


@needs_av
def test_an_interrupted_video_leaves_nothing(lle, tmp_path, monkeypatch):
    source = write_video(tmp_path / "clip.mp4", noisy(20))

    def stopped(net, originals, *_):
        next(originals)
        yield np.zeros((HEIGHT, WIDTH, 3), np.float32)
        raise interrupt.Interrupted(2)

    monkeypatch.setattr(sequences, "_enhanced", stopped)
    assert lle(source, "-o", tmp_path / "out") == 130
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert set(left) <= {files.JOURNAL}
    with contextlib.suppress(FileNotFoundError):
        for line in (tmp_path / "out" / files.JOURNAL).read_text().splitlines():
            assert json.loads(line).get("status") != "done"


@needs_av
def test_a_video_is_never_its_own_output(lle, tmp_path, capsys):
    source = write_video(tmp_path / "clip.mp4", noisy(3))
    before = source.read_bytes()
    assert lle(source, "-o", source) == 2
    assert lle(tmp_path, "-o", tmp_path) == 2
    assert lle(source, "-o", tmp_path / "clip.png") == 1
    assert "a video is written as one of" in capsys.readouterr().err
    assert source.read_bytes() == before


@needs_av
def test_memory_does_not_grow_with_the_length(lle, tmp_path, monkeypatch):
    live, most = set(), []
    pixels = video._pixels

    class Tracked(np.ndarray):
        def __del__(self):
            live.discard(id(self))

    def tracked(frame, info):
        array = pixels(frame, info).view(Tracked)
        live.add(id(array))
        most.append(len(live))
        return array

    monkeypatch.setattr(video, "_pixels", tracked)
    for count in (20, 80):
        most.clear()
        source = write_video(tmp_path / f"{count}.mp4", noisy(count), Fraction(10))
        assert lle(source, "-o", tmp_path / "out") == 0
        assert len(most) == 2 * count
        assert max(most) < 8

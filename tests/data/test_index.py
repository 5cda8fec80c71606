import errno
import hashlib
import json
import os
import stat

import numpy as np
import pytest

from lle_jax import data, files, images


@pytest.fixture
def folder(tmp_path, photographs, monkeypatch):
    """A folder of 6 images and one that cannot be read, and a cache of its own.

    The images count as old enough to be trusted as soon as they are written.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "_TICK_NS", 0)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        write(folder / f"{number}.bmp", photographs, number)
    (folder / "text.jpg").write_text("this is no image")
    return folder


def write(path, photographs, shift):
    """Writes a picture; all have one size in bytes."""
    shifted = np.roll(photographs[0], 3 * shift, axis=1)[:32, :32]
    images.write(path, np.ascontiguousarray(shifted))


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that were decoded."""
    names = []
    read = images.read

    def recorded(path, *arguments, **options):
        names.append(os.path.basename(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(images, "read", recorded)
    return names


def index_file(folder):
    (path,) = (folder.parent / "cache" / "lle_jax" / "images").iterdir()
    return path


def load(folder):
    return data.load(str(folder), crop=16)


def plain(splits):
    """All of a Splits but the functions, and the pixels."""
    parts = [getattr(splits, role) for role in data.ROLES]
    values = [(part.names, part.hashes, part.sizes, part.modalities) for part in parts]
    pixels = [image.tobytes() for part in parts for image in part]
    return splits.fingerprint, splits.rejected, values, pixels


def test_a_second_load_decodes_and_hashes_no_image_again(folder, decoded, monkeypatch):
    first = load(folder)
    assert len(decoded) == 7
    decoded.clear()
    monkeypatch.setattr(images, "sha256", lambda path: pytest.fail(f"{path} is hashed"))
    second = load(folder)
    assert decoded == ["text.jpg"]  # what is rejected is examined again
    assert plain(second) == plain(first)
    assert second.rejected


def test_the_index_changes_nothing_in_the_result(folder, monkeypatch):
    load(folder)
    indexed = load(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "empty"))
    assert plain(indexed) == plain(load(folder))


def test_a_manifest_has_an_index_of_its_own(folder, decoded, monkeypatch):
    rows = [f"{number}.bmp,fundus,{number}" for number in range(6)]
    manifest = folder / "m.csv"
    manifest.write_text("\n".join(["path,modality,patient", *rows]))
    first = load(manifest)
    monkeypatch.chdir(folder)
    decoded.clear()
    assert data.load("m.csv", crop=16).fingerprint == first.fingerprint
    assert not decoded
    load(folder)
    assert len(decoded) == 7


@pytest.mark.parametrize("times", ["new", "as before", "older"])
def test_a_changed_file_of_the_same_size_is_noticed(folder, photographs, decoded, times):
    before, path = load(folder), folder / "3.bmp"
    old = path.stat()
    new = folder.parent / "new.bmp"
    write(new, photographs, 9)
    path.write_bytes(new.read_bytes())  # the same inode
    if times != "new":
        earlier = 10**12 if times == "older" else 0
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns - earlier))
    assert path.stat().st_size == old.st_size
    assert path.stat().st_ino == old.st_ino
    decoded.clear()
    after = load(folder)
    assert sorted(decoded) == ["3.bmp", "text.jpg"]
    assert after.fingerprint != before.fingerprint


def test_a_file_replaced_with_an_older_one_is_noticed(folder, photographs):
    older = folder.parent / "older.bmp"
    write(older, photographs, 9)
    os.utime(older, ns=(0, 10**18))
    before = load(folder)
    os.replace(older, folder / "3.bmp")
    after = load(folder)
    assert after.fingerprint != before.fingerprint
    assert images.sha256(folder / "3.bmp") in set().union(*after.record.values())


def test_a_file_changed_within_a_tick_of_the_clock_is_not_trusted(folder, decoded, monkeypatch):
    monkeypatch.setattr(files, "_TICK_NS", 2_000_000_000)
    load(folder)
    decoded.clear()
    splits = load(folder)
    assert len(decoded) == 7
    assert all(image.shape == (32, 32, 3) for image in splits.train)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:],
        lambda whole: b"\x00\xff" * 500,
        lambda whole: b'{"images": []}\n',
        lambda whole: signed(["another", "program"]),
        lambda whole: signed([json.loads(whole.split(b"\n")[1])[0], [["too", "short"]]]),
        lambda whole: whole.replace(b'"lle_jax": "', b'"lle_jax": "9'),
        lambda whole: signed([{"lle_jax": "9"}, json.loads(whole.split(b"\n")[1])[1]]),
    ],
)
def test_a_damaged_or_foreign_index_is_rebuilt(folder, decoded, damage):
    first, path = load(folder), index_file(folder)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    decoded.clear()
    assert plain(load(folder)) == plain(first)
    assert {f"{number}.bmp" for number in range(6)} <= set(decoded)
    assert path.read_bytes() == whole


def signed(value):
    content = json.dumps(value).encode()
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def test_a_cache_that_cannot_be_written_is_still_read(folder, photographs, decoded, monkeypatch):
    load(folder)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files, "write_bytes", refuse)
    write(folder / "new.bmp", photographs, 9)
    for _ in range(2):
        decoded.clear()
        assert sum(map(len, load(folder).record.values())) == 7
        assert sorted(decoded) == ["new.bmp", "text.jpg"]


def test_without_a_cache_folder_every_load_examines_all(folder, decoded, monkeypatch):
    (folder.parent / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "file"))
    for _ in range(2):
        decoded.clear()
        load(folder)
        assert len(decoded) == 7


def test_only_its_owner_reads_the_index_and_the_images_folder_is_left_as_it_is(folder):
    before = sorted(folder.iterdir())
    load(folder)
    assert stat.S_IMODE(index_file(folder).stat().st_mode) == 0o600
    assert sorted(folder.iterdir()) == before


def test_an_index_that_is_up_to_date_is_not_written_again(folder):
    load(folder)
    before = index_file(folder).stat()
    load(folder)
    assert index_file(folder).stat() == before


def test_an_image_changed_after_the_load_is_refused_and_one_only_touched_is_not(
    folder, photographs
):
    load(folder)
    splits = load(folder)
    name = splits.train.names[0]
    path = folder / f"{name}.bmp"
    os.utime(path)
    assert splits.train[0].shape == (32, 32, 3)
    write(path, photographs, 9)
    with pytest.raises(data.DataError, match=rf"{name}.bmp: changed since .*; restore it"):
        splits.train[0]

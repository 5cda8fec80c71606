"""Hostile and damaged files; what PyTorch wrote is read in test_import_weights.py."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lle_jax.models import torch_files

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="module")
def genuine():
    return (REFERENCE / "zero_dce_tiny.pth").read_bytes()


@pytest.fixture(scope="module")
def legacy():
    return (REFERENCE / "zero_dce_tiny.legacy.pth").read_bytes()


def altered(data, change, compression=zipfile.ZIP_STORED):
    """The archive with `change(name, content)` applied to its parts; None leaves a part out."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(sink, "w", compression) as new:
        for name in old.namelist():
            if (content := change(name.partition("/")[2], old.read(name))) is not None:
                new.writestr(name, content)
    return sink.getvalue()


def with_pickle(data, program):
    return altered(data, lambda name, content: program if name == "data.pkl" else content)


def assert_refused(data, match):
    with pytest.raises(torch_files.WeightsError, match=match) as caught:
        torch_files.parse(data, "FILE")
    assert str(caught.value).startswith("FILE: ")
    assert "\n" not in str(caught.value)


def test_a_program_in_the_pickle_does_not_run(genuine, legacy, tmp_path):
    target = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {target}",)

    attack = pickle.dumps(Attack(), 2)
    pickle.loads(attack)  # it does work
    assert target.exists()
    target.unlink()
    assert_refused(with_pickle(genuine, attack), r"asks for 'posix\.system'.*nothing of it was run")
    assert_refused(legacy[:15] + attack, r"asks for 'posix\.system'")  # as its second pickle
    for name in ("torch load", "torch._utils _rebuild_tensor_v2.__globals__", "builtins eval"):
        program = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n."
        assert_refused(with_pickle(genuine, program), "asks for ")
    assert not target.exists()


@pytest.mark.parametrize("protocol", [0, 3, 4, 5])
def test_opcodes_that_weights_do_not_need_are_refused(genuine, protocol):
    content = {"a": b"bytes", "b": {1, 2}}
    assert_refused(with_pickle(genuine, pickle.dumps(content, protocol)), "asks for ")


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b".",
        b"\x80\x02",
        b"\x80\x02}",
        b"\x80\x02}(K\x01u.",  # a key without a value
        b"\x80\x02h\x05.",  # what was never stored
        b"\x80\x02K\x01K\x02\x86R.",  # calls a number
        b"\x80\x02t.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02}))}s.",
        b"\x80\x02]K\x01.",
        b"\x80\x02X\xff\xff\xff\x7fa.",
        b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",  # {"a": 1}
        b"\x80\x02K\x01.",
        # collections.OrderedDict, (x, x), ((x, x), (x, x)), ...: 2^60 to hash
        b"\x80\x02}K\x01" + b"q\x00h\x00\x86" * 60 + b"K\x01s.",
        # and as the key of a storage
        b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nK\x01"
        + b"q\x00h\x00\x86" * 60
        + b"NK\x01tQ.",
    ],
)
def test_nonsense_is_refused_in_one_line(genuine, program):
    assert_refused(with_pickle(genuine, program), "FILE: ")


def test_every_truncation_is_refused(genuine, legacy):
    for data in (genuine, legacy):
        for length in range(0, len(data), 37):
            assert_refused(data[:length], "FILE: ")


def test_every_changed_byte_is_read_or_refused(genuine, legacy):
    """And never as a tensor of another size than the file could hold."""
    generator = np.random.default_rng(0)
    for data in (genuine, legacy):
        for _ in range(150):
            changed = bytearray(data)
            changed[generator.integers(len(data))] = generator.integers(256)
            try:
                tensors = torch_files.parse(bytes(changed), "FILE")
            except torch_files.WeightsError:
                continue
            assert sum(array.nbytes for array in tensors.values()) <= 2 * len(data)


def test_a_zip_bomb_is_not_unpacked(genuine):
    zeros = bytes(10**7)

    def grow(name, content):
        return zeros if name == "data/0" else content

    assert_refused(
        altered(genuine, grow, zipfile.ZIP_DEFLATED), r"part 'zero_dce_tiny/\w+' is compressed"
    )
    pickle_too_large = with_pickle(genuine, bytes(2**22 + 1))
    assert_refused(pickle_too_large, "pickle is too large")
    assert_refused(
        altered(genuine, grow), r"'e_conv1\.weight' is cut off"
    )  # not of the size it says


def test_parts_that_are_missing_or_short(genuine):
    def without(part):
        return altered(genuine, lambda name, content: None if name == part else content)

    assert_refused(without("data.pkl"), "not one that torch.save wrote")
    assert_refused(without("data/3"), "KeyError")
    assert_refused(
        altered(genuine, lambda name, content: content[:-1] if name == "data/3" else content),
        r"'e_conv2\.bias' is cut off",
    )
    big = altered(genuine, lambda name, content: b"big" if name == "byteorder" else content)
    assert_refused(big, "big-endian")


def tensor(size=b"K\x36", offset=b"K\x00", shape=b"K\x36\x85", strides=b"K\x01\x85"):
    """{"w": a tensor of the genuine file's first storage, 54 numbers of float16}."""
    return (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        b"(X\x07\x00\x00\x00storagectorch\nHalfStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + (size + b"tQ" + offset + shape + strides)
        + b"\x89}tRs."
    )


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"offset": b"K\x01"}, "outside its storage"),
        ({"offset": b"J\xff\xff\xff\xff"}, "no number of elements"),
        ({"strides": b"K\x02\x85"}, "outside its storage"),
        ({"strides": b"J\xfe\xff\xff\xff\x85"}, "no number of elements"),
        ({"shape": b"K\x00\x85"}, "outside its storage"),
        ({"shape": b"J\xff\xff\xff\x7f\x85", "strides": b"K\x00\x85"}, "larger than the file"),
        ({"shape": b"\x88\x85"}, "no number of elements"),  # True
        ({"size": b"K\x37"}, "is cut off"),
        ({"size": b"J\xff\xff\xff\x7f"}, "larger than the file"),
        ({"shape": b")"}, "damaged"),  # no axes, one stride
    ],
)
def test_a_tensor_that_does_not_fit_its_storage(genuine, changes, match):
    whole = torch_files.parse(with_pickle(genuine, tensor()), "FILE")["w"]
    assert whole.shape == (54,)
    assert_refused(with_pickle(genuine, tensor(**changes)), match)


def safetensors(header, numbers=bytes(24)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def entry(first, last, shape=(3,), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


def test_safetensors_by_their_definition():
    numbers = np.array([1, 2, 3], "<f4").tobytes() + np.array([4, 5, 6], "<f2").tobytes()
    numbers += np.array([0x3F80, 0xC040, 0x7F80], "<u2").tobytes()  # 1, -3, infinity
    header = {
        "b": entry(12, 18, (3, 1), "F16"),
        "a": entry(0, 12),
        "c": entry(18, 24, (3,), "BF16"),
    }
    found = torch_files.parse(safetensors(header, numbers), "FILE")
    np.testing.assert_array_equal(found["a"], np.float32([1, 2, 3]))
    np.testing.assert_array_equal(found["b"], np.float32([[4], [5], [6]]))
    np.testing.assert_array_equal(found["c"], np.float32([1, -3, np.inf]))
    counters = np.array([1, -2, 3], "<i8").tobytes()
    found = torch_files.parse(safetensors({"d": entry(0, 24, dtype="I64")}, counters), "FILE")
    np.testing.assert_array_equal(found["d"], np.float32([1, -2, 3]))


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ({"a": entry(0, 12), "b": entry(8, 20)}, "'b': its offsets overlap"),
        ({"a": entry(0, 12), "b": entry(0, 12)}, "'b': its offsets overlap"),
        ({"a": entry(0, 12)}, "take 12 bytes, and it has 24"),
        ({"a": entry(0, 12), "b": entry(12, 30, (9,), "F16")}, "take 30 bytes, and it has 24"),
        ({"a": entry(4, 16), "b": entry(16, 28)}, "'a': its offsets overlap, leave a gap"),
        ({"a": entry(-12, 0)}, "no number of elements"),
        ({"a": entry(0, 24, (-3, -2))}, "no number of elements"),
        ({"a": entry(0, 24, (2**62, 2**62))}, "do not fit its shape"),
        ({"a": entry(0, 24, (6, 0))}, "do not fit its shape"),
        ({"a": entry(0, 24, (6,), "I32")}, "tensors of 'I32' are not read"),
        ({"a": 3}, "damaged"),
        ({"a": {}}, "damaged"),
        (b'{"a": 1, "a": 2}', "a name twice"),
        (b"[" * 50_000, "no .pth or .safetensors"),
        (b'{"a":' * 50_000, "damaged"),
        (b"{}" + b" " * 2**22, "no .pth or .safetensors"),
    ],
)
def test_safetensors_that_lie(header, match):
    assert_refused(safetensors(header), match)


def test_other_files():
    for data in (b"", b"\x89PNG\r\n", bytes(100), struct.pack("<Q", 2**63) + b"{}"):
        assert_refused(data, "no .pth or .safetensors file")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "large.pth", "wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(torch_files.WeightsError, match="more than 2 GB"):
        torch_files.load(tmp_path / "large.pth")

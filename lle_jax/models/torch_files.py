"""Reads the tensors of PyTorch's files (.pth, .pt) and of .safetensors; runs nothing from a file.

A .pth file is a pickle, a program for a machine that can call any function. Here that program is
interpreted with 24 of its opcodes and four functions of our own; anything else is refused by name.
PyTorch is not needed. Whatever the file says, memory stays within a few times its size.
"""

import io
import json
import math
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_LARGEST = 2**31  # bytes of a file
_LARGEST_INDEX = 2**22  # bytes of a pickle or header: some 10,000 tensors
_DTYPES = {  # name in .safetensors and in .pth -> NumPy's; bfloat16 is the upper half of a float32
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",  # counters, as of batch normalisation
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
}
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # its first pickle, a number


class WeightsError(ValueError):
    """A file of weights is not sound or not of the network asked for; the message names what."""


def load(path: Path) -> bytes:
    """The bytes of a file that `parse` may take; raises WeightsError above 2 GB, or OSError."""
    if path.stat().st_size > _LARGEST:
        raise WeightsError(f"{path}: more than {_LARGEST >> 30} GB; give a file of weights only")
    return path.read_bytes()


def parse(data: bytes, where: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a file by name, float32.

    Of a .pth file that holds more than one dictionary, "params" is read, else "params_ema", else
    "state_dict"; "module." before every name, left by data-parallel training, is dropped.

    Args:
      data: what torch.save (in either of its formats) or safetensors wrote; its start decides.
      where: the file, for errors.

    Raises:
      WeightsError: if it is damaged, or holds other tensors than of floating point and int64.
    """
    try:
        if data.startswith(b"PK"):
            tensors = _zip(data)
        elif data.startswith(_LEGACY):
            tensors = _legacy(data)
        else:
            tensors = _safetensors(data)
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}") from None
    except Exception as error:  # whatever a damaged file can lead to
        raise WeightsError(
            f"{where}: damaged, or no .pth or .safetensors file ({type(error).__name__}); "
            "download it again"
        ) from None
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): array for name, array in tensors.items()}
    return tensors


class _Global(NamedTuple):
    """A name that a pickle refers to, "torch FloatStorage"."""

    name: str


class _Storage(NamedTuple):
    """`size` numbers kept under `key` outside the pickle."""

    key: str
    kind: str
    size: int


class _Tensor(NamedTuple):
    """A view of a storage; offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK = object()
_FUNCTIONS = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
_ARGUMENT = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _interpret(stream: io.BytesIO) -> Any:
    """What one pickle of protocol 2 builds, of dict, list, tuple, str, numbers and `_Tensor`."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        items = []
        while (item := stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def set_items(items: list[Any]) -> None:
        if type(stack[-1]) is not dict:
            raise WeightsError("its pickle stores items in what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):  # hashing nested tuples can take for ever
                raise WeightsError("a key is neither text nor a number")
            stack[-1][key] = value

    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name in _ARGUMENT:
            stack.append(argument)
        elif name in _CONSTANT:
            stack.append(_CONSTANT[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLE:
            stack[-_TUPLE[name] :] = [tuple(stack[-_TUPLE[name] :])]
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "SETITEM":
            set_items([stack.pop(-2), stack.pop()])
        elif name == "SETITEMS":
            set_items(since_mark())
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "APPENDS":
            items = since_mark()
            stack[-1].extend(items)
        elif name == "GLOBAL":
            stack.append(_global(argument))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_call(stack.pop(), arguments))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "BUILD":  # attributes of a dictionary: versions of layers, nothing we need
            stack.pop()
        elif name == "STOP":
            (result,) = stack
            return result
        elif name != "PROTO":
            raise _refuse(f"the opcode {name}")
    raise EOFError


def _refuse(what: str) -> WeightsError:
    return WeightsError(
        f"asks for {what[:80]!r}, which a file of plain weights does not need; refused, nothing of "
        "it was run; save the state_dict alone, or as .safetensors"
    )


def _global(name: Any) -> _Global:
    if name not in _FUNCTIONS and not re.fullmatch(r"torch \w+Storage", name):
        raise _refuse(name.replace(" ", "."))
    return _Global(name)


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Global) or type(arguments) is not tuple:
        raise WeightsError("its pickle calls what is no function")
    if function.name == _FUNCTIONS[0] and not arguments:
        return {}
    if function.name == _FUNCTIONS[1] and isinstance(arguments[0], _Storage):
        return _Tensor(*arguments[:4])
    if function.name == _FUNCTIONS[2] and isinstance(arguments[0], _Tensor):
        return arguments[0]
    raise _refuse(f"{function.name.replace(' ', '.')} with unusual arguments")


def _storage(identity: Any) -> _Storage:
    tag, kind, key, _, size, *view = identity
    names = tag == "storage" and isinstance(kind, _Global) and isinstance(key, str)
    if not names or view not in ([], [None]):
        raise _refuse("an unusual storage")
    return _Storage(key, kind.name.removeprefix("torch "), _count(size))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise WeightsError("a size is no number of elements")
    return value


def _zip(data: bytes) -> dict[str, np.ndarray]:
    """The format of PyTorch 1.6 and newer: a pickle and a file per storage, none compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:

        def entry(name: str) -> bytes:
            info = archive.getinfo(name)
            # PyTorch compresses nothing, so an entry that unpacks to more than itself is an attack
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                raise WeightsError(f"its part {name[:80]!r} is compressed; PyTorch does not do so")
            return archive.read(info)

        names = archive.namelist()
        index = [name for name in names if re.fullmatch(r"[^/]*/data\.pkl", name)]
        if len(index) != 1:
            raise WeightsError("an archive, but not one that torch.save wrote (no data.pkl)")
        folder = index[0].removesuffix("data.pkl")
        if folder + "byteorder" in names and entry(folder + "byteorder") != b"little":
            raise WeightsError("its numbers are big-endian; save it again on another machine")
        pickle = entry(index[0])
        if len(pickle) > _LARGEST_INDEX:
            raise WeightsError("its pickle is too large for a file of plain weights")
        content = _interpret(io.BytesIO(pickle))
        return _gather(content, lambda storage: entry(f"{folder}data/{storage.key}"), len(data))


def _legacy(data: bytes) -> dict[str, np.ndarray]:
    """The format before PyTorch 1.6: five pickles, then each storage's length and numbers."""
    stream = io.BytesIO(data)

    def pickle() -> Any:
        start = stream.tell()
        part = io.BytesIO(stream.read(_LARGEST_INDEX))
        content = _interpret(part)
        stream.seek(start + part.tell())
        return content

    pickle()  # the magic number
    version, machine, content, keys = (pickle() for _ in range(4))
    if version != 1001 or machine.get("little_endian") is not True:
        raise WeightsError("of an unknown version, or big-endian; save it again with PyTorch")
    by_name = _tensors(content)
    sizes = {tensor.storage.key: tensor.storage for tensor in by_name.values()}
    numbers = {}
    for key in keys:
        size = int.from_bytes(stream.read(8), "little")
        # storages of what is not read, as an optimiser's state, may come first: their size in bytes
        # is not told, so the file must hold nothing else
        if key not in sizes or sizes[key].size != size:
            raise WeightsError("holds more than weights; save the state_dict alone")
        numbers[key] = stream.read(size * _dtype(sizes[key].kind).itemsize)
    return _gather(content, lambda storage: numbers[storage.key], len(data))


def _tensors(content: Any) -> dict[str, _Tensor]:
    """The dictionary of tensors in what a pickle built."""
    if not isinstance(content, dict):
        raise WeightsError("holds no dictionary of tensors; save the model's state_dict")
    for key in ("params", "params_ema", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise WeightsError(f"{str(name)[:80]!r} is no tensor; save the model's state_dict")
    return content


def _gather(content: Any, fetch, limit: int) -> dict[str, np.ndarray]:
    """The arrays of a pickle's tensors; `fetch(storage)` gives a storage's bytes.

    Storages, and tensors, together must not be larger than the file, of `limit` bytes: one storage
    could be under many names.
    """
    storages: dict[_Storage, np.ndarray] = {}
    arrays, stored, viewed = {}, 0, 0
    for name, tensor in _tensors(content).items():
        storage, itemsize = tensor.storage, _dtype(tensor.storage.kind).itemsize
        stored += storage.size * itemsize if storage not in storages else 0
        viewed += math.prod(map(_count, tensor.shape)) * itemsize
        if max(stored, viewed) > limit:
            raise WeightsError("its tensors are larger than the file; download it again")
        if storage not in storages:
            data = fetch(storage)
            if len(data) != storage.size * itemsize:
                raise WeightsError(f"{name[:80]!r} is cut off; download the file again")
            storages[storage] = _float32(data, storage.kind)
        arrays[name] = _view(name, tensor, storages[storage])
    return arrays


def _view(name: str, tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    shape, strides = tuple(tensor.shape), tuple(map(_count, tensor.strides))
    last = _count(tensor.offset) + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if len(shape) > 8 or 0 in shape or last >= numbers.size:
        raise WeightsError(f"{name[:80]!r} reaches outside its storage; download the file again")
    start = numbers[tensor.offset :]
    return np.lib.stride_tricks.as_strided(start, shape, [4 * s for s in strides]).copy()


def _safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Length of the header (8 bytes), JSON header, numbers; huggingface.co/docs/safetensors."""
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(_LARGEST_INDEX, len(data) - 8) or data[8:9] != b"{":
        raise WeightsError("no .pth or .safetensors file")
    header = json.loads(data[8 : 8 + length], object_pairs_hook=_unique)
    header.pop("__metadata__", None)
    numbers = memoryview(data)[8 + length :]
    arrays, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = map(_count, entry["data_offsets"])
        shape = tuple(map(_count, entry["shape"]))
        size = math.prod(shape) * _dtype(entry["dtype"]).itemsize
        # one after the other without gaps, as the format demands: so nothing overlaps
        if len(shape) > 8 or 0 in shape or first != end or last - first != size:
            raise WeightsError(
                f"{name[:80]!r}: its offsets overlap, leave a gap or do not fit its shape"
            )
        end = last
        arrays[name] = (entry["dtype"], shape, first, last)
    if end != len(numbers):
        raise WeightsError(f"its tensors take {end} bytes, and it has {len(numbers)}")
    return {
        name: _float32(numbers[first:last], kind).reshape(shape)
        for name, (kind, shape, first, last) in arrays.items()
    }


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise WeightsError("its header has a name twice")
    return dict(pairs)


def _dtype(kind: Any) -> np.dtype:
    if kind not in _DTYPES:
        raise WeightsError(f"tensors of {str(kind)[:80]!r} are not read; save them as float32")
    return np.dtype(_DTYPES[kind])


def _float32(data: bytes | memoryview, kind: str) -> np.ndarray:
    numbers = np.frombuffer(data, _dtype(kind))
    if kind in ("BF16", "BFloat16Storage"):
        return (numbers.astype("<u4") << 16).view("<f4")
    with np.errstate(over="ignore"):  # infinity is refused where it matters, as a weight
        return numbers.astype(np.float32)

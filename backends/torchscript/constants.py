"""The constants of a TorchScript file: parameters, buffers and frozen constants, from the archive's records.

Nothing is loaded by torch: the pickles are followed (pickled.py), and numbers are mapped where they lie in the file.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.constants import Constant, Scales
from whisper_parity.backends.torchscript import archive, pickled
from whisper_parity.backends.torchscript.pickled import Called, Stored
from whisper_parity.errors import ArtifactError, first_line
from whisper_parity.system import inputs

STORAGES: dict[str, tuple[str, type[np.generic]]] = {
    "torch.FloatStorage": ("float32", np.float32),
    "torch.DoubleStorage": ("float64", np.float64),
    "torch.HalfStorage": ("float16", np.float16),
    "torch.BFloat16Storage": ("bfloat16", np.uint16),
    "torch.CharStorage": ("int8", np.int8),
    "torch.ByteStorage": ("uint8", np.uint8),
    "torch.ShortStorage": ("int16", np.int16),
    "torch.IntStorage": ("int32", np.int32),
    "torch.LongStorage": ("int64", np.int64),
    "torch.BoolStorage": ("bool", np.bool_),
    "torch.QInt8Storage": ("int8", np.int8),
    "torch.QUInt8Storage": ("uint8", np.uint8),
    "torch.QInt32Storage": ("int32", np.int32),
}
"""torch's types of storage: our name, and numpy's type of the bytes."""
TENSOR, QUANTISED = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_qtensor"
FROZEN = re.compile(rb"CONSTANTS\.c(\d+)")
RANK_LIMIT = 8
TENSORS_LIMIT = 100_000
COPIES_LIMIT = 8
"""How often a file's bytes may be held by its tensors: views share them, and a hostile file could repeat them."""
PACKED_LIMIT = 64
"""Most that a record may be packed by; numbers hardly can be."""
MARGIN_BYTES = 2**26
"""What a small file may take beyond these."""


def read(path: Path) -> tuple[Constant, ...]:
    """All tensors of a file; parameters under their paths, constants of the code as "constant N".

    Raises:
        ArtifactError: no TorchScript file, or one with a tensor that is not whole.
    """
    inputs.require_regular(path, inputs.MODEL_BYTES, ArtifactError, hint=archive.AGAIN)
    try:
        archive.require_one_reading(path)
        with zipfile.ZipFile(path) as content:
            return tuple(_constants(_Archive(path, content)))
    except ArtifactError:
        raise
    except Exception as error:  # foreign bytes: zipfile and pickletools raise dozens of types
        raise ArtifactError(f"{path}: not a TorchScript file ({first_line(error)})", hint=archive.AGAIN) from error


@dataclass(frozen=True, slots=True)
class _Archive:
    path: Path
    content: zipfile.ZipFile

    @property
    def top(self) -> str:
        """The folder inside it."""
        return self.content.infolist()[0].filename.partition("/")[0]

    def record(self, name: str) -> bytes | None:
        """A small record; None where there is none."""
        try:
            return self.content.read(f"{self.top}/{name}")
        except KeyError:
            return None

    def numbers(self, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        """A record as numbers, mapped where it is stored as it is."""
        entry = self.content.getinfo(f"{self.top}/{name}")
        count = entry.file_size // dtype.itemsize
        if not count:
            return np.empty(0, dtype)
        if entry.compress_type != zipfile.ZIP_STORED:
            if entry.file_size > PACKED_LIMIT * entry.compress_size + MARGIN_BYTES:
                raise ValueError(f"a record that is packed {entry.file_size // max(1, entry.compress_size)} times")
            return np.frombuffer(self.content.read(entry), dtype, count)
        with self.path.open("rb") as file:
            file.seek(entry.header_offset)
            header = archive.LOCAL.unpack(file.read(archive.LOCAL.size))
        start = entry.header_offset + archive.LOCAL.size + header[9] + header[10]
        return np.memmap(self.path, dtype, "r", start, (count,))


def _constants(source: _Archive) -> Iterator[Constant]:
    if (source.record("byteorder") or b"little").strip() != b"little":
        raise ValueError("its numbers are stored the other way round, big endian")
    state = source.record("data.pkl")
    if state is None:
        raise ValueError("an archive without data.pkl")
    budget = COPIES_LIMIT * source.path.stat().st_size + MARGIN_BYTES
    for constant in _all(source, state):
        budget -= constant.stored.nbytes
        if budget < 0:
            raise ValueError("tensors of more bytes than the file can hold")
        yield constant


def _all(source: _Archive, state: bytes) -> Iterator[Constant]:
    for name, tensor in _tensors(pickled.read(state)):
        yield _constant(source, "data", tensor, name, (name,), None)
    frozen = source.record("constants.pkl")
    order = _order(source)
    for number, tensor in enumerate(pickled.read(frozen) if frozen else ()):
        if isinstance(tensor, Called):
            yield _constant(source, "constants", tensor, f"constant {number}", (), order.get(number))


def _order(source: _Archive) -> dict[int, int]:
    """Rank of each constant among the uses of constants in the code, which is written in the order in which it runs.

    Only where all code is one function, as in a frozen file: the order over several would need their calls.
    """
    texts = [source.content.read(entry) for entry in source.content.infolist() if entry.filename.endswith(".py")]
    using = [text for text in texts if FROZEN.search(text)]
    if len(using) != 1 or using[0].count(b"  def ") != 1:
        return {}
    uses = dict.fromkeys(int(match[1]) for match in FROZEN.finditer(using[0]))
    return {number: rank for rank, number in enumerate(uses)}


def _tensors(root: Any) -> Iterator[tuple[str, Called]]:
    """Every tensor in a module's state with its path, each object once."""
    waiting: list[tuple[str, Any]] = [("", root)]
    seen: set[int] = set()
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen:
            continue
        if isinstance(value, (Called, dict, list, tuple)):
            seen.add(id(value))
        if isinstance(value, Called) and value.name in (TENSOR, QUANTISED):
            yield path, value
            continue
        waiting += [(f"{path}.{name}" if path else name, child) for name, child in _children(value)]
        if len(waiting) > TENSORS_LIMIT:
            raise ValueError("more parts than any model has")


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Called):
        return _children(value.state if value.state is not None else value.arguments)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return [(str(name), child) for name, child in items][::-1]


def _constant(
    source: _Archive, folder: str, tensor: Called, key: str, names: tuple[str, ...], order: int | None
) -> Constant:
    dtype, values = _numbers(source, folder, *_view(tensor))
    scales = _scales(source, folder, tensor.arguments[4]) if tensor.name == QUANTISED else None
    return Constant(key, dtype, values, scales, names, order)


def _view(tensor: Called) -> tuple[Any, int, tuple[int, ...], tuple[int, ...]]:
    """Storage, offset, sizes and strides of a tensor."""
    storage, offset, size, stride, *_ = tensor.arguments
    return storage, int(offset), tuple(size), tuple(stride)


def _numbers(
    source: _Archive, folder: str, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[str, NDArray[Any]]:
    """A tensor's type and its numbers as a view with its own strides, which may not leave its record."""
    if not isinstance(storage, Stored):
        raise ValueError("a tensor without a record")
    _, kind, record, _, _ = storage.identity
    dtype, number = STORAGES[kind.name]
    if len(size) != len(stride) or len(size) > RANK_LIMIT or not all(type(n) is int and n >= 0 for n in size + stride):
        raise ValueError(f"a tensor of sizes {size} and strides {stride}")
    numbers = source.numbers(f"{folder}/{record}", np.dtype(number).newbyteorder("<"))
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if math.prod(size) == 0:
        return dtype, np.empty(size, number)
    if offset < 0 or last >= len(numbers):
        raise ValueError(f"a tensor {list(size)} that leaves its record {folder}/{record}")
    step_bytes = tuple(step * numbers.itemsize for step in stride)
    return dtype, np.lib.stride_tricks.as_strided(numbers[offset:], size, step_bytes, writeable=False)


def _scales(source: _Archive, folder: str, quantiser: Any) -> Scales:
    """One scale, or one for each slice along an axis."""
    _, scale, zero, *axis = quantiser
    if not axis:
        return Scales(np.array([scale], np.float32), np.array([zero], np.int64), None)
    arrays = [_numbers(source, folder, *_view(part))[1] for part in (scale, zero)]
    return Scales(np.asarray(arrays[0], np.float32), np.asarray(arrays[1], np.int64), int(axis[0]))

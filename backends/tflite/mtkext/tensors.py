"""Tensors of a `ModelT`: their names, types, and the constants among them as arrays."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backends.tflite.mtkext import flatfile

ARRAY_TYPES: dict[str, type[np.generic]] = {
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
    "int64": np.int64,
    "uint64": np.uint64,
    "bool": np.bool_,
}
"""The schema's types that numpy has, in lower case."""


@cache
def _names(enumeration: str) -> dict[int, str]:
    members = vars(getattr(flatfile.schema(), enumeration))
    return {value: name for name, value in members.items() if not name.startswith("_")}


def text(raw: bytes | None) -> str:
    """Decode a string for display; bytes that are not UTF-8 become escapes."""
    return (raw or b"").decode("utf-8", "backslashreplace")


def type_name(number: int) -> str:
    """Name of a tensor type of the schema: "float32"."""
    return _names("TensorType").get(number, f"type {number}").lower()


def type_number(name: str) -> int:
    """The schema's number of a type: "float32" is 0."""
    return int(getattr(flatfile.schema().TensorType, name.upper()))


def builtin(code: Any) -> int:
    """The built-in operator of an OperatorCodeT: codes from 127 on use the newer of its two fields."""
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def is_custom(code: Any) -> bool:
    """Whether an OperatorCodeT is a custom op."""
    return builtin(code) == int(flatfile.schema().BuiltinOperator.CUSTOM)


def op_name(code: Any) -> str:
    """An OperatorCodeT's name: "CONV_2D", or a custom op's own."""
    if is_custom(code):
        return text(code.customCode) or "CUSTOM"
    number = builtin(code)
    return _names("BuiltinOperator").get(number, f"BUILTIN_{number}")


def shape(tensor: Any) -> tuple[int, ...]:
    """A TensorT's shape."""
    return tuple(int(size) for size in tensor.shape)


def describe(tensor: Any) -> str:
    """A TensorT for display: "x float32 [1, 1500, 512]"."""
    return f"{text(tensor.name) or '(no name)'} {type_name(tensor.type)} {list(shape(tensor))}"


def is_constant(model: Any, tensor: Any) -> bool:
    """Whether the file holds the tensor's values."""
    data = model.buffers[tensor.buffer].data
    return data is not None and data.size > 0


def constant(model: Any, tensor: Any) -> NDArray[Any] | None:
    """The values of a constant as a read-only view into the file, in its shape; None if not constant.

    Raises:
        ValueError: a type that numpy lacks, or a size that does not match its shape.
    """
    if not is_constant(model, tensor):
        return None
    data, name = model.buffers[tensor.buffer].data, type_name(tensor.type)
    if name not in ARRAY_TYPES:
        raise ValueError(f"constants of {name} are not read")
    dtype = np.dtype(ARRAY_TYPES[name]).newbyteorder("<")
    size_bytes = math.prod(shape(tensor)) * dtype.itemsize
    if data.nbytes != size_bytes:
        raise ValueError(f"{describe(tensor)} needs {size_bytes} bytes and has {data.nbytes}")
    return np.frombuffer(data, dtype).reshape(shape(tensor))

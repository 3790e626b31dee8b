"""The constants of a TFLite file: its buffers, with the scales of quantised ones, read from the flatbuffer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.constants import Constant, Scales
from whisper_parity.backends.tflite.mtkext import flatfile, tensors
from whisper_parity.errors import ArtifactError

PASSING = frozenset({"DEQUANTIZE", "TRANSPOSE", "RESHAPE", "CAST", "QUANTIZE", "SQUEEZE", "EXPAND_DIMS"})
"""Operators that hand a constant on: what it is for is said by those behind them."""


def read(path: Path) -> tuple[Constant, ...]:
    """Every constant once, under its buffer: "buffer 12".

    Raises:
        ArtifactError: not a TFLite file, truncated or hostile, or with a constant that is not whole.
        UnavailableError: the schema's package is missing.
    """
    model = flatfile.read(path)
    try:
        return tuple(_constants(model))
    except (ValueError, IndexError) as error:
        raise ArtifactError(f"{path}: not a usable TFLite file ({error})", hint=flatfile.REBUILD_HINT) from error


def key_of(tensor: Any) -> str:
    """The key of a TensorT's constant."""
    return f"buffer {tensor.buffer}"


def _constants(model: Any) -> Iterator[Constant]:
    seen: set[int] = set()
    rank = 0
    for graph in model.subgraphs:
        uses = _uses(model, graph)
        for tensor in graph.tensors:
            if tensor.buffer in seen or not tensors.is_constant(model, tensor):
                continue
            seen.add(tensor.buffer)
            users = uses.get(tensor.buffer, [])
            beside = {other for user in users for other in _taken(model, graph, user)} - {key_of(tensor)}
            order = rank + users[0] if users else None
            values, dtype = _stored(model, tensor)
            scales = _scales(model, graph, tensor, values.shape) if values.dtype.kind in "iu" else None
            yield Constant(key_of(tensor), dtype, values, scales, _names(tensor), order, tuple(sorted(beside)))
        rank += len(graph.operators)


def _names(tensor: Any) -> tuple[str, ...]:
    return (tensors.text(tensor.name),) if tensor.name else ()


def _uses(model: Any, graph: Any) -> dict[int, list[int]]:
    """By buffer: operators that compute with a constant, those that only hand it on looked through."""
    names = [tensors.op_name(code) for code in model.operatorCodes]
    behind: dict[int, int] = {}
    uses: dict[int, list[int]] = {}
    for index, operator in enumerate(graph.operators):
        sources = [_source(model, graph, int(number), behind) for number in operator.inputs if number >= 0]
        buffers = [buffer for buffer in sources if buffer is not None]
        if buffers and names[operator.opcodeIndex] in PASSING and sources[0] is not None:
            behind.update({int(output): sources[0] for output in operator.outputs})
            continue
        for buffer in dict.fromkeys(buffers):
            uses.setdefault(buffer, []).append(index)
    return uses


def _source(model: Any, graph: Any, number: int, behind: dict[int, int]) -> int | None:
    """The buffer that a tensor's values come from; None for one that is computed from inputs."""
    if number in behind:
        return behind[number]
    tensor = graph.tensors[number]
    return int(tensor.buffer) if tensors.is_constant(model, tensor) else None


def _taken(model: Any, graph: Any, operator: int) -> Iterator[str]:
    """Keys of the constants that an operator takes as they are."""
    for number in graph.operators[operator].inputs:
        if number >= 0 and tensors.is_constant(model, graph.tensors[number]):
            yield key_of(graph.tensors[number])


def _stored(model: Any, tensor: Any) -> tuple[NDArray[Any], str]:
    """The numbers as stored, and the name of their type; 4 bits unpacked to int8.

    Raises:
        ValueError: a size that does not match its shape.
    """
    kind = tensors.type_name(tensor.type)
    if kind == "int4":
        return _unpacked(model.buffers[tensor.buffer].data, tensors.shape(tensor)), kind
    if kind == "bfloat16":
        data = np.frombuffer(model.buffers[tensor.buffer].data, "<u2")
        return data.reshape(tensors.shape(tensor)), kind
    if kind not in tensors.ARRAY_TYPES:
        return np.empty(0, np.uint8), kind  # strings, resources: no weights
    values = tensors.constant(model, tensor)
    assert values is not None  # noqa: S101 - it is a constant
    return values, kind


def _unpacked(data: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Two's complement numbers of 4 bits, two to a byte, the lower half first."""
    count = math.prod(shape)
    if len(data) != (count + 1) // 2:
        raise ValueError(f"4-bit numbers {list(shape)} in {len(data)} bytes")
    raw = np.asarray(data).view(np.int8)
    halves = np.stack([(raw << 4).astype(np.int8) >> 4, raw >> 4], axis=-1)
    return halves.reshape(-1)[:count].reshape(shape)


def _scales(model: Any, graph: Any, tensor: Any, shape: tuple[int, ...]) -> Scales | None:
    """Those of a quantised tensor; None for whole numbers that stand for themselves.

    Raises:
        ValueError: as many scales as fit nothing.
    """
    quantised = tensor.quantization
    if quantised is None:
        return None
    details = getattr(quantised, "details", None)
    if details is not None and hasattr(details, "blockSize"):
        return _blocks(model, graph, details, shape)
    if quantised.scale is None or not len(quantised.scale):
        return None
    scale = np.asarray(quantised.scale, np.float32)
    zero = np.zeros(1, np.int64) if quantised.zeroPoint is None else np.asarray(quantised.zeroPoint, np.int64)
    axis = int(quantised.quantizedDimension)
    if len(scale) == 1:
        return Scales(scale, zero[:1], None)
    if not 0 <= axis < len(shape) or shape[axis] != len(scale) or len(zero) not in (1, len(scale)):
        raise ValueError(f"{tensors.describe(tensor)} has {len(scale)} scales along axis {axis}")
    return Scales(scale, zero, axis)


def _blocks(model: Any, graph: Any, details: Any, shape: tuple[int, ...]) -> Scales:
    if not 0 <= details.scales < len(graph.tensors):
        raise ValueError("scales of blocks that are not there")
    scale = tensors.constant(model, graph.tensors[details.scales])
    block = int(details.blockSize)
    if scale is None or scale.size * block != math.prod(shape):
        raise ValueError("scales that do not fit their blocks")
    return Scales(np.asarray(scale, np.float32).reshape(-1), np.zeros(1, np.int64), None, block)

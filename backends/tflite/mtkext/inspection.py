"""What a TFLite file holds: its converter, inputs, outputs and ops, and what an NPU would refuse."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backends.tflite.mtkext import flatfile, tensors
from whisper_parity.backends.tflite.mtkext import ops as mtkext
from whisper_parity.backends.tflite.mtkext.ops import Op
from whisper_parity.backends.tflite.mtkext.recipes import RECIPES

FP16_LARGEST = 65504.0
"""Largest float16, the widest type of the NPU."""
RANK_LARGEST = 4
"""Most axes of a tensor on MDLA 5.3."""
REFUSED = frozenset(
    {
        "GATHER",
        "GATHER_ND",
        "SELECT",
        "SELECT_V2",
        "EQUAL",
        "NOT_EQUAL",
        "LESS",
        "LESS_EQUAL",
        "GREATER",
        "GREATER_EQUAL",
        "LOG",
        "LOG_SOFTMAX",
        "TOPK_V2",
        "FILL",
        "FLOOR",
        "CEIL",
        "ROUND",
    }
)
"""Built-in ops that MDLA 5.3 does not run, according to a public table of SDK 8.0.10, without guarantee."""
CHUNK = 2**20
"""Elements of a constant that are examined at a time, to limit memory."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output."""

    name: str
    """From the file's signature, else the tensor's own."""
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class FatalConstant:
    """A constant with values that float16 cannot represent."""

    tensor: str
    ops: tuple[str, ...]
    """Operators that use it: "3 ADD"."""
    elements: int
    beyond: int
    """Finite values beyond 65504 in magnitude."""
    minus_inf: int
    plus_inf: int
    nan: int
    smallest: float
    largest: float
    """Of the finite values; 0 if there are none."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Constants of one type."""

    tensors: int
    elements: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that `parity inspect` reports."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"ser_json_inf_nan": "strings"}

    size_bytes: int
    description: str
    converter: str
    """The converter that wrote the file, according to its description."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    """Of the first subgraph."""
    subgraphs: int
    tensors: int
    ops: Mapping[str, int]
    """Count by name, most frequent first."""
    custom_ops: tuple[Op, ...]
    weights: Mapping[str, Weights]
    """By type, each buffer counted once."""
    fatal_constants: tuple[FatalConstant, ...]
    npu_findings: tuple[str, ...]
    """What such an NPU is known to refuse."""
    unread: tuple[str, ...]
    """Constants that could not be read, and why."""
    wide_tensors: int = 0
    """Tensors of more axes than such an NPU has."""


def inspect(path: Path) -> Inspection:
    """Read a file without running it.

    Raises:
        ArtifactError: not a TFLite file, truncated or hostile.
    """
    model = flatfile.read(path)
    custom = tuple(mtkext.custom_ops(model))
    fatal, unread = _constants(model)
    return Inspection(
        size_bytes=path.stat().st_size,
        description=tensors.text(model.description),
        converter=_converter(model),
        inputs=_ports(model, "inputs"),
        outputs=_ports(model, "outputs"),
        subgraphs=len(model.subgraphs),
        tensors=sum(len(graph.tensors) for graph in model.subgraphs),
        ops=_histogram(model),
        custom_ops=custom,
        weights=_weights(model),
        fatal_constants=fatal,
        npu_findings=tuple(_findings(model, custom)),
        unread=unread,
        wide_tensors=len(_wide(model)),
    )


def weight_types(model: Any) -> frozenset[str]:
    """Types of a file's constants: "float32", "int8"."""
    return frozenset(_weights(model))


def _converter(model: Any) -> str:
    """Identify the converter: MediaTek's has its own description, Google's always "MLIR Converted."."""
    description = tensors.text(model.description)
    if match := re.fullmatch(r"Exported by (NeuroPilot converter) v?(\S.*)", description):
        return f"{match[1]} {match[2]}"
    return "LiteRT or TensorFlow (MLIR)" if description.startswith("MLIR Converted") else "unknown"


def _ports(model: Any, side: str) -> tuple[Port, ...]:
    graph = model.subgraphs[0]
    signatures = [signature for signature in model.signatureDefs if signature.subgraphIndex == 0]
    named = {}
    if len(signatures) == 1:
        named = {entry.tensorIndex: tensors.text(entry.name) for entry in getattr(signatures[0], side) or []}
    return tuple(_port(graph.tensors[index], named.get(index, "")) for index in getattr(graph, side))


def _port(tensor: Any, name: str) -> Port:
    return Port(name or tensors.text(tensor.name), tensors.shape(tensor), tensors.type_name(tensor.type))


def _operators(model: Any) -> Iterator[tuple[Any, int, str, Any]]:
    """Every operator: its subgraph, its index there, its name, the operator."""
    names = [tensors.op_name(code) for code in model.operatorCodes]
    for graph in model.subgraphs:
        for index, operator in enumerate(graph.operators):
            yield graph, index, names[operator.opcodeIndex], operator


def _histogram(model: Any) -> dict[str, int]:
    return dict(Counter(name for _, _, name, _ in _operators(model)).most_common())


def _stored_constants(model: Any) -> Iterator[tuple[Any, Any]]:
    """Every constant tensor with its subgraph; only the first of those that share a buffer."""
    seen: set[int] = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer not in seen and tensors.is_constant(model, tensor):
                seen.add(tensor.buffer)
                yield graph, tensor


def _weights(model: Any) -> dict[str, Weights]:
    weights: dict[str, Weights] = {}
    for _, tensor in _stored_constants(model):
        type_name, size = tensors.type_name(tensor.type), int(model.buffers[tensor.buffer].data.nbytes)
        before = weights.get(type_name, Weights(0, 0, 0))
        count = int(np.prod(tensors.shape(tensor), dtype=np.float64))
        weights[type_name] = Weights(before.tensors + 1, before.elements + count, before.size_bytes + size)
    return dict(sorted(weights.items(), key=lambda item: -item[1].size_bytes))


def _constants(model: Any) -> tuple[tuple[FatalConstant, ...], tuple[str, ...]]:
    users, fatal, unread = _users(model), [], []
    for _, tensor in _stored_constants(model):
        try:
            values = tensors.constant(model, tensor)
        except ValueError as error:
            unread.append(f"{tensors.text(tensor.name)}: {error}")
            continue
        if values is not None and values.dtype.kind == "f":
            fatal_constant = _fatal(tensor, values, tuple(users.get(tensor.buffer, ())))
            fatal += [fatal_constant] if fatal_constant else []
    return tuple(fatal), tuple(unread)


def _users(model: Any) -> dict[int, list[str]]:
    """Operators by the buffers that they use."""
    users: dict[int, list[str]] = {}
    for graph, index, name, operator in _operators(model):
        for tensor_index in {int(input_index) for input_index in operator.inputs if input_index >= 0}:
            users.setdefault(graph.tensors[tensor_index].buffer, []).append(f"{index} {name}")
    return users


def _fatal(tensor: Any, values: NDArray[Any], ops: tuple[str, ...]) -> FatalConstant | None:
    beyond, minus, plus, nan = 0, 0, 0, 0
    lows, highs = [], []
    flat = values.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK]
        finite = chunk[np.isfinite(chunk)]
        beyond += int(np.count_nonzero(finite > FP16_LARGEST) + np.count_nonzero(finite < -FP16_LARGEST))
        minus += int(np.count_nonzero(np.isneginf(chunk)))
        plus += int(np.count_nonzero(np.isposinf(chunk)))
        nan += int(np.count_nonzero(np.isnan(chunk)))
        lows += [float(finite.min())] if finite.size else []
        highs += [float(finite.max())] if finite.size else []
    if not beyond + minus + plus + nan:
        return None
    limits = min(lows, default=0.0), max(highs, default=0.0)
    return FatalConstant(tensors.text(tensor.name), ops, flat.size, beyond, minus, plus, nan, *limits)


def _wide(model: Any) -> list[Any]:
    return [tensor for graph in model.subgraphs for tensor in graph.tensors if len(tensor.shape) > RANK_LARGEST]


def _findings(model: Any, custom: tuple[Op, ...]) -> Iterator[str]:
    for port in _ports(model, "inputs"):
        if port.dtype in ("int32", "int64"):
            yield f"input {port.name} is {port.dtype} {list(port.shape)}: token ids need a lookup, which the NPU lacks"
    for name, count in _histogram(model).items():
        if name in REFUSED:
            yield f"{name}: {count} of an op that MDLA 5.3 does not run"
    if wide := _wide(model):
        yield f"{len(wide)} tensors of more than {RANK_LARGEST} axes, such as {tensors.describe(wide[0])}"
    for op in custom:
        if op.problem:
            yield f"operator {op.index} {op.name}: {op.problem}"
    for name in sorted({op.name for op in custom} - set(RECIPES)):
        yield f"{name}: a custom op that this project does not know"

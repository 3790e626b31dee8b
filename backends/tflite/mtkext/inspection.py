"""What a TFLite file holds, as a porter reads it: its author, inputs and outputs, ops, and what an NPU minds."""

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
"""Largest float16: the NPU computes in no wider type."""
RANK_LARGEST = 4
"""Axes of a tensor on MDLA 5.3."""
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
"""Built-in ops that MDLA 5.3 does not run, by a public table of SDK 8.0.10; that table is no promise."""
CHUNK = 2**20
"""Elements of a constant that are looked at together, to keep memory small."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output."""

    name: str
    """As the file's signature has it, else the tensor's own."""
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class FatalConstant:
    """A constant with values that float16 does not hold."""

    tensor: str
    ops: tuple[str, ...]
    """Operators that take it: "3 ADD"."""
    elements: int
    beyond: int
    """Finite values of more than 65504."""
    minus_inf: int
    plus_inf: int
    nan: int
    smallest: float
    largest: float
    """Of the finite values; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Constants of one type."""

    tensors: int
    elements: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that `parity inspect` says."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"ser_json_inf_nan": "strings"}

    size_bytes: int
    description: str
    converter: str
    """Who wrote the file, as far as its description says."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    """Of the first subgraph."""
    subgraphs: int
    tensors: int
    ops: Mapping[str, int]
    """How many of each, most first."""
    custom_ops: tuple[Op, ...]
    weights: Mapping[str, Weights]
    """By type, each buffer counted once."""
    fatal_constants: tuple[FatalConstant, ...]
    npu_findings: tuple[str, ...]
    """What an NPU of this kind is known to refuse."""
    unread: tuple[str, ...]
    """Constants that were not looked at, and why."""


def inspect(path: Path) -> Inspection:
    """Read a file without running it.

    Raises:
        ArtifactError: not a TFLite file, cut short or hostile.
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
    )


@dataclass(frozen=True, slots=True)
class Outline:
    """What tells files apart, without a look at any constant."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    weights: frozenset[str]
    """Types of its constants."""


def outline(path: Path) -> Outline:
    """Read a file's inputs, outputs and types of constants.

    Raises:
        ArtifactError: not a TFLite file, cut short or hostile.
    """
    model = flatfile.read(path)
    return Outline(_ports(model, "inputs"), _ports(model, "outputs"), frozenset(_weights(model)))


def _converter(model: Any) -> str:
    """MediaTek's converter announces itself in the description; Google's calls every file "MLIR Converted."."""
    description = tensors.text(model.description)
    if found := re.fullmatch(r"Exported by (NeuroPilot converter) v?(\S.*)", description):
        return f"{found[1]} {found[2]}"
    return "LiteRT or TensorFlow (MLIR)" if description.startswith("MLIR Converted") else "unknown"


def _ports(model: Any, side: str) -> tuple[Port, ...]:
    graph, signatures = model.subgraphs[0], [each for each in model.signatureDefs if each.subgraphIndex == 0]
    named = {}
    if len(signatures) == 1:
        named = {each.tensorIndex: tensors.text(each.name) for each in getattr(signatures[0], side) or []}
    return tuple(_port(graph.tensors[index], named.get(index, "")) for index in getattr(graph, side))


def _port(tensor: Any, name: str) -> Port:
    return Port(name or tensors.text(tensor.name), tensors.shape(tensor), tensors.type_name(tensor.type))


def _operators(model: Any) -> Iterator[tuple[Any, int, str, Any]]:
    """Every operator: its subgraph, its index there, its name, itself."""
    names = [tensors.op_name(code) for code in model.operatorCodes]
    for graph in model.subgraphs:
        for index, operator in enumerate(graph.operators):
            yield graph, index, names[operator.opcodeIndex], operator


def _histogram(model: Any) -> dict[str, int]:
    return dict(Counter(name for _, _, name, _ in _operators(model)).most_common())


def _held(model: Any) -> Iterator[tuple[Any, Any]]:
    """Every constant tensor with its subgraph; of tensors that share a buffer the first."""
    seen: set[int] = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer not in seen and tensors.is_constant(model, tensor):
                seen.add(tensor.buffer)
                yield graph, tensor


def _weights(model: Any) -> dict[str, Weights]:
    found: dict[str, Weights] = {}
    for _, tensor in _held(model):
        kind, size = tensors.type_name(tensor.type), int(model.buffers[tensor.buffer].data.nbytes)
        before = found.get(kind, Weights(0, 0, 0))
        count = int(np.prod(tensors.shape(tensor), dtype=np.float64))
        found[kind] = Weights(before.tensors + 1, before.elements + count, before.size_bytes + size)
    return dict(sorted(found.items(), key=lambda item: -item[1].size_bytes))


def _constants(model: Any) -> tuple[tuple[FatalConstant, ...], tuple[str, ...]]:
    users, fatal, unread = _users(model), [], []
    for _, tensor in _held(model):
        try:
            values = tensors.constant(model, tensor)
        except ValueError as error:
            unread.append(f"{tensors.text(tensor.name)}: {error}")
            continue
        if values is not None and values.dtype.kind == "f":
            found = _fatal(tensor, values, tuple(users.get(tensor.buffer, ())))
            fatal += [found] if found else []
    return tuple(fatal), tuple(unread)


def _users(model: Any) -> dict[int, list[str]]:
    """Operators by the buffers that they take."""
    found: dict[int, list[str]] = {}
    for graph, index, name, operator in _operators(model):
        for place in {int(each) for each in operator.inputs if each >= 0}:
            found.setdefault(graph.tensors[place].buffer, []).append(f"{index} {name}")
    return found


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


def _findings(model: Any, custom: tuple[Op, ...]) -> Iterator[str]:
    for port in _ports(model, "inputs"):
        if port.dtype in ("int32", "int64"):
            yield f"input {port.name} is {port.dtype} {list(port.shape)}: token ids need a lookup, which the NPU lacks"
    for name, count in _histogram(model).items():
        if name in REFUSED:
            yield f"{name}: {count} of an op that MDLA 5.3 does not run"
    wide = [tensor for graph in model.subgraphs for tensor in graph.tensors if len(tensor.shape) > RANK_LARGEST]
    if wide:
        yield f"{len(wide)} tensors of more than {RANK_LARGEST} axes, such as {tensors.described(wide[0])}"
    for op in custom:
        if op.problem:
            yield f"operator {op.index} {op.name}: {op.problem}"
    for name in sorted({op.name for op in custom} - set(RECIPES)):
        yield f"{name}: a custom op that this project does not know"

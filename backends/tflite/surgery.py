"""Units inside a TFLite file: copies of it that give their outputs beside its own, or take inputs of their own.

Nothing is run here: the flatbuffer is read, its graph is searched by structure (backends/split/stream.py), and a copy
is written whose ports are all float32. A tensor of another type is converted by the file's own scale, by ops of the
copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from whisper_parity.backend import taps
from whisper_parity.backend.interface import Half, Port
from whisper_parity.backends.split import stream
from whisper_parity.backends.split.stream import NORM, OTHER, PASS, PRODUCT, SCALE, SHAPE, SUM, Node, Tap
from whisper_parity.backends.tflite.mtkext import flatfile, tensors
from whisper_parity.errors import UnavailableError
from whisper_parity.model.dims import Dims

ROLES: Mapping[str, frozenset[str]] = {
    NORM: frozenset({"MEAN", "SUM", "L2_NORMALIZATION", "AVERAGE_POOL_2D"}),
    PASS: frozenset(
        {
            "RESHAPE",
            "TRANSPOSE",
            "QUANTIZE",
            "DEQUANTIZE",
            "CAST",
            "SQUEEZE",
            "EXPAND_DIMS",
            "BROADCAST_TO",
            "SLICE",
            "STRIDED_SLICE",
            "GATHER",
            "GATHER_ND",
        }
    ),
    SUM: frozenset({"ADD"}),
    SCALE: frozenset({"MUL"}),
    PRODUCT: frozenset({"FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D"}),
    SHAPE: frozenset({"SHAPE", "RANK"}),
}
VENDOR = "MTKEXT_"
"""What MediaTek's converter puts before the names of built-in ops that it writes as custom ones."""
WHOLE_NORMS = ("layer_norm", "layernorm", "layer_normalization", "rms_norm")
"""Parts of the names of custom and composite ops that are a whole normalisation."""
SOURCES = {"encoder": "input_features", "decoder": "token_embeddings"}
FED = ".input"
"""What the name of a unit's input ends in."""
CONVERTIBLE = ("int8", "uint8", "int16")

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """A file with taps; all ports float32, but for a given file's own inputs."""

    path: Path
    inputs: Mapping[str, Shape | Port]
    """The file's own by our names, then "UNIT.input" for units that are fed."""
    outputs: Mapping[str, Shape]
    """By unit."""
    fed: Mapping[str, str]
    """The unit whose input each one takes, of those that are fed."""
    sourced: str | None
    """The unit whose output is the file's own input: positions that are added outside."""
    empty: Mapping[str, str]
    """Units alone that give what they take, and whose input that is: norms that were left out."""
    replaced: Mapping[str, str]
    """The unit whose output each input of ours replaces."""
    is_free: bool
    """The file takes inputs of any length: what is said of shapes is not what it computes with."""


def write(
    path: Path, out: Path, kind: str, wanted: Sequence[str], component: str, dims: Dims, half: Half | None = None
) -> Copy:
    """Write a copy of a file whose units can be read.

    Args:
        path: the file; nothing in it is run.
        out: the copy.
        kind: "entire", the whole graph with the units' outputs; or "single", each unit with an input of its own.
        wanted: units; those that the file does not keep apart are left out.
        component: "encoder" or "decoder".
        dims: of the checkpoint.
        half: how a given file takes and gives its numbers; its own inputs stay as they are.

    Raises:
        ArtifactError: no usable TFLite file.
        UnavailableError: its structure is not that of this half, or a tensor's type has no conversion.
        OutputError: the copy cannot be written.
    """
    model = flatfile.read(path)
    graph = model.subgraphs[0]
    names = [_op_name(model, operator) for operator in graph.operators]
    nodes = [_node(name, operator) for name, operator in zip(names, graph.operators)]
    fused = {value for name, node in zip(names, nodes) if _is_whole_norm(name) for value in node.outputs}
    sources, output = _ends(graph, half)
    found = stream.found(nodes, sources, output, fused, component, dims, f"{path}")
    selection = stream.selected(found, wanted)
    empty = [tap for tap in selection[1:] if tap.is_empty] if kind == taps.SINGLE else []
    fed = [tap for tap in selection[1:] if tap not in empty] if kind == taps.SINGLE else []
    surgeon = _Surgeon(model, graph)
    own = surgeon.own_inputs(selection[0].before, component, convert=half is None)
    inputs = own | surgeon.fed(fed)
    outputs = surgeon.read([tap for tap in selection if tap.behind != selection[0].before and tap not in empty])
    surgeon.close(inputs, outputs)
    flatfile.write(model, out)
    sourced = next((tap.unit for tap in selection if tap.behind == selection[0].before), None)
    sides = [{name: tensors.shape(graph.tensors[index]) for name, index in side.items()} for side in (inputs, outputs)]
    ports = {list(own)[port.index]: port for port in half.inputs} if half else {}
    replaced = {f"{tap.fed}{FED}": before.unit for before, tap in pairwise(selection) if tap in fed}
    return Copy(
        out, {**sides[0], **ports}, sides[1], {tap.unit: tap.fed for tap in fed}, sourced,
        {tap.unit: tap.fed for tap in empty}, replaced, half is not None and _is_free(graph, own, half),
    )  # fmt: skip


def _is_free(graph: Any, own: Mapping[str, int], half: Half) -> bool:
    """Whether an input has another length than the file's tensor, or may have."""
    stated = {port: tensors.shape(graph.tensors[[*own.values()][port.index]]) for port in half.inputs}
    return any(port.free_axis is not None or shape != port.shape for port, shape in stated.items())


def _ends(graph: Any, half: Half | None) -> tuple[list[int], int]:
    """The tensors where the stream may begin, and the one where it ends."""
    inputs = [int(index) for index in graph.inputs]
    if half is None:
        return inputs, int(graph.outputs[0])
    return [inputs[half.inputs[0].index]], int(graph.outputs[half.output.index])


class _Surgeon:
    """Changes the ports of a graph."""

    def __init__(self, model: Any, graph: Any) -> None:
        self._model, self._graph = model, graph
        self._before: list[Any] = []
        self._behind: list[Any] = []

    def own_inputs(self, source: int, component: str, *, convert: bool) -> dict[str, int]:
        """The file's inputs by our names: the stream begins at the source, the other one is the encoder output."""
        names = {int(index): "encoder_output" for index in self._graph.inputs} | {source: SOURCES[component]}
        return {name: self._taken(index) if convert else index for index, name in names.items()}

    def fed(self, fed: Sequence[Tap]) -> dict[str, int]:
        """New inputs that units take in place of what is before them."""
        return {f"{tap.fed}{FED}": self._replaced(tap.before) for tap in fed}

    def read(self, read: Sequence[Tap]) -> dict[str, int]:
        """Units' outputs as float32."""
        return {tap.unit: self._given(tap.behind) for tap in read}

    def close(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        """Give the graph these ports, and one signature that names them."""
        classes, graph = flatfile.schema(), self._graph
        graph.operators = [*self._before, *graph.operators, *self._behind]
        graph.inputs = np.array([*inputs.values()], np.int32)
        graph.outputs = np.array([*outputs.values()], np.int32)
        signature = classes.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = [_entry(name, index) for name, index in inputs.items()]
        signature.outputs = [_entry(name, index) for name, index in outputs.items()]
        self._model.signatureDefs = [signature]

    def _taken(self, index: int) -> int:
        """A float32 input for a tensor: itself, or one that is converted into it."""
        if self._type(index) == "float32":
            return index
        port = self._new(index, "float32")
        self._before.append(self._conversion("QUANTIZE", port, index))
        return port

    def _replaced(self, index: int) -> int:
        """A float32 input that every taker of a tensor takes in its place."""
        twin = self._new(index, self._type(index))
        for operator in self._graph.operators:
            operator.inputs = np.where(operator.inputs == index, twin, operator.inputs)
        return self._taken(twin)

    def _given(self, index: int) -> int:
        """A tensor as float32."""
        if self._type(index) == "float32":
            return index
        port = self._new(index, "float32")
        self._behind.append(self._conversion("DEQUANTIZE", index, port))
        return port

    def _type(self, index: int) -> str:
        return tensors.type_name(self._graph.tensors[index].type)

    def _new(self, like: int, dtype: str) -> int:
        """A new tensor of another's shape, and of its scale where it is of its type."""
        tensor, model_tensor = flatfile.schema().TensorT(), self._graph.tensors[like]
        tensor.shape, tensor.type, tensor.buffer = model_tensor.shape, tensors.type_number(dtype), 0
        tensor.quantization = model_tensor.quantization if dtype == self._type(like) else None
        tensor.name = f"tap/{len(self._graph.tensors)}"
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _conversion(self, name: str, given: int, made: int) -> Any:
        """An op between float32 and another type, by that type's own scale."""
        kinds = {self._type(given), self._type(made)} - {"float32"}
        kind = kinds.pop()
        if kind == "float16":
            name, version = ("DEQUANTIZE", 3) if name == "DEQUANTIZE" else ("CAST", 1)
        elif kind in CONVERTIBLE:
            version = 3 if kind == "int16" else 2
        else:
            raise UnavailableError(f"a hidden state of type {kind}: it is not read as numbers")
        classes = flatfile.schema()
        operator = classes.OperatorT()
        operator.opcodeIndex = self._opcode(name, version)
        operator.inputs, operator.outputs = np.array([given], np.int32), np.array([made], np.int32)
        if name == "CAST":
            operator.builtinOptionsType = classes.BuiltinOptions.CastOptions
            operator.builtinOptions = classes.CastOptionsT()
            operator.builtinOptions.inDataType = tensors.type_number("float32")
            operator.builtinOptions.outDataType = tensors.type_number("float16")
        return operator

    def _opcode(self, name: str, version: int) -> int:
        classes = flatfile.schema()
        code = classes.OperatorCodeT()
        code.builtinCode = int(getattr(classes.BuiltinOperator, name))
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1


def _entry(name: str, index: int) -> Any:
    entry = flatfile.schema().TensorMapT()
    entry.name, entry.tensorIndex = taps.file_port(name), index
    return entry


def _node(name: str, operator: Any) -> Node:
    taken = tuple(int(index) for index in operator.inputs if index >= 0)
    return Node(_role(name), taken, tuple(int(index) for index in operator.outputs))


def _op_name(model: Any, operator: Any) -> str:
    """An operator's name; that of what it stands for, where it is a composite."""
    name = tensors.op_name(model.operatorCodes[operator.opcodeIndex])
    if name == "STABLEHLO_COMPOSITE" and operator.builtinOptions2 is not None:
        return tensors.text(getattr(operator.builtinOptions2, "name", None))
    return name


def _role(name: str) -> str:
    if _is_whole_norm(name):
        return NORM
    return next((role for role, names in ROLES.items() if name.removeprefix(VENDOR) in names), OTHER)


def _is_whole_norm(name: str) -> bool:
    return any(part in name.lower() for part in WHOLE_NORMS)

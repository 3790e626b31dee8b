"""Units inside a loaded TorchScript file: its graph with their outputs beside its own, or with inputs of their own.

Called where the file is run: for files of others in the confined child, and nowhere else. Submodules are inlined, so
that traced, scripted and frozen files are read alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whisper_parity.backend.contract import Float32
from whisper_parity.backend.interface import Half
from whisper_parity.backends.split import inside, stream
from whisper_parity.backends.split.stream import NORM, OTHER, PASS, PRODUCT, SCALE, SHAPE, SUM, Node
from whisper_parity.errors import UnavailableError
from whisper_parity.model.dims import Dims

WHOLE_NORMS = frozenset({"layer_norm", "native_layer_norm", "rms_norm", "group_norm", "instance_norm", "batch_norm"})
ROLES: Mapping[str, frozenset[str]] = {
    NORM: WHOLE_NORMS | {"mean", "sum", "var", "var_mean", "std", "std_mean", "norm", "linalg_vector_norm"},
    PASS: frozenset(
        {
            "to", "type_as", "float", "half", "double", "contiguous", "view", "reshape", "permute", "transpose", "t",
            "unsqueeze", "squeeze", "flatten", "clone", "detach", "dropout", "alias", "expand", "movedim", "swapaxes",
            "_unsafe_view", "_reshape_alias", "quantize_per_tensor", "dequantize", "to_mkldnn", "to_dense", "slice",
            "select", "narrow", "index_select", "index",
        }
    ),
    SUM: frozenset({"add", "add_", "__iadd__", "add_relu"}),
    SCALE: frozenset({"mul", "mul_"}),
    SHAPE: frozenset({"size", "dim", "numel", "len", "dtype", "device", "is_floating_point", "_shape_as_tensor"}),
}  # fmt: skip
PRODUCTS = ("linear", "mm", "matmul", "conv", "einsum", "dot")
"""Parts of the names of operators that multiply by a matrix."""


BUNDLES = ("prim::TupleConstruct", "prim::ListConstruct", "prim::DictConstruct")


class Inside:
    """The graph of a loaded file and the units in it."""

    def __init__(self, module: Any, component: str, dims: Dims, half: Half | None = None) -> None:
        """Find the units.

        Args:
            module: a loaded file.
            component: "encoder" or "decoder".
            dims: of the checkpoint.
            half: which of a given file's inputs and outputs is what.

        Raises:
            UnavailableError: its structure is not that of this half.
        """
        self._module = module
        self._graph = _plain(module)
        numbers = {value.unique(): number for number, value in enumerate(_values(self._graph))}
        nodes = [_node(node, numbers) for node in self._graph.nodes()]
        fused = {
            numbers[value.unique()]
            for node in self._graph.nodes() if _is_affine(node) for value in node.outputs()
        }  # fmt: skip
        inputs = [numbers[value.unique()] for value in list(self._graph.inputs())[1:]]
        outputs = [numbers[value.unique()] for given in self._graph.outputs() for value in _tensors(given)]
        if half is not None:  # of the tokens and the encoder output, the stream begins at the tokens
            inputs, outputs = [inputs[half.inputs[0].index]], outputs[half.output.index :]
        if not outputs:
            raise UnavailableError(f"torchscript {component}: its layers are not told apart: its output is no tensor")
        self._graph_taps = stream.found(nodes, inputs, outputs[0], fused, component, dims, f"torchscript {component}")
        self._kinds: dict[int, Kind] = {}
        self._shapes: list[torch.Size] = []

    def entire(self, wanted: Sequence[str], arrays: Sequence[torch.Tensor]) -> dict[str, NDArray[Any]]:
        """Outputs of units on the file's own inputs; the last unit's is the file's.

        Args:
            wanted: units; those that the file does not keep apart are left out.
            arrays: the file's inputs, in its order.
        """
        selection = stream.selected(self._graph_taps, wanted)
        outputs = self._call([], [tap.behind for tap in selection], arrays)
        self._remember(arrays)
        self._kinds |= {tap.behind: Kind.of(output) for tap, output in zip(selection, outputs)}
        return {tap.unit: _numbers(output) for tap, output in zip(selection, outputs)}

    def single(
        self, wanted: Sequence[str], arrays: Sequence[torch.Tensor], hidden: Mapping[str, Float32]
    ) -> dict[str, NDArray[Any]]:
        """Outputs of units, each fed its own hidden state, float32 [1, n_rows, n_columns]; the first the file's input.

        Args:
            wanted: units.
            arrays: the file's inputs, in its order.
            hidden: what units are fed; those without are left out.
        """
        selection = stream.selected(self._graph_taps, wanted)
        self._remember(arrays)
        if any(tap.behind not in self._kinds for tap in selection):
            self.entire(wanted, arrays)
        chosen = inside.chosen(selection, hidden)
        alone = [tap for tap in chosen if tap is selection[0] or not tap.is_empty]
        fed = [tap for tap in alone if tap is not selection[0]]
        states = [self._kinds[tap.before].made(hidden[tap.fed], tap.unit) for tap in fed]
        outputs = self._call([tap.before for tap in fed], [tap.behind for tap in alone], [*arrays, *states])
        measured = {tap.unit: _numbers(output) for tap, output in zip(alone, outputs)}
        return {tap.unit: measured[tap.unit] if tap in alone else hidden[tap.fed] for tap in chosen}

    def _remember(self, arrays: Sequence[torch.Tensor]) -> None:
        """Forget the kinds of tensors when inputs have other shapes, as a file of free length may take them."""
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            self._kinds, self._shapes = {}, shapes

    def _call(
        self, fed: Sequence[int], wanted: Sequence[int], arrays: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        graph = self._graph.copy()
        values = list(_values(graph))
        for number in fed:
            _fed(graph, values[number])
        outputs = [values[number] for number in wanted]
        _copied(graph, outputs)
        _returning(graph, outputs)
        function = torch._C._create_function_from_graph("tapped", graph)
        with torch.no_grad():
            return tuple(function(self._module, *arrays))


@dataclass(frozen=True, slots=True)
class Kind:
    """Layout and type of a tensor inside a file."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    """Of its memory: sums over rows that lie apart are rounded otherwise."""
    dtype: torch.dtype
    scale: tuple[float, int] | None
    """Scale and zero point of a quantised one."""
    packed: bool
    """In the layout of oneDNN."""

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Kind:
        """That of a tensor."""
        scale = (tensor.q_scale(), tensor.q_zero_point()) if tensor.is_quantized else None
        stride = () if tensor.is_mkldnn else tensor.stride()
        return cls(tuple(tensor.shape), stride, tensor.dtype, scale, tensor.is_mkldnn)

    def made(self, hidden: Float32, unit: str) -> torch.Tensor:
        """A hidden state of this kind; errors as of `inside.laid_out`."""
        values = torch.from_numpy(inside.laid_out(hidden, self.shape, unit).copy())
        if self.scale is not None:
            return torch.quantize_per_tensor(values, *self.scale, self.dtype)
        if self.packed:
            return values.to_mkldnn()
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype).copy_(values)


def _numbers(tensor: torch.Tensor) -> NDArray[Any]:
    """A tensor's values, float32, in its layout."""
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.is_mkldnn:
        tensor = tensor.to_dense()
    return np.asarray(tensor.float().numpy())


def _plain(module: Any) -> Any:
    """A copy of a file's graph: calls inlined, tuples taken apart, and nothing changed in place where that is safe."""
    graph = module.forward.graph.copy()
    for tidied in (
        torch._C._jit_pass_inline,
        torch._C._jit_pass_lower_all_tuples,
        torch._C._jit_pass_remove_mutation,
        torch._C._jit_pass_dce,
    ):
        tidied(graph)
    return graph


def _name(node: Any) -> str:
    """An operator's name without its namespace."""
    return str(node.kind()).rpartition("::")[2]


def _is_affine(node: Any) -> bool:
    """Whether it is a whole normalisation with a gain or a shift: folded into what follows, they are not in it."""
    return _name(node) in WHOLE_NORMS and any(value.type().kind() == "TensorType" for value in list(node.inputs())[1:])


def _values(graph: Any) -> Iterator[Any]:
    """All values of a graph's top level: a copy of it has the same ones in the same order."""
    yield from graph.inputs()
    for node in graph.nodes():
        yield from node.outputs()


def _tensors(value: Any) -> Iterator[Any]:
    """The tensors of an output, in the order of `trials.flattened`: those tuples, lists, dicts are made at its end."""
    kind, given = value.node().kind(), list(value.node().inputs())
    if kind in BUNDLES:
        for inner in given[1::2] if kind == "prim::DictConstruct" else given:
            yield from _tensors(inner)
    elif value.type().kind() == "TensorType":
        yield value


def _node(node: Any, numbers: Mapping[int, int]) -> Node:
    taken = [numbers[value.unique()] for value in _taken(node) if value.unique() in numbers]
    return Node(_role(_name(node)), tuple(taken), tuple(numbers[value.unique()] for value in node.outputs()))


def _taken(node: Any) -> Iterator[Any]:
    """The values that a node takes, those inside its blocks included."""
    yield from node.inputs()
    for block in node.blocks():
        for inner in block.nodes():
            yield from _taken(inner)
        yield from block.outputs()


def _role(name: str) -> str:
    for role, names in ROLES.items():
        if name in names:
            return role
    return PRODUCT if any(part in name for part in PRODUCTS) else OTHER


def _copied(graph: Any, values: list[Any]) -> None:
    """Take copies of values where they are made: what follows may change them in place."""
    for place, value in enumerate(values):
        if value.node().kind() != "prim::Param":
            none = graph.create("prim::Constant", [], 1)
            none.output().setType(torch._C.NoneType.get())
            none.insertAfter(value.node())
            clone = graph.create("aten::clone", [value, none.output()], 1)
            clone.insertAfter(none)
            values[place] = clone.output()


def _fed(graph: Any, value: Any) -> None:
    """Let whatever takes a value take a new input of the graph."""
    given = graph.addInput()
    given.setType(torch._C.TensorType.get())
    value.replaceAllUsesWith(given)


def _returning(graph: Any, outputs: Sequence[Any]) -> None:
    """Give a graph other outputs, as one tuple."""
    bundle = graph.create("prim::TupleConstruct", list(outputs), 1)
    bundle.output().setType(torch._C.TupleType([torch._C.TensorType.get() for _ in outputs]))
    graph.appendNode(bundle)
    for _ in list(graph.outputs()):
        graph.eraseOutput(0)
    graph.registerOutput(bundle.output())

"""What may be wrong with any unit: its precision, its weights; and how a kind is written down.

A kind is a change of a unit's graph, in words that go behind "UNIT with". The kinds of single parts are in
`kinds_attention`, `kinds_layers` and `kinds_ends`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from whisper_parity.backend.facets import Trial
from whisper_parity.backends.pytorch.graph import Changes, Graph, Node
from whisper_parity.backends.pytorch.units import heads

BITS = (8.0, 6.0, 5.0, 4.0)
GROUP = 32
"""Neighbouring columns that share a scale, where groups do."""
SHARED: tuple[tuple[str, int | None, tuple[float, ...]], ...] = (
    ("tensor", None, BITS), ("channel", 0, (8.0, 4.0)), (f"group of {GROUP}", -1, (8.0, 4.0)),
)  # fmt: skip
"""What shares a scale, the axis along which every slice has one of its own (-1: groups of the last), and the bits."""
LARGEST = 2**21
"""Elements of a matrix whose roundings are tried: a vocabulary's would take seconds, and can be read in the file."""
LAYERS = (".query", ".key", ".value", ".out", ".hidden", "output")
"""Ends of the names of values that a layer with weights gives."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be wrong."""

    trial: Trial
    changes: Callable[[float], Changes]
    """Of the graph, for one of the trial's numbers; 0 for a trial without any."""


def plain(family: str, words: str, changes: Changes) -> Kind:
    """A kind without a number."""
    return Kind(Trial(family, words), lambda _: changes)


def alone(words: str, changes: Changes) -> Kind:
    """One without a number that is the only one of its family."""
    return plain(words, words, changes)


def costly(kind: Kind) -> Kind:
    """The same, tried last."""
    return replace(kind, trial=replace(kind.trial, is_costly=True))


def of_precision(chart: Graph) -> Iterator[Kind]:
    """Another arithmetic, or coarser weights, in the whole unit."""
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        yield from _of_dtype(chart, name, dtype)
    weights = matrices(chart)
    if max(chart.value(name).numel() for name in weights or ("hidden",)) > LARGEST:
        return
    for shared, axis, bits in SHARED:
        for ends in (2.0, 1.0):
            words = f"all weights rounded to {{value:g}} bits, one scale for a {shared}"
            trial = Trial("bits of all weights", words, bits)
            yield Kind(trial, _coarse(chart, weights, axis, ends))
    words = "8-bit weights, and 8-bit activations, one scale for a row"
    yield plain("bits of all weights", words, _eight_bits(chart))


def of_single_weights(chart: Graph) -> Iterator[Kind]:
    """One matrix of several that is coarser."""
    weights = matrices(chart)
    for name in weights if len(weights) > 1 else ():
        for shared, axis, bits in SHARED:
            words = f"{name} rounded to {{value:g}} bits, one scale for a {shared}"
            yield Kind(Trial(f"bits of {name}", words, bits), _coarse(chart, (name,), axis, 2.0))


def of_lost_biases(chart: Graph) -> Iterator[Kind]:
    """A bias or the shift of a norm that is not added, or twice."""
    for name, node in chart.nodes.items():
        if node.is_weight and name.endswith(".bias"):
            yield weight_changed(chart, name, f"{name} lost", torch.zeros_like)
            yield weight_changed(chart, name, f"{name} added twice", lambda bias: 2 * bias)


def of_turned_weights(chart: Graph) -> Iterator[Kind]:
    """A square matrix transposed, or any with its rows or columns shifted."""
    for name in matrices(chart):
        for axis, words in enumerate(("rows", "columns")):
            trial = Trial(f"order of {name}", f"the {words} of {name} shifted by {{value:g}}", (1.0, -1.0))
            yield Kind(trial, _rolled(chart, name, axis))
        shape = chart.value(name).shape
        if shape[0] == shape[1] and "projection" not in name:
            yield weight_changed(chart, name, f"{name} transposed", lambda weight: weight.transpose(0, 1))


def weight_changed(chart: Graph, name: str, words: str, change: Callable[[Tensor], Tensor]) -> Kind:
    """One tensor of the unit, changed."""
    return alone(words, {name: chart.nodes[name].then(change)})


def matrices(chart: Graph) -> tuple[str, ...]:
    """Names of the weights of more than one axis."""
    return tuple(
        name for name, node in chart.nodes.items()
        if node.is_weight and name.endswith(".weight") and chart.value(name).ndim > 1
    )  # fmt: skip


def rounded(weight: Tensor, bits: float, axis: int | None, ends: float = 2.0) -> Tensor:
    """Symmetric quantisation: step = max |weight| / (2^(bits-1) - ends / 2), the value rounded to the nearest step.

    Args:
        weight: of any shape.
        bits: of the integers.
        axis: along which every slice has a step of its own; None for one step, -1 for one in each GROUP of columns.
        ends: 2 for [-127, 127], 1 for a range of 255 steps around zero, as torch's observers have it.
    """
    if axis == -1:
        if weight.shape[-1] % GROUP:
            return weight
        return rounded(weight.reshape(-1, GROUP), bits, 0, ends).reshape(weight.shape)
    others = [place for place in range(weight.ndim) if place != axis]
    step = weight.abs().amax(dim=others, keepdim=True).clamp(min=1e-12) / (2 ** (bits - 1) - ends / 2)
    return stepped(weight, step)


def stepped(values: Tensor, step: Tensor) -> Tensor:
    """Rounded to the nearest multiple of a step, ties to even."""
    return torch.round(values / step) * step


def _coarse(chart: Graph, names: tuple[str, ...], axis: int | None, ends: float) -> Callable[[float], Changes]:
    def changes(bits: float) -> Changes:
        return {name: chart.nodes[name].then(lambda weight: rounded(weight, bits, axis, ends)) for name in names}

    return changes


def _rolled(chart: Graph, name: str, axis: int) -> Callable[[float], Changes]:
    return lambda by: {name: chart.nodes[name].then(lambda weight: weight.roll(int(by), dims=axis))}


def _of_dtype(chart: Graph, name: str, dtype: torch.dtype) -> Iterator[Kind]:
    """Arithmetic by torch's own operations in that type: another order of roundings would be another error."""

    def cast(value: Tensor) -> Tensor:
        return value.to(dtype)

    near = _near(dtype)
    weights = [key for key, node in chart.nodes.items() if node.is_weight and key.endswith((".weight", ".bias"))]
    yield plain(name, f"weights rounded to {name}", {key: chart.nodes[key].then(near) for key in weights})
    everything = {key: node.then(cast) for key, node in chart.nodes.items() if node.is_weight}
    but_norms = {key: node for key, node in everything.items() if "ln." not in key}
    layers = {key: _between(node, cast) for key, node in chart.nodes.items() if key.endswith(LAYERS)}
    fused = _fused(chart)
    for attention in ({}, fused) if fused else ({},):
        for changes in (everything, but_norms):
            yield plain(name, f"{name} arithmetic", {**changes, **attention})
        yield plain(name, f"{name} arithmetic in its layers, sums in float32", {**layers, **attention})


def of_precision_in(chart: Graph, part: str) -> Iterator[Kind]:
    """The layers of one sublayer in another type, their results in float32."""
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        layers = {
            key: _between(node, _near(dtype)).then(_near(dtype)) for key, node in chart.nodes.items()
            if key.startswith(f"{part}.") and key.endswith(LAYERS)
        }  # fmt: skip
        yield alone(f"{name} arithmetic in the layers of {part}", layers)


def _near(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda value: value.to(dtype).to(value.dtype)


def _between(node: Node, cast: Callable[[Tensor], Tensor]) -> Node:
    return Node(lambda *inputs: node.make(*map(cast, inputs)), node.inputs)


def _fused(chart: Graph) -> Changes:
    """Attention in one operation, as torch has it; its inner values are float32."""
    names = [key.removesuffix(".mixed") for key in chart.nodes if key.endswith(".mixed")]
    return {f"{name}.mixed": _fused_attention(chart, name) for name in names}


def _fused_attention(chart: Graph, name: str) -> Node:
    n_head = chart.value(f"{name}.scores").shape[1]

    def make(query: Tensor, key: Tensor, value: Tensor, *mask: Tensor) -> Tensor:
        query, key, value = (heads(part, n_head) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, mask[0].to(query.dtype) if mask else None)
        return mixed.transpose(1, 2).flatten(2)

    masks = [f"{name}.mask"] if f"{name}.mask" in chart.nodes else []
    return Node(make, (f"{name}.query", f"{name}.key", f"{name}.value", *masks))


def _eight_bits(chart: Graph) -> Changes:
    layers = {name: node for name, node in chart.nodes.items() if name.endswith(LAYERS) and len(node.inputs) > 1}
    return {name: _integer(node) for name, node in layers.items() if node.inputs[1].endswith(".weight")}


def _integer(node: Node) -> Node:
    """Rows of the input and rows of the weight with a step each, as dynamic ranges are quantised."""

    def make(hidden: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        return node.make(rounded(hidden, 8, hidden.ndim - 2), rounded(weight, 8, 0), *bias)

    return Node(make, node.inputs)

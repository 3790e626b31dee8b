"""What may be wrong with a norm, an MLP, or the sums of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from whisper_parity.backend.facets import Trial
from whisper_parity.backends.pytorch.graph import Changes, Graph, Node, constant
from whisper_parity.backends.pytorch.kinds import Kind, alone, plain, weight_changed
from whisper_parity.backends.pytorch.units import EPSILON, MLP, norm, sublayers

EPSILONS = (0.0, 1e-12, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "GELU by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "GELU by a sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
    "ReLU": F.relu,
    "SiLU": F.silu,
    "ReLU6": F.relu6,
    "leaky ReLU": F.leaky_relu,
    "ELU": F.elu,
    "no activation": lambda x: x,
}
"""In place of GELU by erf."""
CLIPS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)
"""Shares of the largest value that a clipped one is cut to."""


def of_norm(chart: Graph, parameters: str, place: str) -> Iterator[Kind]:
    """The kinds of one LayerNorm.

    Args:
        chart: the unit.
        parameters: name of the norm: "attn_ln".
        place: the value that it gives: "attn.normed".
    """
    inputs = chart.nodes[place].inputs
    trial = Trial(f"epsilon of {parameters}", f"epsilon {{value:.3g}} in {parameters}", EPSILONS, fitted=True)
    yield Kind(trial, lambda epsilon: {place: Node(_with_epsilon(epsilon), inputs)})
    yield weight_changed(chart, f"{parameters}.weight", f"{parameters}.weight lost", torch.ones_like)
    for words, make in NORMS.items():
        yield alone(f"{words} {parameters}", {place: Node(make, inputs)})
    yield alone(f"{parameters} left out", {place: Node(_same, inputs[:1])})


def of_all_norms(chart: Graph, places: Sequence[str]) -> Iterator[Kind]:
    """Every norm of a block with another epsilon, or as another would be; two with each other's parameters."""
    trial = Trial("epsilon of all norms", "epsilon {value:.3g} in all its norms", EPSILONS, fitted=True)
    if len(places) > 1:
        yield Kind(trial, lambda epsilon: {
            place: Node(_with_epsilon(epsilon), chart.nodes[place].inputs) for place in places
        })  # fmt: skip
    for first, second in combinations(places, 2):
        ours, theirs = (chart.nodes[place].inputs for place in (first, second))
        words = f"{ours[1].partition('.')[0]} and {theirs[1].partition('.')[0]} exchanged"
        changes = {first: Node(norm, (ours[0], *theirs[1:])), second: Node(norm, (theirs[0], *ours[1:]))}
        yield alone(words, changes)


def of_mlp(chart: Graph) -> Iterator[Kind]:
    """Another activation."""
    for words, function in ACTIVATIONS.items():
        family = f"{words.removesuffix('6')} in its MLP"  # ReLU6 is ReLU where no value is above 6
        yield plain(family, f"{words} in its MLP", {"mlp.active": Node(function, ("mlp.hidden",))})
    yield from of_clip(chart, "mlp.hidden", "clipped MLP", "its MLP's values clipped")
    yield from of_clip(chart, "mlp.active", "clipped MLP", "its MLP's values clipped")


def of_clip(chart: Graph, place: str, family: str, words: str) -> Iterator[Kind]:
    """Values that are cut to [-m, m]."""
    largest = float(chart.value(place).abs().max())
    trial = Trial(family, f"{words} at {{value:.3g}}", tuple(share * largest for share in CLIPS), fitted=True)
    yield Kind(trial, lambda limit: {place: chart.nodes[place].then(lambda x: x.clamp(-limit, limit))})


def of_sums(chart: Graph) -> Iterator[Kind]:
    """Residual sums that lack something, or take it from elsewhere."""
    for name in sublayers(chart):
        stream = chart.nodes[f"{name}.sum"].inputs[0]
        family, sum_, out = f"sum behind {name}", f"{name}.sum", f"{name}.out"
        normed = f"{name}.asked" if f"{name}.asked" in chart.nodes else f"{name}.normed"
        for words, node in (
            (f"the residual around {name} left out", Node(_same, (out,))),
            (f"{name} left out", Node(_same, (stream,))),
            (f"the residual around {name} added twice", Node(lambda x, y: 2 * x + y, (stream, out))),
            (f"{name} added twice", Node(lambda x, y: x + 2 * y, (stream, out))),
            (f"{name} taken off", Node(torch.sub, (stream, out))),
            (f"the residual around {name} taken from behind its norm", Node(torch.add, (normed, out))),
        ):
            yield plain(family, words, {sum_: node})
        yield plain(family, f"{name}_ln behind {name} in place of before", _late_norm(chart, name))
        yield from of_clip(chart, out, f"clipped {out}", f"the values of {out} clipped")
    yield from of_clip(chart, chart.target, "clipped output", "its output clipped")


def of_other_layers(chart: Graph, layers: Mapping[str, Mapping[str, Tensor]]) -> Iterator[Kind]:
    """The weights of another block.

    Args:
        chart: the unit.
        layers: tensors of the other blocks of the half by unit, as they are named in the chart.
    """
    for unit, values in layers.items():
        changes = {name: constant(value) for name, value in values.items() if name in chart.nodes}
        yield plain("another block", f"the weights of {unit}", changes)
        for part in ("attn", "cross_attn", MLP) if "attn.sum" in chart.nodes else ():
            own = {name: node for name, node in changes.items() if name.startswith((f"{part}.", f"{part}_ln."))}
            if own:
                yield plain(f"another block's {part}", f"the weights of {unit} in {part}", own)


def _late_norm(chart: Graph, name: str) -> Changes:
    """What was fed to the norm goes on as it is, and the sum is normalised."""
    stream = chart.nodes[f"{name}.normed"].inputs[0]
    rows = chart.nodes[f"{name}.sum"].inputs[0]
    parameters = (f"{name}_ln.weight", f"{name}_ln.bias")
    return {
        f"{name}.normed": Node(_same, (stream,)),
        f"{name}.sum": Node(lambda x, y, gain, shift: norm(x + y, gain, shift), (rows, f"{name}.out", *parameters)),
    }


def _with_epsilon(epsilon: float) -> Callable[..., Tensor]:
    return lambda x, gain, shift: F.layer_norm(x, x.shape[-1:], gain, shift, epsilon)


def _same(hidden: Tensor) -> Tensor:
    return hidden


def _sample_variance(hidden: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Divided by n - 1, not by n."""
    count = hidden.shape[-1]
    return norm(hidden, gain * ((count - 1) / count) ** 0.5, shift)


def _root_mean_square(hidden: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + EPSILON) * gain + shift


def _outside(hidden: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    deviation = hidden.var(-1, unbiased=False, keepdim=True).sqrt()
    return (hidden - hidden.mean(-1, keepdim=True)) / (deviation + EPSILON) * gain + shift


def _bare(hidden: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return norm(hidden, torch.ones_like(gain), torch.zeros_like(shift))


def _twice(hidden: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return norm(norm(hidden, gain, shift), gain, shift)


NORMS: Mapping[str, Callable[..., Tensor]] = {
    "the sample's variance in": _sample_variance,
    "no mean taken off in": _root_mean_square,
    "epsilon outside the root in": _outside,
    "neither gain nor shift in": _bare,
    "a second pass through": _twice,
}
"""In place of a LayerNorm."""

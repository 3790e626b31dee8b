"""What may be wrong with an attention: scale, mask, heads, softmax, what is attended to, what is mixed up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor

from whisper_parity.backend.facets import Trial
from whisper_parity.backends.pytorch.graph import Changes, Graph, Node
from whisper_parity.backends.pytorch.kinds import Kind, alone, plain
from whisper_parity.backends.pytorch.units import CROSS, in_groups

MASKED = -1e9
"""Added to scores of what is not attended to; where all are masked, every weight is the same."""
MASK_VALUES = (0.0, -1.0, -3.0, -10.0, -30.0)
"""Values of a mask that hides too little; scores of Whisper differ by some tens."""
PARTS_CUT = (0.1, 0.2, 0.25, 0.3, 1 / 3, 0.4, 0.5, 0.6, 2 / 3, 0.7, 0.75, 0.8, 0.9, 0.95)
"""Shares of the frames that are left of a cut."""
FACTORS = (0.25, 0.5, 0.7, 0.9, 1.1, 1.4, 2.0, 4.0)


def of_attention(chart: Graph, name: str, asked: Tensor) -> Iterator[Kind]:
    """The kinds of one attention.

    Args:
        chart: the unit.
        name: "attn" or "cross_attn".
        asked: int64: the rows that ask.
    """
    n_head = int(chart.value(f"{name}.scores").shape[1])
    yield from _scores(chart, name, n_head)
    yield from _softmax(name)
    yield from _masks(chart, name, asked)
    yield from _heads(chart, name, n_head)
    yield from _mixed_up(chart, name)
    yield from _frames(chart, name)
    yield from _late(chart, name)


def _scores(chart: Graph, name: str, n_head: int) -> Iterator[Kind]:
    place, family = f"{name}.scores", f"scores of {name}"
    root = math.sqrt(chart.value(f"{name}.query").shape[-1] // n_head)
    for words, factor in (
        ("scaled by 1 / sqrt(width) twice", 1 / root),
        ("not scaled by 1 / sqrt(width)", root),
        ("scaled by 1 / sqrt(width) in the query or the key alone", math.sqrt(root)),
        ("scaled three times by width ** -0.25", 1 / math.sqrt(root)),
    ):
        yield plain(family, f"the scores of {name} {words}", _times(chart, place, factor))
    trial = Trial(family, f"the scores of {name} {{value:.3g}} times as large", FACTORS, fitted=True)
    yield Kind(trial, lambda factor: _times(chart, place, factor))


def _times(chart: Graph, place: str, factor: float) -> Changes:
    return {place: chart.nodes[place].then(lambda values: values * factor)}


def _softmax(name: str) -> Iterator[Kind]:
    for words, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        changes = {f"{name}.weights": Node(_softmax_in(dtype), (f"{name}.masked",))}
        yield plain(f"softmax of {name}", f"the softmax of {name} in {words}", changes)


def _softmax_in(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda scores: scores.to(dtype).softmax(-1).to(scores.dtype)


def _masks(chart: Graph, name: str, asked: Tensor) -> Iterator[Kind]:
    """Of a self attention: the causal mask is off, or there is one where none belongs."""
    if name == CROSS:
        return
    count = chart.value(f"{name}.scores").shape[-1]
    behind = torch.arange(count)[None] - asked[:, None]

    def masking(first: int, value: float) -> Changes:
        added = torch.where(behind >= first, value, 0.0)
        return {f"{name}.masked": Node(lambda scores: scores + added, (f"{name}.scores",))}

    if f"{name}.mask" not in chart.nodes:
        yield plain("causal mask", "a causal mask where none belongs", masking(1, MASKED))
        return
    yield plain("causal mask", "no causal mask", masking(1, 0.0))
    trial = Trial("causal mask", "a causal mask of {value:.3g}, which hides too little", MASK_VALUES, fitted=True)
    yield Kind(trial, lambda value: masking(1, value))
    yield plain("causal mask", "the causal mask shifted by one: a token sees the next", masking(2, MASKED))
    yield plain("causal mask", "the causal mask shifted by one: no token sees itself", masking(0, MASKED))


def _heads(chart: Graph, name: str, n_head: int) -> Iterator[Kind]:
    """Heads are the columns of what goes into the output projection."""
    place, family = f"{name}.mixed", f"order of the heads of {name}"
    made = chart.nodes[place]
    for head in range(n_head):
        yield alone(f"head {head} of {name} giving nothing", {place: made.then(_without(head, n_head))})
    for first, second in combinations(range(n_head), 2):
        order = [{first: second, second: first}.get(head, head) for head in range(n_head)]
        yield plain(family, f"heads {first} and {second} of {name} exchanged", {place: made.then(_ordered(order))})
    if n_head > 3:
        backwards = range(n_head)[::-1]
        yield plain(family, f"the heads of {name} in reverse order", {place: made.then(_ordered(backwards))})
    for count in (n_head, chart.value(place).shape[-1] // n_head):
        words = f"the outputs of the heads of {name} interleaved"
        yield plain(family, words, {place: made.then(_interleaved(count))})


def of_parts(chart: Graph, name: str) -> Iterator[Kind]:
    """Heads of the queries or of the values in another order than those of the rest."""
    n_head = int(chart.value(f"{name}.scores").shape[1])
    for part in ("query", "value"):
        place = f"{name}.{part}"
        made, family = chart.nodes[place], f"order of the heads of {place}"
        for first, second in combinations(range(n_head), 2):
            order = [{first: second, second: first}.get(head, head) for head in range(n_head)]
            yield plain(family, f"heads {first} and {second} of {place} exchanged", {place: made.then(_ordered(order))})
        if n_head > 3:
            changes = {place: made.then(_ordered(range(n_head)[::-1]))}
            yield plain(family, f"the heads of {place} in reverse order", changes)


def _without(head: int, n_head: int) -> Callable[[Tensor], Tensor]:
    kept = torch.ones(n_head, 1)
    kept[head] = 0
    return lambda values: (in_groups(values, n_head) * kept).flatten(-2)


def _ordered(order: Sequence[int]) -> Callable[[Tensor], Tensor]:
    return lambda values: in_groups(values, len(order))[..., list(order), :].flatten(-2)


def _interleaved(count: int) -> Callable[[Tensor], Tensor]:
    """Columns [count, rest] read as [rest, count]."""
    return lambda values: in_groups(values, count).transpose(-1, -2).flatten(-2)


def _mixed_up(chart: Graph, name: str) -> Iterator[Kind]:
    """Projections in each other's place: the matrices alone, or with their biases, of which the key has none."""
    for first, second in combinations(("query", "key", "value"), 2):
        words = f"{first} and {second} of {name} mixed up"
        weights = _exchanged(chart, f"{name}.{first}.weight", f"{name}.{second}.weight")
        yield alone(words, weights)
        biases = [f"{name}.{part}.bias" for part in (first, second) if part != "key"]
        if len(biases) > 1:
            yield alone(words, {**weights, **_exchanged(chart, *biases)})
        else:
            yield alone(words, {**weights, biases[0]: chart.nodes[biases[0]].then(torch.zeros_like)})


def _exchanged(chart: Graph, first: str, second: str) -> Changes:
    return {first: chart.nodes[second], second: chart.nodes[first]}


def _frames(chart: Graph, name: str) -> Iterator[Kind]:
    """Keys and values of the first frames alone."""
    place = f"{name}.masked"
    total = chart.value(place).shape[-1]
    if f"{name}.mask" in chart.nodes:
        return  # what is behind a token is hidden anyway
    counts = tuple(sorted({float(round(total * part)) for part in PARTS_CUT}))

    def cut(count: float) -> Changes:
        hidden = torch.arange(total) >= round(count)
        return {place: chart.nodes[place].then(lambda x: x.masked_fill(hidden, -math.inf))}

    words = f"{name} cut to the first {{value:g}} of {total} frames"
    yield Kind(Trial(f"frames of {name}", words, counts, fitted=True, is_whole=True), cut)


def _late(chart: Graph, name: str) -> Iterator[Kind]:
    """Values that belong to other keys; without a mask, this is the same as keys that are shifted the other way."""
    parts = ("value", "key") if f"{name}.mask" in chart.nodes else ("value",)
    for part in parts:
        words = f"the rows of {name}.{part} shifted by {{value:g}}"
        yield Kind(Trial(f"shift in {name}", words, (1.0, 2.0, -1.0, -2.0)), _rolled(chart, f"{name}.{part}"))


def _rolled(chart: Graph, place: str) -> Callable[[float], Changes]:
    return lambda by: {place: chart.nodes[place].then(lambda rows: rows.roll(int(by), dims=1))}

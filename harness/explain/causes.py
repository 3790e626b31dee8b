"""Everything that is wrong in a row: one cause for each unit at fault, or for a half whose units all lose alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from whisper_parity.explain.explanation import Cause, CrossFeed, Explanation, Explanations, LayerFinding, PartFinding

FIRST_OF_DECODER = "decoder.positions"
"""The unit that the token embedding is part of."""


def of_half(
    edge: str, component: str, layers: Sequence[LayerFinding], parts: Sequence[PartFinding] = (), *, other_table: bool
) -> Iterator[Cause]:
    """The causes in one half that is at fault.

    Args:
        edge: where they enter.
        component: "encoder" or "decoder".
        layers: what was found inside; none of this half where it could not be looked into.
        parts: what the halves lose.
        other_table: the token embedding is not the reference's.
    """
    inside = next((layer for layer in layers if layer.component == component), None)
    for unit in inside.culprits if inside else ():
        part = "embedding" if unit == FIRST_OF_DECODER and other_table else component
        kinds = tuple(kind for kind in inside.kinds if kind.unit == unit) if inside else ()
        yield Cause(edge, part, unit, kinds, inside.finding if inside else "")
    if inside is None or inside.spread or not inside.culprits:
        part = "embedding" if component == "decoder" and other_table and not (inside and inside.spread) else component
        alone = next((finding.finding for finding in parts if finding.part == component), "")
        kinds = inside.kinds if inside else ()
        yield Cause(edge, part, "", kinds, inside.finding if inside else alone)


def within_limits(edge: str, crossed: CrossFeed, layers: Sequence[LayerFinding]) -> Iterator[Cause]:
    """The causes of a difference that halves within their limits make: a tie, or errors that add up."""
    units = [(unit, layer) for layer in layers for unit in layer.culprits]
    for unit, layer in units:
        kinds = tuple(kind for kind in layer.kinds if kind.unit == unit)
        yield Cause(edge, crossed.part, unit, kinds, layer.finding)
    if not units:
        yield Cause(edge, crossed.part, "", (), crossed.finding)


def half_of(part: str) -> str:
    """The half that a part of the cross-feed belongs to."""
    return "decoder" if part == "embedding" else part


def distinct(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    """Each once."""
    return tuple({(cause.edge, cause.part, cause.unit): cause for cause in reversed([*causes])}.values())[::-1]


def outside(explanation: Explanation, stage: str) -> Iterator[Cause]:
    """What lies outside a stage's model: the policy, the window, an edge before this one."""
    entry = explanation.entry
    if entry is None or explanation.cross_feed is not None or explanation.change.follows_from is not None:
        return
    if entry.policy or entry.window or explanation.candidate != stage:
        yield Cause(entry.edge, "policy" if entry.policy else "window" if entry.window else "", "", (), entry.finding)


def named(explanations: Explanations, causes: Iterable[Cause], *, diverged: bool) -> Explanations:
    """Explanations with their causes, and what follows from these.

    Args:
        explanations: without causes.
        causes: in the order in which they are to be named.
        diverged: the row needs an answer.
    """
    whole = distinct(causes)
    first = next(iter(whole), None)
    layers = [*explanations.layers, *(layer for item in explanations.found for layer in item.layers)]
    return replace(
        explanations,
        causes=whole,
        edge=first.edge if first else explanations.edge,
        part=first.part if first else explanations.part,
        unit=first.unit if first else explanations.unit,
        spread=any(layer.spread for layer in layers),
        answered=bool(whole or explanations.findings) or not diverged,
    )

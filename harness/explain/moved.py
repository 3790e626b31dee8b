"""A row in which no token changed: against which stage it left its limits, in which window, part and unit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from whisper_parity.backend import taps
from whisper_parity.backend.stage import Edge
from whisper_parity.clips.clip import Clip
from whisper_parity.compare import tensor
from whisper_parity.compare.comparison import compare
from whisper_parity.explain import causes, crossfeed, held, layers, parts
from whisper_parity.explain.answers import Answers
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.crossfeed import Pair
from whisper_parity.explain.explanation import Cause, Explanations, LayerFinding, PartFinding
from whisper_parity.judge import tolerance, verdict
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.trace import context
from whisper_parity.trace.trace import Trace, WindowTrace, share_windows

TENSOR_RUNGS = ("tensor", "logits")


@dataclass(frozen=True, slots=True)
class Side:
    """A stage that a row is judged against, and its verdict."""

    reference: str
    verdict: Verdict

    @property
    def passes(self) -> bool:
        """Whether the row does, against it."""
        return self.verdict.outcome is Outcome.PASS

    @property
    def left_tensors(self) -> bool:
        """Whether tensors or logits are the first to have left their limits."""
        return not self.passes and self.verdict.rung in TENSOR_RUNGS


def judged(bench: Bench, reference: Trace, candidate: Trace) -> Verdict:
    """The verdict of one trace against another, as the run gives it."""
    limits = tolerance.for_edge(bench.plan.tolerances, Edge(reference.header.stage, candidate.header.stage))
    pair = context.as_far_as_fed(reference, candidate)
    return verdict.judge(compare(*pair, bench.plan.checkpoint.dims.vocabulary, limits.max_tie_margin), limits)


def sides(bench: Bench, spec: str, traces: Mapping[str, Trace]) -> tuple[Side, ...]:
    """What a row is judged against: its parent, and its root where that is another stage; those that have a trace."""
    stage = bench.plan.stage(spec)
    names = dict.fromkeys(name for name in (stage.parent, stage.root) if name is not None and name in traces)
    return tuple(Side(name, judged(bench, traces[name], traces[spec])) for name in names if name != spec)


def explained(
    bench: Bench, clip: Clip, spec: str, traces: Mapping[str, Trace], judged_by: Sequence[Side], *, detail: bool
) -> tuple[Explanations, tuple[Cause, ...]]:
    """Which part and which units moved the tensors, on the window where they moved most, with the causes.

    Args:
        bench: the run.
        clip: of the run.
        spec: the stage.
        traces: of the stage and of those that it is judged against.
        judged_by: the verdicts, see `sides`.
        detail: look into the blocks, and into halves that pass, too.
    """
    result = Explanations(clip.name, spec, (), edge=str(bench.plan.stage(spec).edge or ""))
    reference, reason = _reference(bench, traces, judged_by)
    if reference is None:
        if not reason:
            return replace(result, edge=""), ()
        before = str(Edge(judged_by[1].reference, judged_by[0].reference))
        return replace(result, missing=(reason,)), (Cause(before, "", "", (), reason),)
    if not share_windows(traces[reference], traces[spec]):
        return replace(result, edge=""), ()
    ours, theirs = min(zip(traces[reference].windows, traces[spec].windows), key=_kept_db)
    left = any(side.reference == reference and side.left_tensors for side in judged_by)
    return _of_window(bench, clip, Pair(reference, spec, ours, theirs), traces, result, left=left, detail=detail)


def _reference(bench: Bench, traces: Mapping[str, Trace], judged_by: Sequence[Side]) -> tuple[str | None, str]:
    """The stage to hold a row against; or None and, where there is one, the reason why it is not this edge's fault.

    The parent, unless that left its limits itself: what it did wrong is no fault of this stage.
    """
    if len(judged_by) < 2:
        return (judged_by[0].reference if judged_by else None), ""
    parent, root = judged_by
    if parent.passes and not root.passes:
        return None, (
            f"it passes against {parent.reference}: what differs from {root.reference} was there before, "
            f"use --stage {parent.reference}"
        )
    if root.passes and not parent.passes:
        return None, f"it agrees with {root.reference}: look at {parent.reference}, use --stage {parent.reference}"
    sound = parent.passes or judged(bench, traces[root.reference], traces[parent.reference]).outcome is Outcome.PASS
    return (parent if sound else root).reference, ""


def _of_window(
    bench: Bench, clip: Clip, pair: Pair, traces: Mapping[str, Trace], result: Explanations, *, left: bool, detail: bool
) -> tuple[Explanations, tuple[Cause, ...]]:
    answers, edge = Answers([]), str(Edge(pair.reference, pair.candidate))
    with answers.to("state"):
        if not crossfeed.reproduces(bench, pair, clip):
            said = crossfeed.not_reproduced(pair.candidate)
            return replace(result, missing=(*answers.missing, said)), (Cause(edge, "state", "", (), said),)
    halves: tuple[PartFinding, ...] = ()
    with answers.to("encoder or decoder"):
        halves = parts.measured(bench, pair, (traces[pair.reference], traces[pair.candidate]))
    at_fault = parts.failing(halves) if halves else taps.COMPONENTS
    where = []
    for component in taps.COMPONENTS if detail else at_fault:
        with answers.to(f"layer of the {component}"):
            found = layers.locate(
                bench, pair.reference, pair.candidate, clip, pair.ours.header.index, component, detail=detail,
                alone=parts.of(halves, component),
            )  # fmt: skip
            where.append(_of_several(found, traces[pair.candidate], pair.ours))
    result = replace(result, layers=tuple(where), parts=halves)
    named: list[Cause] = []
    with answers.to("embedding"):
        for part in _named(halves, where):
            named += causes_of(bench, pair, traces, part, where, halves)
    named = named or [*of_weights(bench, edge, pair.candidate)]
    if not named and halves and left:
        said = f"each half passes alone, and both together do not: {'; '.join(half.finding for half in halves)}"
        named = [Cause(edge, parts.makes(halves, pair), "", (), said)]
    return replace(result, missing=tuple(answers.missing)), tuple(named)


def _named(halves: Sequence[PartFinding], where: Sequence[LayerFinding]) -> tuple[str, ...]:
    """The halves at fault: by what they lose alone; where that is not known, by their units and outputs."""
    if halves:
        return parts.failing(halves)
    return tuple(layer.component for layer in where if layer.culprits or layer.spread or layer.output_fails)


def causes_of(
    bench: Bench, pair: Pair, traces: Mapping[str, Trace], component: str, where: Sequence[LayerFinding],
    halves: Sequence[PartFinding],
) -> Iterator[Cause]:  # fmt: skip
    """The causes in a half that is at fault.

    Raises:
        ParityError: the candidate cannot be opened with the reference's token embedding.
    """
    inside = next((layer for layer in where if layer.component == component), None)
    other = component == "decoder" and _is_of_embedding(bench, pair, traces, inside)
    edge = str(Edge(pair.reference, pair.candidate))
    yield from causes.of_half(edge, component, where, halves, other_table=other)


def _is_of_embedding(bench: Bench, pair: Pair, traces: Mapping[str, Trace], inside: LayerFinding | None) -> bool:
    """Whether the token embedding is not the reference's, and is at fault.

    Where no unit is named, the decoder is run again with the reference's: then the table is at fault if it passes.
    """
    if inside is not None and causes.FIRST_OF_DECODER not in inside.culprits and (inside.culprits or inside.spread):
        return False
    table = crossfeed.other_table(bench, pair)
    if table is None or (inside is not None and causes.FIRST_OF_DECODER in inside.culprits):
        return table is not None
    return parts.passes_with_table(bench, pair, (traces[pair.reference], traces[pair.candidate]), table)


def of_weights(bench: Bench, edge: str, candidate: str) -> Iterator[Cause]:
    """Units whose weights are not the checkpoint's, where no tensor left its limits: they are seen elsewhere."""
    look = bench.weights(candidate)
    for component in taps.COMPONENTS:
        weights = held.of(look, component)
        if weights is not None and weights.everywhere:
            yield Cause(edge, component, "", (), "; ".join(weights.sentences))
        elif weights is not None:
            for unit in weights.units:
                part = "embedding" if unit == causes.FIRST_OF_DECODER and weights.table else component
                yield Cause(edge, part, unit, (), "; ".join(weights.sentences))


def _of_several(layer: LayerFinding, candidate: Trace, window: WindowTrace) -> LayerFinding:
    if len(candidate.windows) < 2:
        return layer
    return replace(layer, finding=f"window {window.header.index}, which moved most: {layer.finding}")


def _kept_db(pair: tuple[WindowTrace, WindowTrace]) -> float:
    """The smaller SNR of encoder output and logits; -inf where values are not finite."""
    reference, candidate = pair
    tensors = ((window.encoder_output, window.teacher_forced.logits) for window in (reference, candidate))
    pairs = [(r, c) for r, c in zip(*tensors) if r.shape == c.shape]
    if any(tensor.count_nonfinite(c) for _, c in pairs):
        return -math.inf
    return min((tensor.measure(reference=r, candidate=c).snr_db for r, c in pairs), default=math.inf)

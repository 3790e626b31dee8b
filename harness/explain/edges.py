"""Where a difference first appears: the edge of the chain at which it enters, and the one that undoes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from whisper_parity.backend.stage import Edge, Stage
from whisper_parity.explain.differences import differences, overlaps
from whisper_parity.explain.explanation import Change, Entry
from whisper_parity.trace.trace import Trace


def chain(stages: Sequence[Stage], spec: str) -> tuple[str, ...]:
    """The stages of a run from its first one to `spec`, each the parent of the next."""
    parents = {stage.spec: stage.parent for stage in stages}
    specs: list[str] = [spec]
    while (parent := parents[specs[0]]) is not None:
        specs.insert(0, parent)
    return tuple(specs)


def reference_of(stages: Sequence[Stage], root: str, spec: str) -> str | None:
    """The stage that a stage's tokens are compared with: the root, for the root its parent; None for the first."""
    if spec == root:
        return next(iter(chain(stages, root)[-2:-1]), None)
    return root if root in chain(stages, spec)[:-1] else None


def entry(change: Change, stages: Sequence[Stage], root: str, spec: str, traces: Mapping[str, Trace]) -> Entry:
    """Find the edge at which a difference enters, and the later edge that undoes it.

    Args:
        change: between the reference of `spec` (see `reference_of`) and `spec`.
        stages: of the run.
        root: the stage that the others are judged against.
        spec: the stage with the difference.
        traces: of this clip, by stage; stages without one are passed over.
    """
    reference = reference_of(stages, root, spec)
    assert reference is not None  # noqa: S101 - a difference has a reference
    local = {name: _local_change(change, traces[reference], trace) for name, trace in traces.items()}
    path = [name for name in chain(stages, spec) if name in local]
    path = path[path.index(reference) :]
    first = _start(path, spec, [_same(local[name], change) for name in path])
    edge = str(Edge(path[first - 1], path[first]))
    undone_by = _undone_by(spec, change, stages, local)
    later = f"; {undone_by} undoes it" if undone_by else ""
    texts = tuple((name, other.candidate_text if other else change.reference_text) for name, other in local.items())
    return Entry(edge, undone_by, texts, (), f"enters at {edge}{_earlier(path[1:first], local, change)}{later}")


def _start(path: Sequence[str], spec: str, same: Sequence[bool]) -> int:
    """Index in `path` at which the unbroken run of equal stages that ends with `spec` begins."""
    first = path.index(spec)
    while first > 1 and same[first - 1]:
        first -= 1
    return first


def _earlier(path: Sequence[str], local: Mapping[str, Change | None], change: Change) -> str:
    """A note on stages in front of the edge whose text at the place differs from the reference's."""
    for name in path:
        if _same(local[name], change):
            return f"; {name} had it before, and a later stage undid it"
    last = local[path[-1]] if path else None
    return f"; {path[-1]} already says {last.candidate_text!r} there" if last else ""


def _undone_by(spec: str, change: Change, stages: Sequence[Stage], local: Mapping[str, Change | None]) -> str:
    """The first edge behind `spec` whose stage agrees with the reference there, or ""."""
    for stage in stages:
        follows = stage.spec in local and stage.spec != spec and spec in chain(stages, stage.spec)
        if follows and _is_gone(local[stage.spec], change):
            return str(stage.edge)
    return ""


def _same(local: Change | None, change: Change) -> bool:
    return local is not None and local.candidate_text == change.candidate_text


def _is_gone(local: Change | None, change: Change) -> bool:
    return local is None or local.candidate_text == change.reference_text != change.candidate_text


def _local_change(change: Change, reference: Trace, candidate: Trace) -> Change | None:
    """A stage's own change at the place of `change`; None where it agrees with the reference."""
    if candidate is reference:
        return None
    at_place = (
        other
        for other in differences(reference, candidate)
        if other.window == change.window and overlaps(other.reference_span, change.reference_span)
    )
    return next(at_place, None)

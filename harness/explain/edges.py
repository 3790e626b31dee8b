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
    found: list[str] = [spec]
    while (parent := parents[found[0]]) is not None:
        found.insert(0, parent)
    return tuple(found)


def reference_of(stages: Sequence[Stage], root: str, spec: str) -> str | None:
    """What a stage's tokens are held against: the root, and for the root what stands before it; None for the first."""
    if spec == root:
        return next(iter(chain(stages, root)[-2:-1]), None)
    return root if root in chain(stages, spec)[:-1] else None


def entry(change: Change, stages: Sequence[Stage], root: str, spec: str, traces: Mapping[str, Trace]) -> Entry:
    """At which edge a difference enters, and which later edge undoes it.

    Args:
        change: between the reference of `spec` (see `reference_of`) and `spec`.
        stages: of the run.
        root: the stage that the others are judged against.
        spec: the stage that shows it.
        traces: of this clip, by stage; a stage without one is passed over.
    """
    reference = reference_of(stages, root, spec)
    assert reference is not None  # noqa: S101 - a difference has a reference
    there = {name: _there(change, traces[reference], found) for name, found in traces.items()}
    path = [name for name in chain(stages, spec) if name in there]
    path = path[path.index(reference) :]
    first = _start(path, spec, [_same(there[name], change) for name in path])
    edge = str(Edge(path[first - 1], path[first]))
    undone = _undone(spec, change, stages, there)
    behind = f"; {undone} undoes it" if undone else ""
    said = tuple((name, each.candidate_text if each else change.reference_text) for name, each in there.items())
    return Entry(edge, undone, said, (), f"enters at {edge}{_before(path[1:first], there, change)}{behind}")


def _start(path: Sequence[str], spec: str, same: Sequence[bool]) -> int:
    """Where the last unbroken run of stages that say the same begins; it ends with `spec`."""
    first = path.index(spec)
    while first > 1 and same[first - 1]:
        first -= 1
    return first


def _before(path: Sequence[str], there: Mapping[str, Change | None], change: Change) -> str:
    """What the stages in front of the edge have at the place, where it is not what the reference says."""
    for name in path:
        if _same(there[name], change):
            return f"; {name} had it before, and a later stage undid it"
    found = there[path[-1]] if path else None
    return f"; {path[-1]} already says {found.candidate_text!r} there" if found else ""


def _undone(spec: str, change: Change, stages: Sequence[Stage], there: Mapping[str, Change | None]) -> str:
    """The first edge behind `spec` whose stage says what the reference says there."""
    for stage in stages:
        follows = stage.spec in there and stage.spec != spec and spec in chain(stages, stage.spec)
        if follows and _is_gone(there[stage.spec], change):
            return str(stage.edge)
    return ""


def _same(there: Change | None, change: Change) -> bool:
    return there is not None and there.candidate_text == change.candidate_text


def _is_gone(there: Change | None, change: Change) -> bool:
    return there is None or there.candidate_text == change.reference_text != change.candidate_text


def _there(change: Change, reference: Trace, found: Trace) -> Change | None:
    """What a stage changed at the place of a change of the reference; None where it says the same."""
    if found is reference:
        return None
    at_place = (
        other
        for other in differences(reference, found)
        if other.window == change.window and overlaps(other.reference_span, change.reference_span)
    )
    return next(at_place, None)

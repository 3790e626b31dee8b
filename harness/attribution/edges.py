"""Where a difference first appears: the edge of the chain at which it enters, and the one that undoes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness import registry
from harness.attribution.differences import differences, overlaps
from harness.attribution.explanation import Change, Entry
from harness.registry import Stage
from harness.trace import Trace


def chain(stages: Sequence[Stage], spec: str) -> tuple[str, ...]:
    """The stages of a run from its first one to `spec`, each the parent of the next."""
    parents = {stage.spec: stage.parent for stage in stages}
    found: list[str] = [spec]
    while (parent := parents[found[0]]) is not None:
        found.insert(0, parent)
    return tuple(found)


def reference_of(stages: Sequence[Stage], spec: str) -> str | None:
    """What a stage's tokens are held against: the root, and for the root what stands before it; None for the first."""
    return chain(stages, registry.ROOT)[-2:-1][0] if spec == registry.ROOT and len(chain(stages, spec)) > 1 else (
        registry.ROOT if spec in _behind_root(stages) else None
    )  # fmt: skip


def entry(change: Change, stages: Sequence[Stage], spec: str, traces: Mapping[str, Trace]) -> Entry:
    """At which edge a difference enters, and which later edge undoes it.

    Args:
        change: between the reference of `spec` (see `reference_of`) and `spec`.
        stages: of the run.
        spec: the stage that shows it.
        traces: of this clip, by stage; a stage without one is passed over.
    """
    reference = reference_of(stages, spec)
    assert reference is not None  # noqa: S101 - a difference has a reference
    said = {name: _says(change, traces[reference], found) for name, found in traces.items()}
    path = [name for name in chain(stages, spec) if name in said]
    path = path[path.index(reference) :]
    first = next(i for i, name in enumerate(path) if name == spec or (i and _same(said[name], change)))
    edge = f"{path[first - 1]}->{path[first]}"
    undone = _undone(spec, change, stages, said)
    behind = f"; {undone} undoes it" if undone else ""
    return Entry(edge, undone, tuple((name, said[name]) for name in said), (), f"enters at {edge}{behind}")


def _undone(spec: str, change: Change, stages: Sequence[Stage], said: Mapping[str, str]) -> str:
    """The first edge behind `spec` whose stage says what the reference says there."""
    for stage in stages:
        follows = stage.spec in said and stage.spec != spec and spec in chain(stages, stage.spec)
        if follows and said[stage.spec] == change.reference_text:
            return stage.edge
    return ""


def _same(said: str, change: Change) -> bool:
    return said == change.candidate_text and said != change.reference_text


def _says(change: Change, reference: Trace, found: Trace) -> str:
    """What a stage says at the place of a change of the reference."""
    if found is reference:
        return change.reference_text
    for other in differences(reference, found):
        if other.window == change.window and overlaps(other.reference_span, change.reference_span):
            return other.candidate_text
    return change.reference_text


def _behind_root(stages: Sequence[Stage]) -> set[str]:
    return {stage.spec for stage in stages if registry.ROOT in chain(stages, stage.spec)[:-1]}

"""Stages whose given files take another window than the checkpoint: what they are judged against.

A port for windows of 10 s is another model before anything is converted: its encoder hears less at a time. So it is
judged against the root under that window, which is a stage of its own: the edge from the root to it shows what the
window alone changes, and every edge behind it what the port did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from whisper_parity.backend import given
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.build import Workshop
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import POSITIONS_PER_SECOND, Edge, Stage, StageName
from whisper_parity.errors import ParityError
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims
from whisper_parity.model.reduced import reduced
from whisper_parity.run.report import Row, StageInfo

SHOWN = 6
"""Clips that a sentence names."""


@dataclass(frozen=True)
class Fitted:
    """The stages of a run with the checkpoint that each one descends from."""

    stages: tuple[Stage, ...]
    checkpoints: Mapping[str, Checkpoint]
    """By stage, where it is not the run's: one with fewer positions."""
    given: Mapping[str, Artifact | ParityError]
    """By stage: the user's files, read once; or why they cannot be used."""


def fitted(stages: Sequence[Stage], workshop: Workshop) -> Fitted:
    """Read the windows and contexts of given files, and put the roots under other windows into the chain.

    Raises:
        ArtifactError: a stage of a window that is longer than the checkpoint's.
    """
    files = _given(stages, workshop)
    checkpoints: dict[str, Checkpoint] = {}
    for stage in stages:
        if (checkpoint := _checkpoint(stage.spec, workshop, files)) is not workshop.checkpoint:
            checkpoints[stage.spec] = checkpoint
    backends, whole = workshop.backends, workshop.checkpoint
    other = {checkpoint.dims.n_audio_ctx for checkpoint in checkpoints.values()} - {whole.dims.n_audio_ctx}
    names = [str(StageName.of_window(backends.root, n_audio_ctx)) for n_audio_ctx in sorted(other, reverse=True)]
    checkpoints |= {name: _of_window(name, workshop) for name in names}
    chain = backends.chain([*(stage.spec for stage in stages), *names])
    windows = {stage.spec: checkpoints.get(stage.spec, whole).dims.n_audio_ctx for stage in chain}
    return Fitted(tuple(_placed(stage, chain, windows, backends) for stage in chain), checkpoints, files)


def sentences(stages: Sequence[StageInfo], rows: Sequence[Row], backends: Backends, whole: Dims) -> tuple[str, ...]:
    """What each window alone changed, before any conversion did."""
    return tuple(_sentence(stage, rows, whole) for stage in stages if stage.parent and backends.is_window(stage.spec))


def _sentence(stage: StageInfo, rows: Sequence[Row], whole: Dims) -> str:
    n_audio_ctx = StageName.parse(stage.spec).n_audio_ctx or 0
    judged = [row for row in rows if row.stage == stage.spec and row.vs_parent and row.vs_parent.comparison.tokens]
    changed = [row.clip for row in judged if not _same_tokens(row)]
    ours, theirs = whole.n_audio_ctx / POSITIONS_PER_SECOND, n_audio_ctx / POSITIONS_PER_SECOND
    clips = f": {', '.join(changed[:SHOWN])}{' ...' if len(changed) > SHOWN else ''}" if changed else ""
    return (
        f"windows of {theirs:g} s in place of {ours:g} s change {len(changed)} of {len(judged)} clip(s), with the same "
        f"weights and before any conversion ({Edge(str(stage.parent), stage.spec)}){clips}"
    )


def _same_tokens(row: Row) -> bool:
    tokens = row.vs_parent.comparison.tokens if row.vs_parent else None
    return bool(tokens and tokens.equal)


def _given(stages: Sequence[Stage], workshop: Workshop) -> dict[str, Artifact | ParityError]:
    """The user's files of every stage, and of the stages that theirs are built from."""
    files: dict[str, Artifact | ParityError] = {}
    waiting = [stage.spec for stage in stages]
    while waiting and workshop.given is not None:
        spec = waiting.pop()
        name, backend = StageName.parse(spec), workshop.backends.of(spec)
        source = backend.source(name.variant)
        if spec in files or source is None or not backend.availability().usable:
            continue
        try:
            if (artifact := given.find(workshop.given, backend, workshop.checkpoint, name)) is not None:
                files[spec] = _reduced(artifact, workshop.cache)
                continue
        except ParityError as error:
            files[spec] = error
        waiting.append(source)
    return files


def _reduced(artifact: Artifact, cache: Path) -> Artifact:
    """The artifact as one of a checkpoint with as many positions as its files have."""
    if (ports := artifact.interface) is None:
        return artifact
    checkpoint = reduced(artifact.checkpoint, cache, ports.n_audio_ctx, ports.n_text_ctx)
    return replace(artifact, checkpoint=checkpoint)


def _checkpoint(spec: str, workshop: Workshop, files: Mapping[str, Artifact | ParityError]) -> Checkpoint:
    """The checkpoint of a stage: as many positions as its own files have, or those that they are built from."""
    if workshop.backends.is_window(spec):
        return _of_window(spec, workshop)
    artifact = files.get(spec)
    if isinstance(artifact, Artifact):
        return artifact.checkpoint
    source = workshop.backends.of(spec).source(StageName.parse(spec).variant)
    return workshop.checkpoint if source is None else _checkpoint(source, workshop, files)


def _of_window(spec: str, workshop: Workshop) -> Checkpoint:
    whole, n_audio_ctx = workshop.checkpoint, StageName.parse(spec).n_audio_ctx
    assert n_audio_ctx is not None  # noqa: S101 - it is the name of a window
    return reduced(whole, workshop.cache, n_audio_ctx, whole.dims.n_text_ctx)


def _placed(stage: Stage, chain: Sequence[Stage], windows: Mapping[str, int], backends: Backends) -> Stage:
    """The stage behind the nearest one under the same window, the root's own behind the root."""
    if stage.root is None:
        return stage
    by_spec = {other.spec: other for other in chain}
    window = windows[stage.spec]
    root = next((spec for spec in windows if backends.is_window(spec) and windows[spec] == window), stage.root)
    parent = stage.parent
    while parent is not None and windows[parent] != window and parent != stage.root:
        parent = by_spec[parent].parent
    if root != stage.root and (parent is None or windows[parent] != window):
        parent = root
    return replace(stage, parent=parent, root=root)

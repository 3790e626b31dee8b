"""From a stage and its parent's artifact to its artifact: found, cached or built."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from whisper_parity.backend import artifact, registry, taps
from whisper_parity.backend.artifact import Artifact, Options
from whisper_parity.backend.contract import Backend, Preparable, Tappable
from whisper_parity.backend.taps import Taps
from whisper_parity.errors import ArtifactError, BuildError, OutputError, UnavailableError, mapped
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.system.files import locked


@dataclass(frozen=True)
class Workshop:
    """Where artifacts come from in one run."""

    checkpoint: Checkpoint
    cache: Path
    """Folder of built artifacts, shared by all runs."""
    external: Path | None = None
    """A user's folder of artifacts; stages that it holds are used from there and never built."""
    options: Options = field(default_factory=dict)
    """Build options: mask_value; taps for a probe (harness/attribution/taps.py)."""

    @property
    def taps(self) -> Taps | None:
        """The taps of a probe; None for ordinary artifacts.

        Raises:
            UsageError: they name a unit that the checkpoint does not have.
        """
        return taps.of_options(self.options, self.checkpoint.dims)


def obtain(workshop: Workshop, stage: str) -> Artifact:
    """The artifact of a stage: the user's if the folder holds it, else the cached one, else built now.

    Raises:
        ArtifactError: a user's file that does not fit.
        UnavailableError: the backend is not usable here, or has no probes and one is asked for.
        BuildError: its converter failed.
        OutputError: the cache cannot be written.
        UsageError: a probe of units that the checkpoint does not have.
    """
    name, _, variant = stage.partition(":")
    backend = registry.backend(name)
    availability = backend.probe()
    if not availability.usable:
        raise UnavailableError(f"{stage}: {availability.reason}")
    if workshop.taps and not isinstance(backend, Tappable):
        raise UnavailableError(f"{stage}: backend {name} cannot make probes, so its layers are not known")
    source = backend.source(variant)
    if source is None:
        return _checkpoint(workshop, stage)
    if workshop.external is not None and (found := _external(workshop, backend, stage, workshop.external)):
        return found
    return _cached_or_built(workshop, backend, stage, obtain(workshop, source))


def prepare_probes(cache: Path, stage: str, stack: ExitStack) -> None:
    """Let the backends of a stage's chain get ready to build its probes, until `stack` is closed.

    Nothing is done where the cache holds one of the stage: most likely the others are there too.
    """
    backend = registry.backend(stage.partition(":")[0])
    if isinstance(backend, Preparable) and not any(cache.glob(f"*-{_kind(stage, probe=True)}-*")):
        stack.enter_context(backend.prepared())
    if source := backend.source(stage.partition(":")[2]):
        prepare_probes(cache, source, stack)


def export(found: Artifact, out: Path) -> Path:
    """Copy an artifact's files and lineage record into a folder of the user's, and return that.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in found.files.values():
            shutil.copyfile(found.folder / file.name, out / file.name)
        artifact.write_lineage(replace(found, folder=out))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})", hint="Choose another folder") from error
    return out


def _checkpoint(workshop: Workshop, stage: str) -> Artifact:
    """The checkpoint as an artifact; a probe of it has no files of its own, only the option."""
    found = artifact.of_checkpoint(stage, workshop.checkpoint)
    return replace(found, options=dict(workshop.options)) if workshop.taps else found


def _tools(workshop: Workshop, backend: Backend) -> dict[str, str]:
    if workshop.taps and isinstance(backend, Tappable):
        return {**backend.tools(), **backend.probe_tools()}
    return backend.tools()


def _file_names(workshop: Workshop, backend: Backend, variant: str) -> dict[str, str]:
    if (found := workshop.taps) and isinstance(backend, Tappable):
        return backend.probe_names(workshop.checkpoint, variant, found)
    return {**backend.file_names(workshop.checkpoint, variant)}


def _cached_or_built(workshop: Workshop, backend: Backend, stage: str, parent: Artifact) -> Artifact:
    key = artifact.cache_key(stage, parent.sha256, workshop.options, _tools(workshop, backend))
    kind = _kind(stage, probe=bool(workshop.taps))
    folder = workshop.cache / f"{workshop.checkpoint.name}-{kind}-{key[:16]}"
    with locked(workshop.cache / f".{folder.name}.lock"):
        try:
            found = artifact.read_lineage(folder, stage, workshop.checkpoint, "cached")
        except ArtifactError as error:
            raise ArtifactError(f"cache damaged: {error}", hint=f"Delete {folder}: it is built again") from error
        return found or _build(workshop, backend, stage, parent, folder)


def _kind(stage: str, *, probe: bool) -> str:
    """What the name of an artifact's folder in the cache says between checkpoint and key."""
    return f"{stage.replace(':', '-')}{'-probe' if probe else ''}"


def _build(workshop: Workshop, backend: Backend, stage: str, parent: Artifact, folder: Path) -> Artifact:
    """Build into a folder that gets its name only when all is there."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    started = time.perf_counter()
    try:
        partial.mkdir(parents=True)
        variant = stage.partition(":")[2]
        with mapped(BuildError, f"building {stage} failed"):
            backend.build(parent, partial, variant, workshop.options)
        names = _file_names(workshop, backend, variant)
        built = Artifact(
            stage, partial, artifact.describe(partial, names), workshop.checkpoint, "built", parent.sha256,
            _tools(workshop, backend), dict(workshop.options), artifact.now(), round(time.perf_counter() - started, 3),
        )  # fmt: skip
        artifact.write_lineage(built)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error})", hint="Free space? Rights?"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(built, folder=folder)


def _external(workshop: Workshop, backend: Backend, stage: str, folder: Path) -> Artifact | None:
    """A stage's files in the user's folder: with a lineage record or without; None when none of them is there."""
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such folder", hint="Give the folder that holds the artifacts")
    if found := artifact.read_lineage(folder, stage, workshop.checkpoint, "built"):
        return found
    wanted = backend.file_names(workshop.checkpoint, stage.partition(":")[2])
    names = {role: name for role, name in wanted.items() if (folder / name).is_file()}
    if not {"encoder", "decoder"} & set(names):
        _refuse_other_names(folder, workshop.checkpoint, wanted)
        return None
    required = {role: name for role, name in wanted.items() if role in names or role in _REQUIRED}
    return Artifact(stage, folder, artifact.describe(folder, required), workshop.checkpoint, "external")


_REQUIRED = ("encoder", "decoder", "token_embedding")


def _refuse_other_names(folder: Path, checkpoint: Checkpoint, wanted: Mapping[str, str]) -> None:
    """The same files under another checkpoint's name must not be passed over in silence."""
    patterns = [wanted[role].replace(checkpoint.name, "*") for role in ("encoder", "decoder") if role in wanted]
    others = sorted(path.name for pattern in patterns for path in folder.glob(pattern))
    if others:
        raise ArtifactError(
            f"{folder}: expected {wanted['encoder']} and {wanted['decoder']}, found {', '.join(others[:4])}",
            hint="The middle of the name is the checkpoint file's: rename one of them",
        )

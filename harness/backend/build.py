"""Artifacts of stages: a user's files where he gives some, else the cached ones, else built now."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from whisper_parity.backend import artifact as artifacts
from whisper_parity.backend import given, origin, taps
from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.backend.contract import Backend
from whisper_parity.backend.facets import Preparable, Tappable, Transparent
from whisper_parity.backend.origin import Origin
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import StageName
from whisper_parity.backend.taps import Taps
from whisper_parity.errors import (
    ArtifactError,
    BuildError,
    OutputError,
    ParityError,
    UnavailableError,
    UsageError,
    mapped,
)
from whisper_parity.model import reduced
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.system import cache
from whisper_parity.system.activity import Kind, step
from whisper_parity.system.files import locked


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where artifacts come from in one run."""

    backends: Backends
    checkpoint: Checkpoint
    cache: Path
    """Folder of built artifacts, shared by all runs."""
    given: Path | None = None
    """A user's folder of artifacts: what lies there is judged, and never built."""
    build_missing: bool = False
    """Stages without files in the user's folder are built; otherwise that is an error."""
    options: BuildOptions = field(default_factory=dict)
    """Build options: mask_value; taps for a probe (backend/taps.py)."""
    whole: Checkpoint | None = None
    """The run's checkpoint, where `checkpoint` is it with fewer positions."""
    read: Mapping[str, Artifact | ParityError] = field(default_factory=dict)
    """By stage: files of the user's folder that were read before, or why they cannot be used."""

    @property
    def taps(self) -> Taps | None:
        """The taps of a probe; None for ordinary artifacts.

        Raises:
            UsageError: they name a unit that the checkpoint does not have.
        """
        return taps.of_options(self.options, self.checkpoint.dims)


def obtain(workshop: Workshop, stage: str, front: str | None = None) -> Artifact:
    """The artifact of a stage: the user's, the cached one, or one that is built now.

    With the option `taps`: the same files where they show what is inside, else a probe that is built from the files
    that they were made from.

    Args:
        workshop: where artifacts come from.
        stage: its name.
        front: of a probe, the stage in front of it in the run.

    Raises:
        ArtifactError: a user's file that does not fit, or no file of the stage in the user's folder.
        UnavailableError: the backend is not usable here, or has no probes and one is asked for; or what a probe is
            built from is not known.
        BuildError: its converter failed.
        OutputError: the cache cannot be written.
        UsageError: a probe of units that the checkpoint does not have.
    """
    return _tapped(workshop, stage, front) if workshop.taps else _obtained(workshop, stage)


def _tapped(workshop: Workshop, stage: str, front: str | None) -> Artifact:
    """A stage's files with taps: they themselves, or a probe."""
    name = StageName.parse(stage)
    backend = workshop.backends.get(name.backend)
    if not isinstance(backend, (Tappable, Transparent)):
        raise UnavailableError(f"{stage}: backend {name.backend} cannot make probes, so its layers are not known")
    plain = replace(workshop, options={key: value for key, value in workshop.options.items() if key != taps.OPTION})
    shipped = _obtained(plain, stage)
    if isinstance(backend, Transparent) and backend.looks_inside(shipped):
        return replace(shipped, options={**(shipped.options or {}), taps.OPTION: str(workshop.taps)})
    parent = _origin(plain, backend, shipped, front)
    probe = _cached_or_built(workshop, backend, name, parent.artifact)
    return replace(probe, notes=(parent.sentence(stage),))


def _origin(workshop: Workshop, backend: Backend, shipped: Artifact, front: str | None) -> Origin:
    """The files that a stage's were made from."""
    source = backend.source(StageName.parse(shipped.stage).variant)
    assert source is not None  # noqa: S101 - a stage that is built from nothing shows what is inside
    if shipped.origin != artifacts.GIVEN:
        return Origin(_obtained(replace(workshop, build_missing=True), source), assumed=False)
    nearest = [spec for spec in (front, source) if spec and _same_backend(spec, source)]
    files = [_given(workshop, workshop.backends.of(spec), StageName.parse(spec)) for spec in dict.fromkeys(nearest)]
    kept = _kept(workshop, source, shipped.parent_sha256)
    return origin.chosen(shipped, [*filter(None, files), *kept], source)


def _same_backend(spec: str, other: str) -> bool:
    return StageName.parse(spec).backend == StageName.parse(other).backend


def _kept(workshop: Workshop, stage: str, sha256: str | None) -> list[Artifact]:
    """The artifact of a stage in the cache that has a hash."""
    folders = workshop.cache.glob(f"{workshop.checkpoint.name}-{_kind(StageName.parse(stage), probe=False)}-*")
    same = [folder for folder in folders if sha256 and artifacts.recorded_sha256(folder, stage) == sha256]
    files = [artifacts.read_lineage(folder, stage, workshop.checkpoint, artifacts.CACHED) for folder in same]
    return [*filter(None, files)]


def _obtained(workshop: Workshop, stage: str) -> Artifact:
    """As `obtain`, without taps."""
    name = StageName.parse(stage)
    backend = workshop.backends.get(name.backend)
    availability = backend.availability()
    if not availability.usable:
        raise UnavailableError(f"{stage}: {availability.reason}")
    source = backend.source(name.variant)
    if source is None:
        return _checkpoint(workshop, stage)
    if workshop.given is not None:
        files = _given(workshop, backend, name)
        if files is not None:
            return files
        if not workshop.build_missing and given.has_halves(backend, workshop.checkpoint, name):
            raise given.missing(workshop.given, backend, workshop.checkpoint, name)
    return _cached_or_built(workshop, backend, name, _obtained(replace(workshop, build_missing=True), source))


@contextmanager
def prepared(backends: Backends, stages: Iterable[str]) -> Iterator[None]:
    """Let the backends of stages get ready to build them, beside other work."""
    with ExitStack() as stack:
        for backend in {name: backends.of(name) for name in stages}.values():
            if isinstance(backend, Preparable):
                stack.enter_context(backend.prepared())
        yield


def require_apart(built: Iterable[Artifact]) -> None:
    """Refuse to put files of two stages into one folder where they have one name and other content.

    Raises:
        UsageError: two such stages.
    """
    first: dict[str, tuple[str, str]] = {}
    for artifact in built:
        for file in artifact.files.values():
            stage, sha256 = first.setdefault(file.name, (artifact.stage, file.sha256))
            if sha256 != file.sha256:
                raise UsageError(
                    f"{stage} and {artifact.stage} both have a file {file.name}", hint="Give each a folder of its own"
                )


def export(artifact: Artifact, out: Path) -> Path:
    """Copy an artifact's files and lineage record into a folder of the user's, and return that.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in artifact.files.values():
            shutil.copyfile(artifact.folder / file.name, out / file.name)
        artifacts.write_lineage(replace(artifact, folder=out))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror})", hint="Choose another folder") from error
    return out


def _given(workshop: Workshop, backend: Backend, name: StageName) -> Artifact | None:
    assert workshop.given is not None  # noqa: S101 - asked by the caller
    artifact = workshop.read.get(str(name)) or given.find(workshop.given, backend, workshop.checkpoint, name)
    if isinstance(artifact, ParityError):
        raise artifact
    return artifact


def _checkpoint(workshop: Workshop, stage: str) -> Artifact:
    """The checkpoint as an artifact."""
    if workshop.whole is not None and workshop.whole != workshop.checkpoint:
        reduced.write(workshop.checkpoint, workshop.whole)
    return artifacts.of_checkpoint(stage, workshop.checkpoint)


def _tools(workshop: Workshop, backend: Backend) -> dict[str, str]:
    if workshop.taps and isinstance(backend, Tappable):
        return {**backend.tools(), **backend.probe_tools()}
    return backend.tools()


def _file_names(workshop: Workshop, backend: Backend, variant: str) -> dict[str, str]:
    if (wanted := workshop.taps) and isinstance(backend, Tappable):
        return backend.probe_names(workshop.checkpoint, variant, wanted)
    return {**backend.file_names(workshop.checkpoint, variant)}


def _cached_or_built(workshop: Workshop, backend: Backend, name: StageName, parent: Artifact) -> Artifact:
    key = artifacts.cache_key(str(name), parent.sha256, workshop.options, _tools(workshop, backend))
    kind = _kind(name, probe=bool(workshop.taps))
    folder = workshop.cache / f"{workshop.checkpoint.name}-{kind}-{key[:16]}"
    with locked(cache.lock_of(folder)):
        try:
            cached = artifacts.read_lineage(folder, str(name), workshop.checkpoint, artifacts.CACHED)
        except ArtifactError as error:
            raise ArtifactError(f"cache damaged: {error}", hint=f"Delete {folder}: it is built again") from error
        if cached:
            cache.touch(folder / artifacts.lineage_name(str(name)))
        return cached or _build(workshop, backend, name, parent, folder)


def _kind(name: StageName, *, probe: bool) -> str:
    """What the name of an artifact's folder in the cache says between checkpoint and key."""
    return f"{name.slug}{'-probe' if probe else ''}"


def _build(workshop: Workshop, backend: Backend, name: StageName, parent: Artifact, folder: Path) -> Artifact:
    """Build into a folder that gets its name only when it is complete."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    started = time.perf_counter()
    try:
        partial.mkdir(parents=True)
        with step(Kind.BUILD, f"building {name}"), mapped(BuildError, f"building {name} failed"):
            backend.build(parent, partial, name.variant, workshop.options)
        files = artifacts.describe(partial, _file_names(workshop, backend, name.variant))
        built = Artifact(
            str(name), partial, files, workshop.checkpoint, artifacts.BUILT, parent.sha256, _tools(workshop, backend),
            dict(workshop.options), artifacts.now(), round(time.perf_counter() - started, 3),
        )  # fmt: skip
        artifacts.write_lineage(built)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error})", hint="Check free space and write permission"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(built, folder=folder)

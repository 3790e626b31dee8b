"""The stages of a recorded run, opened side by side, for what its traces do not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from whisper_parity import project
from whisper_parity.backend import build, registry
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Fleet, Probing, Session, Transcriber
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import Features, clip_features
from whisper_parity.errors import BackendError, ParityError, RecordError, UnavailableError, UsageError, mapped
from whisper_parity.run import plan as planning
from whisper_parity.run import report
from whisper_parity.run.evaluation import Evaluation, made_with_another
from whisper_parity.run.options import OPTIONS, Options
from whisper_parity.run.plan import Plan, configure_backends
from whisper_parity.system import serial
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace

T = TypeVar("T")


class Bench:
    """Opens what is asked for once, and keeps it open: two models side by side, and their probes."""

    def __init__(self, plan: Plan, stack: ExitStack) -> None:
        self.plan = plan
        self._stack = stack
        self._evaluation = Evaluation(plan, tell=False)
        self._opened: dict[str, Session | Transcriber] = {}
        self._kept: dict[str, tuple[Any, Any]] = {}

    def clip(self, name: str) -> Clip:
        """A clip of the run by name.

        Raises:
            UsageError: the run has no such clip.
        """
        for clip in self.plan.clips:
            if clip.name == name:
                return clip
        known = ", ".join(clip.name for clip in self.plan.clips)
        raise UsageError(f"run {self.plan.folder.name} has no clip {name!r}", hint=f"It has {known}")

    def trace(self, spec: str, clip: Clip) -> Trace:
        """A stage's trace, read from the run, recorded now when it is not there.

        Raises:
            RecordError: what the run recorded is of another audio, language or artifact than there is now.
            ParityError: it cannot be recorded here.
        """
        path = self.plan.folder / report.TRACES / file.file_name(clip.name, spec)
        if path.is_file() and (other := self._evaluation.changed(file.load(path), spec, clip)):
            raise RecordError(
                f"{spec} on {clip.name}: the run recorded it with another {other} than there is now",
                hint="Run it again under a new --run-id; what is recorded stays as it is",
            )
        return self._evaluation.trace(spec, clip)

    def features(self, clip: Clip) -> Features:
        """A clip's input features."""
        return clip_features(self.plan.options.cache, clip, self.plan.checkpoint.dims.n_mels)

    def kept(self, name: str, key: Any, make: Callable[[], T]) -> T:
        """What was made under this name for this key the last time, or what is made now; one of each name is kept."""
        if name not in self._kept or self._kept[name][0] != key:
            self._kept[name] = (key, make())
        return cast(T, self._kept[name][1])

    def artifact(self, spec: str, taps: str = "") -> Artifact:
        """A stage's artifact, or the probe of it that has these taps.

        Raises:
            ParityError: it cannot be built here.
        """
        if not taps:
            return self._evaluation.artifact(spec)
        workshop = self.plan.workshop
        return build.obtain(replace(workshop, options={**workshop.options, "taps": taps}, external=None), spec)

    def session(self, spec: str) -> Session | Transcriber:
        """A stage's session.

        Raises:
            ParityError: it cannot be opened here.
        """
        if spec not in self._opened:
            self._opened[spec] = self.open(self.artifact(spec), self._stack)
        return self._opened[spec]

    def open(self, artifact: Artifact, stack: ExitStack) -> Session | Transcriber:
        """Open an artifact until `stack` is closed; of a fleet one device is taken."""
        found = self._leased(artifact, stack, artifact.stage)
        if isinstance(found, Probing):
            raise BackendError(f"{artifact.stage}: a probe was opened in place of the artifact")
        return found

    @contextmanager
    def probe(self, artifact: Artifact) -> Iterator[Probing]:
        """Open a stage's probe; of a fleet one device is taken.

        Raises:
            UnavailableError: its backend opens no probe.
            ParityError: it cannot be opened here.
        """
        with ExitStack() as stack:
            found = self._leased(artifact, stack, f"a probe of {artifact.stage}")
            if not isinstance(found, Probing):
                backend = artifact.stage.partition(":")[0]
                raise UnavailableError(f"{artifact.stage}: backend {backend} cannot open probes")
            yield found

    def _leased(self, artifact: Artifact, stack: ExitStack, what: str) -> Session | Transcriber | Probing:
        backend = registry.backend(artifact.stage.partition(":")[0])
        with mapped(BackendError, f"{what} cannot be opened"):
            opened = stack.enter_context(backend.open(artifact, self.plan.options.threads))
            return stack.enter_context(opened.lease()) if isinstance(opened, Fleet) else opened


@contextmanager
def expecting_probes(run: Path, stages: Iterable[str]) -> Iterator[None]:
    """Let backends get ready to build probes of a run's stages, beside what comes before.

    What goes wrong is left to the bench, which says it.
    """
    with ExitStack() as stack:
        with suppress(ParityError, OSError):
            options = serial.read(Options, run / OPTIONS)
            configure_backends(options, project.find())
            for stage in dict.fromkeys(stages):
                build.prepare_probes(options.cache, stage, stack)
        yield


@contextmanager
def bench(run: Path) -> Iterator[Bench]:
    """Everything that a recorded run was made with.

    Raises:
        RecordError: no run, or one whose options cannot be read.
        UsageError: its checkpoint, policy or build options are others now.
        ParityError: its checkpoint, clips or stages are not to be had any more.
    """
    plan = planning.of_run(run, project.find())
    if names := made_with_another(plan):
        raise UsageError(
            f"run {run.name} was made with another {names} than there is now",
            hint="Explain it with the checkpoint and the parity.toml that it was made with, or run again",
        )
    with ExitStack() as stack:
        yield Bench(plan, stack)

"""Opened stages and their artifacts: one stage at a time, so that memory is that of one model.

A run of several batches comes back to each stage. There, stages of this machine stay open as long as their files are
small against the memory that is free; a device has room for one session, and is given back when another needs one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from whisper_parity.backend import build
from whisper_parity.backend.artifact import GIVEN, Artifact, ArtifactFile
from whisper_parity.backend.contract import Fleet, Halves, Opened, Placement, Probing, Program, Stepper
from whisper_parity.backend.facets import Spreading
from whisper_parity.backend.stage import Stage
from whisper_parity.decode.cached import Cached
from whisper_parity.errors import BackendError, OneSessionError, ParityError, UnavailableError, mapped
from whisper_parity.run.journal import Journal
from whisper_parity.run.placement import Located
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import StageInfo
from whisper_parity.system import memory
from whisper_parity.system.activity import Kind, step
from whisper_parity.weights.looking import Looking
from whisper_parity.weights.result import LookUp

Session = Halves | Program
"""What a run asks for results: a stepper answers as halves."""

BYTES_OPEN = 4
"""An open model takes up to so many times the bytes of its files: copies that runtimes unpack, and room to compute."""
SHARE = 0.5
"""Of the free memory, for all that stays open."""


@dataclass(frozen=True, slots=True)
class _Open:
    """An open stage."""

    opened: Opened
    stack: ExitStack
    number: int


class Sessions:
    """Opens the stages of a plan, and closes each before the next one, or keeps those open that it comes back to."""

    def __init__(self, plan: Plan, journal: Journal | None = None, *, comes_back: bool = False) -> None:
        """Take a plan.

        Args:
            plan: what is run.
            journal: where each stage's artifact and placement are written down; None for readers such as `explain`.
            comes_back: whether stages are used in turns, so that closing one costs opening it again.
        """
        self.plan = plan
        self._journal = journal
        self._comes_back = comes_back
        self._artifacts: dict[str, Artifact | ParityError] = {}
        self._placed: dict[str, tuple[Placement, ...]] = {}
        self._open: dict[str, _Open] = {}
        self._looking: Looking | None = None
        self._weights: dict[str, LookUp] = {}
        self.openings = 0
        """How often a stage was opened: sessions of one opening are the same ones."""

    def close(self) -> None:
        """Free what is open."""
        while self._open:
            self._open.popitem()[1].stack.close()

    def opening(self, stage: str) -> int:
        """Number of the opening that a stage's session is of; 0 where it is not open."""
        return self._open[stage].number if stage in self._open else 0

    def artifact(self, stage: str) -> Artifact:
        """A stage's artifact, obtained once; a failure is remembered and raised again.

        Raises:
            ParityError: there is none here, and it cannot be built.
        """
        if stage not in self._artifacts:
            try:
                with step(Kind.BUILD, "finding its files"):
                    self._artifacts[stage] = build.obtain(self.plan.workshop_of(stage), stage)
            except ParityError as error:
                self._artifacts[stage] = error
            if self._journal:
                self._journal.note("stage", stage, self._info(self.plan.stage(stage), self._artifacts[stage]))
        artifact = self._artifacts[stage]
        if isinstance(artifact, ParityError):
            raise artifact
        return artifact

    def take(self, artifact: Artifact) -> None:
        """An artifact that was obtained elsewhere."""
        self._artifacts[artifact.stage] = artifact

    def weights(self, stage: str) -> LookUp | None:
        """What a stage's given files hold of the checkpoint, looked up once.

        None for files that were built here, which are the checkpoint's by their lineage, and where there are none.
        """
        artifact = self._artifacts.get(stage)
        if not isinstance(artifact, Artifact) or artifact.origin != GIVEN:
            return None
        if stage not in self._weights:
            self._looking = self._looking or Looking(self.plan.checkpoint, self.plan.options.cache)
            self._weights[stage] = self._looking.of_artifact(self.plan.backends.of(stage), artifact)
        return self._weights[stage]

    def prepare(self, stage: str) -> None:
        """Open a stage, before several threads ask for its sessions; a failure shows in its cells."""
        with suppress(ParityError):
            self._opened(stage)

    @contextmanager
    def session(self, stage: str) -> Iterator[Session]:
        """A session of a stage for one clip; the stage is opened if need be, and stays open.

        Raises:
            ParityError: it cannot be opened.
        """
        opened = self._opened(stage)
        with mapped(BackendError, f"{stage} cannot be used"), _leased(opened) as session:
            self.remember_placement(stage, session.facts.placement)
            yield session

    def remember_placement(self, stage: str, placed: tuple[Placement, ...]) -> None:
        """Write down where a stage ran, once."""
        if self._journal and placed and self._placed.get(stage) != placed:
            self._placed[stage] = placed
            self._journal.note("placement", stage, Located(self.artifact(stage).sha256, placed))

    @contextmanager
    def fresh(self, stage: str) -> Iterator[Session]:
        """A session that has run nothing yet; what was open is closed, since a device has room for one.

        Raises:
            ParityError: it cannot be opened.
        """
        self.close()
        with self.session(stage) as session:
            yield session

    @contextmanager
    def pair(self, stage: str) -> Iterator[tuple[Session, Session]]:
        """Two sessions that have run nothing yet, side by side.

        Raises:
            OneSessionError: one device, which has room for one.
            ParityError: they cannot be opened.
        """
        self.close()
        opened = self._opened(stage)
        if isinstance(opened, Fleet) and opened.size < 2:
            raise OneSessionError(f"{stage}: one device, which runs one session at a time", hint="Name two of them")
        with ExitStack() as stack, mapped(BackendError, f"{stage} cannot be opened twice"):
            second = opened if isinstance(opened, Fleet) else stack.enter_context(self._opening(self.artifact(stage)))
            yield stack.enter_context(_leased(opened)), stack.enter_context(_leased(second))

    def open(self, artifact: Artifact, stack: ExitStack) -> Session:
        """Open an artifact beside what is open, until `stack` is closed; of a fleet one device is taken.

        Raises:
            ParityError: it cannot be opened.
        """
        with mapped(BackendError, f"{artifact.stage} cannot be opened"):
            opened = stack.enter_context(self._opening(artifact))
            return stack.enter_context(_leased(opened))

    @contextmanager
    def probe(self, artifact: Artifact) -> Iterator[Probing]:
        """Open a stage's probe; of a fleet one device is taken.

        Raises:
            UnavailableError: its backend opens no probe.
            ParityError: it cannot be opened.
        """
        with ExitStack() as stack:
            with mapped(BackendError, f"a probe of {artifact.stage} cannot be opened"):
                opened = stack.enter_context(self._opening(artifact))
                probe = _taken(opened, stack)
            if not isinstance(probe, Probing):
                backend = self.plan.backends.of(artifact.stage).name
                raise UnavailableError(f"{artifact.stage}: backend {backend} cannot open probes")
            yield probe

    def _opened(self, stage: str) -> Opened:
        if stage not in self._open:
            with mapped(BackendError, f"{stage} cannot be opened"):
                self.openings += 1
                self._make_room(stage)
                artifact, stack = self.artifact(stage), ExitStack()
                with step(Kind.LOAD, "loading"):
                    self._open[stage] = _Open(stack.enter_context(self._opening(artifact)), stack, self.openings)
        return self._open[stage].opened

    def _make_room(self, stage: str) -> None:
        """Close what does not stay open beside a stage."""
        stay = self._comes_back and (not self._is_here(stage) or self._fits([*self._open, stage]))
        for other in list(self._open):
            if not (stay and self._is_here(other)):
                self._open.pop(other).stack.close()

    def _is_here(self, stage: str) -> bool:
        """Whether a stage runs in this machine, and on no device."""
        return not isinstance(self.plan.backends.of(stage), Spreading)

    def _fits(self, stages: Sequence[str]) -> bool:
        """Whether these stages together leave most of the free memory free."""
        size = sum(file.size_bytes for stage in stages for file in self._files_of(stage))
        return size * BYTES_OPEN < memory.available() * SHARE

    def _files_of(self, stage: str) -> list[ArtifactFile]:
        artifact = self._artifacts.get(stage)
        return list(artifact.files.values()) if isinstance(artifact, Artifact) else []

    @contextmanager
    def _opening(self, artifact: Artifact) -> Iterator[Opened]:
        with self.plan.backends.of(artifact.stage).open(artifact, self.plan.threads) as opened:
            yield opened

    def _info(self, stage: Stage, artifact: Artifact | ParityError) -> StageInfo:
        if isinstance(artifact, ParityError):
            return StageInfo(stage.spec, stage.parent, False, str(artifact))
        return StageInfo(
            spec=stage.spec,
            parent=stage.parent,
            available=True,
            reason=self.plan.backends.availability(stage.name.backend).reason,
            origin=artifact.origin,
            folder=str(artifact.folder),
            sha256=artifact.sha256,
            parent_sha256=artifact.parent_sha256,
            files=dict(artifact.files),
            tools=dict(artifact.tools or {}),
            options=dict(artifact.options or {}),
            created=artifact.created,
            build_seconds=artifact.build_seconds,
            notes=artifact.notes,
            root=stage.root or "",
            weights=self.weights(stage.spec),
        )


@contextmanager
def _leased(opened: Opened) -> Iterator[Session]:
    """A session for one clip: the opened one, or a free one of a fleet; a stepper under the adapter.

    Raises:
        BackendError: it is a probe.
    """
    with ExitStack() as stack:
        yield as_session(_taken(opened, stack))


def _taken(opened: Opened, stack: ExitStack) -> object:
    """What was opened, or a free one of a fleet until `stack` is closed."""
    return stack.enter_context(opened.lease()) if isinstance(opened, Fleet) else opened


def as_session(opened: object) -> Session:
    """What the run asks: the one place that tells the kinds of session apart.

    Raises:
        BackendError: neither halves, nor a stepper, nor a program.
    """
    if isinstance(opened, (Halves, Program)):
        return opened
    if isinstance(opened, Stepper):
        return Cached(opened)
    raise BackendError(f"{type(opened).__name__}: neither halves, nor a stepper, nor a program was opened")

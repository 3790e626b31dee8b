"""The run: stage by stage, clip by clip, from the plan to judged rows.

Every trace and every row is a file of its own in reports/<run>/, written as soon as it is known. So a run that is cut
off is continued by its name, workers of pytest-xdist share one run, and the report is only a collection of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from whisper_parity.backend import build, registry
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Fleet, Metered, Placed, Probing, Session, Transcriber
from whisper_parity.backend.registry import Stage
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import Features, clip_features
from whisper_parity.decode import draft, policy
from whisper_parity.decode.loop import rows_are_invariant
from whisper_parity.errors import BackendError, ParityError, UsageError, mapped
from whisper_parity.run import cell, placement, report
from whisper_parity.run.order import OneSessionError
from whisper_parity.run.plan import Plan, remember
from whisper_parity.run.report import Row, StageInfo
from whisper_parity.system import serial
from whisper_parity.system.files import file_sha256, locked
from whisper_parity.system.serial import remembered
from whisper_parity.system.threads import side_by_side
from whisper_parity.trace import file
from whisper_parity.trace.record import Recorder, record
from whisper_parity.trace.trace import Trace

Opened = Session | Transcriber | Fleet


@dataclass(frozen=True)
class Task:
    """A clip, ready for a stage."""

    clip: Clip
    features: Features
    reference: Trace | None
    """The root's trace, whose tokens are the draft; None for the root and for what stands before it."""
    language: str | None


@contextmanager
def leased(opened: Opened) -> Iterator[Session | Transcriber]:
    """A session for one clip: the opened one, or a free one of a fleet."""
    if isinstance(opened, Fleet):
        with opened.lease() as session:
            yield session
    else:
        yield opened


class Evaluation:
    """A running plan: holds at most one stage open, so that memory is that of one model."""

    def __init__(self, plan: Plan, *, tell: bool = True) -> None:
        """With `tell` it writes down in the run's folder what its artifacts are; who only asks about a run does not."""
        self.plan = plan
        self._tell = tell
        self._artifacts: dict[str, Artifact | ParityError] = {}
        self._open: tuple[str, Opened] | None = None
        self._failed: dict[tuple[str, str], ParityError] = {}
        self._placed: set[str] = set()
        self._just_recorded: set[tuple[str, str]] = set()
        self._stack = ExitStack()

    def close(self) -> None:
        """Free the open stage."""
        self._open = None
        self._just_recorded.clear()
        self._stack.close()

    def artifact(self, stage: str) -> Artifact:
        """A stage's artifact, obtained once; a failure is remembered and raised again."""
        if stage not in self._artifacts:
            try:
                self._artifacts[stage] = build.obtain(self.plan.workshop, stage)
            except ParityError as error:
                self._artifacts[stage] = error
            if self._tell:
                info = _stage_info(self.plan.stage(stage), self._artifacts[stage])
                serial.write(self.plan.folder / report.STAGES / f"{stage.replace(':', '-')}.json", info)
        found = self._artifacts[stage]
        if isinstance(found, ParityError):
            raise found
        return found

    def record_side_by_side(self, stage: Stage, clips: Sequence[Clip], advance: Callable[[str], None]) -> bool:
        """Record a stage's traces on all its devices at once; False, and nothing done, for a stage with one session.

        The references are read before, so that no thread opens another stage; what failed is told by the clip's row.
        """
        ready = [clip for clip in clips if self._has_reference(stage.spec, clip)]
        try:
            opened = self._opened(stage.spec)
        except ParityError:
            return False
        if not isinstance(opened, Fleet) or opened.size < 2:
            return False
        with suppress(ParityError), leased(opened) as session:  # the row check once, not once for each thread
            _recorder(self.plan, stage.spec, self.artifact(stage.spec), session)
        done = side_by_side(lambda clip: self._recorded(stage.spec, clip), ready, opened.size)
        for _, clip in zip(done, ready):
            advance(f"{stage.spec} · {clip.name}")
        self._just_recorded.clear()  # each was recorded by a session of its own
        return True

    def row(self, stage: Stage, clip: Clip) -> Row:
        """Judge a stage on a clip and write the row down; errors become verdicts, other clips go on."""
        path = self.plan.folder / report.ROWS / f"{clip.name}--{stage.spec.replace(':', '-')}.json"
        try:
            found = cell.judged(self.plan, stage, clip, self.trace)
        except ParityError as error:
            found = cell.of_error(self.plan, stage, clip, error)
        serial.write(path, found)
        return found

    def trace(self, spec: str, clip: Clip) -> Trace:
        """A stage's trace of a clip: read when it is there, recorded otherwise.

        Raises:
            ParityError: it could not be recorded.
        """
        path = self.plan.folder / report.TRACES / file.file_name(clip.name, spec)
        with locked(self.plan.folder / ".locks" / path.stem):
            if path.is_file() and not self.changed(found := file.load(path), spec, clip):
                return found
            found = self._record(spec, clip)
            file.save(found, path)
            self._just_recorded.add((spec, clip.name))
            return found

    def just_recorded(self, spec: str, clip: Clip) -> Trace | None:
        """A trace that the session which is open has recorded; None for one of another session."""
        return self.trace(spec, clip) if (spec, clip.name) in self._just_recorded else None

    def changed(self, found: Trace, spec: str, clip: Clip) -> str:
        """What a trace was recorded with and is another now: "audio", "language", "artifact", or "" for nothing."""
        try:
            audio = file_sha256(clip.path)
        except OSError:  # it went away since
            return "audio"
        if found.header.audio_sha256 != audio:
            return "audio"
        if clip.language not in (None, found.header.language):
            return "language"
        return "" if found.header.artifact_sha256 == self.artifact(spec).sha256 else "artifact"

    def _has_reference(self, spec: str, clip: Clip) -> bool:
        try:
            self._reference_for(spec, clip)
        except ParityError:
            return False
        return True

    def _recorded(self, spec: str, clip: Clip) -> None:
        try:
            self.trace(spec, clip)
        except ParityError as error:
            self._failed[spec, clip.name] = error

    def _record(self, spec: str, clip: Clip) -> Trace:
        if error := self._failed.pop((spec, clip.name), None):
            raise error
        task = self.prepare(spec, clip)
        with self.session(spec) as session:
            return self.play(spec, session, task)

    def prepare(self, spec: str, clip: Clip) -> Task:
        """What a stage needs for a clip; the root may be run for it.

        Raises:
            ParityError: the clip cannot be used, or the root could not record it.
        """
        policy.check_language(clip.language)
        features = clip_features(self.plan.options.cache, clip, self.plan.checkpoint.dims.n_mels)
        reference = self._reference_for(spec, clip)
        language = reference.header.language if reference else clip.language
        if language is None and spec != registry.ROOT:
            language = self._detected_language(clip)
        return Task(clip, features, reference, language)

    def play(self, spec: str, session: Session | Transcriber, task: Task) -> Trace:
        """Record a clip by an opened session of a stage.

        Raises:
            ParityError: it failed.
        """
        with mapped(BackendError, f"{spec} failed on {task.clip.name}"):
            try:
                recorder = _recorder(self.plan, spec, self.artifact(spec), session)
                return record(recorder, task.clip, task.features, task.reference, task.language)
            except ParityError:
                if isinstance(session, Metered):
                    session.usage()  # what a failed clip spent is not the next one's
                raise

    @contextmanager
    def session(self, spec: str) -> Iterator[Session | Transcriber]:
        """A session of the stage that is open, opened if need be; for one clip."""
        opened = self._opened(spec)
        with mapped(BackendError, f"{spec} cannot be used"), leased(opened) as session:
            if isinstance(session, Placed) and spec not in self._placed:
                self._placed.add(spec)
                placement.remember(self.plan.folder, spec, self.artifact(spec).sha256, session.placement())
            yield session

    @contextmanager
    def fresh(self, spec: str) -> Iterator[Session | Transcriber]:
        """A session that has run nothing yet; what was open is closed, since a device has room for one."""
        self.close()
        with self.session(spec) as session:
            yield session

    @contextmanager
    def pair(self, spec: str) -> Iterator[tuple[Session | Transcriber, Session | Transcriber]]:
        """Two sessions that have run nothing yet, side by side.

        Raises:
            OneSessionError: one device, which has room for one.
        """
        self.close()
        opened = self._opened(spec)
        if isinstance(opened, Fleet) and opened.size < 2:
            raise OneSessionError(f"{spec}: one device, which runs one session at a time", hint="Name two by --serial")
        with ExitStack() as stack, mapped(BackendError, f"{spec} cannot be opened twice"):
            second = opened if isinstance(opened, Fleet) else stack.enter_context(self._backend_open(spec))
            yield stack.enter_context(leased(opened)), stack.enter_context(leased(second))

    def _detected_language(self, clip: Clip) -> str | None:
        """The root's finding; it records all clips that need one in a row, so that models are not reloaded for each."""
        for each in self.plan.clips:
            if each.language is None and each != clip:
                with suppress(ParityError):
                    self.trace(registry.ROOT, each)
        return self.trace(registry.ROOT, clip).header.language

    def _reference_for(self, spec: str, clip: Clip) -> Trace | None:
        """The root's trace for every stage that comes after it; None for the root and for what stands before."""
        before_root = self.plan.stage(registry.ROOT).parent
        return None if spec in (registry.ROOT, before_root) else self.trace(registry.ROOT, clip)

    def _opened(self, spec: str) -> Opened:
        if self._open is None or self._open[0] != spec:
            self.close()
            with mapped(BackendError, f"{spec} cannot be opened"):
                self._open = (spec, self._stack.enter_context(self._backend_open(spec)))
        return self._open[1]

    @contextmanager
    def _backend_open(self, spec: str) -> Iterator[Opened]:
        backend = registry.backend(spec.partition(":")[0])
        with backend.open(self.artifact(spec), self.plan.options.threads) as opened:
            if isinstance(opened, Probing):
                raise BackendError(f"{spec}: a probe was opened in place of the artifact")
            yield opened


@contextmanager
def evaluation(plan: Plan) -> Iterator[Evaluation]:
    """Run a plan; leaving the context frees the open stage.

    Raises:
        UsageError: a run of this name was made under other options.
    """
    if names := made_with_another(plan):
        raise UsageError(f"run {plan.folder.name} was made with another {names}", hint="Choose another --run-id")
    remember(plan)
    running = Evaluation(plan)
    try:
        yield running
    finally:
        running.close()


def made_with_another(plan: Plan) -> str:
    """What a run was made with before and is another now, by name; "" for nothing.

    Traces of one run come from one checkpoint, policy and set of build options.
    """
    wanted = {
        "checkpoint_sha256": plan.checkpoint.sha256,
        "policy": plan.policy.name,
        "policy_options": dict(plan.policy.options),
        "build_options": dict(plan.workshop.options),
    }
    found = remembered(plan.folder / report.RUN, lambda: wanted)
    return ", ".join(key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key])


def _recorder(plan: Plan, spec: str, found: Artifact, session: Session | Transcriber) -> Recorder:
    dims, folder = plan.checkpoint.dims, plan.options.cache
    invariant = True
    if isinstance(session, Session):
        path = draft.invariance_path(folder, found.sha256, session.label, plan.options.threads)
        invariant = bool(remembered(path, lambda: _check_rows(plan, session)))
    return Recorder(
        stage=spec,
        session=session,
        artifact_sha256=found.sha256,
        dims=dims,
        policy=plan.policy,
        drafts=lambda sha, decoding, greedy: draft.root_draft(folder, plan.checkpoint, sha, decoding, greedy),
        step_by_step=not invariant,
    )


def _check_rows(plan: Plan, session: Session) -> bool:
    dims = plan.checkpoint.dims
    shape = (1, dims.n_audio_ctx, dims.n_audio_state)
    encoder_output = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return rows_are_invariant(session, policy.concrete(plan.policy, dims, "en"), encoder_output)


def _stage_info(stage: Stage, found: Artifact | ParityError) -> StageInfo:
    if isinstance(found, ParityError):
        return StageInfo(stage.spec, stage.parent, False, str(found))
    return StageInfo(
        spec=stage.spec,
        parent=stage.parent,
        available=True,
        reason=registry.probe(stage.backend).reason,
        origin=found.origin,
        folder=str(found.folder),
        sha256=found.sha256,
        parent_sha256=found.parent_sha256,
        files=dict(found.files),
        tools=dict(found.tools or {}),
        options=dict(found.options or {}),
        created=found.created,
        build_seconds=found.build_seconds,
    )

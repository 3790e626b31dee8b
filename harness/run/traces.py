"""Traces of a run: read where they are there, recorded otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whisper_parity.backend.artifact import Artifact, now
from whisper_parity.backend.contract import Halves, Program
from whisper_parity.clips.clip import Clip
from whisper_parity.clips.features import Features, clip_features, clip_sha256
from whisper_parity.decode import draft, policy
from whisper_parity.decode.loop import rows_are_invariant
from whisper_parity.errors import BackendError, ParityError, RecordError, mapped
from whisper_parity.model.dims import Dims
from whisper_parity.run import conditions, fit
from whisper_parity.run.kept import Kept
from whisper_parity.run.plan import Plan
from whisper_parity.run.sessions import Session, Sessions
from whisper_parity.system import inputs, serial
from whisper_parity.system.files import locked
from whisper_parity.system.in_hand import InHand
from whisper_parity.trace import file
from whisper_parity.trace.record import Recorder, again, record
from whisper_parity.trace.trace import Trace
from whisper_parity.weights.result import LookUp

IN_HAND = 3
"""Traces that are in hand: a cell is judged by its own, its parent's and the root's."""
FEATURE_BYTES = 64 << 20
"""Of the input features that are in hand: those of a batch of short clips are read once for all stages."""


@dataclass(frozen=True)
class Task:
    """A clip, ready for a stage."""

    clip: Clip
    features: Features
    reference: Trace | None
    """The root's trace, whose tokens are the draft; None for the root and for what stands before it."""
    language: str | None


@dataclass(frozen=True, slots=True)
class Heard:
    """A clip's sound, without its features."""

    audio_sha256: str
    seconds: float
    silent: bool
    fed: tuple[str, ...]
    """Hashes of the input features of its windows."""


class Traces:
    """The traces of a plan's cells; each file is read once while it is in hand, each clip hashed once."""

    def __init__(self, plan: Plan, sessions: Sessions) -> None:
        self.plan = plan
        self._sessions = sessions
        self._kept = Kept(plan)
        self._run = conditions.run_id(plan)
        self._hashes: dict[Path, str] = {}
        self._heard: dict[tuple[Path, int], Heard] = {}
        self._in_hand = InHand[tuple[str, str], Trace](IN_HAND)
        self._features = InHand[tuple[Path, int, int], Features](FEATURE_BYTES)
        self._recorded_by: dict[tuple[str, str], tuple[int, int]] = {}
        self.batch: Sequence[Clip] = plan.clips
        """The clips that are in work: of no others is a trace recorded before somebody asks for it."""
        self.missing: Mapping[tuple[str, str], str] = {}
        """By (clip, stage): why there is no trace; known from elsewhere, and not tried again."""
        self._programs: dict[str, bool] = {}
        """By stage, whether its sessions are programs: a device that is in use has no second session to ask."""

    def weights(self, stage: str) -> LookUp | None:
        """What a stage's given files hold of the checkpoint; None for files that were built here."""
        return self._sessions.weights(stage)

    def get(self, stage: str, clip: Clip) -> Trace:
        """A stage's trace of a clip: read when it is there, recorded otherwise.

        Raises:
            RecordError: what is there is damaged, or not of this run.
            ParityError: it could not be recorded.
        """
        if trace := self._in_hand.get((stage, clip.name)):
            return trace
        if reason := self.missing.get((clip.name, stage)):
            raise BackendError(reason)
        path = self.plan.folder.trace(clip.name, stage)
        with locked(self.plan.folder.lock(clip.name, stage)):
            if inputs.is_there(path):
                trace = file.load(path)
                if not self.changed(trace, stage, clip):
                    self._require_fit(trace, stage, clip)
                    return self._keep(stage, clip, trace)
            trace = self._kept_or_recorded(stage, clip, path)
        return self._keep(stage, clip, trace)

    def is_of_another_run(self, trace: Trace) -> bool:
        """Whether an earlier run recorded it."""
        return bool(trace.header.run) and trace.header.run != self._run

    def _kept_or_recorded(self, stage: str, clip: Clip, path: Path) -> Trace:
        """The trace that the cache keeps, once it is known that the stage could run here; else recorded now."""
        heard, artifact = self.heard(clip, stage), self._sessions.artifact(stage)
        key = self._kept.key(artifact, clip, heard.audio_sha256, heard.fed)
        trace = self._kept.find(key, clip, path)
        if trace and not self._misfit(trace, stage, clip):
            self._sessions.remember_placement(stage, trace.header.placement)
            return trace
        trace = self._record(stage, clip, key)
        file.save(trace, path)
        if self.plan.keeps.everything:
            self._kept.keep(key, path)
        return trace

    def of_session(self, stage: str, clips: Sequence[Clip], session: Session) -> list[Trace]:
        """Traces of clips that this very session has recorded in this process, the first of several not as its last.

        Else nothing: where a worker took clips in another order, the last one may be the one that is to be repeated.
        """
        self._programs[stage] = isinstance(session, Program)
        own = self._sessions.opening(stage), id(session)
        recorded = [clip for (spec, clip), by in self._recorded_by.items() if spec == stage and by == own]
        names = [clip.name for clip in clips]
        if not set(names) <= set(recorded) or (len(names) > 1 and recorded[-1] == names[0]):
            return []
        return [self.get(stage, clip) for clip in clips]

    def changed(self, trace: Trace, stage: str, clip: Clip) -> str:
        """What a trace was recorded with and is another now: "audio", "language", "artifact", or "" for nothing."""
        try:
            audio = self.audio_sha256(clip)
        except ParityError:  # it went away since
            return "audio"
        if trace.header.audio_sha256 != audio:
            return "audio"
        if clip.language not in (None, trace.header.language):
            return "language"
        return "" if trace.header.artifact_sha256 == self.artifact_sha256(stage) else "artifact"

    def heard(self, clip: Clip, stage: str) -> Heard:
        """What is known of a clip's sound in windows of a stage's length, found out once.

        Raises:
            AudioError: it cannot be used.
        """
        key = clip.path, self.plan.checkpoint_of(stage).dims.n_frames
        if key not in self._heard:
            features = self.features(clip, stage)
            fed = tuple(window.sha256 for window in features.windows)
            self._heard[key] = Heard(features.audio_sha256, features.seconds, features.silent, fed)
        return self._heard[key]

    def _misfit(self, trace: Trace, stage: str, clip: Clip) -> str:
        reason = fit.misfit(trace, self.plan, stage, clip, self.heard(clip, stage).fed)
        if not reason and not trace.windows and not self._is_program(stage):
            reason = "it has no windows, and the stage has halves"
        return reason

    def _require_fit(self, trace: Trace, stage: str, clip: Clip) -> None:
        if reason := self._misfit(trace, stage, clip):
            path = self.plan.folder.trace(clip.name, stage)
            raise RecordError(f"{path}: no trace of this run: {reason}", hint=file.AGAIN)

    def _is_program(self, stage: str) -> bool:
        """Whether a stage gives text alone; what stands before the root does, others are opened and asked."""
        if stage == self.plan.stage(self.plan.root).parent:
            return True
        if stage not in self._programs:
            with self._sessions.session(stage) as session:
                self._programs[stage] = isinstance(session, Program)
        return self._programs[stage]

    def prepare(self, stage: str, clip: Clip) -> Task:
        """What a stage needs for a clip; the root may be run for it.

        Raises:
            ParityError: the clip cannot be used, or the root could not record it.
        """
        policy.check_language(clip.language)
        features = self.features(clip, stage)
        reference = self.reference(stage, clip)
        language = reference.header.language if reference else clip.language
        if language is None and stage != self.plan.root:
            language = self._detected_language(clip)
        return Task(clip, features, reference, language)

    def features(self, clip: Clip, stage: str) -> Features:
        """A clip's input features, in windows of a stage's length.

        Raises:
            AudioError: it gives none.
        """
        dims = self.plan.checkpoint_of(stage).dims
        key = clip.path, dims.n_mels, dims.n_frames
        if features := self._features.get(key):
            return features
        features = clip_features(self.plan.options.cache, clip, dims.n_mels, self.audio_sha256(clip), dims.n_frames)
        return self._features.put(key, features, sum(window.input_features.nbytes for window in features.windows))

    @property
    def kept(self) -> Kept:
        """What the cache keeps."""
        return self._kept

    def reference(self, stage: str, clip: Clip) -> Trace | None:
        """The root's trace under its window for every stage behind one; None for the roots and what stands before.

        Raises:
            ParityError: the root could not record it.
        """
        root = self.plan.root_of(stage)
        return None if root is None else self.get(root, clip)

    def play(self, stage: str, session: Session, task: Task) -> Trace:
        """Record a clip by an opened session of a stage.

        Raises:
            ParityError: it failed.
        """
        with mapped(BackendError, f"{stage} failed on {task.clip.name}"):
            try:
                recorder = self._recorder(stage, self._sessions.artifact(stage), session)
                return record(recorder, task.clip, task.features, task.reference, task.language)
            except ParityError:
                session.usage()  # what a failed clip spent is not the next one's
                raise

    def again(self, stage: str, session: Session, task: Task, trace: Trace) -> Trace:
        """A recorded trace of an opened session, with its first window run again; of a program the whole clip.

        Raises:
            ParityError: it failed.
        """
        if isinstance(session, Program):
            return self.play(stage, session, task)
        with mapped(BackendError, f"{stage} failed on {task.clip.name}"):
            return again(self._recorder(stage, self._sessions.artifact(stage), session), task.features, trace)

    def warm_up(self, stage: str) -> None:
        """Check the rows of a stage once, before several threads would; a failure shows in its cells."""
        with suppress(ParityError), self._sessions.session(stage) as session:
            self._recorder(stage, self._sessions.artifact(stage), session)

    def _record(self, stage: str, clip: Clip, key: str) -> Trace:
        task = self.prepare(stage, clip)
        with self._sessions.session(stage) as session:
            trace = self.play(stage, session, task)
            self._recorded_by.pop((stage, clip.name), None)  # the last one stands last
            self._recorded_by[stage, clip.name] = (self._sessions.opening(stage), id(session))
            placed = session.facts.placement
        return replace(
            trace, header=replace(trace.header, recorded=now(), run=self._run, decided_by=key, placement=placed)
        )

    def _keep(self, stage: str, clip: Clip, trace: Trace) -> Trace:
        return self._in_hand.put((stage, clip.name), trace, 1)

    def artifact_sha256(self, stage: str) -> str:
        """Of a stage's files.

        Raises:
            ParityError: there are none.
        """
        return self._sessions.artifact(stage).sha256

    def audio_sha256(self, clip: Clip) -> str:
        """Of a clip's file, computed once.

        Raises:
            AudioError: it cannot be read.
        """
        if clip.path not in self._hashes:
            self._hashes[clip.path] = clip_sha256(clip)
        return self._hashes[clip.path]

    def _detected_language(self, clip: Clip) -> str | None:
        """What the root detects; it records a batch's clips that need a language in a row: models stay loaded."""
        for other in self.batch:
            if other.language is None and other != clip:
                with suppress(ParityError):
                    self.get(self.plan.root, other)
        return self.get(self.plan.root, clip).header.language

    def _recorder(self, stage: str, artifact: Artifact, session: Session) -> Recorder:
        plan = self.plan
        cache, weights = plan.options.cache, plan.checkpoint_of(stage)
        dims = replace(weights.dims, n_text_ctx=plan.checkpoint.dims.n_text_ctx)
        invariant = True
        if isinstance(session, Halves):
            path = draft.invariance_path(cache, artifact.sha256, session.facts.label, plan.threads)
            invariant = bool(serial.remembered(path, _check(plan, session, weights.dims)))
        return Recorder(
            stage=stage,
            session=session,
            artifact_sha256=artifact.sha256,
            dims=dims,
            policy=plan.policy,
            drafts=lambda sha256, decoding, greedy: draft.root_draft(cache, weights, sha256, decoding, greedy),
            step_by_step=not invariant,
            n_text_ctx=None if dims == weights.dims else weights.dims.n_text_ctx,
        )


def _check(plan: Plan, session: Halves, dims: Dims) -> Callable[[], bool]:
    def rows_hold() -> bool:
        shape = (1, dims.n_audio_ctx, dims.n_audio_state)
        encoder_output = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return rows_are_invariant(
            session, policy.concrete(plan.policy, plan.checkpoint.dims, "en", dims.n_text_ctx), encoder_output
        )

    return rows_hold

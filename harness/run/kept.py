"""Traces and checks that outlive their run: of stages that run the checkpoint, found again by all they depend on.

What is under judgement is run every time. A stage that runs the checkpoint itself, in this machine, gives the same bits
again as long as nothing changed that decides them; its backend says that of it (`Repeatable`). Its traces are kept in
the cache under a hash over all of that, which each trace carries too: one that lies under another name is not taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from whisper_parity.backend.artifact import Artifact, now
from whisper_parity.clips.clip import Clip
from whisper_parity.errors import ParityError, RecordError
from whisper_parity.project import PACKAGE
from whisper_parity.run import deciding
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import OrderCheck
from whisper_parity.system import cache, serial
from whisper_parity.system.files import share, sources_sha256
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace


@dataclass(frozen=True, slots=True)
class KeptChecks:
    """Checks of state and order of a stage that was steady."""

    decided_by: str
    recorded: str
    """When, as ISO 8601."""
    checks: tuple[OrderCheck, ...]


class Kept:
    """What the cache keeps of a plan's stages."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stages: dict[str, str] = {}

    def key(self, artifact: Artifact, clip: Clip, audio_sha256: str, fed: Sequence[str]) -> str:
        """What a stage's trace of a clip depends on, as one hash; "" for a stage whose traces are not kept.

        Args:
            artifact: of the stage.
            clip: the clip.
            audio_sha256: of its file.
            fed: hashes of the input features of its windows.
        """
        stage = self._of_stage(artifact)
        return serial.digest([stage, audio_sha256, list(fed), clip.language]) if stage else ""

    def find(self, key: str, clip: Clip, path: Path) -> Trace | None:
        """A kept trace, put into a run; None where there is none, and where what lies there is not what was kept.

        Args:
            key: see `key`.
            clip: the clip, which an earlier run may have called by another name.
            path: where the run has it.

        Raises:
            OutputError: the run's folder cannot be written.
        """
        source = self._trace(key)
        if not key or self._plan.options.fresh or not source.is_file():
            return None
        cache.touch(source)
        try:
            trace = file.load(source)
        except RecordError:
            return None
        if trace.header.decided_by != key:
            return None
        if trace.header.clip == clip.name and share(source, path):
            return trace
        trace = replace(trace, header=replace(trace.header, clip=clip.name))
        file.save(trace, path)
        return trace

    def keep(self, key: str, path: Path) -> None:
        """Keep the trace that lies in a run; one that cannot be kept is recorded again by the next run."""
        if key and self._plan.options.cache_bytes:
            share(path, self._trace(key))

    def checks(self, artifact: Artifact) -> tuple[OrderCheck, ...]:
        """Checks of state and order that an earlier run made of a stage; none where they are to be made."""
        key = self._of_checks(artifact)
        if not key or self._plan.options.fresh:
            return ()
        with suppress(ParityError):
            kept = serial.read(KeptChecks, self._state(key))
            cache.touch(self._state(key))
            if kept.decided_by == key:
                return tuple(replace(check, runs=0, seconds=0.0, recorded=kept.recorded) for check in kept.checks)
        return ()

    def keep_checks(self, artifact: Artifact, checks: tuple[OrderCheck, ...]) -> None:
        """Keep the checks of a stage that passed all of them."""
        steady = all(check.checked and check.reproducible and not check.exit_code for check in checks)
        if (key := self._of_checks(artifact)) and steady and self._plan.options.cache_bytes:
            with suppress(ParityError):
                serial.write(self._state(key), KeptChecks(key, now(), checks))

    def _of_checks(self, artifact: Artifact) -> str:
        """What a stage's checks depend on: what decides its traces, and the code that checks."""
        key = self._of_stage(artifact)
        return serial.digest([key, sources_sha256(PACKAGE / "run")]) if key else ""

    def _of_stage(self, artifact: Artifact) -> str:
        if artifact.stage not in self._stages:
            self._stages[artifact.stage] = deciding.of_stage(self._plan, artifact)
        return self._stages[artifact.stage]

    def _trace(self, key: str) -> Path:
        return self._plan.options.cache / "traces" / f"{key}.safetensors"

    def _state(self, key: str) -> Path:
        return self._plan.options.cache / "states" / f"{key}.json"

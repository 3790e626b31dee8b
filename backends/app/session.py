"""Opened programs: on this machine, or on devices side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from whisper_parity.backend.account import ProgramOutput
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Facts, Float32, Transcript
from whisper_parity.backends.app import own, running, sounds
from whisper_parity.backends.app.job import Job
from whisper_parity.backends.app.places import Host, OnDevice
from whisper_parity.backends.app.running import Rules, Running
from whisper_parity.backends.app.settings import Settings
from whisper_parity.backends.dla.fleet import DeviceLink
from whisper_parity.backends.dla.link.device import Facts as DeviceFacts
from whisper_parity.backends.dla.link.store import Store

INFERENCE = ("encode", "decode")
"""Times that a program measures of its inferences; else its whole time counts as the device's."""
Hear = Callable[[Path, str | None, Mapping[str, Any]], ProgramOutput]


@dataclass(frozen=True)
class Program:
    """Everything that opens a program."""

    job: Job
    settings: Settings
    rules: Rules | None
    """None for a program that takes no policy."""


@dataclass(frozen=True)
class HostApp:
    """A program on this machine."""

    running: Running
    stage: str

    @property
    def facts(self) -> Facts:
        """What runs."""
        return Facts(f"{self.stage} ({self.running.via} on this machine)", self.running.notes)

    def usage(self) -> None:
        """It runs on this machine."""

    def hear(self, sound: Path, language: str | None, options: Mapping[str, Any]) -> ProgramOutput:
        """See `whisper_parity.backend.facets.Hearing`."""
        return self.running.hear(sound, language, options)

    def transcribe(self, samples: Float32, language: str | None) -> Transcript:
        """The samples as a 16-bit WAV."""
        return transcript(self.hear, samples, language)


@dataclass(eq=False)
class DeviceApp(DeviceLink):
    """A program on one device."""

    program: Program | None = None

    @property
    def facts(self) -> Facts:
        """What runs, and where."""
        return Facts(self.label)

    def hear(self, sound: Path, language: str | None, options: Mapping[str, Any]) -> ProgramOutput:
        """See `whisper_parity.backend.facets.Hearing`."""
        output: ProgramOutput = self._retry_once(lambda session: session.hear(sound, language, options))
        seconds = output.account.seconds
        self.device.meter.device_s += sum(seconds.get(part, 0.0) for part in INFERENCE) or seconds.get("total", 0.0)
        return output

    def transcribe(self, samples: Float32, language: str | None) -> Transcript:
        """The samples as a 16-bit WAV."""
        return transcript(self.hear, samples, language)

    def _started(self, facts: DeviceFacts) -> AbstractContextManager[Any]:
        return self._program_started(facts)

    @contextmanager
    def _program_started(self, facts: DeviceFacts) -> Iterator[Running]:
        assert self.program is not None  # noqa: S101 - given by whoever makes it
        job, settings = self.program.job, self.program.settings
        if job.program is None:
            job = replace(job, description=own.with_library(job.description, self.device.settings.runtime_library))
        place = OnDevice.of(self.device, Store(self.device, facts))
        binary = job.program or own.binary(facts)
        dims = self.artifact.checkpoint.dims
        started = running.started(job, place, settings, dims, binary, rules=self.program.rules)
        try:
            yield started
        finally:
            started.close()


@contextmanager
def on_host(program: Program, artifact: Artifact) -> Iterator[HostApp]:
    """A program on this machine."""
    job, place = program.job, Host()
    try:
        if job.program is None:
            job = replace(job, description=own.on_host(job.description))
        binary = job.program or own.binary(None)
        dims = artifact.checkpoint.dims
        started = running.started(job, place, program.settings, dims, binary, rules=program.rules)
        yield HostApp(started, artifact.stage)
    finally:
        place.close()


def transcript(hear: Hear, samples: Float32, language: str | None) -> Transcript:
    """What a program makes of samples, float32 [n_samples] at 16 kHz, under a plain policy."""
    pcm = np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)
    with tempfile.TemporaryDirectory(prefix="parity-sound-") as folder:
        path = Path(folder, "sound.wav")
        sounds.write(path, pcm)
        account = hear(path, language, {}).account
    return Transcript(account.text or "", account.tokens, (), account.language or language)

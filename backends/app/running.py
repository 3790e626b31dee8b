"""One program at one place: run it on a sound, take what it left, and read that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whisper_parity.backend.account import Account, AccountWindow, ProgramOutput
from whisper_parity.backends.app import reading, scripts, sounds, tensors
from whisper_parity.backends.app.description import Pull
from whisper_parity.backends.app.job import Job
from whisper_parity.backends.app.output import Output
from whisper_parity.backends.app.places import Place
from whisper_parity.backends.app.scripts import Ran
from whisper_parity.backends.app.settings import Settings
from whisper_parity.backends.app.sounds import Sound
from whisper_parity.errors import BackendError
from whisper_parity.model.dims import Dims
from whisper_parity.system.files import file_sha256
from whisper_parity.system.inputs import MIB

SLACK_S = 30.0
"""On top of a program's own time, until the shell must have answered."""
SOUND = "sound.wav"
"""A plain name: none of a user's reaches a program or a shell."""
MOST_WINDOWS = 400
"""Windows whose tensors are taken: three hours and twenty minutes of sound."""
Rules = Callable[[Mapping[str, Any], str | None], Mapping[str, Path]]
"""(the run's decode options, language) -> files beside the program that state them, by name."""


@dataclass(frozen=True)
class Running:
    """A program whose files are at their place."""

    job: Job
    place: Place
    settings: Settings
    dims: Dims
    program: str
    """Path of its binary there."""
    there: Mapping[str, str]
    """Paths there of the files beside it, by name."""
    via: str
    """What runs, for labels: "parity-whisper 0f3a2b1c"."""
    rules: Rules | None = None
    notes: tuple[str, ...] = ()
    temperature_c: float | None = None

    def hear(self, clip: Path, language: str | None, options: Mapping[str, Any]) -> ProgramOutput:
        """Run the program on a clip; see `whisper_parity.backend.facets.Hearing`."""
        with sounds.given(clip, self.job.description.sound) as sound:
            output = self._output(sound, language, options)
        return heard(output, self.job, self.dims, by=self.name, note=sound.note)

    @property
    def name(self) -> str:
        """The program's name."""
        return self.job.program.name if self.job.program else "parity-whisper"

    def close(self) -> None:
        """Remove what it left."""
        self.place.close()

    def _output(self, sound: Sound, language: str | None, options: Mapping[str, Any]) -> Output:
        task = str(options.get("task") or "transcribe")
        pulled = dict(_pulled(self.job, sound))
        wanted = [scripts.STDOUT, scripts.STDERR, *_result(self.job), *pulled]
        largest = int(self.settings.output_mib * MIB)
        printed = self.place.script(
            scripts.text(
                self.place.folder, self._links(sound, options, language),
                self._command(SOUND, language, task), self.job.description.environment, wanted,
                limit_s=self.settings.run_limit_s, largest=largest,
            ),
            self.settings.run_limit_s + SLACK_S,
        )  # fmt: skip
        ran = scripts.ran(printed, wanted)
        self._require(ran, largest)
        files = {name: self.place.fetch(f"{self.place.folder}/{name}", size) for name, size in ran.sizes.items()}
        return _collected(files, self.job, pulled, ran)

    def _require(self, ran: Ran, largest: int) -> None:
        if ran.killed:
            raise BackendError(
                f"{self.name}: not finished after {self.settings.run_limit_s:g} s, killed",
                hint="Set run_limit_s under [backends.app] where it needs longer",
            )
        if ran.code is None:
            raise BackendError(f"{self.name}: its working folder {self.place.folder} cannot be filled")
        for name, size in ran.sizes.items():
            if size >= largest - scripts.BLOCK:
                what = "its output" if name in (scripts.STDOUT, scripts.STDERR) else name
                raise BackendError(
                    f"{self.name}: {what} has reached the limit of {self.settings.output_mib:g} MiB",
                    hint="Set output_mib under [backends.app] where that is right",
                )

    def _links(self, sound: Sound, options: Mapping[str, Any], language: str | None) -> dict[str, str]:
        """Paths there by name in the working folder."""
        rules = self.rules(options, language) if self.rules else {}
        own = {name: self.place.put(path) for name, path in rules.items()}
        return {**self.there, **own, SOUND: self.place.put(sound.path), self._own_name: self.program}

    @property
    def _own_name(self) -> str:
        return self.name if not self.name.startswith(("-", ".")) else f"program{self.name}"

    def _command(self, sound: str, language: str | None, task: str) -> list[str]:
        description = self.job.description
        fields = {
            "program": f"./{self._own_name}", "model": self.job.model, "sound": sound, "task": task,
            "language": description.language(language), "output": description.output or "",
        }  # fmt: skip
        return [word.format(**fields) for word in description.argv]


def started(job: Job, place: Place, settings: Settings, dims: Dims, program: Path, *, rules: Rules | None) -> Running:
    """Have a program and its files at a place.

    Raises:
        DeviceError: they cannot be pushed.
    """
    there = {name: place.put(path, executable=_executable(path)) for name, path in job.files.items()}
    via = f"{program.name} {file_sha256(program)[:8]}"
    return Running(job, place, settings, dims, place.put(program, executable=True), there, via, rules)


def heard(output: Output, job: Job, dims: Dims, *, by: str, note: str = "") -> ProgramOutput:
    """An output as the harness judges it.

    Raises:
        BackendError: it holds no result.
    """
    arrays = tensors.of_output(output, job.description.pull, dims)
    account = reading.account(output, job.description.patterns, dims, by=by, tensors=tuple(arrays))
    return ProgramOutput(replace(_with_windows(account, output), sound=note), arrays)


def _with_windows(account: Account, output: Output) -> Account:
    """A window for each that has a tensor, though the program says nothing of it."""
    count = max((len(files) for files in output.tensors.values()), default=0)
    missing = count - len(account.windows)
    return replace(account, windows=(*account.windows, *[AccountWindow()] * missing)) if missing > 0 else account


def _collected(files: Mapping[str, bytes], job: Job, pulled: Mapping[str, tuple[str, int]], ran: Ran) -> Output:
    arrays: dict[str, list[bytes]] = {}
    for name, (tensor, window) in pulled.items():
        if name in files and window == len(arrays.get(tensor, ())):
            arrays.setdefault(tensor, []).append(files[name])
    result = files.get(job.description.output) if job.description.output else None
    return Output(files.get(scripts.STDOUT, b""), files.get(scripts.STDERR, b""), result, arrays, ran.code)


def _pulled(job: Job, sound: Sound) -> Iterator[tuple[str, tuple[str, int]]]:
    """Names of files with tensors, and which tensor and window each is."""
    for tensor, pull in job.description.pull.items():
        count = min(sound.n_windows, MOST_WINDOWS) if _is_numbered(pull) else 1
        for window in range(count):
            yield pull.name(window), (tensor, window)


def _is_numbered(pull: Pull) -> bool:
    return "{window}" in pull.file


def _result(job: Job) -> list[str]:
    return [job.description.output] if job.description.output else []


def _executable(path: Path) -> bool:
    return path.suffix in (".so", "") or ".so." in path.name

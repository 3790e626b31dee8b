"""Outputs of a program that somebody sent: a folder of them, by the names of clips."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whisper_parity.backend.account import Account, ProgramOutput
from whisper_parity.backend.contract import Facts, Float32, Transcript
from whisper_parity.backends.app import running
from whisper_parity.backends.app.job import Job
from whisper_parity.backends.app.output import Output
from whisper_parity.errors import BackendError, ConfigError, UnavailableError
from whisper_parity.model.dims import Dims
from whisper_parity.system import inputs
from whisper_parity.system.files import file_sha256

PRINTED = (".txt", ".log", ".out", ".err", ".json", ".jsonl", "")
"""Endings of files that hold what a program printed or wrote as its result."""
MOST_FILES = 20_000
SHOWN = 6
CLIP = "{clip}"


@dataclass(frozen=True)
class Records:
    """A folder, or names with {clip}."""

    place: str

    @property
    def folder(self) -> Path:
        """The folder in which everything lies."""
        if CLIP not in self.place:
            return Path(self.place)
        return Path(self.place[: self.place.index(CLIP)] + "x").parent

    def files(self) -> tuple[Path, ...]:
        """Every file in it, two folders deep at most.

        Raises:
            ConfigError: no such folder, or of more files than anybody sends.
        """
        if not self.folder.is_dir():
            raise ConfigError(
                f"[backends.app] recorded: no folder {self.folder}", hint="Name the folder of a program's outputs"
            )
        inner = [path for path in sorted(self.folder.iterdir()) if not path.name.startswith(".")]
        files = [file for path in inner for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        files = [file for file in files if file.is_file() and not file.name.startswith(".")]
        if len(files) > MOST_FILES:
            raise ConfigError(f"[backends.app] recorded: {self.folder} holds {len(files)} files")
        return tuple(files)

    def sha256(self) -> str:
        """One hash over names and contents of all files."""
        digest = hashlib.sha256()
        for file in self.files():
            inputs.require_regular(file, inputs.MODEL_BYTES, ConfigError)
            digest.update(f"{file.relative_to(self.folder)} {file_sha256(file)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def of_clip(self, clip: str) -> tuple[Path, ...]:
        """The files of a clip: a folder of its name, files of its name, or those that the names with {clip} lead to.

        Raises:
            UnavailableError: there is none; or files of several programs, which the settings have to tell apart.
        """
        if CLIP in self.place:
            named = Path(self.place.replace(CLIP, clip))
            chosen = [named] if named.is_file() else sorted(named.iterdir()) if named.is_dir() else []
            return self._some(chosen, clip, f"{named}")
        inside = [file for file in self.files() if file.parent != self.folder and file.parent.name == clip]
        flat = [file for file in self.files() if file.parent == self.folder]
        own = [file for file in flat if file.name.startswith((f"{clip}.", f"{clip}_"))]
        behind = [file for file in flat if file.stem.endswith((f"_{clip}", f"-{clip}"))]
        if not inside and not own and len(behind) > 1:
            names = ", ".join(file.name for file in behind[:SHOWN])
            raise UnavailableError(
                f"several files for clip {clip}: {names}",
                hint=f'Say which: recorded = "{self.folder}/{_with_clip(behind[0], clip)}"',
            )
        return self._some(inside or self._longest(own, clip, flat) or behind, clip, f"{clip}/, {clip}.* or {clip}_*")

    def _longest(self, own: Sequence[Path], clip: str, flat: Sequence[Path]) -> list[Path]:
        """Without files that belong to a clip of a longer name, which has a file "NAME.*" of its own."""
        longer = {file.name.split(".")[0] for file in flat} - {clip}
        of_others = {name for name in longer if name.startswith(f"{clip}_") and name[len(clip) + 1 :].isdigit()}
        return [file for file in own if file.name.split(".")[0] not in of_others]

    def _some(self, files: Sequence[Path], clip: str, looked_for: str) -> tuple[Path, ...]:
        if files:
            return tuple(file for file in files if file.is_file())
        names = sorted({file.relative_to(self.folder).parts[0] for file in self.files()})
        more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise UnavailableError(
            f"no output of clip {clip} in {self.folder}: looked for {looked_for}; "
            f"it holds {', '.join(names[:SHOWN]) or 'nothing'}{more}"
        )


@dataclass(frozen=True)
class RecordedSession:
    """A program that ran elsewhere: every clip is read, none is run."""

    records: Records
    job: Job
    dims: Dims
    largest: int
    """Largest file that is read [bytes]."""
    label: str

    @property
    def facts(self) -> Facts:
        """Where the outputs lie."""
        return Facts(self.label, ("outputs that were sent: nothing was run here",))

    def usage(self) -> None:
        """It ran elsewhere."""

    def hear(self, sound: Path, language: str | None, options: Mapping[str, Any]) -> ProgramOutput:
        """What was recorded of the clip; see `whisper_parity.backend.facets.Hearing`.

        Raises:
            UnavailableError: nothing was.
            BackendError: what was holds no result, or results that differ.
            InputError: a file is too large.
        """
        files = self.records.of_clip(sound.stem)
        pulled = {file: name for file in files if (name := self._tensor(file))}
        arrays = {name: [self._read(file)] for file, name in pulled.items()}
        printed = [file for file in files if file not in pulled and _is_printed(file)]
        if not printed and not arrays:
            raise UnavailableError(
                f"no output in {', '.join(file.name for file in files[:SHOWN])} of clip {sound.stem}"
            )
        outputs = list(self._outputs(printed))
        return self._merged([*outputs, Output(tensors=arrays)] if arrays else outputs, sound.stem)

    def transcribe(self, samples: Float32, language: str | None) -> Transcript:
        """Nothing can be heard that was not recorded.

        Raises:
            UnavailableError: always.
        """
        raise UnavailableError("app:recorded has the outputs of files, by their names; it hears no samples")

    def _tensor(self, file: Path) -> str | None:
        """The tensor that a file is, by the end of its name."""
        names = {name: Path(pull.name(0)).name for name, pull in self.job.description.pull.items()}
        usual = {f"{name}{end}": name for name in names for end in (".npy", ".bin", ".f32")}
        for name, own in names.items():
            if file.name == own or file.name.endswith(f"_{own}"):
                return name
        return next(
            (name for end, name in usual.items() if file.name == end or file.name.endswith((f"_{end}", f".{end}"))),
            None,
        )

    def _read(self, file: Path) -> bytes:
        return inputs.read(file, self.largest)

    def _outputs(self, files: Sequence[Path]) -> Iterator[Output]:
        """What was printed, as one; and once with each file of JSON."""
        results = [file for file in files if file.suffix in (".json", ".jsonl")]
        printed = b"\n".join(self._read(file) for file in files if file not in results)
        for file in results:
            yield Output(printed, result=self._read(file))
        if printed and not results:
            yield Output(printed)

    def _merged(self, outputs: Sequence[Output], clip: str) -> ProgramOutput:
        """One account of all files: the one with a result, with the others' warnings and errors."""
        heard = list(self._heard(outputs))
        good = [part for part in heard if isinstance(part, ProgramOutput)]
        results = [part for part in good if part.account.text is not None or part.account.names_tokens]
        if len({(part.account.text, part.account.tokens) for part in results}) > 1:
            raise BackendError(
                f"clip {clip}: several outputs, and their results differ", hint="Keep one, or name it by {clip}"
            )
        tensors = {name: array for part in good for name, array in part.tensors.items()}
        if not results and not tensors:
            raise next(part for part in heard if isinstance(part, BackendError))
        first = (results or good)[0]
        others = [part.account for part in good if part is not first]
        account = replace(first.account, windows=first.account.windows or (good[-1].account.windows if tensors else ()))
        return ProgramOutput(_with_lines(account, others), tensors)

    def _heard(self, outputs: Iterable[Output]) -> Iterator[ProgramOutput | BackendError]:
        for output in outputs:
            try:
                yield running.heard(output, self.job, self.dims, by="the recorded output")
            except BackendError as error:  # noqa: PERF203 - another file may hold the result
                yield error


def _with_clip(file: Path, clip: str) -> str:
    """The file's name with {clip} for the clip's at its end."""
    return f"{file.stem[: -len(clip)]}{CLIP}{file.suffix}"


def _with_lines(account: Account, others: Sequence[Account]) -> Account:
    warnings = tuple(line for other in others for line in other.warnings)
    errors = tuple(line for other in others for line in other.errors)
    return replace(
        account,
        warnings=tuple(dict.fromkeys((*account.warnings, *warnings))),
        errors=tuple(dict.fromkeys((*account.errors, *errors))),
    )


def _is_printed(file: Path) -> bool:
    return file.suffix.lower() in PRINTED or file.name.startswith(("stdout", "stderr"))

"""What is needed to run a program: its binary, the files beside it, and how it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from whisper_parity.backends.app.description import Description
from whisper_parity.backends.app.settings import Settings
from whisper_parity.errors import ConfigError, InputError
from whisper_parity.system import inputs
from whisper_parity.system.files import file_sha256

MOST_FILES = 500
RESERVED = ("sound.", ".parity-")


@dataclass(frozen=True)
class Job:
    """A program and its files on this machine."""

    description: Description
    program: Path | None
    """None for our own, which is built for where it runs."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """By their names in the working folder."""

    @property
    def model(self) -> str:
        """What {model} stands for: the only file beside the program, else the folder."""
        return next(iter(self.files)) if len(self.files) == 1 and self.program else "."

    def hashes(self) -> dict[str, str]:
        """SHA-256 of everything that runs, by name."""
        own = {"program": file_sha256(self.program)} if self.program else {}
        return {**own, **{name: file_sha256(path) for name, path in sorted(self.files.items())}}


def of(site: Settings, description: Description) -> Job:
    """The program of the settings.

    Raises:
        ConfigError: it is not named, not there, or its files are not.
    """
    files = dict(_named(description.files))
    if len(files) > MOST_FILES:
        raise ConfigError(f"[backends.app] files: {len(files)} files, at most {MOST_FILES} are taken")
    if site.program is None:
        if site.is_own:
            return Job(description, None, files)
        raise ConfigError(
            f"[backends.app] program: preset {site.preset} needs the path of the program",
            hint="Set program under [backends.app], or --set app.program=PATH; for outputs alone use app:recorded",
        )
    program = Path(site.program)
    _require(program, "program")
    return Job(
        description, program, {name: path for name, path in files.items() if path.resolve() != program.resolve()}
    )


def _named(words: tuple[str, ...]) -> dict[str, Path]:
    """Files by their names in the working folder: a folder keeps its name there, a file has its own."""
    files: dict[str, Path] = {}
    for word in words:
        for path in _matching(word):
            inner = [(f"{path.name}/{file.relative_to(path)}", file) for file in sorted(path.rglob("*"))]
            for name, file in inner if path.is_dir() else [(path.name, path)]:
                if file.is_dir():
                    continue
                _require(file, "files")
                _add(files, name, file)
    return files


def _add(files: dict[str, Path], name: str, file: Path) -> None:
    if name.startswith(RESERVED) or any(ord(character) < 32 for character in name):
        raise ConfigError(f"[backends.app] files: {name!r:.80} is a name that the harness uses", hint="Rename it")
    if name in files and files[name].resolve() != file.resolve():
        raise ConfigError(f"[backends.app] files: two files are called {name!r:.80}: {files[name]} and {file}")
    files[name] = file


def _matching(word: str) -> list[Path]:
    path = Path(word)
    if path.exists():
        return [path]
    start, pattern = (Path(path.anchor), str(path.relative_to(path.anchor))) if path.is_absolute() else (Path(), word)
    try:
        found = sorted(start.glob(pattern)) if any(character in word for character in "*?[") else []
    except (ValueError, IndexError, NotImplementedError) as error:
        raise ConfigError(f"[backends.app] files {word!r:.80}: no pattern of names ({error})") from error
    if not found:
        raise ConfigError(f"[backends.app] files {word!r:.80}: no such file", hint=f"Looked in {start.absolute()}")
    return found


def _require(path: Path, key: str) -> None:
    try:
        inputs.require_regular(path, inputs.MODEL_BYTES)
    except InputError as error:
        raise ConfigError(f"[backends.app] {key}: {error}", hint="Paths start at the working folder") from error

"""Programs that a file names, and whether the user has agreed to run them.

A parity.toml comes with a repository, and a run's options with its folder: neither need be the user's own. What they
name for execution (an adb client, a compiler, a Python) runs only after the user has read the file and trusted it, once
for each content, as direnv does for .envrc. What the user types, and what the environment says, is the user's own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.errors import ConfigError, InputError, OutputError
from whisper_parity.system import files, inputs

VARIABLE = "WHISPER_PARITY_TRUST"
"""Environment variable that trusts every file when it is 1: for CI, where the repository is one's own."""
FOLDER_VARIABLE = "WHISPER_PARITY_TRUSTED"
"""Environment variable that names the folder of what was trusted; by default it is in the user's data folder."""


@dataclass(frozen=True, slots=True)
class Program:
    """One setting that names a program, a library or a folder of them."""

    key: str
    """As `--set` takes it: "name.key"."""
    value: str

    def __str__(self) -> str:
        """As parity.toml has it."""
        return f"{self.key} = {self.value!r:.200}"


def require(file: Path, programs: Sequence[Program], command: str = "parity trust") -> None:
    """Refuse to go on with programs that the user has not agreed to.

    Args:
        file: that names them.
        programs: what it names.
        command: that trusts it.

    Raises:
        ConfigError: it was never trusted, or has changed since.
    """
    if programs and not is_trusted(file, programs):
        raise ConfigError(
            f"{file} names programs that would run: {listed(programs)}",
            hint=f"Read it, then type `{command}`; in CI `{command} --yes`, or {VARIABLE}=1",
        )


def is_trusted(file: Path, programs: Iterable[Program]) -> bool:
    """Whether the user has trusted this content at this place."""
    return os.environ.get(VARIABLE) == "1" or _mark(file, programs).is_file()


def trust(file: Path, programs: Iterable[Program]) -> None:
    """Remember that the user has trusted a file as it is now.

    Raises:
        OutputError: the user's data folder cannot be written.
    """
    try:
        files.write_text(_mark(file, programs), f"{file.absolute()}\n")
    except OutputError as error:
        raise OutputError(str(error), hint=f"Name a folder by {FOLDER_VARIABLE}") from error


def listed(programs: Iterable[Program]) -> str:
    """Programs in one line."""
    return ", ".join(map(str, programs))


def _mark(file: Path, programs: Iterable[Program]) -> Path:
    """The file that stands for trust in a place, its content, and the content of the programs that lie beside it."""
    digest = hashlib.sha256(os.fsencode(file.resolve()))
    digest.update(inputs.read(file, kind=ConfigError))
    for program in programs:
        path = Path(os.path.normpath(file.parent / program.value))
        if path.is_file() and path.resolve().is_relative_to(file.parent.resolve()):
            digest.update(f"{program.key} {_content(path)}".encode())
    return _folder() / digest.hexdigest()


def _content(path: Path) -> str:
    try:
        inputs.require_regular(path, inputs.GIB)
        return files.file_sha256(path)
    except (InputError, OSError):
        return ""


def _folder() -> Path:
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).absolute()
    from platformdirs import user_data_path

    return user_data_path("whisper-parity") / "trusted"

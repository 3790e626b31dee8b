"""Every error that this project raises on purpose.

    ParityError                     base; `exit_code` is what `parity` returns
    ├── InputError            (2)   what the user gave cannot be used
    │   ├── UsageError              an unknown stage, policy, clip, language or option
    │   ├── AudioError              an audio file that gives no usable samples
    │   ├── ManifestError           a manifest, or a line of it
    │   ├── CheckpointError         not a Whisper checkpoint
    │   ├── ArtifactError           a converted file that is missing, foreign, truncated or of the wrong shape
    │   ├── ConfigError             parity.toml or the tolerances
    │   └── RecordError             a result file, trace or report that cannot be read back
    └── MachineError          (3)   this machine cannot do it
        ├── UnavailableError        a backend whose package, SDK or device is missing
        ├── BuildError              a converter that failed
        ├── BackendError            a runtime that failed while it ran
        ├── OutputError             a folder that cannot be written
        ├── UnforeseenError         a bug of ours; its traceback is in a file
        └── OneSessionError   (0)   a stage that cannot open two sessions at once

Each message is one line for a stranger: what was expected, what was found, what to do next.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager


class ParityError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 3
    elsewhere = False
    """Whether the same may succeed on another device: this one went away."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Join `message` and `hint` into one line, whatever line breaks a library or a file name put into them."""
        self.hint = hint
        super().__init__(printable(" ".join(f"{message.rstrip('. ')}. {hint}".split()).rstrip(". ")))


class InputError(ParityError):
    """What the user gave cannot be used."""

    exit_code = 2


class UsageError(InputError):
    """An unknown name or a contradiction among the options."""


class AudioError(InputError):
    """An audio file that gives no usable samples."""


class ManifestError(InputError):
    """A manifest, or one line of it."""


class CheckpointError(InputError):
    """A file that is not a Whisper checkpoint."""


class ArtifactError(InputError):
    """A converted file that is missing, foreign, truncated or of the wrong shape."""


class ConfigError(InputError):
    """parity.toml, or the tolerances."""


class RecordError(InputError):
    """A result file, trace or report that cannot be read back."""


class MachineError(ParityError):
    """This machine cannot do what was asked."""

    exit_code = 3


class UnavailableError(MachineError):
    """A backend whose package, SDK or device is missing."""


class BuildError(MachineError):
    """A converter that failed."""


class BackendError(MachineError):
    """A runtime that failed while it ran."""


class OutputError(MachineError):
    """A folder or file that cannot be written."""


class UnforeseenError(MachineError):
    """An error that nobody thought of; the message names the file with its traceback."""


class OneSessionError(MachineError):
    """The stage cannot open two sessions at once; not a failure."""

    exit_code = 0


_JOINERS = "\u200c\u200d"
"""Invisible, and part of the spelling of Persian, Hindi and others."""
_CI_COMMAND = re.compile(r"(?:^|(?<=\s)):(?=:)|#(?=#[\w\[])")
"""Where a CI system would take text for a command: `::error::` at the start of a line, `##[error]`, `##vso[...]`."""


def printable(text: str) -> str:
    """Text of any origin as one line that a terminal, a CI log or XML shows, and never obeys.

    Line breaks, escape sequences, marks that turn the direction of writing, and bytes that are no UTF-8 (a file name
    may hold all of them) are written as escapes; so is the first mark of what a CI system would take for a command.
    """
    shown = text if text.isprintable() else "".join(map(_shown, text))
    return _CI_COMMAND.sub(lambda mark: f"\\x{ord(mark[0]):02x}", shown)


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()


@contextmanager
def mapped(kind: type[ParityError], what: str) -> Iterator[None]:
    """Turn whatever a backend raises into an error of ours, `what` in front; ours pass as they are.

    Backends may be other people's code over native runtimes: their errors have no common type.
    """
    try:
        yield
    except ParityError:
        raise
    except Exception as error:
        raise kind(f"{what}: {type(error).__name__}: {first_line(error)}") from error


def first_line(error: BaseException, limit: int = 200) -> str:
    """The first non-empty line of a foreign error's text, cut to `limit` characters, or its type's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:limit] if lines else type(error).__name__

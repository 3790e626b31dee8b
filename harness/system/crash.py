"""Errors that nobody thought of: one line for the user, and a file with the traceback for us."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whisper_parity.errors import ParityError, UnforeseenError, first_line
from whisper_parity.system.machine import PACKAGES, versions


@contextmanager
def reported(folder: Path, *passing: type[Exception]) -> Iterator[None]:
    """Turn an error that nobody thought of into one of ours, its traceback in a file of `folder`.

    Errors of ours, those of the system (a full disk, a file that went away), and those of `passing` pass as they are.

    Raises:
        UnforeseenError: exit code 3; it names the file.
    """
    known: tuple[type[Exception], ...] = (ParityError, OSError, *passing)
    try:
        yield
    except known:
        raise
    except Exception as error:
        where = _written(error, folder)
        raise UnforeseenError(
            f"an error that nobody thought of: {type(error).__name__}: {first_line(error)}",
            hint=f"This is a bug of whisper-parity: report it with {where}",
        ) from error


def _written(error: Exception, folder: Path) -> Path:
    """The file of a traceback; among temporary files where the folder cannot be written."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{type(error).__name__}.txt"
    for place in (folder, Path(tempfile.gettempdir())):
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(_report(error), "utf-8", "backslashreplace")
        except OSError:
            continue
        return place / name
    return Path(os.devnull)


def _report(error: Exception) -> str:
    facts = [f"{name} {version}" for name, version in versions(*PACKAGES).items()]
    head = [
        f"command: {sys.argv}",
        f"python: {sys.version.split()[0]} on {sys.platform}",
        f"packages: {', '.join(facts)}",
    ]
    return "\n".join([*head, "", *traceback.format_exception(error)])

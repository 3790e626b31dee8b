"""Paths that a set's list names: inside the set's folder, or inside one that the user named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from whisper_parity.errors import ManifestError, first_line

ELSEWHERE = "Put the file inside it, or name the folder of the sounds with --audio-root"


def inside(folder: Path, named: str, where: str, roots: Sequence[Path] = ()) -> Path:
    """The file that a list names; a relative path starts at the list's folder, else at the first root that has it.

    Args:
        folder: of the list.
        named: the path in it.
        where: "clips.jsonl:12", for messages.
        roots: folders that the user named.

    Raises:
        ManifestError: it is no usable path, or leads out of all these folders.
    """
    allowed = [_real(place) for place in (folder, *roots)]
    try:
        paths = [(place / named).resolve() for place in (folder, *roots)]
        kept = [path for path in paths if any(f"{path}{os.sep}".startswith(f"{place}{os.sep}") for place in allowed)]
        found = next((path for path in kept if path.is_file()), None)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links that point at each other
        raise ManifestError(
            f"{where}: {named!r:.80} is no usable path ({first_line(error, 80)})", hint="Correct the path"
        ) from error
    if not kept:
        raise ManifestError(f"{where}: {named!r:.200} points outside the manifest's folder", hint=ELSEWHERE)
    return found or kept[0]


@lru_cache(maxsize=256)  # thousands of lines name files of a few folders
def _real(folder: Path) -> str:
    return os.path.realpath(folder).rstrip(os.sep)

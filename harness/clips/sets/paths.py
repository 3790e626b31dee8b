"""Paths that a set's list names: inside the set's folder, or inside one that the user named."""

from __future__ import annotations

from collections.abc import Sequence
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
    try:
        candidates = [(place, (place / named).resolve()) for place in (folder, *roots)]
        allowed = [place.resolve() for place in (folder, *roots)]
        kept = [path for _, path in candidates if any(path.is_relative_to(place) for place in allowed)]
        return next((path for path in kept if path.is_file()), kept[0]) if kept else _refuse(named, where)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links that point at each other
        raise ManifestError(
            f"{where}: {named!r:.80} is no usable path ({first_line(error, 80)})", hint="Correct the path"
        ) from error


def _refuse(named: str, where: str) -> Path:
    raise ManifestError(f"{where}: {named!r:.200} points outside the manifest's folder", hint=ELSEWHERE)

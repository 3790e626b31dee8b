"""The files of an unpacked corpus, folder by folder, in the order of their names; links to folders are not followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MOST_FOLDERS = 64
"""Folders that are looked into before a corpus counts as another kind."""


def folders(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder from `path` down with the sorted names of its files; what cannot be listed has none."""
    for place, inner, files in os.walk(path):
        inner.sort()
        yield Path(place), sorted(files)

"""Files that are not what they should be: cut short, or with other bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def cut(path: Path, keep: float) -> None:
    """Keep only this share of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def content(of: bytes) -> Callable[[Path], object]:
    """Writes these bytes into a file."""
    return lambda path: path.write_bytes(of)

"""The cache as a whole: what lies there, what is in use, and what goes first when it grows beyond its limit.

Everything in it can be made again. The time of last use is a file's access time, set by whoever uses it (`touch`), so
that a file that a run's folder shares by a hard link keeps its time of modification. What a running command may still
need is kept: each one holds a lock on a file of its own (`in_use`), which ends with its process, however that ends, and
nothing is removed that was used since the oldest of them began.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

ARTIFACT = "artifacts"
FILES = ("clips", "traces", "states", "features", "drafts", "invariance", "pages", "reduced")
"""Folders in which every file is an entry of its own."""
FOLDERS = ("checkpoints", "cluster", "lowered", "native", "weights")
"""Folders in which everything is."""
LIVE = ".in-use-"
DOOMED = ".pruned-"
ABANDONED_S = 3600.0
"""A file that was begun so long ago is not written any more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept, or removed, as a whole."""

    kind: str
    """"artifacts", or the name of the folder that it lies in."""
    path: Path
    size_bytes: int
    """On the disk; a file that a run's folder shares counts here too."""
    used_s: float
    """When it was last used [s since the epoch]."""


def entries(folder: Path) -> list[Entry]:
    """Everything in a cache that can be made again; what somebody else put there is not looked at."""
    listed = [_entry(kind, path) for kind, path in _paths(folder)]
    return [entry for entry in listed if entry]


def lock_of(artifact: Path) -> Path:
    """The lock that is held while an artifact's folder is looked for, built or removed."""
    return artifact.with_name(f".{artifact.name}.lock")


def touch(path: Path) -> None:
    """Note that a file is used now; where that cannot be noted, it is not. The time of writing stays, bit for bit."""
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep what is used from now on from being removed, until the context ends; where that can be noted."""
    path, descriptor = folder / f"{LIVE}{uuid.uuid4().hex}", None
    with suppress(OSError):  # a full disk, a cache that is for reading only
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked(path)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            os.close(descriptor)


def prune(folder: Path, limit_bytes: int, older_than_s: float | None = None) -> list[Entry]:
    """Remove what was used longest ago, until the rest fits the limit, and whatever was not used for a time.

    Args:
        folder: the cache.
        limit_bytes: of all that is left.
        older_than_s: what was not used for so long goes as well; None for no such limit.

    Returns:
        What was removed.
    """
    _sweep(folder)
    present = sorted(entries(folder), key=lambda entry: entry.used_s)
    left, oldest, now = sum(entry.size_bytes for entry in present), _oldest_live(folder), time.time()
    removed: list[Entry] = []
    for entry in present:
        is_old = older_than_s is not None and now - entry.used_s > older_than_s
        if (left > limit_bytes or is_old) and entry.used_s < oldest and _remove(entry, oldest):
            removed.append(entry)
            left -= entry.size_bytes
    return removed


def _locked(path: Path) -> int:
    """A lock on a file of this name; one that `prune` removed before it was locked is made again."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


def _paths(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(_inside(folder)):
        if path.name in FILES or path.name in FOLDERS:
            yield from ((path.name, inner) for inner in _inside(path) if inner.is_file() or path.name in FOLDERS)
        elif path.is_dir() and any(path.glob("*.lineage.json")):
            yield ARTIFACT, path


def _inside(folder: Path) -> Iterator[Path]:
    """What lies in a folder; hidden names are locks, and what is being written."""
    with suppress(OSError):
        yield from (path for path in folder.iterdir() if not path.name.startswith("."))


def _entry(kind: str, path: Path) -> Entry | None:
    """An entry with its size and last use; None when it went away."""
    files = [path] if kind in FILES else [inner for inner in path.rglob("*") if inner.is_file()] or [path]
    try:
        statuses = [file.stat() for file in files]
    except OSError:
        return None
    used = max(max(status.st_atime, status.st_mtime) for status in statuses)
    return Entry(kind, path, sum(status.st_size for status in statuses), used)


def _oldest_live(folder: Path) -> float:
    """When the oldest command that is still running began; infinite where none is."""
    begun = [float("inf")]
    for path in folder.glob(f"{LIVE}*"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)  # its process was killed
            except BlockingIOError:
                begun.append(path.stat().st_mtime)
            finally:
                os.close(descriptor)
    return min(begun)


def _remove(entry: Entry, oldest: float) -> bool:
    """Remove an entry, unless it is used meanwhile; whoever has a file of it open keeps that."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock_of(entry.path), timeout=0) if entry.kind == ARTIFACT else nullcontext():
            now = _entry(entry.kind, entry.path)
            if now is None or now.used_s >= oldest or now.used_s > entry.used_s:
                return False
            _delete(entry.path)
    except (OSError, Timeout):
        return False
    return True


def _delete(path: Path) -> None:
    """A folder loses its name at once, and then its files."""
    if path.is_file():
        path.unlink()
        return
    doomed = path.with_name(f"{DOOMED}{uuid.uuid4().hex}")
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Finish what a killed removal left, and remove what a killed writer began an hour ago."""
    places: Sequence[Path] = (folder, *(folder / name for name in FOLDERS))
    for place in places:
        for path in place.glob(f"{DOOMED}*"):
            shutil.rmtree(path, ignore_errors=True)
    for path in (path for name in FILES for path in (folder / name).glob(".partial-*")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)

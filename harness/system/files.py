"""Files under concurrent processes: written atomically, built once."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from whisper_parity.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder beside `path`; what is written there replaces it at the end.

    Readers never see half a file, and writers never share one. When the block raises, `path` stays unchanged.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        partial = Path(folder, path.name)
        yield partial
        partial.replace(path)


@contextmanager
def locked(path: Path, hint: str = "Choose another folder") -> Iterator[None]:
    """Hold a file lock: two processes never build or record the same thing twice.

    Raises:
        OutputError: the folder cannot be written.
    """
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be written ({error.strerror})", hint=hint) from error
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        with replacing(path) as partial:
            partial.write_text(text, "utf-8")
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror})", hint="Choose another --report-dir"
        ) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


@cache
def sources_sha256(place: Path) -> str:
    """Hash of the Python sources of a folder, or of one file, as they were when they were first asked for."""
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def exists(path: Path) -> bool:
    """Whether the path exists; False for a name too long for the file system."""
    try:
        return path.exists()
    except OSError:
        return False


def safe_name(text: str) -> str:
    """A name that is safe in any file system and shell; changed names get a hash against collisions."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:80]
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return cleaned if cleaned == text else f"{cleaned or 'clip'}-{digest[:6]}"


def share(source: Path, target: Path) -> bool:
    """Give a file another name, on one disk without a copy; whether that worked."""
    try:
        with replacing(target) as partial:
            try:
                os.link(source, partial)
            except OSError:  # another disk, or one without links
                shutil.copyfile(source, partial)
    except OSError:
        return False
    return True

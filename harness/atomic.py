"""Processes side by side: a file appears whole, and a thing is made once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path of the same name, in a folder of its own beside `path`; what is written there takes its place at the end.

    Nobody reads half of a file, and two writers never share one. When the block raises, `path` stays as it was.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        partial = Path(folder, path.name)
        yield partial
        partial.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
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
        raise OutputError(
            f"{path.parent}: cannot be written ({error.strerror})", hint="Choose another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()

"""Files that travel to another machine: by path where it sees the same bytes there, else once, and kept by hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from whisper_parity.errors import BackendError
from whisper_parity.system import cache
from whisper_parity.system.files import exists, file_sha256, replacing, safe_name


@dataclass(frozen=True, slots=True)
class Freight:
    """A file as the machine that sends it knows it."""

    path: Path
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> Freight:
        """A file of this machine."""
        status = path.stat()
        return cls(path, _hashed(path, status.st_size, status.st_mtime_ns), status.st_size)


class Store:
    """Files of other machines on this one, in a folder of the cache: `cluster/HASH/NAME`."""

    def __init__(self, folder: Path) -> None:
        """Take the cache."""
        self._folder = folder / "cluster"

    def lacks(self, freight: Sequence[Freight]) -> list[str]:
        """Hashes of those files whose bytes this machine has nowhere."""
        return [file.sha256 for file in freight if self.find(file) is None]

    def find(self, freight: Freight) -> Path | None:
        """Where this machine has the bytes of a file; None for nowhere."""
        if _is(freight, freight.path):
            return freight.path
        kept = self._place(freight)
        if not _is(freight, kept):
            return None
        cache.touch(kept)
        return kept

    def path(self, freight: Freight) -> Path:
        """Where this machine has the bytes of a file.

        Raises:
            BackendError: nowhere.
        """
        if (path := self.find(freight)) is None:
            raise BackendError(f"{freight.path}: its bytes did not reach this machine")
        return path

    def take(self, freight: Freight, content: bytes) -> None:
        """Keep the bytes of a file."""
        with replacing(self._place(freight)) as partial:
            partial.write_bytes(content)

    def _place(self, freight: Freight) -> Path:
        return self._folder / freight.sha256 / safe_name(freight.path.name)


def _is(freight: Freight, path: Path) -> bool:
    """Whether a path holds exactly these bytes."""
    try:
        if not exists(path):
            return False
        status = path.stat()
        if status.st_size != freight.size_bytes:
            return False
        return _hashed(path, status.st_size, status.st_mtime_ns) == freight.sha256
    except OSError:
        return False


@lru_cache(maxsize=4096)
def _hashed(path: Path, size: int, written_ns: int) -> str:  # noqa: ARG001 (a file that was written again has another hash)
    return file_sha256(path)

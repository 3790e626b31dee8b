"""Rows of a large run in files of their own beside its report: `rows-0001.jsonl`, a row a line, in the run's order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar, overload

from whisper_parity.errors import RecordError
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import files, inputs

R = TypeVar("R")

INLINE = 500
"""Most rows of a report that holds them itself."""
ROWS = 500
"""Most of a page."""
CHARACTERS = 8_000_000
"""Most of a page with more than one row: a row of hours of speech has a million, and a page is read as a whole."""


@dataclass(frozen=True, slots=True)
class Page:
    """A file of rows."""

    file: str
    """Its name, in the folder of the report."""
    rows: int
    sha256: str


class PagedRows(Sequence[R], Generic[R]):
    """The rows of all pages, read as they are asked for: one page is in memory at a time."""

    def __init__(self, folder: RunFolder, pages: Sequence[Page], read: Callable[[bytes, str], R]) -> None:
        """Take what is to be read.

        Args:
            folder: of the run.
            pages: in their order.
            read: a row from its line; the second argument says where that stands.
        """
        self._folder, self._pages, self._read = folder, tuple(pages), read

    def __len__(self) -> int:
        return sum(page.rows for page in self._pages)

    def __iter__(self) -> Iterator[R]:
        for page in self._pages:
            yield from self._rows(page)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...
    def __getitem__(self, index: int | slice) -> R | Sequence[R]:
        if isinstance(index, slice):
            return list(self)[index]
        place = range(len(self))[index]
        for page in self._pages:
            if place < page.rows:
                return next(islice(self._rows(page), place, None))
            place -= page.rows
        raise IndexError(index)

    def _rows(self, page: Page) -> Iterator[R]:
        path = self._folder.page_of_rows(page.file)
        content = inputs.read(path, kind=RecordError, hint=_AGAIN)
        lines = content.splitlines()
        if hashlib.sha256(content).hexdigest() != page.sha256 or len(lines) != page.rows:
            raise RecordError(f"{path}: not the rows that the report was written with", hint=_AGAIN)
        for number, line in enumerate(lines, 1):
            yield self._read(line, f"{path}, line {number}")


_AGAIN = "Continue the run: it writes them again"


def write(folder: RunFolder, lines: Iterable[str]) -> tuple[Page, ...]:
    """Write rows, each as JSON on one line, and remove pages of an earlier report of the run.

    Raises:
        OutputError: the folder cannot be written.
    """
    pages: list[Page] = []
    for share in _shares(lines):
        name, text = f"rows-{len(pages) + 1:04}.jsonl", "\n".join(share) + "\n"
        files.write_text(folder.page_of_rows(name), text)
        pages.append(Page(name, len(share), hashlib.sha256(text.encode()).hexdigest()))
    remove(folder, keep={page.file for page in pages})
    return tuple(pages)


def _shares(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines of each page."""
    share: list[str] = []
    size = 0
    for line in lines:
        if share and (len(share) == ROWS or size + len(line) > CHARACTERS):
            yield share
            share, size = [], 0
        share.append(line)
        size += len(line)
    if share:
        yield share


def remove(folder: RunFolder, keep: Iterable[str] = ()) -> None:
    """Remove all pages but these."""
    for path in set(folder.pages_of_rows()) - {folder.page_of_rows(name) for name in keep}:
        path.unlink(missing_ok=True)

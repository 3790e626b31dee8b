"""Parquet files with a column of sounds, as data sets of Hugging Face are published: one file, or a folder of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from whisper_parity.clips.clip import BadClip
from whisper_parity.clips.sets import columns
from whisper_parity.clips.sets.columns import Row
from whisper_parity.clips.sets.interface import Entry, Reading
from whisper_parity.errors import ManifestError, first_line
from whisper_parity.system import inputs

LOOKED_FOR = "parquet with a column of sounds"
MAGIC = b"PAR1"
SHARD = re.compile(r"^(.{1,100}?)-\d+-of-\d+")
"""The split in a name such as "test-00000-of-00004.parquet"."""
GROUP_BYTES = 8 * inputs.GIB
"""Largest group of rows that is read, unpacked."""
AGAIN = "Download the data set again"


def recognises(path: Path) -> bool:
    """Whether a file, or one in the folder or in its folders, begins as parquet does."""
    return bool(_files(path))


def read(path: Path, reading: Reading) -> Iterator[Entry | BadClip]:
    """Its clips, file by file; the split in a file's name is a tag.

    Raises:
        UnavailableError: pyarrow is missing.
        ManifestError: a file of it cannot be read.
    """
    columns.require()
    import pyarrow

    for file in _files(path):
        split = SHARD.match(file.name)
        try:
            yield from _of_file(file, (split[1],) if split else (), reading)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise ManifestError(f"{file}: cannot be read ({first_line(error, 120)})", hint=AGAIN) from error


def _files(path: Path) -> list[Path]:
    try:
        files = sorted([*path.glob("*.parquet"), *path.glob("*/*.parquet")]) if path.is_dir() else [path]
    except OSError:
        return []
    root = _home(path.absolute()).resolve()
    inner = [file for file in files if not path.is_dir() or file.resolve().is_relative_to(root)]
    return [file for file in inner if inputs.start(file, 4) == MAGIC]


def _home(folder: Path) -> Path:
    """Where the links of a folder may lead: inside it; in Hugging Face's cache from snapshots/ to blobs/ beside it."""
    parents = (parent for parent in folder.parents if parent.name == "snapshots" and (parent.parent / "blobs").is_dir())
    return next((parent.parent for parent in parents), folder)


def _of_file(file: Path, tags: tuple[str, ...], reading: Reading) -> Iterator[Entry | BadClip]:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        column = columns.sounds_of(opened.schema_arrow, str(file))
        number = 0
        for group in range(opened.num_row_groups):
            if (size := opened.metadata.row_group(group).total_byte_size) > GROUP_BYTES:
                raise ManifestError(f"{file}: a group of rows of {size} bytes", hint="Write it in smaller groups")
            for row in _rows(opened, file, column, group, number):
                yield columns.entry(row, file.parent, tags, reading)
            number += opened.metadata.row_group(group).num_rows


def _rows(opened: Any, file: Path, column: str, group: int, start: int) -> Iterator[Row]:
    simple = columns.simple(opened.schema_arrow)
    table = opened.read_row_group(group, columns=[*simple, f"{column}.path"])
    names = table.column(column).combine_chunks().field("path") if table.num_rows else []
    status, holds = file.stat(), _holds_sounds(opened.metadata.row_group(group), column)
    for i, fields in enumerate(columns.rows(table, simple)):
        yield Row(
            fields,
            columns.name(names[i]),
            partial(_content, file, status.st_mtime_ns, column, group, i) if holds else None,
            (str(file), status.st_size, status.st_mtime_ns, start + i),
            f"{file}:{start + i}",
        )


def _holds_sounds(group: Any, column: str) -> bool:
    """Whether a group of rows has any sound in it, and not paths alone."""
    parts = (group.column(i) for i in range(group.num_columns))
    sounds = next((part for part in parts if part.path_in_schema == f"{column}.bytes"), None)
    counted = sounds.statistics if sounds is not None else None
    return counted is None or not counted.has_null_count or counted.null_count < group.num_rows


def _content(file: Path, written_ns: int, column: str, group: int, row: int) -> bytes | None:
    content = _group(file, written_ns, column, group)[row].as_py()
    return content if isinstance(content, bytes) else None


@lru_cache(maxsize=1)  # the rows of a group are asked for one after the other
def _group(file: Path, _written_ns: int, column: str, group: int) -> Any:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        table = opened.read_row_group(group, columns=[f"{column}.bytes"])
    return table.column(column).combine_chunks().field("bytes")

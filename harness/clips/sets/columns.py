"""Data sets of Hugging Face as pyarrow reads them: which columns hold sounds, texts, languages and lengths.

pyarrow alone, not the datasets package: that one copies what it opens into a cache of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from whisper_parity.clips.clip import BadClip
from whisper_parity.clips.sets import paths, values
from whisper_parity.clips.sets.interface import Embedded, Entry, File, Reading, Sound
from whisper_parity.errors import InputError, ManifestError, first_line
from whisper_parity.system.machine import require_extra

EXTRA, PACKAGE = "datasets", "pyarrow"
SIMPLE = (*values.TEXT, *values.LANGUAGE, *values.SECONDS, *values.NAME)
"""Columns that are read besides the sounds."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, without its sound's bytes."""

    fields: Mapping[str, Any]
    path: str | None
    """What its sound is called, or where it lies where it is not in the row."""
    content: Callable[[], bytes | None] | None
    """Reads its sound; None where the row holds a path alone."""
    key: tuple[object, ...]
    where: str


def require() -> None:
    """Refuse where pyarrow is missing.

    Raises:
        UnavailableError: it is; the message names the extra.
    """
    require_extra(EXTRA, PACKAGE)


def sounds_of(schema: Any, where: str) -> str:
    """The column of sounds: of the type Audio, else {bytes, path}.

    Raises:
        ManifestError: there is none, or several.
    """
    import pyarrow

    fields = {field.name: field.type for field in schema if pyarrow.types.is_struct(field.type)}
    structs = [name for name, kind in fields.items() if {"bytes", "path"} <= {part.name for part in kind}]
    named = [name for name in _declared(schema.metadata or {}) if name in structs]
    columns = named or structs
    if len(columns) != 1:
        found = ", ".join(map(str, schema.names[:8]))
        raise ManifestError(
            f"{where}: {len(columns) or 'no'} columns of sounds among {found}",
            hint="Give a data set with one column of the type Audio, its sounds in it or as paths",
        )
    return columns[0]


def entry(row: Row, folder: Path, tags: tuple[str, ...], reading: Reading) -> Entry | BadClip:
    """A row as a clip."""
    try:
        names = [PurePath(row.path).stem] if row.path else []
        names += [str(row.fields[name]) for name in values.NAME if row.fields.get(name) is not None]
        number = row.where.rpartition(":")[2]
        return Entry(
            names=tuple(filter(None, (*names, "-".join((*tags, "row", number))))),
            sound=_sound(row, folder, reading),
            where=row.where,
            text=values.text(row.fields, values.TEXT, row.where),
            language=_language(row.fields),
            tags=tags,
            seconds=values.seconds(row.fields, values.SECONDS, row.where),
        )
    except InputError as error:
        return BadClip(f"line-{row.where.rpartition(':')[2]}", str(error))


def name(value: Any) -> str | None:
    """What a sound is called, as pyarrow gives it; None for what is no text."""
    called = value.as_py()
    return called if isinstance(called, str) else None


def simple(schema: Any) -> list[str]:
    """The columns of texts, numbers and names that are read."""
    return [name for name in schema.names if name in SIMPLE]


def rows(table: Any, columns: list[str]) -> Iterator[dict[str, Any]]:
    """The values of some columns, row by row."""
    listed = [table.column(name).to_pylist() for name in columns]
    return (dict(zip(columns, cells)) for cells in zip(*listed)) if listed else iter([{}] * table.num_rows)


def _sound(row: Row, folder: Path, reading: Reading) -> Sound:
    if row.content is None:
        if not row.path:
            raise ManifestError(f"{row.where}: a row without a sound", hint="Leave it out of the data set")
        return File(paths.inside(folder, row.path, row.where, reading.roots))
    content, where = row.content, row.where

    def read() -> bytes:
        import pyarrow

        try:
            found = content()
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise ManifestError(f"{where}: cannot be read ({first_line(error, 120)})", hint="Copy it again") from error
        if not isinstance(found, bytes):
            raise ManifestError(f"{where}: a row without a sound", hint="Leave it out of the data set")
        return found

    suffix = PurePath(row.path or "").suffix
    return Embedded(row.key, suffix if suffix[1:].isalnum() and suffix.isascii() and len(suffix) < 8 else "", read)


def _language(fields: Mapping[str, Any]) -> str | None:
    """A language as text; numbers of classes are none."""
    value = values.first(fields, values.LANGUAGE)[1]
    return value if isinstance(value, str) else None


def _declared(metadata: Mapping[bytes, bytes]) -> list[str]:
    """Columns that the data set's own description calls Audio."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return [name for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "Audio"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []

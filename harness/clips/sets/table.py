"""Tables with a header: the TSV of Common Voice, and CSV or TSV with a column of sounds and one of texts."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from whisper_parity.clips.clip import BadClip
from whisper_parity.clips.sets import paths, values
from whisper_parity.clips.sets.interface import Entry, File, Reading
from whisper_parity.errors import InputError, ManifestError, UsageError
from whisper_parity.system import inputs

LOOKED_FOR = "a table (TSV of Common Voice, or CSV) with the columns path and sentence"
CLIPS = "clips"
"""Folder of the sounds beside a TSV of Common Voice."""
TABLES = (".tsv", ".csv")
SHOWN = 5


def recognises(path: Path) -> bool:
    """Whether a file's first line, or that of a table in a folder of Common Voice, names such columns."""
    return _delimiter(path) is not None or bool(_inside(path))


def read(path: Path, reading: Reading) -> Iterator[Entry | BadClip]:
    """Its clips, one for each row.

    Raises:
        UsageError: a folder with several tables.
        ManifestError: it cannot be read, or has no row.
    """
    if path.is_dir():
        path = _only(path, _inside(path))
    delimiter = _delimiter(path)
    lines = (line for _, line in inputs.lines(path, kind=ManifestError, hint="Give a table in UTF-8"))
    # Common Voice quotes nothing: a sentence may begin with a quotation mark.
    quoted = {"quoting": csv.QUOTE_NONE} if delimiter == "\t" else {}
    rows = csv.reader(lines, delimiter=delimiter or ",", **quoted)  # type: ignore[arg-type]
    is_empty = True
    try:
        columns = [column.strip() for column in next(rows, [])]
        for row in rows:
            if any(cell.strip() for cell in row):
                is_empty = False
                yield _row(row, columns, path, rows.line_num, reading)
    except csv.Error as error:
        raise ManifestError(f"{path}:{rows.line_num}: no row of a table ({error})", hint="Is it cut short?") from error
    if is_empty:
        raise ManifestError(f"{path}: holds no clip", hint="Give a table with a row for each clip")


def _row(row: Sequence[str], columns: Sequence[str], path: Path, number: int, reading: Reading) -> Entry | BadClip:
    try:
        return _entry(row, columns, path, number, reading)
    except InputError as error:
        return BadClip(f"line-{number}", str(error))


def _entry(row: Sequence[str], columns: Sequence[str], path: Path, number: int, reading: Reading) -> Entry:
    where = f"{path}:{number}"
    if len(row) != len(columns):
        raise ManifestError(f"{where}: {len(columns)} columns expected, found {len(row)}", hint="Correct the row")
    fields = {column: cell for column, cell in zip(columns, row) if cell.strip()}
    field, audio = values.first(fields, values.AUDIO)
    if not field:
        raise ManifestError(f"{where}: names no sound", hint="Add its path")
    sounds = path.parent / CLIPS
    folder = sounds if (sounds / Path(audio).name).is_file() and Path(audio).name == audio else path.parent
    file = paths.inside(folder, audio, where, reading.roots)
    said = values.first(dict(zip(columns, row)), values.TEXT)[1]
    return Entry(
        names=(file.stem, *(str(fields[name]) for name in values.NAME if name in fields), f"{file.stem}-{number}"),
        sound=File(file),
        where=where,
        text=said,
        language=values.text(fields, values.LANGUAGE, where),
        tags=(path.stem,),
        seconds=_seconds(fields, where),
    )


def _seconds(fields: Mapping[str, str], where: str) -> float | None:
    return values.seconds(fields, values.SECONDS, where)


def _delimiter(path: Path) -> str | None:
    """What stands between the columns of a table of clips; None for what is none."""
    first = inputs.first_text(path)
    for delimiter in ("\t", ",", ";"):
        columns = {column.strip().strip('"') for column in first.split(delimiter)}
        if columns & set(values.AUDIO) and columns & set(values.TEXT):
            return delimiter
    return None


def _inside(folder: Path) -> list[Path]:
    """The tables of clips that lie in a folder itself."""
    try:
        if not folder.is_dir():
            return []
        files = sorted(file for file in folder.iterdir() if file.suffix.casefold() in TABLES)
    except OSError:
        return []
    return [file for file in files if _delimiter(file) is not None]


def _only(folder: Path, tables: Sequence[Path]) -> Path:
    if len(tables) == 1:
        return tables[0]
    names = ", ".join(table.name for table in tables[:SHOWN])
    raise UsageError(f"{folder}: {len(tables)} tables of clips ({names})", hint=f"Name one: {tables[0]}")

"""Tables: the tsv of openai-whisper, the csv of whisper.cpp."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from whisper_parity.compare.readers import values
from whisper_parity.compare.result import Result, Segment

MILLISECONDS = 1000.0


def read(text: str, name: str) -> Result | None:
    """A table with the columns start, end and text, times in milliseconds; None when it is none."""
    first = text.lstrip("\ufeff").split("\n", 1)[0].strip().casefold()
    for delimiter, form in (("\t", "table (tsv)"), (",", "table (csv)")):
        columns = [column.strip().strip('"') for column in first.split(delimiter)]
        if {"start", "end", "text"} <= set(columns):
            lines = text.lstrip("\ufeff").splitlines()[1:]
            quotes = None if delimiter == "\t" else '"'  # openai-whisper's tsv quotes nothing
            rows = csv.reader(
                lines, delimiter=delimiter, quotechar=quotes, quoting=csv.QUOTE_NONE if quotes is None else 0
            )
            segments = tuple(_segment(columns, row) for row in rows if len(row) >= len(columns))
            text = values.joined([part.text for part in segments])
            return Result(name, form, text, None, None, segments, joined=True)
    return None


def _segment(columns: Sequence[str], row: Sequence[str]) -> Segment:
    cells = dict(zip(columns, row))
    start, end = (values.seconds(cells[name]) for name in ("start", "end"))
    return Segment(
        cells["text"].strip(),
        None if start is None else start / MILLISECONDS,
        None if end is None else end / MILLISECONDS,
    )

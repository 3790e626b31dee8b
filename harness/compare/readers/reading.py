"""One result file, whatever program wrote it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisper_parity.compare.readers import encoded, printed, records, subtitles, tables, transcripts
from whisper_parity.compare.result import Result
from whisper_parity.errors import RecordError
from whisper_parity.system import inputs

TEXT_SUFFIXES = frozenset({".txt", ".text", ".md", ".lst", ".trn", ".lab", ""})
"""Names of files whose content is a text as it stands."""
LINES = frozenset({".jsonl", ".ndjson"})
SET_BYTES = 4 * inputs.TEXT_BYTES
"""Limit of JSON lines: twenty thousand results with segments and tokens have some 80 MB."""


def read(path: Path) -> tuple[Result, ...]:
    """The results in a file: one, or in a list or JSON lines one a clip.

    Raises:
        RecordError: not a regular file, too large, or no result in a format that is known.
    """
    is_lines = path.suffix.casefold() in LINES
    limit = SET_BYTES if is_lines else inputs.TEXT_BYTES
    text = encoded.text_of(inputs.read(path, limit, RecordError, hint=encoded.HINT), str(path))
    start = text.lstrip()[:1]
    if is_lines:
        results = _of_lines(text, path)
    elif not text.strip():
        results = _empty(path)
    elif printed.looks_printed(text):
        results = records.results(_unwrapped(printed.objects(text, str(path))), str(path))
    elif start == "<":
        raise RecordError(f"{path}: expected a result, found XML or HTML", hint=encoded.HINT)
    else:
        is_json = start in '{["' or path.suffix.casefold() == ".json"
        results = (_of_json(text, path) if is_json else None) or _of_text(text, path)
    return tuple(replace(result, name=path.name) for result in results)


def for_clip(results: Sequence[Result], clip: str, path: Path) -> Result:
    """The only result of a file, or that of a clip.

    Raises:
        RecordError: several, none of which, or more than one, is of this clip.
    """
    if len(results) == 1:
        return results[0]
    chosen = [result for result in results if clip and result.clip == clip]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(result.clip or "one without a name" for result in results[:4])
    raise RecordError(
        f"{path}: {len(results)} results ({names}{', ...' if len(results) > 4 else ''})"
        + (f", and {len(chosen) or 'none'} of {clip}" if clip else ""),
        hint="Give a file of one clip, or a reference that names one of them as its audio file",
    )


def _of_json(text: str, path: Path) -> tuple[Result, ...] | None:
    """The results in JSON or JSON lines; None for lyrics and printed lines, which begin with a bracket too.

    Raises:
        RecordError: JSON that cannot be read, or no result in it.
    """
    try:
        content = inputs.parse_json(text, str(path), RecordError, hint="Give two results, or two runs")
    except RecordError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and all(_is_json(line) for line in lines):
            return _of_lines(text, path)
        if subtitles.read(text, path.name) or path.suffix.casefold() in TEXT_SUFFIXES:
            return None
        raise
    return records.results(content, str(path))


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _of_lines(text: str, path: Path) -> tuple[Result, ...]:
    lines = [line for line in text.splitlines() if line.strip()]
    content = [
        inputs.parse_json(line, f"{path}, line {i}", RecordError, hint="Give one JSON object a line")
        for i, line in enumerate(lines, 1)
    ]
    return records.results(content, str(path))


def _of_text(text: str, path: Path) -> tuple[Result, ...]:
    table = subtitles.read(text, path.name) or tables.read(text, path.name)
    if table:
        return (table,)
    if listed := transcripts.trn(text, path.name) or transcripts.with_ids(text, path.name):
        return listed
    if path.suffix.casefold() not in TEXT_SUFFIXES:
        raise RecordError(f"{path}: neither JSON nor subtitles", hint="Name it .txt if it holds a text alone")
    return (Result(path.name, "plain text", " ".join(text.split()), None, joined=True),)


def _empty(path: Path) -> tuple[Result, ...]:
    """An empty text is silence; an empty file of another kind was cut short."""
    if path.suffix.casefold() in {*TEXT_SUFFIXES, ".srt", ".vtt"}:
        return (Result(path.name, "plain text", "", None, joined=True),)
    raise RecordError(f"{path}: the file is empty", hint="Was it written to its end?")


def _unwrapped(content: Any) -> Any:
    """A tuple of segments and info, a list of segments, or a single one."""
    return content if isinstance(content, (list, dict)) else [content]

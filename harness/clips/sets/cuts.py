"""Lhotse cuts: JSON lines, plain or packed by gzip.

Read without the lhotse package: its own reader runs what a recording of the kind "command" names, and fetches what one
of the kind "url" names. A list that somebody gave may do neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from whisper_parity.clips.clip import BadClip
from whisper_parity.clips.sets import paths, values
from whisper_parity.clips.sets.interface import Entry, File, Piece, Reading
from whisper_parity.errors import InputError, ManifestError
from whisper_parity.system import inputs

LOOKED_FOR = "Lhotse cuts (jsonl or jsonl.gz)"
GZIP = b"\x1f\x8b"
TOLERANCE_S = 0.02
"""A cut that differs from its recording by no more is the whole recording."""
SAVE = "Save the cuts as sounds of their own with lhotse"


def recognises(path: Path) -> bool:
    """Whether the first line is a cut, or a recording or supervision that belongs to one."""
    line = inputs.first_text(path)
    try:
        fields = values.json_object(line, "") if line.startswith("{") else {}
    except ManifestError:
        return False
    return _is_cut(fields) or _is_half(fields)


def read(path: Path, reading: Reading) -> Iterator[Entry | BadClip]:
    """Its clips, one for each cut.

    Raises:
        ManifestError: the file cannot be read, or lists recordings or supervisions alone.
    """
    packed = inputs.start(path, 2) == GZIP
    for number, line in inputs.lines(path, kind=ManifestError, hint="Give Lhotse cuts", packed=packed):
        if line.strip():
            where = f"{path}:{number}"
            try:
                yield _entry(values.json_object(line, where), where, path.parent, reading)
            except InputError as error:
                yield BadClip(f"line-{number}", str(error))


def _is_cut(fields: Mapping[str, Any]) -> bool:
    return str(fields.get("type")).endswith("Cut") or {"start", "duration", "channel", "supervisions"} <= set(fields)


def _is_half(fields: Mapping[str, Any]) -> bool:
    return {"sources", "sampling_rate"} <= set(fields) or {"recording_id", "start", "duration"} <= set(fields)


def _entry(fields: Mapping[str, Any], where: str, folder: Path, reading: Reading) -> Entry:
    if not _is_cut(fields):
        hint = "Make cuts of them: lhotse cut simple -r RECORDINGS -s SUPERVISIONS CUTS"
        raise ManifestError(f"{where}: a recording or supervision, no cut", hint=hint)
    recording = fields.get("recording")
    if not isinstance(recording, dict):
        kind = fields.get("type")
        raise ManifestError(f"{where}: a cut without a recording of its own ({kind!s:.40})", hint=SAVE)
    said = [item for item in fields.get("supervisions") or () if isinstance(item, dict)]
    name = values.text(fields, ("id",), where)
    sound = _sound(fields, recording, where, folder, reading)
    return Entry(
        names=(name or sound.path.stem, f"{name}-{where.rpartition(':')[2]}"),
        sound=sound,
        where=where,
        text=_text(said, where),
        language=next((item["language"] for item in said if isinstance(item.get("language"), str)), None),
        seconds=values.seconds(fields, ("duration",), where),
    )


def _text(said: Sequence[Mapping[str, Any]], where: str) -> str | None:
    """What is said in a cut, in the order of time; None where a part has no text."""
    ordered = sorted(said, key=lambda item: values.seconds(item, ("start",), where) or 0.0)
    texts = [values.text(item, ("text",), where) for item in ordered]
    return " ".join(text for text in texts if text is not None) if texts and None not in texts else None


def _sound(
    fields: Mapping[str, Any], recording: Mapping[str, Any], where: str, folder: Path, reading: Reading
) -> File | Piece:
    """The file of a cut, or its part of it.

    Raises:
        ManifestError: its sound is made by lhotse, lies elsewhere, or is one channel of several.
    """
    source = _source(recording, where)
    path = paths.inside(folder, source, where, reading.roots)
    start = values.seconds(fields, ("start",), where) or 0.0
    length, whole = (values.seconds(table, ("duration",), where) for table in (fields, recording))
    is_whole = start <= TOLERANCE_S and length is not None and whole is not None and whole - length <= TOLERANCE_S
    return File(path) if is_whole else Piece(path, start, length)


def _source(recording: Mapping[str, Any], where: str) -> str:
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        raise ManifestError(f"{where}: a recording of one file is expected", hint=SAVE)
    (source,) = sources
    if recording.get("transforms"):
        raise ManifestError(f"{where}: its recording is transformed by lhotse (speed, volume, rate)", hint=SAVE)
    if source.get("type") != "file" or not isinstance(source.get("source"), str):
        kind = source.get("type")
        raise ManifestError(f"{where}: its sound is of the kind {kind!r:.40}, only files are read", hint=SAVE)
    if isinstance(channels := source.get("channels"), list) and len(channels) > 1:
        raise ManifestError(f"{where}: one of {len(channels)} channels, which is not picked here", hint=SAVE)
    return str(source["source"])

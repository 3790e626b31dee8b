"""Values of a set's list: fields by the names that people give them, texts, lengths, languages."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from whisper_parity.errors import ManifestError

AUDIO = ("audio_filepath", "audio_path", "audio_file", "audio", "file_name", "path", "file", "wav")
TEXT = ("text", "sentence", "transcription", "transcript", "normalized_text", "raw_text", "wrd")
LANGUAGE = ("lang", "language", "locale", "lang_id")
SECONDS = ("duration", "duration_s", "seconds")
NAME = ("name", "id", "utt_id", "utterance_id", "ID")


def first(fields: Mapping[str, Any], names: Iterable[str]) -> tuple[str, Any]:
    """(name, value) of the first field that is there and not null; ("", None) where none is."""
    return next(((name, fields[name]) for name in names if fields.get(name) is not None), ("", None))


def json_object(line: str, where: str) -> dict[str, Any]:
    """One line of JSON lines.

    Raises:
        ManifestError: no JSON, or no object.
    """
    try:
        fields = json.loads(line)
        json.dumps(fields, ensure_ascii=False).encode()  # half a surrogate pair could not be written again
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error})", hint="Write one JSON object per line") from error
    if not isinstance(fields, dict):
        kind = type(fields).__name__
        raise ManifestError(f"{where}: expected a JSON object, found {kind}", hint='Write {"audio_filepath": ...}')
    return fields


def text(fields: Mapping[str, Any], names: Iterable[str], where: str) -> str | None:
    """A text among the fields.

    Raises:
        ManifestError: it is something else.
    """
    name, value = first(fields, names)
    if value is not None and not isinstance(value, str):
        raise ManifestError(f'{where}: "{name}" must be a str', hint=f"Found {value!r:.60}")
    return value


def seconds(fields: Mapping[str, Any], names: Iterable[str], where: str) -> float | None:
    """A length or time [s] among the fields, as a number or the text of one.

    Raises:
        ManifestError: it is something else, negative or not finite.
    """
    name, value = first(fields, names)
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ManifestError(f'{where}: "{name}" must be a number of seconds', hint=f"Found {value!r:.60}")
    return number

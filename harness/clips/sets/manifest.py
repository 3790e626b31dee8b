"""JSON lines, one clip each: our manifest, NeMo's, and metadata.jsonl of a folder of sounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from whisper_parity.clips.clip import BadClip
from whisper_parity.clips.sets import paths, values
from whisper_parity.clips.sets.interface import Entry, File, Piece, Reading, Sound
from whisper_parity.errors import InputError, ManifestError
from whisper_parity.system import inputs

LOOKED_FOR = 'a manifest (JSON lines with "audio_filepath")'
HINT = "Give a JSON-lines manifest"
INSIDE = "metadata.jsonl"
"""The list in a folder of sounds that Hugging Face calls an audiofolder."""


def recognises(path: Path) -> bool:
    """Whether the first line is an object that names a sound, in a file or in metadata.jsonl of a folder."""
    line = inputs.first_text(_file(path))
    if not line.startswith("{"):
        return False
    try:
        return isinstance(values.first(values.json_object(line, ""), values.AUDIO)[1], str)
    except ManifestError:
        return False


def read(path: Path, reading: Reading) -> Iterator[Entry | BadClip]:
    """Its clips; a bad line is one that gives none.

    Each line: {"audio_filepath": path, "text": ..., "lang": ..., "duration": [s], "offset": [s], "name": ...,
    "tags": [...]}; with an offset the clip is a part of its file.

    Raises:
        ManifestError: the file cannot be read, or holds no clip.
    """
    is_empty, path = True, _file(path)
    for number, line in inputs.lines(path, kind=ManifestError, hint=HINT):
        if line.strip():
            is_empty = False
            try:
                yield _entry(line, path, number, reading)
            except InputError as error:
                yield BadClip(f"line-{number}", str(error))
    if is_empty:
        raise ManifestError(f"{path}: holds no clip", hint='Write one JSON object per line with "audio_filepath"')


def _file(path: Path) -> Path:
    return path / INSIDE if (path / INSIDE).is_file() else path


def _entry(line: str, manifest: Path, number: int, reading: Reading) -> Entry:
    where = f"{manifest}:{number}"
    fields = values.json_object(line, where)
    field, audio = values.first(fields, values.AUDIO)
    if not isinstance(audio, str) or not audio:
        problem = "is missing" if audio is None else f"must be a path, found {audio!r:.60}"
        raise ManifestError(f'{where}: "{field or values.AUDIO[0]}" {problem}', hint="Add the audio file's path")
    path = paths.inside(manifest.parent, audio, where, reading.roots)
    name = values.text(fields, ("name",), where)
    tags = fields.get("tags")
    if tags is not None and not isinstance(tags, list):
        raise ManifestError(f'{where}: "tags" must be a list', hint=f"Found {tags!r:.60}")
    sound = _sound(path, fields, where)
    return Entry(
        names=(name,) if name else _names(path, sound),
        sound=sound,
        where=where,
        text=values.text(fields, values.TEXT, where),
        language=values.text(fields, values.LANGUAGE, where),
        tags=tuple(str(tag) for tag in tags or ()),
        seconds=values.seconds(fields, values.SECONDS, where),
    )


def _sound(path: Path, fields: Mapping[str, Any], where: str) -> Sound:
    start = values.seconds(fields, ("offset",), where)
    return File(path) if start is None else Piece(path, start, values.seconds(fields, values.SECONDS, where))


def _names(path: Path, sound: Sound) -> tuple[str, ...]:
    """The stem, the file's name, then ever more of its folders; of a part of a file each with where it starts."""
    names = [path.stem, *("/".join(path.parts[-depth:]) for depth in range(1, len(path.parts)))]
    if isinstance(sound, Piece) and sound.start_s:
        end = "" if sound.seconds is None else f"-{sound.start_s + sound.seconds:.2f}"
        names = [f"{name}-{sound.start_s:.2f}{end}" for name in names]
    return tuple(names)

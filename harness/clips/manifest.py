"""Clips that a JSON-lines manifest lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from whisper_parity import project
from whisper_parity.clips.clip import BadClip, Clip, ClipSet
from whisper_parity.errors import ManifestError, first_line
from whisper_parity.system import inputs
from whisper_parity.system.files import safe_name

EMBEDDED = project.packaged("clips", "manifest.jsonl")


def read_manifest(path: Path) -> ClipSet:
    """Read a JSON-lines manifest; a bad line becomes a BadClip.

    Each line: {"audio_filepath": path inside the manifest's folder, "text": ..., "lang": ..., "tags": [...]}.

    Raises:
        ManifestError: the file cannot be read, or holds no clip.
    """
    lines = inputs.read_text(path, kind=ManifestError, hint="Give a JSON-lines manifest").split("\n")
    clips: dict[str, Clip] = {}
    bad: list[BadClip] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                clip = _clip_from_line(line, path, number)
                if clip.name in clips:
                    raise ManifestError(f"{path}:{number}: a second clip named {clip.name}", hint='Give it a "name"')
                clips[clip.name] = clip
            except ManifestError as error:
                bad.append(BadClip(f"line-{number}", str(error)))
    if not clips and not bad:
        raise ManifestError(f"{path}: holds no clip", hint='Write one JSON object per line with "audio_filepath"')
    return ClipSet(tuple(clips.values()), tuple(bad))


def _clip_from_line(line: str, manifest: Path, number: int) -> Clip:
    where = f"{manifest}:{number}"
    fields = _json_object(line, where)
    name, audio = fields.get("name"), fields.get("audio_filepath")
    if not isinstance(audio, str) or not audio:
        problem = "is missing" if audio is None else f"must be a path, found {audio!r:.60}"
        raise ManifestError(f'{where}: "audio_filepath" {problem}', hint="Add the audio file's path")
    path = _inside(manifest.parent, audio, where)
    for key, kind in (("name", str), ("text", str), ("lang", str), ("tags", list)):
        if fields.get(key) is not None and not isinstance(fields[key], kind):
            raise ManifestError(f'{where}: "{key}" must be a {kind.__name__}', hint=f"Found {fields[key]!r:.60}")
    return Clip(
        name=safe_name(name or path.stem),
        path=path,
        text=fields.get("text"),
        language=fields.get("lang"),
        tags=tuple(str(tag) for tag in fields.get("tags") or ()),
    )


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
        json.dumps(fields, ensure_ascii=False).encode()  # half a surrogate pair could not be written again
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error})", hint="Write one JSON object per line") from error
    if not isinstance(fields, dict):
        kind = type(fields).__name__
        raise ManifestError(f"{where}: expected a JSON object, found {kind}", hint='Write {"audio_filepath": ...}')
    return fields


def _inside(folder: Path, relative: str, where: str) -> Path:
    try:
        path = (folder / relative).resolve()
        escapes = not path.is_relative_to(folder.resolve())
        path.is_file()  # raises where the name is too long for the file system
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links that point at each other
        raise ManifestError(
            f"{where}: {relative!r:.80} is no usable path ({first_line(error, 80)})", hint="Correct the path"
        ) from error
    if escapes:
        raise ManifestError(
            f"{where}: {relative!r} points outside the manifest's folder", hint="Put the file inside it"
        )
    return path

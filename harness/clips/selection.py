"""Selection of clips: by name or tag from a manifest, by path from files and folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from whisper_parity.clips import folder
from whisper_parity.clips.clip import Clip, ClipSet
from whisper_parity.clips.manifest import read_manifest
from whisper_parity.clips.naming import unique_names
from whisper_parity.errors import UsageError
from whisper_parity.system import closeness
from whisper_parity.system.files import exists

DEFAULT_TAG = "default"


def select(words: Sequence[str], manifest: Path, language: str | None = None) -> ClipSet:
    """Select clips: "default", "all", a clip's name, a tag, or the path of an audio file or folder.

    A file is a clip under its stem, or under as much of its path as tells it from others.

    Raises:
        UsageError: a word is none of these, or a folder holds no sound.
        ManifestError: the manifest is needed and cannot be used.
    """
    needs_manifest = any(not exists(Path(word)) for word in words)
    listed = read_manifest(manifest) if needs_manifest else ClipSet(())
    selected: dict[Clip | Path, None] = {}
    notes: list[str] = []
    for word in words:
        if matches := _matching(word, listed.clips):
            selected |= dict.fromkeys(matches)
        elif exists(Path(word)):
            files, left_out = _files(Path(word))
            selected |= dict.fromkeys(files)
            notes += left_out
        elif not (listed.bad and word in ("default", "all")):
            raise _unknown(word, listed, manifest)
    clips = (replace(clip, language=clip.language or language) for clip in _as_clips(selected))
    return ClipSet(tuple(clips), listed.bad, tuple(dict.fromkeys(notes)))


def _matching(word: str, clips: Sequence[Clip]) -> list[Clip]:
    if word == "all":
        return list(clips)
    if word == DEFAULT_TAG and not any(DEFAULT_TAG in clip.tags for clip in clips):
        return list(clips)
    return [clip for clip in clips if clip.name == word or word in clip.tags]


def _files(path: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """What a path names, each file by one spelling of its path, and what was left out of a folder."""
    content = folder.look_into(path) if path.is_dir() else folder.Content((path,), ())
    spelled = (os.path.abspath(file) for file in content.sounds)  # noqa: PTH100 - a link is a clip of its own
    return tuple(map(Path, spelled)), content.notes


def _as_clips(selected: dict[Clip | Path, None]) -> list[Clip]:
    """Clips of the manifest as they are, and of files one for each that no such clip stands for."""
    listed = {clip.path: clip for clip in selected if isinstance(clip, Clip)}
    files = [file for file in selected if isinstance(file, Path) and file.resolve() not in listed]
    names = unique_names(files, taken={clip.name for clip in listed.values()})
    return [
        one if isinstance(one, Clip) else Clip(names[one], one)
        for one in selected
        if isinstance(one, Clip) or one in names
    ]


def _unknown(word: str, listed: ClipSet, manifest: Path) -> UsageError:
    tags = sorted({tag for clip in listed.clips for tag in clip.tags})
    return UsageError(
        f"no clip, tag or audio file called {word!r}",
        hint=closeness.hint(
            word,
            (*tags, *(clip.name for clip in listed.clips), "default", "all"),
            f"Use default, all, a file, one of the tags {', '.join(tags) or '(none)'} or a name in {manifest}",
        ),
    )

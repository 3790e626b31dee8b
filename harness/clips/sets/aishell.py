"""AISHELL as it is unpacked: transcript/aishell_transcript_*.txt, and wav/PART/SPEAKER/ID.wav."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from whisper_parity.clips.clip import BadClip
from whisper_parity.clips.sets.interface import Entry, File, Reading
from whisper_parity.clips.sets.sounds import CLAIMS_SOUND
from whisper_parity.clips.sets.walking import folders
from whisper_parity.errors import ManifestError, UsageError
from whisper_parity.system import inputs

LOOKED_FOR = "AISHELL (transcript/*transcript*.txt and wav/)"
SOUNDS, TRANSCRIPTS = "wav", "transcript"


def recognises(path: Path) -> bool:
    """Whether the folder, or one around it, holds a transcript and wav/, and the transcript begins with an id."""
    return _corpus(path) is not None


def read(path: Path, reading: Reading) -> Iterator[Entry | BadClip]:
    """The clips that lie under the path, in the order of the transcript; their part ("test") is a tag.

    Raises:
        UsageError: the sounds are still packed.
    """
    corpus = _corpus(path)
    assert corpus is not None  # noqa: S101 - recognised before
    folder, transcripts = corpus
    sounds = _sounds(folder / SOUNDS if path == folder else path)
    if not sounds:
        raise UsageError(f"{path}: no sound under {SOUNDS}/", hint=f"Unpack {folder / SOUNDS}/*.tar.gz")
    for transcript in transcripts:
        for number, line in inputs.lines(transcript, kind=ManifestError, hint="Unpack the corpus again"):
            name, _, text = line.strip().partition(" ")
            if (file := sounds.pop(name, None)) is not None:
                yield Entry(
                    (name, f"{name}-{number}"),
                    File(file),
                    f"{transcript}:{number}",
                    text.strip(),
                    tags=_tags(folder, file),
                )
    if sounds:
        name = min(sounds)
        reading.note(f"{path}: {len(sounds)} sounds without a transcript were left out: {name}, ...")


def _corpus(path: Path) -> tuple[Path, list[Path]] | None:
    """The corpus' folder and its transcripts: the path itself, or a folder around it that has it under wav/."""
    try:
        for folder in (path, *path.absolute().parents):
            is_inside = folder == path or path.absolute().is_relative_to(folder / SOUNDS)
            if is_inside and path.is_dir() and (folder / SOUNDS).is_dir():
                transcripts = sorted((folder / TRANSCRIPTS).glob("*transcript*.txt"))
                if transcripts and all(" " in inputs.first_text(file) for file in transcripts):
                    return folder, transcripts
    except OSError:
        pass
    return None


def _sounds(path: Path) -> dict[str, Path]:
    """The sounds under a folder by their stems; links that lead out of it are left out."""
    root = path.resolve()
    files = (place / name for place, names in folders(path) for name in names)
    sounds = (file for file in files if file.suffix.casefold() in CLAIMS_SOUND)
    return {file.stem: file for file in sounds if not file.is_symlink() or file.resolve().is_relative_to(root)}


def _tags(folder: Path, file: Path) -> tuple[str, ...]:
    """The first folder under wav/: "test"."""
    below = file.absolute().relative_to((folder / SOUNDS).absolute()).parts
    return below[:1] if len(below) > 1 else ()

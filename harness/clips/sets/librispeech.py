"""LibriSpeech as it is unpacked: SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt beside the sounds that it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from whisper_parity.clips.clip import BadClip
from whisper_parity.clips.sets import paths
from whisper_parity.clips.sets.interface import Entry, File, Reading
from whisper_parity.clips.sets.sounds import CLAIMS_SOUND
from whisper_parity.clips.sets.walking import MOST_FOLDERS, folders
from whisper_parity.errors import InputError, ManifestError
from whisper_parity.system import inputs

LOOKED_FOR = "LibriSpeech (*.trans.txt beside the sounds that it names)"
TRANSCRIPT = ".trans.txt"


def recognises(path: Path) -> bool:
    """Whether one of the first transcripts names a sound that lies beside it."""
    if not path.is_dir():
        return False
    listed = ((place, name) for place, names in islice(folders(path), MOST_FOLDERS) for name in names)
    transcripts = ((place, name) for place, name in listed if name.endswith(TRANSCRIPT))
    return any(_names_a_sound(place, name) for place, name in islice(transcripts, 4))


def read(path: Path, reading: Reading) -> Iterator[Entry | BadClip]:
    """Its clips, one for each line of a transcript; the part of the corpus ("test-clean") is a tag."""
    without: list[str] = []
    for place, names in folders(path):
        stems = _stems(names)
        for name in names:
            if name.endswith(TRANSCRIPT):
                yield from _lines(place / name, stems, _tags(path, place))
        if stems:
            without += stems.values()
    if without:
        reading.note(f"{path}: {len(without)} sounds without a transcript were left out: {without[0]}, ...")


def _lines(transcript: Path, stems: dict[str, str], tags: tuple[str, ...]) -> Iterator[Entry | BadClip]:
    """The clips of a transcript; what they name is taken out of `stems`."""
    for number, line in inputs.lines(transcript, kind=ManifestError, hint="Unpack the corpus again"):
        if line.strip():
            where = f"{transcript}:{number}"
            name, _, text = line.strip().partition(" ")
            try:
                if (file := stems.pop(name, None)) is None:
                    raise ManifestError(f"{where}: no sound called {name!r:.80} beside it", hint="Is the corpus whole?")
                sound = File(paths.inside(transcript.parent, file, where))
                yield Entry((name, f"{name}-{number}"), sound, where, text.strip(), tags=tags)
            except InputError as error:
                yield BadClip(name or f"line-{number}", str(error))


def _stems(names: Sequence[str]) -> dict[str, str]:
    sounds = (Path(name) for name in names if Path(name).suffix.casefold() in CLAIMS_SOUND)
    return {sound.stem: sound.name for sound in sounds if not sound.name.startswith("._")}


def _names_a_sound(place: Path, transcript: str) -> bool:
    name = inputs.first_text(place / transcript).partition(" ")[0]
    return bool(name) and any((place / f"{name}{suffix}").is_file() for suffix in CLAIMS_SOUND if "/" not in name)


def _tags(root: Path, place: Path) -> tuple[str, ...]:
    """The folder that holds the speakers."""
    return (place.parent.parent.name,) if place.is_relative_to(root) and place.parent.parent.name else ()

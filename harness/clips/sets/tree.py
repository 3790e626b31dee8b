"""Folders in a folder, with sounds and a text beside each: SPEAKER/001.wav and SPEAKER/001.txt, as many corpora are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from whisper_parity.clips.clip import BadClip
from whisper_parity.clips.sets import paths, sounds
from whisper_parity.clips.sets.interface import Entry, File, Reading
from whisper_parity.clips.sets.walking import MOST_FOLDERS, folders
from whisper_parity.errors import InputError

LOOKED_FOR = "folders of sounds with a .txt beside each"


def recognises(path: Path) -> bool:
    """Whether no sound lies in the folder itself, and below it one with a text beside it."""
    if not path.is_dir():
        return False
    listed = ((place, [name for name in names if _is_sound(name)]) for place, names in folders(path))
    for place, names in islice(listed, MOST_FOLDERS):
        if names:
            return place != path and sounds.text_of(place / names[0]) is not None
    return False


def read(path: Path, reading: Reading) -> Iterator[Entry | BadClip]:
    """Its clips, folder by folder; a sound without a text is one, too."""
    for place, names in folders(path):
        for name in filter(_is_sound, names):
            file = place / name
            below = file.relative_to(path).with_suffix("").parts
            try:
                text = sounds.text_of(file)
                said = sounds.transcript(text) if text else None
                sound = File(paths.inside(path, str(file.relative_to(path)), str(place), reading.roots))
                yield Entry(_names(below), sound, str(file), said, tags=below[:1])
            except InputError as error:
                yield BadClip("-".join(below), str(error))


def _names(below: tuple[str, ...]) -> tuple[str, ...]:
    """The stem, then ever more of its folders."""
    return tuple("/".join(below[-depth:]) for depth in range(1, len(below) + 1))


def _is_sound(name: str) -> bool:
    return Path(name).suffix.casefold() in sounds.CLAIMS_SOUND and not name.startswith("._")

"""Selection of clips: by name or tag from a set, whole sets, files and folders of sounds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from whisper_parity import project
from whisper_parity.clips import fetching, pieces
from whisper_parity.clips import filters as filtering
from whisper_parity.clips.clip import BadClip, Clip, ClipSet, Listing
from whisper_parity.clips.filters import Filters, Named, Taken
from whisper_parity.clips.naming import unique_names
from whisper_parity.clips.sets import formats, manifest, sounds
from whisper_parity.clips.sets.interface import Entry, File, Format, Reading
from whisper_parity.clips.source import has_sound
from whisper_parity.errors import InputError, UsageError
from whisper_parity.system import closeness, inputs
from whisper_parity.system.files import exists, safe_name

EMBEDDED = project.packaged("clips", "manifest.jsonl")
DEFAULT_TAG = "default"
FETCHED = "fetched"
"""The word for what `parity fetch` got."""


@dataclass(slots=True)
class _Found:
    """What the words name, before it is read."""

    listed: dict[int, Named] = field(default_factory=dict)
    files: dict[Path, Path | None] = field(default_factory=dict)
    """Each sound with its transcript, by one spelling of its path."""
    order: list[int | Path | tuple[Format, Path]] = field(default_factory=list)
    """In the order of the words: a place in `listed`, a file, or a set."""


@dataclass(slots=True)
class _Names:
    """Names that are taken already."""

    taken: set[str] = field(default_factory=set)
    bad: list[BadClip] = field(default_factory=list)

    def named(self, entries: Iterator[Entry | BadClip], path: Path) -> Iterator[Named]:
        """Entries with names of their own; what gives no clip, or is named twice in its set, goes to the bad ones."""
        own: set[str] = set()
        for entry in entries:
            if isinstance(entry, BadClip):
                self._refuse(entry, path)
            elif (name := next((name for name in map(safe_name, entry.names) if name not in own), None)) is None:
                self._refuse(BadClip(_line(entry.where), _twice(entry)), path)
            else:
                own.add(name)
                called = self._free(name, path)
                self.taken.add(called)
                yield Named(called, entry, Listing(path, name))

    def _free(self, name: str, path: Path) -> str:
        """A name that no clip of another set has, with as much of the set's path in front as that takes."""
        longer = (safe_name("/".join((*path.parts[-depth:], name))) for depth in range(1, len(path.parts) + 1))
        return next(free for free in (name, *longer) if free not in self.taken)

    def _refuse(self, bad: BadClip, path: Path) -> None:
        """Rows are told apart by their names: the second set's line 3 gets the set's name in front."""
        names, name = {one.name for one in self.bad} | self.taken, safe_name(bad.name)
        self.bad.append(BadClip(name if name not in names else safe_name(f"{path.name}-{bad.name}"), bad.error))


def select(
    words: Sequence[str],
    listing: Path | None = None,
    language: str | None = None,
    *,
    filters: Filters = Filters(),  # noqa: B008 - frozen
    roots: Sequence[Path] = (),
    cache: Path | None = None,
) -> ClipSet:
    """Select clips: "default", "all", a clip's name, a tag, or the path of a set, an audio file or a folder of them.

    A file is a clip under its stem, or under as much of its path as tells it from others.

    Args:
        words: what was typed.
        listing: the set in which names and tags are looked up; None: the embedded one.
        language: of clips that do not name theirs.
        filters: which of them are taken.
        roots: folders beside its own that a set's paths may point into.
        cache: where clips lie that are no files of their own; None: the user's.

    Raises:
        UsageError: a word is none of these, a folder holds no sound, or the filters leave no clip.
        ManifestError: a set is needed and cannot be used.
        UnavailableError: a set needs a package that is not installed.
    """
    reading, names, taken = Reading(tuple(roots)), _Names(), Taken()
    folder = cache or project.cache()
    found = _found(words, listing or EMBEDDED, reading, names, folder)
    chosen = filtering.applied(filters, _in_order(found, reading, names), language, folder, taken)
    clips = tuple(clip for one in chosen if (clip := _clip(one, language, folder, names)))
    names.bad += [BadClip(*failed) for failed in taken.failed]
    if filters.words and not clips and not names.bad:
        raise UsageError(f"no clip is left of {taken.seen} by {filters.words}", hint="Ask for more")
    return ClipSet(clips, tuple(names.bad), tuple(dict.fromkeys((*reading.notes, *taken.note(filters)))))


def listed(listing: Path | None = None) -> Iterator[Named]:
    """The clips of a set by name, without their sounds; errors as `select` raises them."""
    path = listing or EMBEDDED
    return _Names().named(_entries(path, Reading()), path)


def _found(words: Sequence[str], listing: Path, reading: Reading, names: _Names, cache: Path) -> _Found:
    words = [str(fetching.manifest_of(cache)) if word == FETCHED else word for word in words]
    needs_listing = any(not exists(Path(word)) for word in words)
    everything = list(names.named(_entries(listing, reading), listing)) if needs_listing else []
    found = _Found()
    for word in words:
        if matches := _matching(word, everything):
            found.listed |= {place: everything[place] for place in matches}
            found.order += matches
        elif exists(Path(word)):
            _take_path(Path(word), found, reading)
        elif not (names.bad and word in ("default", "all")):
            raise _unknown(word, everything, listing)
    return found


def _entries(listing: Path, reading: Reading) -> Iterator[Entry | BadClip]:
    """The entries of what --manifest names; what is in no other format is read as a manifest, which says what it is."""
    form = formats.recognise(listing)
    if form is None and listing.is_dir():
        return _of_folder(listing, reading)
    return (form or manifest).read(listing, reading)


def _of_folder(folder: Path, reading: Reading) -> Iterator[Entry | BadClip]:
    content = sounds.look_into(folder, formats.LOOKED_FOR)
    reading.notes.extend(content.notes)
    names = unique_names(content.sounds)
    return (_of_sound(names[file], file, content.texts.get(file)) for file in content.sounds)


def _matching(word: str, everything: Sequence[Named]) -> list[int]:
    if word == "all" or (word == DEFAULT_TAG and not any(DEFAULT_TAG in one.entry.tags for one in everything)):
        return list(range(len(everything)))
    return [i for i, one in enumerate(everything) if one.name == word or word in one.entry.tags]


def _take_path(path: Path, found: _Found, reading: Reading) -> None:
    """A set, or the sounds that a path names."""
    if form := formats.recognise(path):
        found.order.append((form, path))
        return
    if not path.is_dir():
        _require_sound(path)
    content = sounds.look_into(path, formats.LOOKED_FOR) if path.is_dir() else sounds.single(path)
    reading.notes.extend(content.notes)
    for file in content.sounds:
        spelled = Path(os.path.abspath(file))  # noqa: PTH100 - a link is a clip of its own
        if spelled not in found.files:
            found.files[spelled] = content.texts.get(file)
            found.order.append(spelled)


def _require_sound(path: Path) -> None:
    """Refuse a file that is no sound and does not claim to be one; what claims it is said where it is decoded."""
    claims = path.suffix.casefold() in sounds.CLAIMS_SOUND
    if not claims and inputs.start(path, 1) and not has_sound(path):
        raise UsageError(f"{path}: no sound, and no set of clips in a known format", hint=formats.LOOKED_FOR)


def _in_order(found: _Found, reading: Reading, names: _Names) -> Iterator[Named]:
    """Clips of the manifest as they are, of files one for each that no such clip stands for, then whole sets' own."""
    standing = {one.entry.sound.path for one in found.listed.values() if isinstance(one.entry.sound, File)}
    files = [file for file in found.files if file.resolve() not in standing]
    called = unique_names(files, taken={one.name for one in found.listed.values()})
    names.taken |= set(called.values())
    for one in dict.fromkeys(found.order):
        if isinstance(one, int):
            yield found.listed[one]
        elif isinstance(one, tuple):
            yield from names.named(one[0].read(one[1], reading), one[1])
        elif one in called:
            entry = _of_sound(called[one], one, found.files[one])
            if isinstance(entry, BadClip):
                names.bad.append(entry)
            else:
                yield Named(called[one], entry)


def _of_sound(name: str, file: Path, text: Path | None) -> Entry | BadClip:
    try:
        return Entry((name,), File(file), str(file), sounds.transcript(text) if text else None)
    except InputError as error:
        return BadClip(name, str(error))


def _clip(one: Named, language: str | None, cache: Path, names: _Names) -> Clip | None:
    entry = one.entry
    try:
        path = pieces.file_of(entry.sound, cache)
    except InputError as error:
        names.bad.append(BadClip(one.name, str(error)))
        return None
    return Clip(one.name, path, entry.text, filtering.language_of(entry, language), entry.tags, one.listing)


def _line(where: str) -> str:
    return f"line-{where.rpartition(':')[2]}"


def _twice(entry: Entry) -> str:
    return f'{entry.where}: a second clip named {safe_name(entry.names[0])}. Give it a "name"'


def _unknown(word: str, everything: Sequence[Named], listing: Path) -> UsageError:
    tags = sorted({tag for one in everything for tag in one.entry.tags})
    return UsageError(
        f"no clip, tag or audio file called {word!r}",
        hint=closeness.hint(
            word,
            (*tags, *(one.name for one in everything), "default", "all"),
            f"Use default, all, a file, one of the tags {', '.join(tags) or '(none)'} or a name in {listing}",
        ),
    )

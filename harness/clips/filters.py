"""Which clips of a set are taken: by language, by length, the first so many, or so many drawn by chance."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from whisper_parity.clips import languages, length, pieces
from whisper_parity.clips.clip import Listing
from whisper_parity.clips.sets.interface import Entry
from whisper_parity.errors import AudioError, UsageError


@dataclass(frozen=True, slots=True)
class Named:
    """An entry with the name that it got."""

    name: str
    entry: Entry
    listing: Listing | None = None
    """Where it stands in a set."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a user asks for; clips stay in the order of their set."""

    limit: int | None = None
    sample: int | None = None
    """Number of clips drawn without replacement; the same ones for the same set and seed."""
    seed: int = 0
    languages: tuple[str, ...] = ()
    """Whisper's codes; () takes every language."""
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse two ways to take fewer at once.

        Raises:
            UsageError: both a limit and a sample.
        """
        if self.limit is not None and self.sample is not None:
            raise UsageError("--limit and --sample: expected one of them, found both", hint="Leave one out")

    @property
    def words(self) -> str:
        """As they are typed; "" for none."""
        options = (
            *((f"--lang {','.join(self.languages)}",) if self.languages else ()),
            *((f"--max-seconds {self.max_seconds:g}",) if self.max_seconds is not None else ()),
            *((f"--limit {self.limit}",) if self.limit is not None else ()),
            *((f"--sample {self.sample} --seed {self.seed}",) if self.sample is not None else ()),
        )
        return " ".join(options)


@dataclass(slots=True)
class Taken:
    """What became of a set's clips; counts grow while it is read."""

    seen: int = 0
    kept: int = 0
    unknown_length: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(name, error) of clips whose length could not be asked for."""

    def note(self, filters: Filters) -> tuple[str, ...]:
        """What a report says of the filters; nothing where none was given."""
        if not filters.words:
            return ()
        of = "" if filters.limit is not None else f" of {self.seen}"
        unknown = f"; the length of {self.unknown_length} is not known" if self.unknown_length else ""
        return (f"{self.kept}{of} clips taken by {filters.words}{unknown}",)


def applied(
    filters: Filters, clips: Iterable[Named], language: str | None, cache: Path, taken: Taken
) -> Iterator[Named]:
    """The clips that pass, one after the other; in memory are at most as many as a sample has.

    Args:
        filters: what is asked for.
        clips: in the order of their set.
        language: of clips that do not name theirs.
        cache: where clips lie that are no files of their own.
        taken: counts what happens.
    """
    passing = (clip for clip in _counted(clips, taken) if _passes(filters, clip, language, cache, taken))
    drawn = passing if filters.sample is None else _drawn(passing, filters.sample, filters.seed)
    for clip in islice(drawn, filters.limit):
        taken.kept += 1
        yield clip


def language_of(entry: Entry, language: str | None) -> str | None:
    """Whisper's code of an entry's language, as it is written where Whisper has none; `language` where none is said."""
    if entry.language is None or not languages.is_named(entry.language):
        return language
    if entry.language.isascii() and entry.language.islower() and len(entry.language) == 2:
        return languages.ALIASES.get(entry.language, entry.language)  # without torch, which `code` imports
    return languages.code(entry.language) or entry.language


def _counted(clips: Iterable[Named], taken: Taken) -> Iterator[Named]:
    for clip in clips:
        taken.seen += 1
        yield clip


def _passes(filters: Filters, clip: Named, language: str | None, cache: Path, taken: Taken) -> bool:
    if filters.languages and language_of(clip.entry, language) not in filters.languages:
        return False
    if filters.max_seconds is None:
        return True
    try:
        seconds = _seconds(clip.entry, cache)
    except AudioError as error:
        taken.failed.append((clip.name, str(error)))
        return False
    taken.unknown_length += seconds is None
    return seconds is None or seconds <= filters.max_seconds


def _seconds(entry: Entry, cache: Path) -> float | None:
    if entry.seconds is not None:
        return entry.seconds
    return length.of_header(pieces.file_of(entry.sound, cache))


def _drawn(clips: Iterable[Named], count: int, seed: int) -> list[Named]:
    """A uniform sample in the set's order (reservoir sampling: Vitter 1985, algorithm R)."""
    chance = random.Random(seed)  # noqa: S311 - a sample that can be drawn again is wanted
    kept: list[tuple[int, Named]] = []
    for number, clip in enumerate(clips):
        if number < count:
            kept.append((number, clip))
        elif (place := chance.randrange(number + 1)) < count:
            kept[place] = (number, clip)
    return [clip for _, clip in sorted(kept, key=lambda pair: pair[0])]

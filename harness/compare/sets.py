"""Results of a whole test set of two programs, paired clip by clip by what both call it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from whisper_parity.clips import languages
from whisper_parity.clips.clip import BadClip
from whisper_parity.clips.sets import formats
from whisper_parity.clips.sets.interface import Reading
from whisper_parity.compare import findings, results, text
from whisper_parity.compare.finding import Finding
from whisper_parity.compare.normalise import for_language
from whisper_parity.compare.readers import encoded, reading, transcripts
from whisper_parity.compare.result import SPECIAL, Result
from whisper_parity.compare.sides import side
from whisper_parity.compare.text import EDIT_CLASSES, UNSPACED, ErrorCounts
from whisper_parity.errors import RecordError
from whisper_parity.system import inputs

WORST = 10
"""Clips that are shown with their texts."""
FAR = 0.3
"""Share of errors from which two texts of a clip are searched for loops, lost and invented text."""


@dataclass(frozen=True, slots=True)
class PairedClip:
    """What two programs say of one clip."""

    id: str
    reference: str
    candidate: str
    truth: str | None
    """What was said; None where nobody says it."""
    equal: bool
    """The two texts, letter by letter, blanks at the ends aside."""
    tokens_equal: bool | None
    """Their ids as they are written; None where one has none."""
    errors: ErrorCounts
    """Of the candidate against the reference: words, or characters in unspaced scripts, normalised."""
    reference_errors: ErrorCounts | None
    """Of the reference against the truth; None without it."""
    candidate_errors: ErrorCounts | None
    edits: Mapping[str, int]
    """By class, candidate against reference."""
    findings: tuple[Finding, ...]
    """Of texts that are far apart."""

    @property
    def added(self) -> int:
        """Errors against the truth that the candidate has beyond the reference's; without a truth all that it has."""
        if self.reference_errors is None or self.candidate_errors is None:
            return self.errors.errors
        return self.candidate_errors.errors - self.reference_errors.errors


@dataclass(frozen=True, slots=True)
class SetComparison:
    """Two sets of results, compared."""

    reference: str
    """The file's name."""
    candidate: str
    metric: str
    """"wer", or "cer" where words are not separated by blanks: what the counts count."""
    normaliser: str
    clips: tuple[PairedClip, ...]
    """In the order of the reference."""
    only_reference: tuple[str, ...]
    """Ids that the candidate lacks."""
    only_candidate: tuple[str, ...]
    repeated: tuple[str, ...]
    """Ids that stand twice in one of the files: they are not paired."""
    unnamed: int
    """Results without an id or a file, in both."""

    @property
    def exit_code(self) -> int:
        """0 when every clip is in both, and the same; 1 otherwise."""
        whole = not (self.only_reference or self.only_candidate or self.repeated or self.unnamed)
        return 0 if whole and all(clip.equal for clip in self.clips) else 1

    @property
    def errors(self) -> ErrorCounts:
        """Of the candidate against the reference."""
        return text.total(clip.errors for clip in self.clips)

    def judged(self) -> Iterator[tuple[PairedClip, ErrorCounts, ErrorCounts]]:
        """(clip, errors of the candidate, errors of the reference) of those whose truth is known."""
        for clip in self.clips:
            if clip.candidate_errors is not None and clip.reference_errors is not None:
                yield clip, clip.candidate_errors, clip.reference_errors

    def worst(self) -> tuple[PairedClip, ...]:
        """The clips that add most errors, the worst first; those that add none are not among them."""
        adding = (clip for clip in self.clips if clip.added > 0)
        return tuple(sorted(adding, key=lambda clip: (-clip.added, -clip.errors.errors, clip.id))[:WORST])


def are_sets(reference: Sequence[Result], candidate: Sequence[Result]) -> bool:
    """Whether two files hold several results each, or one of them and one result that another clip may have."""
    return len(reference) > 1 and len(candidate) > 1


def compare_sets(
    reference: Path,
    candidate: Path,
    results_of: tuple[Sequence[Result], Sequence[Result]],
    truths: Mapping[str, str] | None = None,
    language: str | None = None,
) -> SetComparison:
    """Compare two files of many results.

    Args:
        reference: known good, for its name.
        candidate: under test.
        results_of: what `reading.read` gave of each.
        truths: by id; None: what stands beside the results.
        language: of results that do not name theirs.

    Raises:
        RecordError: no id is in both, a text is too long, or a result has ids alone.
    """
    ours, theirs = (_Named.of(listed) for listed in results_of)
    repeated = ours.repeated | theirs.repeated
    names = [name for name in ours.results if name in theirs.results and name not in repeated]
    if not names:
        raise RecordError(
            f"{reference} and {candidate}: no clip is in both ({_some(ours)}; {_some(theirs)})",
            hint='Give each result an "id", or the name of its audio file',
        )
    spoken = language or _language([results_of[0][0], results_of[1][0]], ours.results[names[0]].text or "")
    clips = tuple(_paired(name, ours.results[name], theirs.results[name], truths, spoken) for name in names)
    return SetComparison(
        reference=reference.name,
        candidate=candidate.name,
        metric="cer" if spoken in UNSPACED else "wer",
        normaliser=for_language(spoken)[0],
        clips=clips,
        only_reference=tuple(name for name in ours.results if name not in theirs.results),
        only_candidate=tuple(name for name in theirs.results if name not in ours.results),
        repeated=tuple(sorted(repeated)),
        unnamed=ours.unnamed + theirs.unnamed,
    )


def truths_of(path: Path) -> dict[str, str]:
    """What was said, by id: from a set of clips in any format, from lines "id text", or from results whose text it is.

    Raises:
        RecordError, ManifestError, UsageError: it cannot be read, or names no clip.
    """
    if form := formats.recognise(path):
        entries = (entry for entry in form.read(path, Reading()) if not isinstance(entry, BadClip))
        return {entry.names[0]: entry.text for entry in entries if entry.text is not None}
    listed = reading.read(path)
    named = _Named.of(listed)
    spoken = {name: _first(result.truth, result.text) for name, result in named.results.items()}
    if len(listed) == 1 and listed[0].form == "plain text":
        lines = encoded.text_of(inputs.read(path, inputs.TEXT_BYTES, RecordError, hint=encoded.HINT), str(path))
        spoken = dict(transcripts.by_first_word(lines))
    if not spoken:
        hint = 'Give a set of clips, JSON lines with id and text, or lines "id text"'
        raise RecordError(f"{path}: no text with an id, or an id twice", hint=hint)
    return {name: said for name, said in spoken.items() if said is not None}


@dataclass(frozen=True, slots=True)
class _Named:
    """Results by what they call their clips."""

    results: dict[str, Result]
    repeated: frozenset[str]
    unnamed: int

    @classmethod
    def of(cls, listed: Sequence[Result]) -> _Named:
        names = [result.id or PurePath(result.clip).stem for result in listed]
        counts = Counter(name for name in names if name)
        found = {name: result for name, result in zip(names, listed) if name}
        return cls(found, frozenset(n for n, count in counts.items() if count > 1), sum(not name for name in names))


def _some(named: _Named) -> str:
    ids = [f"{name!r:.60}" for name in list(named.results)[:2]]
    return f"{', '.join(ids)}, ..." if ids else "no ids"


def _first(*texts: str | None) -> str | None:
    return next((said for said in texts if said is not None), None)


def _language(listed: Sequence[Result], sample: str) -> str | None:
    """The language in whose way a set is measured: as a file says it, else by the letters of a text."""
    named = (languages.code(result.language) for result in listed)
    return next((name for name in named if name), None) or languages.by_script(sample)


def _paired(
    name: str, ours: Result, theirs: Result, truths: Mapping[str, str] | None, language: str | None
) -> PairedClip:
    said = [_text(result) for result in (ours, theirs)]
    truth = truths.get(name) if truths is not None else _first(ours.truth, theirs.truth)
    plain = _Plain(language)
    errors = plain.errors(said[0], said[1])
    equal = said[0] == said[1]
    edits = () if equal else text.classify(reference=said[0], hypothesis=said[1], language=language)
    counts = Counter(edit.edit_class for edit in edits)
    both = ours.parts is not None and theirs.parts is not None
    return PairedClip(
        id=name,
        reference=said[0],
        candidate=said[1],
        truth=truth,
        equal=equal,
        tokens_equal=_tokens(ours) == _tokens(theirs) if both else None,
        errors=errors,
        reference_errors=None if truth is None else plain.errors(truth, said[0]),
        candidate_errors=None if truth is None else plain.errors(truth, said[1]),
        edits={kind: counts[kind] for kind in EDIT_CLASSES if counts[kind]},
        findings=_findings(said, language) if errors.errors >= FAR * max(errors.length, 1) else (),
    )


def _text(result: Result) -> str:
    results.require_size(result)
    if result.text is None:
        raise RecordError(f"{result.name}: {result.id or 'a result'} has ids alone", hint="Save the text beside them")
    return SPECIAL.sub("", result.text).strip()


def _tokens(result: Result) -> tuple[int, ...]:
    return tuple(token for part in result.parts or () for token in part)


def _findings(said: Sequence[str], language: str | None) -> tuple[Finding, ...]:
    sides = (side(words, None, None, (), language) for words in said)
    return tuple(item for item in findings.of_pair(*sides) if item.is_fault)


class _Plain:
    """The texts of one clip, each normalised once."""

    def __init__(self, language: str | None) -> None:
        self._normalise = for_language(language)[1]
        self._by_characters = language in UNSPACED
        self._kept: dict[str, str] = {}

    def errors(self, reference: str, hypothesis: str) -> ErrorCounts:
        """The leading counts of two texts."""
        count = text.character_errors if self._by_characters else text.word_errors
        return count(reference=self._of(reference), hypothesis=self._of(hypothesis))

    def _of(self, value: str) -> str:
        if value not in self._kept:
            self._kept[value] = self._normalise(value)
        return self._kept[value]

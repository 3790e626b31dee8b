"""Result files of two programs, compared: texts always, tokens where both hold ids of one vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from whisper_parity.clips import languages
from whisper_parity.compare import audit, boundaries, findings, vocabularies
from whisper_parity.compare.finding import Finding, finding, worst_first
from whisper_parity.compare.normalise import compare_texts
from whisper_parity.compare.readers import reading
from whisper_parity.compare.result import SPECIAL, Result
from whisper_parity.compare.sides import Side, side
from whisper_parity.compare.text import UNSPACED, TextDiff
from whisper_parity.compare.token import TokenDiff, token_diff
from whisper_parity.compare.vocabularies import Decoding
from whisper_parity.compare.words import words
from whisper_parity.errors import RecordError
from whisper_parity.model import vocabulary

MOST_WORDS, MOST_CHARACTERS, MOST_TOKENS = 30_000, 200_000, 50_000
"""Of the longest text: three hours of speech. Time and memory grow with the product of both."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """One result, as it is compared."""

    name: str
    form: str
    """The format that was read."""
    text: str
    language: str | None
    """Whisper's code; None when the file says none."""
    n_vocab: int | None
    """None: its tokens are not compared."""
    vocabulary: str
    """How the vocabulary was found, or why there is none."""
    timestamped_tokens: tuple[int, ...] = ()
    """Text and timestamps, without prompt and end-of-text."""


@dataclass(frozen=True, slots=True)
class ResultComparison:
    """Two results, compared; no tensors, so no verdict beyond equal or not."""

    reference: Opinion
    candidate: Opinion
    tokens: TokenDiff | None
    """None where texts alone are compared."""
    not_compared: str
    """Why tokens are not compared; "" where they are."""
    text: TextDiff
    edits_at_boundaries: tuple[int, ...]
    """Indices of the token edits that a decode policy can have moved: marks exactly at a pair of timestamps."""
    findings: tuple[Finding, ...]
    """Worst first."""

    @property
    def exit_code(self) -> int:
        """0 when texts are equal, tokens too where they are compared, and nothing is found at fault; 1 otherwise."""
        equal = self.text.equal and (self.tokens is None or self.tokens.equal)
        return 0 if equal and not any(item.is_fault for item in self.findings) else 1


def compare_files(reference: Path, candidate: Path, n_vocab: int | None = None) -> ResultComparison:
    """Compare two result files.

    Args:
        reference: known good.
        candidate: under test.
        n_vocab: size of the vocabulary of both; None: found in the files.

    Raises:
        RecordError: one of them is no result, holds several of which none is of the other's clip, or is too long.
    """
    first, second = reading.read(reference), reading.read(candidate)
    ours = reading.for_clip(first, second[0].clip if len(second) == 1 else "", reference)
    theirs = reading.for_clip(second, ours.clip, candidate)
    return compare_results(ours, theirs, n_vocab)


def compare_results(reference: Result, candidate: Result, n_vocab: int | None = None) -> ResultComparison:
    """Compare two results.

    Raises:
        RecordError: one holds neither text nor ids that can be decoded, or is too long.
    """
    require_size(reference)
    require_size(candidate)
    first, second = _reads(reference, candidate, n_vocab)
    ours, theirs = first.opinion, second.opinion
    language = ours.language or theirs.language
    measured = language or languages.by_script(ours.text + theirs.text)
    texts = _texts(ours, theirs, measured, joined=reference.joined or candidate.joined)
    reason = _not_compared(ours, theirs)
    tokens, places = _tokens(reference, ours, theirs) if not reason else (None, ())
    sides = (_side(result, opinion, text, by_text=bool(reason))
             for result, opinion, text in zip((reference, candidate), (ours, theirs), texts))  # fmt: skip
    named = [*_of_files(first, second, language), *findings.of_pair(*sides)]
    if tokens is not None and tokens.equal:
        named = [item for item in named if item.kind != "token limit"]
    return ResultComparison(
        reference=ours,
        candidate=theirs,
        tokens=tokens,
        not_compared=reason,
        text=compare_texts(reference=texts[0], hypothesis=texts[1], language=measured),
        edits_at_boundaries=places,
        findings=worst_first(dict.fromkeys(named)),
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """A result, and how its ids are read."""

    result: Result
    own: Decoding
    """What the file says by itself."""
    decoding: Decoding
    """What counts: the user's word, or the other file's where this one says nothing."""
    opinion: Opinion


def _of_files(first: _Read, second: _Read, language: str | None) -> Iterator[Finding]:
    """What is wrong with each file by itself, and with the two as a pair."""
    yield from _audits(first, None)
    yield from _audits(second, language)
    sides = first.result, second.result, first.opinion, second.opinion
    yield from _of_both(*sides)
    yield from _translations(*sides)


def require_size(result: Result) -> None:
    """Refuse what would take hours to align, before it is looked at."""
    text = result.text or ""
    counts = {
        MOST_TOKENS: (sum(map(len, result.parts or ())), "tokens"),
        MOST_CHARACTERS: (len(text), "characters"),
        MOST_WORDS: (len(words(text[:MOST_CHARACTERS])), "words"),
    }
    for most, (count, what) in counts.items():
        if count > most:
            raise RecordError(f"{result.name}: {count} {what}, at most {most} are compared", hint="Compare it in parts")


def _reads(reference: Result, candidate: Result, n_vocab: int | None) -> tuple[_Read, _Read]:
    first, second = vocabularies.decoding(reference), vocabularies.decoding(candidate)
    if n_vocab is not None:
        ours, theirs = _given(reference, first, n_vocab), _given(candidate, second, n_vocab)
    else:
        ours = vocabularies.settled(first, reference, second, candidate)
        theirs = vocabularies.settled(second, candidate, first, reference)
    return (
        _Read(reference, first, ours, _opinion(reference, ours)),
        _Read(candidate, second, theirs, _opinion(candidate, theirs)),
    )


def _given(result: Result, own: Decoding, n_vocab: int) -> Decoding:
    """The vocabulary that the user names, where it holds the file's ids."""
    if result.parts is None or any(vocabulary.first_unknown(n_vocab, part) is not None for part in result.parts):
        return Decoding(None, own.reason if result.parts is None else f"it holds ids beyond {n_vocab}", own.agrees)
    return Decoding(n_vocab, "as --n-vocab says", vocabularies.agrees(result, n_vocab), is_certain=True)


def _opinion(result: Result, decoding: Decoding) -> Opinion:
    kept: tuple[int, ...] = ()
    if decoding.n_vocab and result.parts is not None:
        tokens = vocabulary.tokenizer(decoding.n_vocab)
        ids = [token for part in result.parts for token in vocabularies.body(part, decoding.n_vocab)]
        kept = tuple(token for token in ids if token < tokens.eot or token >= tokens.timestamp_begin)
    elif result.text is None:
        raise RecordError(f"{result.name}: no text, and {decoding.reason}", hint="Save the text beside the ids")
    text = result.text
    if text is None and decoding.n_vocab:
        text = vocabulary.token_text(decoding.n_vocab, vocabulary.spoken(decoding.n_vocab, kept))
    return Opinion(
        result.name,
        result.form,
        text or "",
        audit.language(result, decoding.n_vocab),
        decoding.n_vocab,
        decoding.reason,
        kept,
    )


def _texts(ours: Opinion, theirs: Opinion, language: str | None, *, joined: bool) -> tuple[str, str]:
    """Both texts; where one was put together from lines, blanks in both as its language has them."""
    if not joined:
        return ours.text, theirs.text
    blank = "" if language in UNSPACED else " "
    return blank.join(ours.text.split()), blank.join(theirs.text.split())


def _not_compared(ours: Opinion, theirs: Opinion) -> str:
    """Why tokens of two results cannot be compared; "" where they can."""
    for opinion in (ours, theirs):
        if opinion.n_vocab is None:
            return f"{opinion.name} ({opinion.form}): {opinion.vocabulary}"
    sizes = [opinion.n_vocab for opinion in (ours, theirs)]
    if (vocabulary.ENGLISH_ONLY in sizes) and sizes[0] != sizes[1]:
        return f"{ours.name} has the vocabulary {sizes[0]}, {theirs.name} {sizes[1]}"
    return ""


def _tokens(reference: Result, ours: Opinion, theirs: Opinion) -> tuple[TokenDiff, tuple[int, ...]]:
    assert ours.n_vocab is not None  # noqa: S101 - asked before
    spoken = [_spoken(opinion) for opinion in (ours, theirs)]
    tokens = token_diff(spoken[0], spoken[1], ours.n_vocab)
    return tokens, boundaries.edits_at(tokens, _boundaries(reference, ours, ours.n_vocab))


def _boundaries(result: Result, opinion: Opinion, n_vocab: int) -> frozenset[int]:
    """Pairs of timestamps, or where there are none the ends of the segments that hold ids."""
    begin = vocabulary.timestamp_begin(n_vocab)
    if len(result.parts or ()) < 2 or any(token >= begin for token in opinion.timestamped_tokens):
        return boundaries.timestamp_pairs(opinion.timestamped_tokens, n_vocab)
    counts = [len(vocabulary.spoken(n_vocab, part)) for part in result.parts or ()]
    return frozenset(accumulate(counts[:-1])) - {0}


def _spoken(opinion: Opinion) -> tuple[int, ...]:
    assert opinion.n_vocab is not None  # noqa: S101 - callers ask before
    return vocabulary.spoken(opinion.n_vocab, opinion.timestamped_tokens)


def _side(result: Result, opinion: Opinion, text: str, *, by_text: bool) -> Side:
    """What findings read: the tokens where both are compared by them and they say what the text says."""
    usable = opinion.n_vocab is not None and not by_text and vocabularies.agrees(result, opinion.n_vocab)
    if usable and vocabularies.bare(text) == vocabularies.bare(_decoded(opinion)):
        return side(text, _spoken(opinion), opinion.n_vocab, result.segments, opinion.language)
    return side(SPECIAL.sub("", text), None, None, result.segments, opinion.language)


def _decoded(opinion: Opinion) -> str:
    assert opinion.n_vocab is not None  # noqa: S101 - callers ask before
    return vocabulary.token_text(opinion.n_vocab, _spoken(opinion))


def _audits(read: _Read, language: str | None) -> Iterator[Finding]:
    """What is wrong with one file by itself; under a vocabulary that is not its own nothing more is said of it."""
    result, own, decoding, opinion = read.result, read.own, read.decoding, read.opinion
    remarks = (audit.unknown_language(result), audit.own_segments(result), audit.own_specials(result))
    yield from filter(None, remarks)
    is_other = own.n_vocab is not None and opinion.n_vocab not in (None, own.n_vocab)
    if is_other and own.agrees and (own.is_certain or not decoding.agrees):
        words = f"{result.name}: its tokens give its text in the vocabulary {own.n_vocab}, not in {opinion.n_vocab}"
        yield finding("vocabulary", words)
        return
    if not decoding.agrees and (wrong := audit.own_text(result, opinion.n_vocab)):
        yield wrong
    if result.parts is not None and opinion.n_vocab is None and decoding.agrees:
        yield finding("vocabulary", f"{result.name}: {decoding.reason}; texts alone are compared", is_fault=False)
    if opinion.n_vocab is not None:
        yield from audit.prompts(result, opinion.n_vocab, languages.code(result.language) or language)
        yield from audit.endings(result, opinion.n_vocab)


def _of_both(reference: Result, candidate: Result, ours: Opinion, theirs: Opinion) -> Iterator[Finding]:
    said = [languages.code(result.language) for result in (reference, candidate)]
    if all(said) and said[0] != said[1]:
        yield finding("language", f"the reference says {said[0]}, the candidate {said[1]}")
    sizes = [opinion.n_vocab for opinion in (ours, theirs)]
    if None not in sizes and sizes[0] != sizes[1]:
        words = f"{ours.name} is of {sizes[0]} tokens, {theirs.name} of {sizes[1]}: are they results of one model?"
        yield finding("vocabulary", words, is_fault=False)


def _translations(reference: Result, candidate: Result, ours: Opinion, theirs: Opinion) -> Iterator[Finding]:
    """A candidate whose prompt asks for a translation, where the reference's does not."""
    if ours.n_vocab is None and theirs.n_vocab is None:
        return
    tasks = [audit.tasks(result, opinion.n_vocab) if opinion.n_vocab else frozenset[str]()
             for result, opinion in ((reference, ours), (candidate, theirs))]  # fmt: skip
    shared = {word.key for word in words(ours.text)} & {word.key for word in words(theirs.text)}
    if tasks[1] == {"translate"} and "translate" not in tasks[0] and (tasks[0] or not shared):
        yield finding("wrong prompt", f"{theirs.name}: it asks for a translation, the reference does not", step=0)

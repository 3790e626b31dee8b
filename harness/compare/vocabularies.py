"""Which of openai-whisper's vocabularies a result's ids belong to: the one whose decoding gives the file's own text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile

from rapidfuzz.distance import Indel

from whisper_parity.compare.result import SPECIAL, Result
from whisper_parity.model import vocabulary
from whisper_parity.model.vocabulary import ENGLISH_ONLY, LARGE_V3, MULTILINGUAL

ALIKE = 0.6
"""Share of characters from which ids are taken for those of a text that somebody edited afterwards."""
CLEARLY = 0.2
"""How much more alike the better of two decodings must be."""
COMPARED = 20_000
"""Characters of a text that are looked at for that."""
SECONDS_A_TOKEN = 0.02
"""Timestamps are this far apart."""
TIME_ERROR = 0.011
LARGE = re.compile(r"large-?v3|turbo", re.IGNORECASE)
ENGLISH = re.compile(r"\b(tiny|base|small|medium)[.-]en\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Decoding:
    """A result's ids under the vocabulary that fits best."""

    n_vocab: int | None
    """None: the file holds no ids, or none of the vocabularies gives its text."""
    reason: str
    """How it was found, or why there is none."""
    agrees: bool
    """The ids decode to the file's own text, or it has none."""
    is_certain: bool = False
    """Found in the ids themselves, not taken from the prompt or by default."""
    is_open: bool = False
    """Nothing in the file speaks for this vocabulary rather than any other."""


def decoding(result: Result) -> Decoding:
    """The vocabulary of one result, by its own evidence."""
    if result.parts is None:
        what = "its tokens are strings, not ids" if result.tokens_as_text else "it holds no token ids"
        return Decoding(None, what, True)
    fitting = [n for n in (MULTILINGUAL, ENGLISH_ONLY) if agrees(result, n)] if result.text is not None else []
    if len(fitting) == 1:
        return _sized(result, fitting[0], "its decoding gives the text of the file", agrees=True)
    if fitting or result.text is None:
        return _by_ids(result, agrees=True)
    return _edited(result)


def settled(own: Decoding, result: Result, other: Decoding, beside: Result) -> Decoding:
    """The decoding of one file of a pair, `own` of `result`, when that of the other, `other` of `beside`, is known.

    Two files of a pair are of one model. So what one file cannot say is taken from the other: large-v3 or not, and the
    vocabulary of ids that do not give their own text but resemble the other file's.
    """
    if other.n_vocab in (None, own.n_vocab) or result.parts is None or own.is_certain:
        return own
    assert other.n_vocab is not None  # noqa: S101 - narrowed above
    if _unknown(result, other.n_vocab):
        return own
    borrowed = Decoding(other.n_vocab, "that of the other file", own.agrees, other.is_certain)
    if own.n_vocab is None:
        return borrowed if _resembles(result, beside, other.n_vocab) else own
    of_one_kind = (other.n_vocab == ENGLISH_ONLY) == (own.n_vocab == ENGLISH_ONLY)
    return borrowed if own.is_open or (of_one_kind and other.is_certain) else own


def agrees(result: Result, n_vocab: int) -> bool:
    """Whether ids decode to the file's own text, blanks and special tokens apart: all of them, or up to end-of-text."""
    if result.text is None:
        return True
    own = bare(result.text)
    return any(own == bare(text) for text in _decoded(result, n_vocab))


def bare(text: str) -> str:
    """A text without blanks, special tokens and halves of characters."""
    return "".join(unicodedata.normalize("NFC", SPECIAL.sub("", text)).replace("\ufffd", "").split())


def body(part: Sequence[int], n_vocab: int) -> tuple[int, ...]:
    """The ids behind a prompt: what follows start-of-transcript, language, task and no-timestamps at the beginning.

    Text of an earlier window in front of the prompt belongs to it.
    """
    words = vocabulary.tokenizer(n_vocab)
    part = tuple(part)
    if part and part[0] == words.sot_prev and words.sot in part:
        part = part[part.index(words.sot) :]
    if not part or part[0] != words.sot:
        return part
    return tuple(dropwhile(lambda token: words.eot < token < words.timestamp_begin, part))


def prompt(part: Sequence[int], n_vocab: int) -> tuple[int, ...]:
    """The ids of a prompt at the beginning, from start-of-transcript on; empty where there is none."""
    rest, words = len(body(part, n_vocab)), vocabulary.tokenizer(n_vocab)
    head = tuple(part)[: len(part) - rest]
    return head[head.index(words.sot) :] if words.sot in head else ()


def _decoded(result: Result, n_vocab: int) -> Iterator[str]:
    parts = [body(part, n_vocab) for part in result.parts or ()]
    eot = vocabulary.tokenizer(n_vocab).eot
    ended = [part[: part.index(eot)] if eot in part else part for part in parts]
    for version in (parts, ended):
        yield "".join(vocabulary.token_text(n_vocab, vocabulary.spoken(n_vocab, part)) for part in version)


def _edited(result: Result) -> Decoding:
    """Ids that give another text than the file's: the vocabulary that comes close to it, or none."""
    likeness = {n: _likeness(result, n) for n in (MULTILINGUAL, ENGLISH_ONLY)}
    best, other = sorted(likeness, key=lambda n: -likeness[n])
    if likeness[best] >= ALIKE and likeness[best] - likeness[other] >= CLEARLY:
        return _sized(result, best, "its decoding comes close to the text of the file", agrees=False)
    return Decoding(None, "none of Whisper's vocabularies gives the text of the file", False)


def _likeness(result: Result, n_vocab: int) -> float:
    own = bare(result.text or "").casefold()[:COMPARED]
    return max(_alike(own, text) for text in _decoded(result, n_vocab))


def _alike(own: str, text: str) -> float:
    return float(Indel.normalized_similarity(own, bare(text).casefold()[:COMPARED]))


def _resembles(result: Result, beside: Result, n_vocab: int) -> bool:
    """Whether ids decode to something like the other file's text, and not to rubble."""
    text = beside.text if beside.text is not None else next(_decoded(beside, n_vocab))
    return _alike(bare(text).casefold()[:COMPARED], next(_decoded(result, n_vocab))) >= ALIKE


def _sized(result: Result, n_vocab: int, reason: str, *, agrees: bool) -> Decoding:
    if n_vocab == ENGLISH_ONLY:
        return Decoding(n_vocab, reason, agrees, is_certain=True)
    sized = _by_ids(result, agrees=agrees, choices=(MULTILINGUAL, LARGE_V3))
    return Decoding(sized.n_vocab, f"{reason}; {sized.reason}", agrees, sized.is_certain)


def _by_ids(
    result: Result, *, agrees: bool, choices: Sequence[int] = (MULTILINGUAL, LARGE_V3, ENGLISH_ONLY)
) -> Decoding:
    """The first kind of evidence that tells the vocabularies apart, the surest first; else the multilingual one."""
    possible = [n for n in choices if not _unknown(result, n)]
    if not possible:
        return Decoding(None, "it holds ids that are in none of Whisper's vocabularies", agrees)
    if len(possible) == 1:
        return Decoding(possible[0], "its largest id", agrees, is_certain=True)
    for reason, count in EVIDENCE.items():
        votes = {n: count(result, n) for n in possible}
        best = max(votes.values())
        if best and sum(votes[n] == best for n in possible) == 1:
            return Decoding(max(possible, key=lambda n: votes[n]), reason, agrees, is_certain=reason != PROMPT)
    is_open = ENGLISH_ONLY in possible
    return Decoding(possible[0], "nothing in it tells vocabularies apart", agrees, is_open=is_open)


def _unknown(result: Result, n_vocab: int) -> bool:
    return any(vocabulary.first_unknown(n_vocab, part) is not None for part in result.parts or ())


def _times(result: Result, n_vocab: int) -> int:
    """Segments whose first and last timestamps are those that the file writes in seconds."""
    begin = vocabulary.timestamp_begin(n_vocab)
    count = 0
    for segment in result.segments:
        offset = segment.seek or 0.0
        for time, token in zip(
            (segment.start, segment.end), (segment.tokens or ())[:: max(len(segment.tokens or ()) - 1, 1)]
        ):
            expected = None if time is None else begin + (time - offset) / SECONDS_A_TOKEN
            count += expected is not None and abs(token - expected) * SECONDS_A_TOKEN < TIME_ERROR
    return count


def _later_prompts(result: Result, n_vocab: int) -> int:
    """Well-formed prompts that the model wrote itself, behind the beginning."""
    words = vocabulary.tokenizer(n_vocab)
    later = [part[i:] for part in result.parts or () for i, token in enumerate(part) if i and token == words.sot]
    return sum(len(part) > 1 and _is_prompt(part, n_vocab) for part in later)


def _first_prompt(result: Result, n_vocab: int) -> int:
    return sum(_is_prompt(prompt(part, n_vocab), n_vocab) for part in result.parts or ())


def _is_prompt(part: Sequence[int], n_vocab: int) -> bool:
    """Start-of-transcript, perhaps a language, a task, then no-timestamps, a timestamp, text or nothing."""
    words = vocabulary.tokenizer(n_vocab)
    if tuple(part[:1]) != (words.sot,):
        return False
    rest = part[1:]
    if n_vocab != ENGLISH_ONLY:
        rest = rest[1:] if rest and rest[0] in words.all_language_tokens else rest
        if not rest or rest[0] not in (words.transcribe, words.translate):
            return False
        rest = rest[1:]
    return not rest or rest[0] == words.no_timestamps or rest[0] >= words.timestamp_begin or rest[0] < words.eot


def _named(result: Result, n_vocab: int) -> int:
    """The vocabulary that the file, or the name of its model, says."""
    by_name = LARGE_V3 if LARGE.search(result.model) else ENGLISH_ONLY if ENGLISH.search(result.model) else None
    return n_vocab in (result.n_vocab, by_name)


PROMPT = "its prompt"
EVIDENCE: dict[str, Callable[[Result, int], int]] = {
    "the times of its segments": _times,
    "the prompts that the model wrote into it": _later_prompts,
    "the model that it names": _named,
    PROMPT: _first_prompt,
}

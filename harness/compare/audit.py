"""One result by itself: its prompt, its end, its length, and its text against its own tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, zip_longest

from whisper_parity.clips import languages
from whisper_parity.compare import vocabularies
from whisper_parity.compare.finding import Finding, cut, finding
from whisper_parity.compare.prompting import names, whole_in
from whisper_parity.compare.result import SPECIAL, Result
from whisper_parity.model import vocabulary
from whisper_parity.model.vocabulary import ENGLISH_ONLY

CONTEXT, SAMPLED = 448, 224
"""Positions of every Whisper decoder; tokens that openai-whisper samples for a window at most."""
LISTED = 6
"""Special tokens that are listed."""
NEAR_CONTEXT = 4
"""A port whose limit is the context stops this many tokens before it at the earliest: its prompt has four."""


def own_text(result: Result, n_vocab: int | None) -> Finding | None:
    """The file's text against its own tokens."""
    if result.text is None or result.parts is None or (n_vocab and vocabularies.agrees(result, n_vocab)):
        return None
    if n_vocab is None:
        words = "none of Whisper's vocabularies decodes its tokens to its text; texts alone are compared"
        return finding("text against tokens", f"{result.name}: {words}")
    decoded = "".join(vocabulary.token_text(n_vocab, vocabulary.spoken(n_vocab, part)) for part in result.parts)
    written, said = differing(SPECIAL.sub("", result.text), decoded)
    return finding(
        "text against tokens", f"{result.name}: its text says {cut(written)!r} where its tokens decode to {cut(said)!r}"
    )


def own_segments(result: Result) -> Finding | None:
    """The file's text against that of its segments, where it holds no ids that say which one was decoded."""
    parts = "".join(segment.text for segment in result.segments)
    if result.text is None or result.parts is not None or result.joined or not parts:
        return None
    if vocabularies.bare(result.text) == vocabularies.bare(parts):
        return None
    written, said = differing(result.text, " ".join(segment.text for segment in result.segments))
    words = f"{result.name}: its text says {cut(written)!r} where its segments say {cut(said)!r}"
    return finding("text against tokens", words)


def own_specials(result: Result) -> Finding | None:
    """Special tokens that were written into the text."""
    names = SPECIAL.findall(result.text or "")
    if not names:
        return None
    words = f"{result.name}: its text holds {', '.join(dict.fromkeys(names[:LISTED]))}"
    return finding("special tokens", words, is_fault=False, count=len(names))


def prompts(result: Result, n_vocab: int, language: str | None) -> Iterator[Finding]:
    """A prompt whose ids do not mean, in this vocabulary, what a prompt says; at most one finding for a file."""
    for part in result.parts or ():
        if wrong := _wrong_prompt(part, n_vocab, language):
            yield finding("wrong prompt", f"{result.name}: {wrong}", step=0)
            return


def endings(result: Result, n_vocab: int) -> Iterator[Finding]:
    """End-of-text inside a list, and lists that stop at the limit of tokens instead of at end-of-text."""
    passed, first, length = 0, None, 0
    eot = vocabulary.tokenizer(n_vocab).eot
    for part in _windows(result, n_vocab):
        inside = passed_at(part, eot)
        if inside and first is None:
            first, length = inside[0], len(part)
        passed += len(inside)
    if first is not None:
        times = "once" if passed == 1 else f"{passed} times"
        yield finding("end-of-text passed", f"{result.name}: {times}, first at token {first} of {length}", count=passed)
    if limit := next(filter(None, (_limit(part, n_vocab) for part in _windows(result, n_vocab))), None):
        yield finding("token limit", f"{result.name}: {limit}")


def tasks(result: Result, n_vocab: int) -> frozenset[str]:
    """The tasks in its prompts: "transcribe", "translate"."""
    words = vocabulary.tokenizer(n_vocab)
    names = {words.transcribe: "transcribe", words.translate: "translate"}
    return frozenset(
        names[token] for part in result.parts or () for token in vocabularies.prompt(part, n_vocab) if token in names
    )


def _windows(result: Result, n_vocab: int) -> list[tuple[int, ...]]:
    """The lists of a result, one a window.

    A list that holds several windows, each with the same whole prompt and ended, is taken apart; the segments of one
    window are put together.
    """
    parts = list(result.parts or ())
    if len(parts) == 1:
        return _taken_apart(parts[0], n_vocab)
    seeks = [segment.seek for segment in result.segments]
    if len(seeks) != len(parts) or None in seeks or any(vocabularies.prompt(part, n_vocab) for part in parts):
        return parts
    windows: list[tuple[int, ...]] = parts[:1]
    for part, (before, seek) in zip(parts[1:], pairwise(seeks)):
        if seek == before:
            windows[-1] += part
        else:
            windows.append(part)
    return windows


def _taken_apart(part: tuple[int, ...], n_vocab: int) -> list[tuple[int, ...]]:
    words = vocabulary.tokenizer(n_vocab)
    starts = [i for i, token in enumerate(part) if token == words.sot]
    if len(starts) < 2 or starts[0]:
        return [part]
    windows = [part[start:end] for start, end in pairwise([*starts, len(part)])]
    heads = {vocabularies.prompt(window, n_vocab) for window in windows}
    whole = all(window[-1] == words.eot for window in windows) and len(heads) == 1
    return windows if whole else [part]


def passed_at(part: Sequence[int], eot: int) -> list[int]:
    """Places of end-of-text tokens with another token behind them; padding at the end is none."""
    last = max((i for i, token in enumerate(part) if token != eot), default=-1)
    return [i for i, token in enumerate(part[:last]) if token == eot]


def _limit(part: Sequence[int], n_vocab: int) -> str:
    """The limit at which a list stops without end-of-text, in words; "" where it does not."""
    words = vocabulary.tokenizer(n_vocab)
    if not part or part[-1] == words.eot:
        return ""
    head = vocabularies.prompt(part, n_vocab)
    sampled = len(part) - len(head)
    at_context = len(part) >= CONTEXT - NEAR_CONTEXT if head else len(part) in (CONTEXT, CONTEXT - NEAR_CONTEXT)
    if at_context and (head or words.eot not in part):
        return f"stops after {len(part)} tokens, the decoder's context of {CONTEXT}, without end-of-text"
    if sampled == SAMPLED or len(part) == SAMPLED:
        return f"stops after {SAMPLED} tokens, Whisper's limit for a window, without end-of-text"
    return ""


def _wrong_prompt(part: Sequence[int], n_vocab: int, language: str | None) -> str:
    words = vocabulary.tokenizer(n_vocab)
    foreign = _foreign_start(part, n_vocab, language)
    if foreign:
        return foreign
    head = vocabularies.prompt(part, n_vocab)
    if not head:
        return ""
    expected = _expected(head, n_vocab, language)
    following = vocabularies.body(part, n_vocab)[:1]
    has_times = bool(following) and following[0] >= words.timestamp_begin
    if words.no_timestamps in head and has_times:
        return f"{names(head, n_vocab)}: it asks for no timestamps, and {names(following, n_vocab)} follows"
    if head in (expected, expected[:-1]):  # with timestamps a prompt ends with the task
        return ""
    return (
        f"{names(head, n_vocab)} in a vocabulary of {n_vocab}, where {names(expected, n_vocab)} is expected"
        f"{_of_another(part[: len(expected)], n_vocab)}"
    )


def _of_another(head: Sequence[int], n_vocab: int) -> str:
    """The vocabulary whose whole prompt some ids are, in words; "" for none."""
    other = next((n for n in whole_in(head) if n != n_vocab), None) if n_vocab != ENGLISH_ONLY else None
    return f"; {' '.join(map(str, head))} is the prompt of a vocabulary of {other}" if other else ""


def _expected(head: Sequence[int], n_vocab: int, language: str | None) -> tuple[int, ...]:
    """The prompt without timestamps in this vocabulary; for a translation where `head` is such a prompt."""
    words = vocabulary.tokenizer(n_vocab)
    if n_vocab == ENGLISH_ONLY:
        return (words.sot, words.no_timestamps)
    codes = dict(zip(words.all_language_codes, words.all_language_tokens))
    own = next((token for token in head if token in words.all_language_tokens), codes["en"])
    prompt = (words.sot, codes.get(language or "", own), words.transcribe, words.no_timestamps)
    translation = (*prompt[:2], words.translate, words.no_timestamps)
    return translation if tuple(head) in (translation, translation[:3]) else prompt


def _foreign_start(part: Sequence[int], n_vocab: int, language: str | None) -> str:
    """A prompt that begins with the start-of-transcript of another vocabulary."""
    ours = vocabulary.tokenizer(n_vocab)
    for other in (vocabulary.MULTILINGUAL, ENGLISH_ONLY):
        theirs = vocabulary.tokenizer(other)
        if theirs.sot != ours.sot and part[:1] == (theirs.sot,) and len(part) > 1:
            head = [token for token in part[:4] if token > theirs.eot]
            if n_vocab == ENGLISH_ONLY or (part[1] >= theirs.no_timestamps or part[1] < theirs.eot):
                return (
                    f"it begins with {names(head, other)} of a vocabulary of {other}; its text is of {n_vocab}, where "
                    f"{names(_expected((), n_vocab, language), n_vocab)} is expected"
                )
    return ""


def differing(written: str, said: str) -> tuple[str, str]:
    """Both texts from the first word in which they differ."""
    ours, theirs = written.split(), said.split()
    first = next((i for i, pair in enumerate(zip_longest(ours, theirs)) if pair[0] != pair[1]), 0)
    return " ".join(ours[first:]), " ".join(theirs[first:])


def language(result: Result, n_vocab: int | None) -> str | None:
    """The language that a file says, or else its prompt."""
    if (code := languages.code(result.language)) or n_vocab in (None, ENGLISH_ONLY):
        return code
    assert n_vocab is not None  # noqa: S101 - narrowed above
    words = vocabulary.tokenizer(n_vocab)
    codes = dict(zip(words.all_language_tokens, words.all_language_codes))
    heads = (token for part in result.parts or () for token in vocabularies.prompt(part, n_vocab))
    return next((codes[token] for token in heads if token in codes), None)


def unknown_language(result: Result) -> Finding | None:
    """A language that is none of Whisper's."""
    if languages.code(result.language) or not languages.is_named(result.language):
        return None
    words = f"{result.name} says {result.language!s:.40}, which is none of Whisper's languages and is not used"
    return finding("language", words, is_fault=False)

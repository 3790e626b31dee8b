"""What changed: every difference between two traces of a clip, each with its class and the words around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import zip_longest
from typing import Any

from harness.attribution.explanation import Change
from harness.metrics import token
from harness.metrics.text import UNSPACED, is_mark
from harness.metrics.token import TokenEdit
from harness.trace import Trace, WindowTrace
from harness.vocabulary import spoken, timestamp_begin, token_bytes, token_text

WORDS_AROUND = 4
LOOP_LENGTH, LOOP_TIMES = 8, 3
"""A loop repeats at most this many tokens at least this many times more than the reference."""

Span = tuple[int, int]
"""[start, end)."""
Pair = tuple[Span, Span]
"""The same place in the reference and in the candidate."""


def differences(reference: Trace, candidate: Trace) -> tuple[Change, ...]:
    """Every difference in tokens between two traces of one clip, in order; none when the tokens are equal.

    Where both hold windows, an edit at which the candidate also flips when it is fed the reference's tokens is a cause;
    edits behind it are its consequences, unless they flip on their own.
    """
    n_vocab, language = reference.header.n_vocab, reference.header.language
    found: list[Change] = []
    if not reference.windows or not candidate.windows:
        pair = reference.header.tokens, candidate.header.tokens
        return tuple(changes(*pair, n_vocab, language))
    for r, c in zip(reference.windows, candidate.windows):
        if r.header.prompt != c.header.prompt:
            found.append(_of_prompt(r, c, n_vocab))
            continue
        in_window = changes(r.header.tokens, c.header.tokens, n_vocab, language, r.header.index)
        in_window = _ends(in_window, r, c)
        found.extend(_with_causes(in_window, _flips(r, c), len(found)))
    return tuple(found)


def changes(
    reference: Sequence[int], candidate: Sequence[int], n_vocab: int, language: str | None, window: int = 0
) -> list[Change]:
    """Every edit between two token sequences, whole words around it, none marked as a consequence."""
    loop = _loop(reference, candidate)
    edits = [_exact([edit]) for edit in token.edits(reference, candidate)]
    return [
        _change(exact, whole, reference, candidate, n_vocab, language, window, loop)
        for exact, whole in _whole_words(edits, reference, candidate, n_vocab, language)
    ]


def classify(reference: str, candidate: str, language: str | None) -> str:
    """The class of an edit between two texts; see `explanation.Change.edit_class`."""
    if reference == candidate:
        return "token"
    if "".join(reference.split()) == "".join(candidate.split()):
        return "spacing"
    if _letters(reference) == _letters(candidate):
        return "punctuation"
    if _letters(reference).casefold() == _letters(candidate).casefold():
        return "case"
    if language in UNSPACED and _simplified(_letters(reference)) == _simplified(_letters(candidate)):
        return "script"
    return "number" if any(c.isdigit() for c in reference + candidate) else "word"


def marks_that_differ(reference: str, candidate: str) -> str:
    """Punctuation marks that stand in one of two texts only."""
    ours, theirs = ([c for c in text if is_mark(c)] for text in (reference, candidate))
    gone = [mark for mark in ours if ours.count(mark) > theirs.count(mark)]
    come = [mark for mark in theirs if theirs.count(mark) > ours.count(mark)]
    return "".join(dict.fromkeys(gone + come))


def overlaps(first: Span, second: Span) -> bool:
    """Whether two spans [start, end) share a token or touch: an empty one stands between two tokens."""
    return first[0] <= second[1] and second[0] <= first[1]


def _change(
    exact: Pair,
    whole: Pair,
    reference: Sequence[int],
    candidate: Sequence[int],
    n_vocab: int,
    language: str | None,
    window: int,
    loop: Span | None,
) -> Change:
    (ours, theirs), (start, end) = exact, whole[0]
    old, new = (token_text(n_vocab, side[slice(*at)]) for side, at in zip((reference, candidate), whole))
    before = _words(token_text(n_vocab, spoken(n_vocab, reference[:start])), -WORDS_AROUND, language)
    after = _words(token_text(n_vocab, spoken(n_vocab, reference[end:])), WORDS_AROUND, language)
    kind = classify(old.strip(), new.strip(), language)
    if kind == "token" and f"{before}{old}{after}".strip() != f"{before}{new}{after}".strip():
        kind = "spacing"
    if any(each >= timestamp_begin(n_vocab) for each in (*reference[slice(*ours)], *candidate[slice(*theirs)])):
        kind = "timestamp"
    elif loop and theirs[0] < loop[1] and loop[0] < theirs[1]:
        kind = "repetition"
    return Change(
        edit_class=kind,
        mark=marks_that_differ(old, new) if kind == "punctuation" else "",
        before=before,
        reference_text=old.strip(),
        candidate_text=new.strip(),
        after=after,
        window=window,
        step=ours[0],
        reference_token=next(iter(reference[slice(*ours)]), None),
        candidate_token=next(iter(candidate[slice(*theirs)]), None),
        follows_from=None,
        reference_span=ours,
        candidate_span=theirs,
    )


def _exact(edits: Sequence[TokenEdit]) -> Pair:
    """The spans from the first edit to the last."""
    first, last = edits[0], edits[-1]
    return (
        (first.reference_start, last.reference_start + len(last.reference_tokens)),
        (first.candidate_start, last.candidate_start + len(last.candidate_tokens)),
    )


def _whole_words(
    edits: Sequence[Pair], reference: Sequence[int], candidate: Sequence[int], n_vocab: int, language: str | None
) -> list[tuple[Pair, Pair]]:
    """Each edit with the whole words and characters around it; edits that then touch are one."""
    found: list[tuple[Pair, Pair]] = []
    for edit in edits:
        exact, whole = edit, _grown(edit, reference, candidate, n_vocab, language)
        while (found and whole[0][0] < found[-1][1][0][1]) or (found and exact[0][0] == found[-1][0][0][1]):
            before, _ = found.pop()
            exact = (before[0][0], exact[0][1]), (before[1][0], exact[1][1])
            whole = _grown(exact, reference, candidate, n_vocab, language)
        found.append((exact, whole))
    return found


def _grown(exact: Pair, reference: Sequence[int], candidate: Sequence[int], n_vocab: int, language: str | None) -> Pair:
    """The edit, grown on both sides by the equal tokens there until no word and no character is cut."""
    (start, end), (other, other_end) = exact

    def is_cut_before() -> bool:
        parts = (reference[start:end], candidate[other:other_end])
        equal = start > 0 and other > 0 and reference[start - 1] == candidate[other - 1]
        return equal and any(_goes_on(n_vocab, part, language) for part in parts if part)

    while end < len(reference) and other_end < len(candidate) and reference[end] == candidate[other_end]:
        if not _goes_on(n_vocab, reference[end : end + 1], language):
            break
        end, other_end = end + 1, other_end + 1
    while is_cut_before():
        start, other = start - 1, other - 1
    return (start, end), (other, other_end)


def _goes_on(n_vocab: int, tokens: Sequence[int], language: str | None) -> bool:
    """Whether tokens begin inside a word, or inside a character."""
    text = token_text(n_vocab, tokens)
    if text.startswith("\ufffd"):  # bytes of UTF-8 below 0xC0 go on with a character, the others begin one
        return language not in UNSPACED or token_bytes(n_vocab, tokens)[0] < 0xC0
    return language not in UNSPACED and text[:1].isalnum()


def _of_prompt(r: WindowTrace, c: WindowTrace, n_vocab: int) -> Change:
    """A window whose prompts differ: another language token, as a rule; nothing behind it can be compared."""
    ours, theirs = next(pair for pair in zip_longest(r.header.prompt, c.header.prompt) if pair[0] != pair[1])
    old, new = (token_text(n_vocab, [] if each is None else [each]) for each in (ours, theirs))
    return Change("language", "", "", old, new, "", r.header.index, None, ours, theirs, None)


def _ends(found: list[Change], r: WindowTrace, c: WindowTrace) -> list[Change]:
    """A last edit that only adds or only takes words at the end: the end-of-text came late, or early."""
    if not found or found[-1].edit_class not in ("word", "number"):
        return found
    last, ours, theirs = found[-1], len(r.header.tokens), len(c.header.tokens)
    if last.reference_span == (ours, ours):
        return [*found[:-1], replace(last, edit_class="missing end")]
    if last.candidate_span == (theirs, theirs) and last.reference_span[1] == ours:
        return [*found[:-1], replace(last, edit_class="extra end")]
    return found


def _flips(r: WindowTrace, c: WindowTrace) -> set[int]:
    """Steps at which the candidate chooses differently when it is fed the reference's tokens."""
    ours, theirs = r.teacher_forced.choices, c.teacher_forced.choices
    count = min(len(ours), len(theirs))
    return {int(step) for step in (ours[:count] != theirs[:count]).nonzero()[0]}


def _with_causes(found: list[Change], flips: set[int], offset: int) -> list[Change]:
    cause: int | None = None
    marked = []
    for place, change in enumerate(found, offset):
        first, last = change.reference_span
        own = any(step in flips for step in range(first, max(last, first + 1)))
        follows = None if own or cause is None else cause
        cause = place if follows is None else cause
        marked.append(replace(change, follows_from=follows))
    return marked


def _loop(reference: Sequence[int], candidate: Sequence[int]) -> Span | None:
    """The longest stretch of the candidate that repeats one n-gram LOOP_TIMES times more than the reference does."""
    spans = [(n, span) for n in range(1, LOOP_LENGTH + 1) for span in _stretches(candidate, n)]
    found = [
        (end - start, (start, end))
        for n, (start, end) in spans
        if (end - start) // n - _times(reference, candidate[start : start + n]) >= LOOP_TIMES
    ]
    return max(found)[1] if found else None


def _stretches(tokens: Sequence[int], n: int) -> list[Span]:
    """Maximal stretches in which every token equals the one n before it, at least two n-grams long."""
    found, start = [], 0
    for place in range(n, len(tokens) + 1):
        if place == len(tokens) or tokens[place] != tokens[place - n]:
            if place - start >= 2 * n:
                found.append((start, place))
            start = place - n + 1
    return found


def _times(tokens: Sequence[int], gram: Sequence[int]) -> int:
    """How often an n-gram stands in a row in a sequence, at most."""
    best, n = 0, len(gram)
    for start in range(len(tokens) - n + 1):
        count = 0
        while tuple(tokens[start + count * n : start + (count + 1) * n]) == tuple(gram):
            count += 1
        best = max(best, count)
    return best


def _letters(text: str) -> str:
    """Text without punctuation, words separated by single blanks."""
    return " ".join("".join(c for c in text if not is_mark(c)).split())


def _words(text: str, count: int, language: str | None) -> str:
    """The first words of a text, or the last ones for a negative count; characters in unspaced scripts."""
    parts = list(text.strip()) if language in UNSPACED else text.split()
    kept = parts[count:] if count < 0 else parts[:count]
    return ("" if language in UNSPACED else " ").join(kept)


def _simplified(text: str) -> str:
    return str(_converter().convert(text))


@cache
def _converter() -> Any:
    from opencc import OpenCC

    return OpenCC("t2s")

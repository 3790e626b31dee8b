"""What changed: every difference between two traces of a clip, with its class and the surrounding words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest

from rapidfuzz.distance import Indel

from whisper_parity.compare import repetition, scripts, token
from whisper_parity.compare.text import UNSPACED, is_mark, with_inner_marks_as_letters
from whisper_parity.compare.token import TokenEdit
from whisper_parity.explain.explanation import Change
from whisper_parity.model.vocabulary import spoken, timestamp_begin, token_bytes, token_text, whole_characters
from whisper_parity.trace.trace import Trace, WindowTrace, share_windows

WORDS_AROUND = 4
LOOP_TIMES = 3
"""A loop repeats its tokens at least this many times more than the reference."""

Span = tuple[int, int]
"""[start, end)."""
Pair = tuple[Span, Span]
"""The same place in the reference and in the candidate."""


def differences(reference: Trace, candidate: Trace) -> tuple[Change, ...]:
    """Every difference in tokens between two traces of one clip, in order; none when the tokens are equal.

    Where both hold the same windows, an edit at which the candidate also flips under the reference's tokens is a cause;
    edits behind it are its consequences, unless they flip on their own.
    """
    n_vocab, language = reference.header.vocabulary, reference.header.language
    changed: list[Change] = []
    if not share_windows(reference, candidate):
        pair = reference.header.tokens, candidate.header.tokens
        return tuple(changes(*pair, n_vocab, language))
    theirs = {window.header.index: window for window in candidate.windows}
    for r, c in (
        (window, theirs[window.header.index]) for window in reference.windows if window.header.index in theirs
    ):
        if r.header.prompt != c.header.prompt:
            changed.append(_prompt_change(r, c, n_vocab))
            continue
        edits = changes(r.header.tokens, c.header.tokens, n_vocab, language, r.header.index)
        edits = _classify_end(edits, r, c)
        changed.extend(_with_causes(edits, _flips(r, c), len(changed)))
    return tuple(changed)


def changes(
    reference: Sequence[int], candidate: Sequence[int], n_vocab: int, language: str | None, window: int = 0
) -> list[Change]:
    """Every edit between two token sequences, extended to whole words, none marked as a consequence."""
    loops = _loops(reference, candidate), _loops(candidate, reference)
    edits = _words_first(reference, candidate, n_vocab)
    return [
        _change(exact, whole, reference, candidate, n_vocab, language, window, loops)
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
    if (language is None or language in UNSPACED) and scripts.simplified(_letters(reference)) == scripts.simplified(
        _letters(candidate)
    ):
        return "script"
    return "number" if any(c.isdigit() for c in reference + candidate) else "word"


def marks_that_differ(reference: str, candidate: str) -> str:
    """Punctuation marks that occur more often in one of two texts."""
    ours, theirs = ([c for c in text if is_mark(c)] for text in (reference, candidate))
    gone = [mark for mark in ours if ours.count(mark) > theirs.count(mark)]
    come = [mark for mark in theirs if theirs.count(mark) > ours.count(mark)]
    return "".join(dict.fromkeys(gone + come))


def overlaps(first: Span, second: Span) -> bool:
    """Whether two spans [start, end) share a token or touch: an empty span lies between two tokens."""
    return first[0] <= second[1] and second[0] <= first[1]


def _change(
    exact: Pair,
    whole: Pair,
    reference: Sequence[int],
    candidate: Sequence[int],
    n_vocab: int,
    language: str | None,
    window: int,
    loops: tuple[list[Span], list[Span]],
) -> Change:
    (ours, theirs), (start, end) = exact, whole[0]
    old, new = (token_text(n_vocab, side[slice(*at)]) for side, at in zip((reference, candidate), whole))
    before = _words(token_text(n_vocab, spoken(n_vocab, reference[:start])), -WORDS_AROUND, language)
    after = _words(token_text(n_vocab, spoken(n_vocab, reference[end:])), WORDS_AROUND, language)
    kind = classify(old.strip(), new.strip(), language)
    if kind == "token" and f"{before}{old}{after}".strip() != f"{before}{new}{after}".strip():
        kind = "spacing"
    if any(token_id >= timestamp_begin(n_vocab) for token_id in (*reference[slice(*ours)], *candidate[slice(*theirs)])):
        kind = "timestamp"
    elif any(at[0] < loop[1] and loop[0] < at[1] for at, side in zip(exact, loops) for loop in side):
        kind = "repetition"
    return Change(
        edit_class=kind,
        mark=_mark(kind, old, new),
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


def _words_first(reference: Sequence[int], candidate: Sequence[int], n_vocab: int) -> list[Pair]:
    """The edits of an alignment that keeps as many words as possible, then the marks between them.

    A shortest alignment of all tokens may keep a comma that moved and report the word beside it as moved.
    """
    ours, theirs = (_word_spans(side, n_vocab) for side in (reference, candidate))
    kept = Indel.opcodes([tuple(reference[slice(*at)]) for at in ours], [tuple(candidate[slice(*at)]) for at in theirs])
    equal = (
        zip(ours[block.src_start : block.src_end], theirs[block.dest_start :]) for block in kept if block.tag == "equal"
    )
    edits: list[Pair] = []
    start, other = 0, 0
    for (end, after), (other_end, other_after) in [*chain(*equal), ((len(reference),) * 2, (len(candidate),) * 2)]:
        between = token.edits(reference[start:end], candidate[other:other_end])
        edits += [_shifted(edit, start, other) for edit in between]
        start, other = after, other_after
    return _join_moved_marks(edits, reference, candidate, n_vocab)


def _join_moved_marks(
    edits: Sequence[Pair], reference: Sequence[int], candidate: Sequence[int], n_vocab: int
) -> list[Pair]:
    """Join edits that touch, and those with only marks between them whose letters are equal only together.

    A mark that moves changes the tokens of the characters beside it.
    """

    def letters(at: Pair) -> list[str]:
        return [_letters(token_text(n_vocab, side[slice(*span)])) for side, span in zip((reference, candidate), at)]

    joined_edits: list[Pair] = []
    for edit in edits:
        if joined_edits and _is_mark(token_text(n_vocab, reference[joined_edits[-1][0][1] : edit[0][0]])):
            joined = (joined_edits[-1][0][0], edit[0][1]), (joined_edits[-1][1][0], edit[1][1])
            touch = joined_edits[-1][0][1] == edit[0][0]
            if touch or (len(set(letters(edit))) == 2 and len(set(letters(joined))) == 1):
                joined_edits[-1] = joined
                continue
        joined_edits.append(edit)
    return joined_edits


def _word_spans(tokens: Sequence[int], n_vocab: int) -> list[Span]:
    """Spans of tokens that hold more than marks and blanks; tokens that share a character form one span.

    A timestamp is no word.
    """
    return [
        (start, end)
        for start, end in whole_characters(n_vocab, tokens)
        if tokens[end - 1] < timestamp_begin(n_vocab) and not _is_mark(token_text(n_vocab, tokens[start:end]))
    ]


def _is_mark(text: str) -> bool:
    return all(is_mark(c) or c.isspace() for c in text)


def _shifted(edit: TokenEdit, start: int, other: int) -> Pair:
    """The spans of an edit whose positions count from `start` and `other`."""
    ours, theirs = start + edit.reference_start, other + edit.candidate_start
    return (ours, ours + len(edit.reference_tokens)), (theirs, theirs + len(edit.candidate_tokens))


def _whole_words(
    edits: Sequence[Pair], reference: Sequence[int], candidate: Sequence[int], n_vocab: int, language: str | None
) -> list[tuple[Pair, Pair]]:
    """Extend each edit to whole words and characters; edits that then touch are joined."""
    grown: list[tuple[Pair, Pair]] = []
    for edit in edits:
        exact, whole = edit, _grown(edit, reference, candidate, n_vocab, language)
        while (grown and whole[0][0] < grown[-1][1][0][1]) or (grown and exact[0][0] == grown[-1][0][0][1]):
            before, _ = grown.pop()
            exact = (before[0][0], exact[0][1]), (before[1][0], exact[1][1])
            whole = _grown(exact, reference, candidate, n_vocab, language)
        grown.append((exact, whole))
    return grown


def _grown(exact: Pair, reference: Sequence[int], candidate: Sequence[int], n_vocab: int, language: str | None) -> Pair:
    """Extend an edit on both sides over equal tokens until no word and no character is cut."""
    (start, end), (other, other_end) = exact

    def is_cut_before() -> bool:
        parts = (reference[start:end], candidate[other:other_end])
        equal = start > 0 and other > 0 and reference[start - 1] == candidate[other - 1]
        return equal and any(_starts_inside(n_vocab, part, language) for part in parts if part)

    while end < len(reference) and other_end < len(candidate) and reference[end] == candidate[other_end]:
        if not _starts_inside(n_vocab, reference[end : end + 1], language):
            break
        end, other_end = end + 1, other_end + 1
    while is_cut_before():
        start, other = start - 1, other - 1
    return (start, end), (other, other_end)


def _starts_inside(n_vocab: int, tokens: Sequence[int], language: str | None) -> bool:
    """Whether tokens start inside a word, or inside a character."""
    text = token_text(n_vocab, tokens)
    if text.startswith("\ufffd"):  # bytes of UTF-8 below 0xC0 continue a character, the others start one
        return language not in UNSPACED or token_bytes(n_vocab, tokens)[0] < 0xC0
    return language not in UNSPACED and text[:1].isalnum()


def _prompt_change(r: WindowTrace, c: WindowTrace, n_vocab: int) -> Change:
    """The change of a window whose prompts differ, usually in language; no later token can be compared."""
    ours, theirs = next(pair for pair in zip_longest(r.header.prompt, c.header.prompt) if pair[0] != pair[1])
    old, new = (token_text(n_vocab, [] if token_id is None else [token_id]) for token_id in (ours, theirs))
    return Change("language", "", "", old, new, "", r.header.index, None, ours, theirs, None)


def _classify_end(edits: list[Change], r: WindowTrace, c: WindowTrace) -> list[Change]:
    """Reclassify a last edit that only adds or only removes words: the end-of-text came late, or early."""
    if not edits or edits[-1].edit_class not in ("word", "number"):
        return edits
    last, ours, theirs = edits[-1], len(r.header.tokens), len(c.header.tokens)
    if last.reference_span == (ours, ours):
        return [*edits[:-1], replace(last, edit_class="missing end")]
    if last.candidate_span == (theirs, theirs) and last.reference_span[1] == ours:
        return [*edits[:-1], replace(last, edit_class="extra end")]
    return edits


def _flips(r: WindowTrace, c: WindowTrace) -> set[int]:
    """Steps at which the candidate chooses differently under the reference's tokens."""
    ours, theirs = r.teacher_forced.choices, c.teacher_forced.choices
    count = min(len(ours), len(theirs))
    return {int(step) for step in (ours[:count] != theirs[:count]).nonzero()[0]}


def _with_causes(edits: list[Change], flips: set[int], offset: int) -> list[Change]:
    cause: int | None = None
    marked = []
    for index, change in enumerate(edits, offset):
        first, last = change.reference_span
        own = any(step in flips for step in range(first, max(last, first + 1)))
        follows = None if own or cause is None else cause
        cause = index if follows is None else cause
        marked.append(replace(change, follows_from=follows))
    return marked


def _loops(units: Sequence[int], others: Sequence[int]) -> list[Span]:
    """Stretches that repeat at least LOOP_TIMES times more than in the other sequence."""
    return [(loop.start, loop.end) for loop in repetition.loops(units, others) if loop.surplus >= LOOP_TIMES]


def _mark(kind: str, reference: str, candidate: str) -> str:
    """The marks of an edit of this class: those on one side only, or else those that moved."""
    if kind not in ("punctuation", "case"):
        return ""
    moved = "".join(dict.fromkeys(c for c in reference if is_mark(c))) if kind == "punctuation" else ""
    return marks_that_differ(reference, candidate) or moved


def _letters(text: str) -> str:
    """Text without punctuation, words separated by single blanks; a point inside a number is kept."""
    words = ("".join(c for c, mark in with_inner_marks_as_letters(chunk) if not mark) for chunk in text.split())
    return " ".join(filter(None, words))


def _words(text: str, count: int, language: str | None) -> str:
    """The first words of a text, or the last ones for a negative count; characters in unspaced scripts."""
    parts = list(text.strip()) if language in UNSPACED else text.split()
    kept = parts[count:] if count < 0 else parts[:count]
    return ("" if language in UNSPACED else " ").join(kept)

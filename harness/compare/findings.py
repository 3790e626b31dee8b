"""The named findings of two results of one clip: loops, lost and invented text, other words, another writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from whisper_parity.compare import repetition, scripts
from whisper_parity.compare.finding import Finding, cut, finding, worst_first
from whisper_parity.compare.normalise import for_language
from whisper_parity.compare.repetition import Loop
from whisper_parity.compare.sides import Side
from whisper_parity.compare.words import Gap, gaps

UNANSWERED = 3
"""Words that one text has more than the other, in one place, from which they are lost or invented, not changed."""
PAUSE = 0.5
"""Seconds between two segments from which the reference hears a pause there."""
LOOPS_NAMED, ROUNDS = 3, 4
CONTEXT = 3
"""Words in front of a place that name it."""
LONG = 20
"""Characters of the shortest stretch that repeats inside a word."""


@dataclass(frozen=True, slots=True)
class _Repeated:
    """A loop in the words of a side."""

    words: tuple[int, ...]
    """Indices of the words of its first surplus repetition."""
    surplus: int
    times: int
    allowed: int


@dataclass(frozen=True, slots=True)
class _Unrolled:
    """A side without what loops in it."""

    side: Side
    kept: tuple[int, ...]
    """Indices of its words that remain."""
    looped: frozenset[int]
    """Those of them that are a loop's remaining repetition."""
    loops: tuple[_Repeated, ...]
    """The largest first."""

    def shown(self, start: int, end: int) -> str:
        """Text of the kept words [start, end)."""
        return _span(self.side, self.kept[start:end])

    def step(self, word: int) -> int | None:
        """The token in which a kept word begins."""
        return self.side.step(self.kept[word] if word < len(self.kept) else len(self.side.words))


def of_pair(reference: Side, candidate: Side) -> tuple[Finding, ...]:
    """Every finding of two results, the worst first; none where only marks, case, numbers or spelling differ."""
    if reference.text == candidate.text:
        return ()
    language = reference.language or candidate.language
    written = scripts.variant(reference.text, candidate.text, language)
    keys = _keys(reference, language), _keys(candidate, language)
    ours, theirs = _unrolled(reference, *keys), _unrolled(candidate, *reversed(keys))
    findings = [finding("script variant", written, is_fault=False)] if written else []
    findings += _of_loops(ours, theirs)
    if "letters" not in written:
        findings += _of_gaps(ours, theirs, *keys, language)
    return worst_first(findings)


def _keys(side: Side, language: str | None) -> list[str]:
    """The words of a side; Chinese ones in simplified characters."""
    keys = [word.key for word in side.words]
    if not scripts.may_be_chinese(side.text, language):
        return keys
    plain = scripts.simplified("\n".join(keys)).split("\n")
    return plain if len(plain) == len(keys) else keys


def _unrolled(side: Side, keys: Sequence[str], others: Sequence[str]) -> _Unrolled:
    """Cut loops until none is left: a loop may hold another one."""
    kept, repeated, looped = list(range(len(keys))), [], set[int]()
    for _ in range(ROUNDS):
        units = [keys[i] for i in kept]
        loops = repetition.loops(units, others)
        repeated += [_repeated(loop, kept) for loop in loops]
        looped |= {kept[i] for loop in loops for i in range(loop.start, loop.kept_end)}
        kept = [kept[i] for i in repetition.without(units, loops)]
        if not loops:
            break
    largest = sorted(repeated, key=lambda item: -item.surplus * len(item.words))
    return _Unrolled(side, tuple(kept), frozenset(looped), tuple(largest))


def _repeated(loop: Loop, kept: Sequence[int]) -> _Repeated:
    words = tuple(kept[loop.surplus_start : loop.surplus_start + loop.period])
    return _Repeated(words, loop.surplus, loop.times, loop.allowed)


def _of_loops(ours: _Unrolled, theirs: _Unrolled) -> Iterator[Finding]:
    for repeated in theirs.loops[:LOOPS_NAMED]:
        yield _loop(theirs.side, repeated)
    if rest := theirs.loops[LOOPS_NAMED:]:
        yield finding("repetition loop", f"{len(rest)} more, {sum(item.surplus for item in rest)} repetitions in all")
    if not theirs.loops and (small := _small_loop(theirs.side, ours.side)):
        yield small
    for repeated in ours.loops[:1]:
        yield _loop(ours.side, repeated, " of the reference, and not in the candidate: is it the right reference?")


def _loop(side: Side, repeated: _Repeated, where: str = "") -> Finding:
    """As in: ' for you,' x 60 from step 15 (61 in a row, the other text has 1)."""
    step = side.step(repeated.words[0])
    place = f"from word {repeated.words[0]}" if step is None else f"from step {step}"
    counted = f" ({repeated.times} in a row, the other text has {repeated.allowed})" if repeated.allowed else ""
    words = f"{cut(_span(side, repeated.words))!r} x {repeated.surplus} {place}{where}{counted}"
    return finding("repetition loop", words, count=repeated.surplus, step=step)


def _small_loop(candidate: Side, reference: Side) -> Finding | None:
    """A loop of marks, or inside a word: "!!!!", "hahaha"."""
    ours, theirs = ("".join(side.text.split()) for side in (candidate, reference))
    loops = [
        loop for loop in repetition.loops(ours, theirs) if loop.end - loop.start >= LONG and loop.surplus > loop.allowed
    ]
    if not loops:
        return None
    loop = max(loops, key=lambda loop: loop.end - loop.start)
    part = ours[loop.start : loop.start + loop.period]
    place = f"from character {loop.surplus_start}, blanks not counted"
    return finding("repetition loop", f"{cut(part)!r} x {loop.surplus} {place}", count=loop.surplus)


def _of_gaps(
    ours: _Unrolled, theirs: _Unrolled, old: Sequence[str], new: Sequence[str], language: str | None
) -> Iterator[Finding]:
    kept = [old[i] for i in ours.kept], [new[i] for i in theirs.kept]
    unequal = [gap for gap in gaps(*kept) if not _reads_same(ours, theirs, gap, language)]
    unequal = [gap for gap in unequal if not _is_of_loop(theirs, gap)]
    if kept[1] and len(kept[0]) == sum(gap.removed for gap in unequal) >= UNANSWERED:
        counted = f"none of the reference's {len(kept[0])} words is among the candidate's {len(kept[1])}"
        yield finding("other text", counted, count=len(kept[0]))
        return
    by_kind: dict[str, list[Gap]] = {}
    for gap in unequal:
        by_kind.setdefault(_kind(gap, len(kept[0])), []).append(gap)
    for kind, places in by_kind.items():
        yield _SENTENCES[kind](ours, theirs, kind, places)


def _kind(gap: Gap, length: int) -> str:
    if gap.added - gap.removed >= UNANSWERED or not gap.removed:
        return "invented text"
    if gap.removed - gap.added < UNANSWERED and gap.added:
        return "changed words"
    if gap.end == length and gap.start:
        return "lost end"
    return "lost beginning" if not gap.start and gap.end < length else "lost text"


def _reads_same(ours: _Unrolled, theirs: _Unrolled, gap: Gap, language: str | None) -> bool:
    """Whether a gap is spelling, spacing or a number: equal once openai-whisper's normaliser is through."""
    old, new = ours.shown(gap.start, gap.end), theirs.shown(gap.other_start, gap.other_end)
    normalise = for_language(language)[1]
    return _bare(normalise(old)) == _bare(normalise(new))


def _is_of_loop(theirs: _Unrolled, gap: Gap) -> bool:
    """Whether all that was added is what a loop repeats: it has its own finding."""
    return not gap.removed and theirs.looped.issuperset(theirs.kept[gap.other_start : gap.other_end])


def _bare(text: str) -> str:
    return "".join(text.split())


def _invented(ours: _Unrolled, theirs: _Unrolled, kind: str, places: Sequence[Gap]) -> Finding:
    largest = max(places, key=lambda gap: gap.added)
    step = theirs.step(largest.other_start)
    words = f"{_new(theirs, largest)!r} ({_count(largest.added)}){_where(ours, largest, step)}"
    return finding(kind, words + _more(places, "added"), count=sum(gap.added for gap in places), step=step)


def _lost(ours: _Unrolled, theirs: _Unrolled, kind: str, places: Sequence[Gap]) -> Finding:
    largest = max(places, key=lambda gap: gap.removed)
    step = ours.step(largest.start)
    whole = ", all that the reference says" if largest.removed == len(ours.kept) else ""
    at = f" from step {step} of the reference" if step is not None else ""
    instead = f", {_new(theirs, largest)!r} in its place" if largest.added else ""
    words = f"{_old(ours, largest)!r} ({_count(largest.removed)}){whole}{at}{instead}"
    return finding(kind, words + _more(places, "removed"), count=sum(gap.removed for gap in places), step=step)


def _changed(ours: _Unrolled, theirs: _Unrolled, kind: str, places: Sequence[Gap]) -> Finding:
    first = places[0]
    step = theirs.step(first.other_start)
    at = f" at step {step}" if step is not None else ""
    words = f"{_old(ours, first)!r} -> {_new(theirs, first)!r}{at}"
    return finding(kind, words + _more(places, "removed"), count=sum(gap.removed for gap in places), step=step)


_SENTENCES: dict[str, Callable[[_Unrolled, _Unrolled, str, Sequence[Gap]], Finding]] = {
    "invented text": _invented,
    "changed words": _changed,
    **dict.fromkeys(("lost text", "lost beginning", "lost end"), _lost),
}


def _old(ours: _Unrolled, gap: Gap) -> str:
    return cut(ours.shown(gap.start, gap.end).strip())


def _new(theirs: _Unrolled, gap: Gap) -> str:
    return cut(theirs.shown(gap.other_start, gap.other_end).strip())


def _where(ours: _Unrolled, gap: Gap, step: int | None) -> str:
    """Where text was invented: in silence, in a pause, at an end, or behind which words."""
    at, reference = "" if step is None else f" at step {step}", ours.side
    if reference.is_silent or not ours.kept:
        return f"{at}, in silence: {'every sample is 0' if reference.is_silent else 'the reference hears nothing'}"
    if gap.end == len(ours.kept):
        last = reference.around(len(reference.words))
        return f"{at}, behind the end of the reference{f' ({last[0].end:.2f} s)' if last else ''}"
    if not gap.start:
        return f"{at}, in front of the reference's beginning"
    return f"{at}, {_between(ours, gap)}"


def _between(ours: _Unrolled, gap: Gap) -> str:
    around = ours.side.around(ours.kept[gap.start]) if gap.start == gap.end else None
    if around is None or around[1] is None or around[1].start is None or around[0].end is None:
        return f"behind {ours.shown(max(0, gap.start - CONTEXT), gap.start).strip()!r}"
    start, end = around[0].end, around[1].start
    if end - start >= PAUSE:
        return f"in a pause of the reference, {start:.2f} to {end:.2f} s"
    return f"between two segments of the reference, at {start:.2f} s"


def _more(places: Sequence[Gap], side: str) -> str:
    if len(places) == 1:
        return ""
    return f"; {len(places)} places, {_count(sum(getattr(gap, side) for gap in places))} in all"


def _count(words: int) -> str:
    return "1 word" if words == 1 else f"{words} words"


def _span(side: Side, words: Sequence[int]) -> str:
    """The text of some words; what was cut out of a loop between them is not in it."""
    if not words:
        return ""
    if words[-1] - words[0] == len(words) - 1:
        return side.shown(words[0], words[-1] + 1)
    return " ".join(side.shown(i, i + 1).strip() for i in words)

"""What a reader is told first: which stage must not ship, what it does to the words, and that the rest is sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from whisper_parity.compare.comparison import Comparison
from whisper_parity.compare.text import TextDiff, TextEdit
from whisper_parity.explain.explanation import Cause, Explanations
from whisper_parity.gate.result import GateResult
from whisper_parity.judge.verdict import Grade, Outcome, RungResult
from whisper_parity.run.report import Judged, Report, Row, StageInfo

FLOW = ("weights", "features", "prompt", "context", "tensor", "cache", "logits", "token", "detokenise", "text", "end")
"""Rungs in the order of the flow; one that is not named here comes behind them."""
CHANGES = 3
"""Changes of words that are told of a stage."""
KINDS = {
    "repetition loop": "repeats itself",
    "language": "writes another language",
    "wrong prompt": "gets a wrong prompt",
    "end-of-text passed": "talks past the end of the text",
    "token limit": "does not come to an end",
    "other text": "writes another text",
    "vocabulary": "has another vocabulary",
    "text against tokens": "writes another text than its tokens",
    "special tokens": "shows special tokens",
}
"""What a stage does that shows a finding of a kind; of lost and invented text the words are counted."""


DONE: Mapping[str, Callable[[TextEdit], bool]] = {
    "loses": lambda edit: not edit.hypothesis,
    "invents": lambda edit: not edit.reference,
    "changes": lambda edit: bool(edit.reference and edit.hypothesis),
}
"""What an edit does to a word."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Words of a clip that a stage changed, reference first."""

    clip: str
    stage: str
    reference: str
    """"" where the stage invented them."""
    candidate: str
    """"" where the stage lost them."""
    edit_class: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A cause that was measured."""

    where: str
    """"encoder, encoder.blocks.0"; "decoder, all units alike" where none is at fault by itself."""
    finding: str
    """The measurement of the first clip, a sentence."""
    clips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A stage that must not ship, or of which nothing can be said."""

    stage: str
    reference: str
    """What it was judged against; "" where it was not."""
    words: str
    """What it does: "loses 2 words in 1 of 10 clips"."""
    rungs: tuple[tuple[str, str, int], ...]
    """(rung, the reason of its worst clip, clips in which it is the first to fail), in the order of the flow."""
    clips: tuple[str, ...]
    changes: tuple[Changed, ...]
    hidden: int
    """Changes outside `changes`."""
    because: tuple[Measured, ...]
    """What was measured of its cause; empty where nobody asked."""
    follows: str = ""
    """The stage in front of it that did this; "" for its own doing."""
    was_judged: bool = True


@dataclass(frozen=True, slots=True)
class Sound:
    """A stage that can ship."""

    stage: str
    reference: str
    """"" for the root."""
    outcome: Outcome
    words: str


@dataclass(frozen=True, slots=True)
class Opening:
    """The first lines of a report."""

    sentence: str
    broken: tuple[Broken, ...]
    sound: tuple[Sound, ...]


def opening(report: Report, explanations: Sequence[Explanations] = (), gate: GateResult | None = None) -> Opening:
    """The opening of a run's report.

    Args:
        report: the run.
        explanations: what `parity explain` measured of it.
        gate: what the gate said of it; one that fails comes before what the run alone would pass.
    """
    cells = _cells(report)
    broken = tuple(filter(None, (_broken(report, stage, cells[stage.spec], explanations) for stage in report.stages)))
    names = {item.stage for item in broken}
    sound = tuple(_sound(stage, cells[stage.spec]) for stage in report.stages if stage.spec not in names)
    sentence = _sentence(report, broken, sound)
    if gate and gate.exit_code and not any(item.was_judged for item in broken):
        sentence = f"this run must not be released: gate {gate.sentence}"
    return Opening(sentence, broken, sound)


def first_failing(row: Row) -> RungResult | None:
    """The first rung of a row that fails, in the order of the flow; None where none does."""
    failing = [rung for rung in row.verdict.rungs if rung.grade is Grade.FAIL]
    return min(failing, key=lambda rung: place(rung.rung), default=None)


def decided_by(row: Row) -> Judged | None:
    """The comparison that made a row diverge, against the parent first; that against the parent where none did."""
    sides = [side for side in (row.vs_parent, row.vs_root) if side]
    return next((side for side in sides if side.verdict.outcome is Outcome.DIVERGED), next(iter(sides), None))


def place(rung: str) -> int:
    """Sort key of rungs in the order of the flow."""
    return FLOW.index(rung) if rung in FLOW else len(FLOW)


@dataclass(slots=True)
class _Cells:
    """A stage's cells: those of which there is something to tell, and how many there are."""

    count: int = 0
    drifting: int = 0
    was_compared: bool = False
    told: list[Row] = field(default_factory=list)
    """Those that failed, or whose text changed."""


def _cells(report: Report) -> dict[str, _Cells]:
    """By stage; the rows pass by once, and those that are as they should be are not held."""
    cells = {stage.spec: _Cells() for stage in report.stages}
    for row in report.rows:
        if row.stage in cells:
            of_stage = cells[row.stage]
            of_stage.count += 1
            of_stage.drifting += row.verdict.outcome is Outcome.DRIFT
            of_stage.was_compared |= row.judged is not None
            text = row.judged.comparison.text if row.judged else None
            if row.verdict.outcome.exit_code or (text and text.edits):
                of_stage.told.append(row)
    return cells


def _broken(report: Report, stage: StageInfo, cells: _Cells, explanations: Sequence[Explanations]) -> Broken | None:
    diverged = [row for row in cells.told if row.verdict.outcome is Outcome.DIVERGED]
    if diverged:
        return _diverged(stage, diverged, cells.count, explanations, _of_cache(report, stage))
    if states := [check for check in report.states if check.stage == stage.spec and check.failed]:
        clips = tuple(dict.fromkeys(clip for check in states for clip in check.clips))
        rung = "state" if states[0].stateful else "cache"
        rungs = ((rung, f"{states[0].sequence}: {states[0].reason}", len(clips)),)
        return Broken(
            stage.spec,
            "",
            "remembers what ran before" if states[0].stateful else "keeps its cache wrongly",
            rungs,
            clips,
            (),
            0,
            (),
        )
    lost = [row for row in cells.told if row.verdict.outcome.exit_code]
    if not lost and (stage.available or cells.count):
        return None
    reason = lost[0].verdict.reason if lost else stage.reason
    share = f" on {len(lost)} of {_counted(cells.count, 'clip')}" if len(lost) < cells.count else ""
    words = ": ".join(filter(None, (f"could not be judged{share}", reason)))
    return Broken(stage.spec, "", words, (), tuple(row.clip for row in lost), (), 0, (), was_judged=False)


def _of_cache(report: Report, stage: StageInfo) -> list[tuple[str, str, int]]:
    """The rung of a cache that is kept wrongly."""
    checks = [check for check in report.states if check.stage == stage.spec and check.failed and not check.stateful]
    return [("cache", check.reason, len(check.clips)) for check in checks]


def _diverged(
    stage: StageInfo,
    rows: list[Row],
    count: int,
    explanations: Sequence[Explanations],
    of_cache: Sequence[tuple[str, str, int]],
) -> Broken:
    decided = [(row, side) for row in rows if (side := decided_by(row))]
    changes = [change for row, side in decided for change in _changes(row, side.comparison)]
    changes.sort(key=lambda change: change.edit_class in ("punctuation", "case"))
    clips = tuple(row.clip for row in rows)
    does = _damage([side.comparison for _, side in decided], rows)
    return Broken(
        stage=stage.spec,
        reference=decided[0][1].comparison.reference if decided else "",
        words=f"{does} in {len(rows)} of {_counted(count, 'clip')}",
        rungs=(*of_cache, *_first_rungs(rows)),
        clips=clips,
        changes=tuple(changes[:CHANGES]),
        hidden=max(0, len(changes) - CHANGES),
        because=_because(stage.spec, clips, explanations),
        follows=(stage.parent or "") if all(map(_is_inherited, rows)) else "",
    )


def _is_inherited(row: Row) -> bool:
    """Whether a row's own edge holds, and what diverged lies in front of it."""
    own = row.program is not None and bool(row.program.failing)
    return row.vs_parent is not None and row.vs_parent.verdict.outcome is not Outcome.DIVERGED and not own


def _first_rungs(rows: Sequence[Row]) -> Iterator[tuple[str, str, int]]:
    first: dict[str, list[tuple[str, RungResult]]] = {}
    for row in rows:
        if rung := first_failing(row):
            first.setdefault(rung.rung, []).append((row.clip, rung))
    for name in sorted(first, key=place):
        clip, rung = first[name][0]
        yield name, f"{clip}: {rung.reason}" if len(rows) > 1 else rung.reason, len(first[name])


def _changes(row: Row, comparison: Comparison) -> Iterator[Changed]:
    """Runs of changed units."""
    edits = comparison.text.edits if comparison.text else ()
    joiner = "" if comparison.text and comparison.text.leading == "cer" else " "
    runs: list[list[TextEdit]] = []
    for edit in edits:
        if runs and _continues(runs[-1][-1], edit):
            runs[-1].append(edit)
        else:
            runs.append([edit])
    for run in runs:
        texts = [joiner.join(filter(None, side)) for side in zip(*((edit.reference, edit.hypothesis) for edit in run))]
        yield Changed(row.clip, row.stage, texts[0], texts[1], run[0].edit_class)


def _continues(before: TextEdit, edit: TextEdit) -> bool:
    """Whether an edit goes on where the one before it ended: words beside words."""
    beside = edit.position - before.position <= int(bool(before.reference))
    return beside and "punctuation" not in (before.edit_class, edit.edit_class)


def _damage(comparisons: Sequence[Comparison], rows: Sequence[Row]) -> str:
    """What the rows have in common, in words."""
    texts = [comparison.text for comparison in comparisons if comparison.text]
    edits = [edit for text in texts for edit in text.edits]
    told = list(filter(None, (_told(verb, done, texts) for verb, done in DONE.items())))
    if numbers := sum(edit.edit_class == "number" for edit in edits):
        told.append(f"changes {_counted(numbers, 'number')}")
    told = [*dict.fromkeys(KINDS[kind] for row in rows for kind in _kinds(row) if kind in KINDS), *told]
    marks = sum(edit.edit_class in ("punctuation", "case") for edit in edits)
    if not told and marks:
        told = [f"changes {marks} {'mark or capital letter' if marks == 1 else 'marks or capital letters'}"]
    return _listed(told) or _without_words(rows)


def _told(verb: str, done: Callable[[TextEdit], bool], texts: Sequence[TextDiff]) -> str:
    """As in "loses 2 words and 3 characters": of words that no blanks separate, characters are counted."""
    counts = {"word": 0, "character": 0}
    for text in texts:
        noun = "character" if text.leading == "cer" else "word"
        counts[noun] += sum(edit.edit_class == "word" and done(edit) for edit in text.edits)
    return (
        f"{verb} {_listed(told)}"
        if (told := [_counted(count, noun) for noun, count in counts.items() if count])
        else ""
    )


def _kinds(row: Row) -> list[str]:
    return [finding.kind for finding in row.findings if finding.is_fault]


def _without_words(rows: Sequence[Row]) -> str:
    rungs = dict.fromkeys(rung for rung, _, _ in _first_rungs(rows))
    return f"keeps the words and breaks the limits of {_listed(list(rungs)) or 'its edge'}"


def _because(stage: str, clips: Sequence[str], explanations: Sequence[Explanations]) -> tuple[Measured, ...]:
    places: dict[str, list[tuple[str, str]]] = {}
    for one in explanations:
        for cause in one.causes if one.stage == stage and one.clip in clips else ():
            if cause.part:
                places.setdefault(_where(cause, one), []).append((one.clip, cause.finding))
    return tuple(
        Measured(where, found[0][1], tuple(dict.fromkeys(clip for clip, _ in found))) for where, found in places.items()
    )


def _where(cause: Cause, explanations: Explanations) -> str:
    unit = cause.unit or ("all units alike" if explanations.spread else "")
    return ", ".join(filter(None, (cause.part, unit, *(kind.kind for kind in cause.kinds[:1]))))


def _sound(stage: StageInfo, cells: _Cells) -> Sound:
    if not stage.parent or not cells.was_compared:
        return Sound(stage.spec, "", Outcome.REFERENCE, f"the reference, {_counted(cells.count, 'clip')}")
    numbers = f", its numbers drift in {cells.drifting}" if cells.drifting else ""
    words = f"the same text on {_counted(cells.count, 'clip')}{numbers}"
    if edited := [(row, side.comparison) for row in cells.told if (side := row.judged)]:
        does = _damage([comparison for _, comparison in edited], [row for row, _ in edited])
        words = f"{does} in {len(edited)} of {_counted(cells.count, 'clip')}, within its limits"
    return Sound(stage.spec, stage.parent, Outcome.DRIFT if cells.drifting else Outcome.PASS, words)


def _sentence(report: Report, broken: Sequence[Broken], sound: Sequence[Sound]) -> str:
    own = [item for item in broken if item.was_judged and not item.follows]
    lost = [item for item in broken if not item.was_judged]
    if not own:
        return _unbroken(report, lost, sound)
    first = own[0]
    parts = [f"{first.stage} must not ship: it {first.words}"]
    parts += [f"nor must {item.stage}: it {item.words}" for item in own[1:3]]
    if others := own[3:]:
        parts.append(f"nor must {_listed([item.stage for item in others])}")
    if followers := [item.stage for item in broken if item.follows]:
        parts.append(f"{_listed(followers)} only {'inherits' if len(followers) == 1 else 'inherit'} it")
    if lost:
        parts.append(f"{_listed([item.stage for item in lost])} could not be judged")
    return "; ".join([*parts, *_in_front_of(report, first, broken)])


def _in_front_of(report: Report, first: Broken, broken: Sequence[Broken]) -> list[str]:
    """That what the stage was made from is sound, where that is so and there is something to say it of."""
    parents = {stage.spec: stage.parent for stage in report.stages}
    names, at = [], parents.get(first.stage)
    while at is not None and at not in names:
        names.append(at)
        at = parents.get(at)
    judged = [name for name in names if parents.get(name)]
    if not judged or {item.stage for item in broken} & set(names):
        return []
    return ["everything before it is the same model"]


def _unbroken(report: Report, lost: Sequence[Broken], sound: Sequence[Sound]) -> str:
    judged = [item for item in sound if item.reference]
    clips = len({row.clip for row in report.rows if row.judged})
    unusable = len({row.clip for row in report.rows if not row.stage})
    parts = []
    if same := [item.stage for item in judged if item.outcome is not Outcome.DRIFT]:
        parts.append(f"{_listed(same)} can ship: the same model as {report.root} on {_counted(clips, 'clip')}")
    drifting = [item for item in judged if item.outcome is Outcome.DRIFT]
    parts += [f"{item.stage} can ship: {item.words}" for item in drifting[:2]]
    if others := [item.stage for item in drifting[2:]]:
        parts.append(f"{_listed(others)} can ship, within the limits")
    for words in list(dict.fromkeys(item.words for item in lost))[:2]:
        parts.append(f"{_listed([item.stage for item in lost if item.words == words])} {words}")
    if unusable:
        parts.append(f"{_counted(unusable, 'clip')} cannot be used")
    return "; ".join(parts) or report.summary


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)

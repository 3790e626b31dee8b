"""Recorded runs made by hand, to judge and to break: three clips through pytorch, torchscript and tflite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from tests.support import sites, traces
from whisper_parity.compare import comparison as compare
from whisper_parity.compare.normalise import compare_texts
from whisper_parity.judge import verdict
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.run.collect import written_limits
from whisper_parity.run.report import SCHEMA_VERSION, Judged, Report, Row, StageInfo
from whisper_parity.system.machine import Machine
from whisper_parity.trace.trace import Trace

CLIPS = ("one", "two", "three")
STAGES = {"pytorch": None, "torchscript": "pytorch", "tflite": "torchscript"}
MACHINE = Machine("Linux", "a processor", 2, "3.11", {"torch": "2"}, "c0ffee", False)

Change = Callable[[Trace], Trace]


def report(changes: dict[tuple[str, str], Change] | None = None, **fields: Any) -> Report:
    """A run in which every stage says the same, after `changes` to the traces of (clip, stage)."""
    recorded = {(clip, stage): _trace(clip, stage) for clip in CLIPS for stage in STAGES}
    for key, change in (changes or {}).items():
        recorded[key] = change(recorded[key])
    broken = {clip for clip, _ in changes or {}}
    rows = tuple(
        _row(clip, stage, recorded) if clip in broken else _unbroken(clip, stage) for clip in CLIPS for stage in STAGES
    )
    stages = tuple(StageInfo(spec, parent, True, "", sha256=f"{spec}-1") for spec, parent in STAGES.items())
    whole = Report(
        SCHEMA_VERSION, "made", "2026-01-01T00:00:00+00:00", True, Outcome.PASS, 0, "pass", "hand", "sha", "", "plain",
        {}, written_limits(sites.tolerances()), MACHINE, stages, rows, 1.0,
    )  # fmt: skip
    return replace(whole, **fields)


def with_row(whole: Report, clip: str, stage: str, **fields: Any) -> Report:
    """A copy in which one row has other fields."""
    rows = (replace(row, **fields) if (row.clip, row.stage) == (clip, stage) else row for row in whole.rows)
    return replace(whole, rows=tuple(rows))


def failed(whole: Report, clip: str, stage: str, reason: str = "the device went away") -> Report:
    """A copy in which a cell has no result."""
    nothing = {"label": "", "text": "", "tokens": 0, "token_ids": (), "language": ""}
    unjudged = {"vs_parent": None, "vs_root": None, "vs_transcript": None}
    return with_row(whole, clip, stage, verdict=Verdict(Outcome.FAILED, "", reason, ()), **nothing, **unjudged)


def saying(text: str, tokens: tuple[int, ...] = (1, 2)) -> Change:
    """A change of text and free-running tokens."""
    return lambda found: traces.changed(found, text=text, tokens=tokens)


def trace_as(stage: str, found: Trace) -> Trace:
    """Bit for bit what another stage gave for this clip, under the name of this one."""
    return traces.changed(_trace(found.header.clip, stage), stage=found.header.stage)


@cache
def _trace(clip: str, stage: str) -> Trace:
    made = traces.trace(stage, seed=list(STAGES).index(stage), noise=0 if stage == "pytorch" else 1e-5)
    return traces.changed(made, clip=clip)


@cache
def _unbroken(clip: str, stage: str) -> Row:
    return _row(clip, stage, {(clip, each): _trace(clip, each) for each in STAGES})


def _row(clip: str, stage: str, recorded: dict[tuple[str, str], Trace]) -> Row:
    found, parent = recorded[clip, stage], STAGES[stage]
    vs_parent = _judged(recorded[clip, parent], found) if parent else None
    vs_root = _judged(recorded[clip, "pytorch"], found) if parent not in (None, "pytorch") else None
    text = compare_texts(reference=traces.TEXT, hypothesis=found.header.text, language=found.header.language)
    worst = max([each.verdict for each in (vs_parent, vs_root) if each], key=verdict.severity, default=None)
    return Row(
        clip, stage, worst or Verdict(Outcome.REFERENCE, "", "", ()), found.header.label, found.header.text,
        len(found.header.tokens), 2.0, 0.1, 1, 1, vs_parent, vs_root, text, (), f"parity run --clips {clip}",
        language=found.header.language or "", token_ids=found.header.tokens,
    )  # fmt: skip


def _judged(reference: Trace, candidate: Trace) -> Judged:
    limits = sites.limits_of(reference.header.stage, candidate.header.stage)
    comparison = compare.compare(reference, candidate, traces.N_VOCAB, limits.max_tie_margin)
    return Judged(comparison, verdict.judge(comparison, limits))

"""A second run beside this one: what changed, row by row and stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whisper_parity.compare.text import total
from whisper_parity.report import two_runs
from whisper_parity.report.html.names import Cell, cell, cell_anchor
from whisper_parity.report.numbers import rate, snr
from whisper_parity.report.two_runs import Change, RunComparison
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row


@dataclass(frozen=True, slots=True)
class StageBeside:
    """A stage in both runs."""

    spec: str
    before: tuple[str, ...]
    """Outcomes, corpus rates, lowest SNR, time: in words."""
    after: tuple[str, ...]
    artifact: str
    """"same", "changed: 0d36... to 4712...", or which run lacks it."""


@dataclass(frozen=True, slots=True)
class ChangeBeside:
    """A row that is not the same in both."""

    clip: str
    stage: str
    anchor: str
    before: Cell
    after: Cell
    texts: tuple[str, str] | None
    """None when both say the same."""
    trace: str
    is_worse: bool


@dataclass(frozen=True, slots=True)
class Beside:
    """An earlier run beside this one."""

    before: Report
    after: Report
    sentence: str
    policy_differs: bool
    stages: tuple[StageBeside, ...]
    changes: tuple[ChangeBeside, ...]
    missing: tuple[str, ...]


def beside(earlier: RunFolder, run: RunFolder) -> Beside:
    """Compare a run with an earlier one.

    Raises:
        RecordError: one of them is no run, or they have no row in common.
    """
    found = two_runs.compare_runs(earlier, run)
    changes = tuple(_change(each) for each in found.changes if _differs(each))
    worse = sum(each.is_worse for each in changes)
    counts = f"{len(found.changes)} rows compared, {len(changes)} changed, {worse} worse"
    return Beside(
        before=found.first,
        after=found.second,
        sentence=f"{counts}, {len(found.missing)} missing",
        policy_differs=found.first.policy_options != found.second.policy_options,
        stages=tuple(_stages(found)),
        changes=tuple(sorted(changes, key=lambda each: not each.is_worse)),
        missing=found.missing,
    )


def _differs(change: Change) -> bool:
    """Another verdict, text or figures; a time alone is no change."""
    before, after = cell(change.before), cell(change.after)
    return change.is_worse or (before.outcome, before.figures) != (after.outcome, after.figures)


def _change(change: Change) -> ChangeBeside:
    before, after = change.before, change.after
    verdict = change.traces
    return ChangeBeside(
        clip=change.clip,
        stage=change.stage,
        anchor=cell_anchor(change.clip, change.stage),
        before=cell(before),
        after=cell(after),
        texts=None if before.text == after.text else (before.text, after.text),
        trace=f"{verdict.outcome.value}: {verdict.reason}" if verdict and verdict.reason else "",
        is_worse=change.is_worse,
    )


def _stages(found: RunComparison) -> list[StageBeside]:
    specs = dict.fromkeys(stage.spec for report in (found.first, found.second) for stage in report.stages)
    return [
        StageBeside(spec, _told(found.first, spec), _told(found.second, spec), _artifact(found, spec)) for spec in specs
    ]


def _told(report: Report, spec: str) -> tuple[str, ...]:
    rows = [row for row in report.rows if row.stage == spec]
    if not rows:
        return ("not in this run",)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.verdict.outcome.value] = counts.get(row.verdict.outcome.value, 0) + 1
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return (outcomes, *_rates(rows), *_lowest(rows), f"{sum(row.seconds for row in rows):.1f} s")


def _rates(rows: Sequence[Row]) -> list[str]:
    texts = [row.judged.comparison.text for row in rows if row.judged]
    found = {name: [text.leading_counts for text in texts if text and text.leading == name] for name in ("wer", "cer")}
    return [f"{name.upper()} {rate(total(counts))}" for name, counts in found.items() if counts]


def _lowest(rows: Sequence[Row]) -> list[str]:
    values = [item.diff.snr_db for row in rows if row.judged for item in row.judged.comparison.tensors]
    return [f"lowest SNR {snr(min(values))} dB"] if values else []


def _artifact(found: RunComparison, spec: str) -> str:
    before, after = (
        next((stage.sha256 for stage in report.stages if stage.spec == spec), None)
        for report in (found.first, found.second)
    )
    if before is None or after is None:
        return "only in the earlier run" if after is None else "only in this run"
    return "the same" if before == after else f"{before[:12] or 'none'} → {after[:12] or 'none'}"

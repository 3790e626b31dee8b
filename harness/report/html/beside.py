"""A second run beside this one: what changed, cell by cell and stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whisper_parity.compare.text import total
from whisper_parity.report import two_runs
from whisper_parity.report.html import names
from whisper_parity.report.html.names import Cell, cell_anchor
from whisper_parity.report.numbers import decibels, rate, seconds
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
    """A cell that differs between the two."""

    clip: str
    stage: str
    anchor: str
    before: Cell
    after: Cell
    texts: tuple[str, str] | None
    """None when both are equal."""
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


def beside(earlier: RunFolder, run: RunFolder, *, with_traces: bool = True) -> Beside:
    """Compare a run with an earlier one, traces included where they are asked for.

    Raises:
        RecordError: one of them is no run, or they have no cell in common.
    """
    runs = two_runs.compare_runs(earlier, run, with_traces=with_traces)
    changes = tuple(_change(change) for change in runs.changes if _differs(change))
    worse = sum(change.is_worse for change in changes)
    counts = f"{len(runs.changes)} rows compared, {len(changes)} changed, {worse} worse"
    return Beside(
        before=runs.first,
        after=runs.second,
        sentence=f"{counts}, {len(runs.missing)} missing",
        policy_differs=runs.first.policy_options != runs.second.policy_options,
        stages=tuple(_stages(runs)),
        changes=tuple(sorted(changes, key=lambda change: not change.is_worse)),
        missing=runs.missing,
    )


def _differs(change: Change) -> bool:
    """Whether verdict, text or figures differ; a time alone is no change."""
    before, after = names.cell(change.before), names.cell(change.after)
    return change.is_worse or (before.outcome, before.figures) != (after.outcome, after.figures)


def _change(change: Change) -> ChangeBeside:
    before, after = change.before, change.after
    verdict = change.traces
    return ChangeBeside(
        clip=change.clip,
        stage=change.stage,
        anchor=cell_anchor(change.clip, change.stage),
        before=names.cell(before),
        after=names.cell(after),
        texts=None if before.text == after.text else (before.text, after.text),
        trace=f"{verdict.outcome.value}: {verdict.reason}" if verdict and verdict.reason else "",
        is_worse=change.is_worse,
    )


def _stages(runs: RunComparison) -> list[StageBeside]:
    specs = dict.fromkeys(stage.spec for report in (runs.first, runs.second) for stage in report.stages)
    return [
        StageBeside(spec, _facts(runs.first, spec), _facts(runs.second, spec), _artifact(runs, spec)) for spec in specs
    ]


def _facts(report: Report, spec: str) -> tuple[str, ...]:
    cells = [cell for cell in report.rows if cell.stage == spec]
    if not cells:
        return ("not in this run",)
    counts: dict[str, int] = {}
    for outcome in (cell.verdict.outcome.value for cell in cells):
        counts[outcome] = counts.get(outcome, 0) + 1
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return (outcomes, *_rates(cells), *_lowest(cells), seconds(sum(cell.seconds for cell in cells), 1))


def _rates(cells: Sequence[Row]) -> list[str]:
    texts = [cell.judged.comparison.text for cell in cells if cell.judged]
    errors = {name: [text.leading_counts for text in texts if text and text.leading == name] for name in ("wer", "cer")}
    return [f"{name.upper()} {rate(total(counts))}" for name, counts in errors.items() if counts]


def _lowest(cells: Sequence[Row]) -> list[str]:
    values = [item.diff.snr_db for cell in cells if cell.judged for item in cell.judged.comparison.tensors]
    return [f"lowest SNR {decibels(min(values))}"] if values else []


def _artifact(runs: RunComparison, spec: str) -> str:
    before, after = (
        next((stage.sha256 for stage in report.stages if stage.spec == spec), None)
        for report in (runs.first, runs.second)
    )
    if before is None or after is None:
        return "only in the earlier run" if after is None else "only in this run"
    return "the same" if before == after else f"{before[:12] or 'none'} → {after[:12] or 'none'}"

"""Two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rich.console import Console

from whisper_parity.backend.stage import Edge
from whisper_parity.compare.comparison import compare
from whisper_parity.errors import RecordError
from whisper_parity.judge import tolerance, verdict
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.report import history, numbers
from whisper_parity.report.numbers import snr
from whisper_parity.run import fit, report
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row
from whisper_parity.system import closeness, inputs, terminal
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace

SEPARATOR = " · "
"""Between a clip and its stage."""


@dataclass(frozen=True, slots=True)
class Change:
    """One cell in both runs."""

    clip: str
    stage: str
    before: Row
    after: Row
    traces: Verdict | None
    """Judgement of the second run's trace against the first's; None when one of them has none."""

    @property
    def is_worse(self) -> bool:
        """The verdict got worse, the text changed, or the numbers left the tolerances."""
        moved = self.traces is not None and self.traces.outcome is Outcome.DIVERGED
        return moved or _rank(self.after) > _rank(self.before) or self.before.text != self.after.text


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs, compared."""

    first: Report
    second: Report
    changes: tuple[Change, ...]
    missing: tuple[str, ...]
    """Cells of the first that the second lacks."""
    added: tuple[str, ...] = ()
    """Cells of the second that the first lacks."""

    @property
    def exit_code(self) -> int:
        """1 when a cell is worse or missing, 0 otherwise."""
        return 1 if self.missing or any(change.is_worse for change in self.changes) else 0


def compare_runs(first: RunFolder, second: RunFolder, *, with_traces: bool = True) -> RunComparison:
    """Compare two runs cell by cell: verdicts, texts, and traces where both kept them.

    Args:
        first: the earlier one.
        second: the later one.
        with_traces: False for what the reports say alone, which reads no tensor.

    Raises:
        RecordError: one of them is no run, or they have no cell in common.
    """
    before, after = report.load(first).held, report.load(second).held
    cells = {(cell.clip, cell.stage): cell for cell in after.rows}
    table = after.tolerances
    changes, missing = [], []
    for cell in before.rows:
        other = cells.get((cell.clip, cell.stage))
        if other is None:
            missing.append(_named(cell))
        else:
            ours = _trace(first, before, cell) if with_traces else None
            theirs = _trace(second, after, other) if with_traces else None
            changes.append(Change(cell.clip, cell.stage, cell, other, _judge_traces(ours, theirs, table)))
    if not changes:
        raise RecordError(
            f"{first.path} and {second.path} have no cell in common: {_content(before)}, and {_content(after)}",
            hint="Run the same clips and stages twice",
        )
    both = {(change.clip, change.stage) for change in changes}
    added = tuple(_named(cell) for cell in after.rows if (cell.clip, cell.stage) not in both)
    return RunComparison(before, after, tuple(changes), tuple(missing), added)


def show_runs(runs: RunComparison, console: Console) -> None:
    """Print what changed from one run to the other."""
    print_line = partial(terminal.line, console)
    print_line(f"first  {runs.first.run}: {runs.first.summary}")
    print_line(f"second {runs.second.run}: {runs.second.summary}")
    if runs.first.policy_options != runs.second.policy_options:
        print_line(f"policy {runs.first.policy} -> {runs.second.policy}: other tokens are to be expected")
    for run in (runs.first, runs.second):
        if run.traces != "all":
            print_line(
                f"traces {run.run}: not all are kept (--traces {run.traces}): other cells by their figures alone"
            )
    for line in (
        *_commit_change(runs),
        *_artifact_changes(runs),
        *_figure_changes(runs),
        *filter(None, map(_change_line, runs.changes)),
    ):
        print_line(line)
    for place, names in (("first", runs.missing), ("second", runs.added)):
        left_out = f"only in the {place}: {{}} more clips"
        for line in numbers.folded([f"only in the {place}: {clip}" for clip in _by_clip(names)], left_out.format):
            print_line(line)
    print_line(closing(runs))


def closing(runs: RunComparison) -> str:
    """How many rows both have, how many of them are worse, and how many only one of them has."""
    worse = sum(change.is_worse for change in runs.changes)
    alone = [f"{len(names)} only in the {place}" for place, names in (("first", runs.missing), ("second", runs.added))
             if names]  # fmt: skip
    return ", ".join([f"{len(runs.changes)} rows compared, {worse} worse", *alone])


def _by_clip(names: Sequence[str]) -> list[str]:
    """Cells as a line for each clip, with its stages."""
    stages: dict[str, list[str]] = {}
    for name in names:
        clip, _, stage = name.partition(SEPARATOR)
        stages.setdefault(clip, []).append(stage)
    return [SEPARATOR.join(filter(None, (clip, ", ".join(named)))) for clip, named in stages.items()]


def _named(cell: Row) -> str:
    return SEPARATOR.join(filter(None, (cell.clip, cell.stage)))


def _content(report: Report) -> str:
    """What a run was made of: its stages, its first clips."""
    clips = list(dict.fromkeys(cell.clip for cell in report.rows))
    return f"{closeness.listed(stage.spec for stage in report.stages)} on {closeness.listed(clips) or 'no clip'}"


def _change_line(change: Change) -> str:
    parts = []
    before, after = change.before.verdict.outcome, change.after.verdict.outcome
    if before is not after:
        parts.append(f"{before.value} -> {after.value}: {change.after.verdict.reason}".rstrip(": "))
    if change.before.text != change.after.text:
        parts.append(f"text {change.before.text!r} -> {change.after.text!r}")
    if change.traces and change.traces.outcome is not Outcome.PASS:
        parts.append(f"trace {change.traces.outcome.value}: {change.traces.reason}")
    if (old := _worst_snr(change.before)) != (new := _worst_snr(change.after)):
        parts.append(f"worst SNR {old} -> {new} dB")
    return f"{change.clip} · {change.stage}: {'; '.join(parts)}" if parts else ""


def _commit_change(runs: RunComparison) -> list[str]:
    """The commits of this project that recorded the two runs, where they differ."""
    first, second = ((report.machine.commit or "unknown", report.machine.dirty) for report in (runs.first, runs.second))
    commits = [f"{commit[:12]}{' with changes' if dirty else ''}" for commit, dirty in (first, second)]
    return [f"commit {commits[0]} -> {commits[1]}"] if first != second else []


def _figure_changes(runs: RunComparison) -> list[str]:
    """Changed figures of each stage over the common clips, with their direction."""
    shared = {change.clip for change in runs.changes}
    before, after = (
        replace(report, rows=tuple(cell for cell in report.rows if cell.clip in shared))
        for report in (runs.first, runs.second)
    )
    stages = {stage.spec: stage for stage in after.stages}
    return [
        line
        for stage in before.stages
        if stage.spec in stages
        for line in _figures(stage.spec, history.figures(before, stage), history.figures(after, stages[stage.spec]))
    ]


def _figures(stage: str, before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    lines = []
    for name in [metric for metric in before if metric in after and metric != "seconds"]:
        old, new = before[name], after[name]
        if not history.same(old, new):
            better = (new > old) == history.HIGHER_IS_BETTER[name]
            change = f"{numbers.figure(old)} -> {numbers.figure(new)}"
            lines.append(f"{stage} {name}: {change} ({'better' if better else 'worse'})")
    return lines


def _artifact_changes(runs: RunComparison) -> list[str]:
    after = {stage.spec: stage for stage in runs.second.stages}
    return [
        f"artifact {stage.spec}: {stage.sha256[:12]} -> {after[stage.spec].sha256[:12]}"
        for stage in runs.first.stages
        if stage.spec in after and stage.sha256 != after[stage.spec].sha256
    ]


def _trace(run: RunFolder, recorded: Report, cell: Row) -> Trace | None:
    """A cell's trace; None for a run that did not keep it.

    Raises:
        RecordError: it is damaged, or not the one that the cell was judged by.
    """
    path = run.trace(cell.clip, cell.stage)
    if not inputs.is_there(path):
        return None
    trace = file.load(path)
    if reason := fit.of_row(trace, cell, recorded.policy):
        raise RecordError(f"{path}: no trace of this run: {reason}", hint=file.AGAIN)
    return trace


def _judge_traces(before: Trace | None, after: Trace | None, table: tolerance.Table) -> Verdict | None:
    if before is None or after is None:
        return None
    stage = before.header.stage
    limits = tolerance.for_edge(table, Edge(stage, stage))
    return verdict.judge(compare(before, after, before.header.vocabulary, limits.max_tie_margin), limits)


def _rank(cell: Row) -> tuple[int, bool]:
    return cell.verdict.outcome.exit_code, cell.verdict.outcome is Outcome.DRIFT


def _worst_snr(cell: Row) -> str:
    tensors = cell.judged.comparison.tensors if cell.judged else ()
    return snr(min(item.diff.snr_db for item in tensors)) if tensors else numbers.UNKNOWN

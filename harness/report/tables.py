"""The tables of a run, 80 columns wide: a line for each stage, and the cells that are not as they should be.

Figures are never broken: a cell is drawn whole. Where clips beside stages do not fit, each cell has a line of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from whisper_parity.compare.text import ErrorCounts
from whisper_parity.judge.verdict import Outcome
from whisper_parity.report import numbers
from whisper_parity.run import tally
from whisper_parity.run.report import Report, Row, StageInfo
from whisper_parity.run.totals import Totals
from whisper_parity.system import terminal

STYLES = {
    Outcome.PASS: "green",
    Outcome.DRIFT: "yellow",
    Outcome.REFERENCE: "dim",
    Outcome.DIVERGED: "bold red",
    Outcome.NOT_COMPARED: "magenta",
    Outcome.INVALID_INPUT: "bold magenta",
    Outcome.FAILED: "bold magenta",
}
GOOD = frozenset({Outcome.PASS, Outcome.REFERENCE})
"""Outcomes of cells that are folded."""
UNITS = ("wer", "cer")
PER_LINE = 2
"""Outcomes of a stage on one line."""
WIDTH = 80


def stage_table(report: Report) -> Table:
    """One line for each stage: how its clips ended, and its figures against its parent."""
    totals = tally.of_report(report)
    units = [unit for unit in UNITS if any(unit in one.texts for one in totals.values())]
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("stage", overflow="fold")
    grid.add_column("clips", no_wrap=True)
    for name in (*(unit.upper() for unit in units), "lowest SNR", "time"):
        grid.add_column(name, no_wrap=True, justify="right")
    for stage in report.stages:
        of_stage = totals.get(stage.spec, Totals(stage.spec))
        by_unit = {unit: numbers.rate(errors) for unit, errors in of_stage.texts.items()}
        grid.add_row(
            _title(stage), _outcomes(of_stage), *(by_unit.get(unit, "") for unit in units), *_measured(of_stage)
        )
    return grid


def cell_table(report: Report, console: Console, *, everything: bool = False) -> Table | None:
    """Clips beside stages; what passes everywhere is folded into one column and one line.

    Args:
        report: the run.
        console: where it is to fit.
        everything: fold nothing.

    Returns:
        The table; None where every cell is folded.
    """
    rows = [row for row in report.rows if everything or row.verdict.outcome not in GOOD]
    if not rows:
        return None
    beside = _beside(report, rows, everything)
    width = min(WIDTH, console.width) if not console.is_terminal else console.width
    fits = Measurement.get(console, console.options.update(width=1000), beside).maximum <= width
    return beside if fits else _below(rows)


def cell(row: Row) -> str:
    """One cell, with markup: outcome, error rate, first divergence, lowest SNR."""
    return " ".join(filter(None, (_outcome(row.verdict.outcome), *map(terminal.cell, _figures(row)))))


def rates(errors: Mapping[str, ErrorCounts]) -> list[str]:
    """Corpus WER where WER leads, CER elsewhere: sums of counts, never mixed."""
    return [f"{unit.upper()} {numbers.rate(errors[unit])}" for unit in UNITS if unit in errors]


def _title(stage: StageInfo) -> str:
    """A stage with where its files come from, and whether it ran where it should."""
    source = f" ({stage.source})" if stage.source else ""
    fell_back = any(placed.fell_back for placed in stage.placement)
    return f"{terminal.cell(stage.spec + source)}{'[yellow] fell back[/]' if fell_back else ''}"


def _outcomes(totals: Totals) -> str:
    """How many of a stage's rows ended how."""
    counts = {outcome: totals.count(outcome) for outcome in Outcome}
    parts = [f"[{STYLES[outcome]}]{count} {outcome.value}[/]" for outcome, count in counts.items() if count]
    lines = [", ".join(parts[start : start + PER_LINE]) for start in range(0, len(parts), PER_LINE)]
    return ",\n".join(lines) or "[dim]not run[/]"


def _measured(totals: Totals) -> tuple[str, str]:
    """Lowest SNR and time of a stage's rows."""
    level = totals.lowest_snr_db
    time = numbers.seconds(totals.seconds, 1) if totals.cells else ""
    return "" if level is None else numbers.decibels(level), time


def _beside(report: Report, rows: Sequence[Row], everything: bool) -> Table:
    """Clips beside stages."""
    clips = list(dict.fromkeys(row.clip for row in rows))
    shown = [stage for stage in report.stages if any(row.stage == stage.spec for row in rows)]
    folded = [stage.spec for stage in report.stages if stage not in shown]
    cells = {(row.clip, row.stage): row for row in report.rows}
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("clip", *(stage.spec for stage in shown)):
        grid.add_column(terminal.cell(name), no_wrap=name != "clip", overflow="fold")
    if folded:
        grid.add_column("other stages", no_wrap=True)
    for clip in clips:
        whole = [cell(cells[clip, ""])] if (clip, "") in cells else []
        drawn = [cell(row) if (row := cells.get((clip, stage.spec))) else "not run" for stage in shown]
        others = [_joined([cells[clip, spec] for spec in folded if (clip, spec) in cells])] if folded else []
        columns = [*whole, *drawn[len(whole) :], *others] if drawn else whole
        grid.add_row(terminal.cell(clip), *columns)
    left = len({row.clip for row in report.rows}) + report.left_out - len(clips)
    if left and not everything:
        grid.add_row(
            f"[dim]{left} other{'s' if left > 1 else ''}[/]", *[_outcome(Outcome.PASS)] * len(grid.columns[1:])
        )
    return grid


def _below(rows: Sequence[Row]) -> Table:
    """One line for each cell."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("clip", "stage"):
        grid.add_column(name, overflow="fold")
    for name in ("verdict", "text error", "step", "SNR"):
        grid.add_column(name, no_wrap=True)
    for row in rows:
        figures = _figures(row) or ["", "", ""]
        grid.add_row(
            terminal.cell(row.clip),
            terminal.cell(row.stage),
            _outcome(row.verdict.outcome),
            *map(terminal.cell, figures),
        )
    return grid


def _joined(rows: Sequence[Row]) -> str:
    """Cells that pass, as one: the lowest SNR of all of them."""
    levels = [level for row in rows if (level := _lowest(row)) is not None]
    return " ".join([_outcome(Outcome.PASS), *([numbers.decibels(min(levels))] if levels else [])]) if rows else ""


def _figures(row: Row) -> list[str]:
    """Error rate, first divergence and lowest SNR against the parent, "" for what there is none of."""
    if not row.judged:
        return []
    comparison, level = row.judged.comparison, _lowest(row)
    text = comparison.text
    diverged = comparison.tokens.first_divergence if comparison.tokens else None
    return [
        f"{text.leading.upper()} {numbers.rate(text.leading_counts)}" if text else "",
        "" if diverged is None else f"@{diverged}",
        "" if level is None else numbers.decibels(level),
    ]


def _lowest(row: Row) -> float | None:
    """The lowest SNR among a row's tensors [dB]; None where none was compared."""
    tensors = row.judged.comparison.tensors if row.judged else ()
    return min((item.diff.snr_db for item in tensors), default=None)


def _outcome(outcome: Outcome) -> str:
    return f"[{STYLES[outcome]}]{terminal.cell(outcome.value)}[/]"

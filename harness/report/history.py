"""The trend of every figure over the runs under reports/, in a small SQLite file that can always be rebuilt."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from whisper_parity.compare.text import TextDiff, total
from whisper_parity.errors import OutputError, ParityError, UsageError, printable
from whisper_parity.gate import measure
from whisper_parity.gate.rule import counted
from whisper_parity.report import numbers
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, StageInfo
from whisper_parity.system import terminal
from whisper_parity.system.files import replacing

FILE = "history.sqlite"
SCHEMA = """
create table runs (run text primary key, created text, checkpoint text, checkpoint_sha256 text, policy text,
                   commit_id text, clips text);
create table figures (run text, stage text, artifact text, metric text, value real,
                      primary key (run, stage, metric));
create table skipped (folder text primary key, reason text);
"""
BARS = "▁▂▃▄▅▆▇█"
SHOWN = 24
"""Latest runs of a sparkline."""
SAME = 1e-9
"""Relative difference below which a figure has not changed."""

HIGHER_IS_BETTER = {
    name: measure.HIGHER_IS_BETTER[name]
    for name in ("features_snr_db", "encoder_output_snr_db", "logits_snr_db", "kl_max", "top_movement",
                 "argmax_agreement", "flips", "steps_at_risk", "punctuation", "wer", "cer", "seconds")
} | {"wer_to_parent": measure.HIGHER_IS_BETTER["wer"], "cer_to_parent": measure.HIGHER_IS_BETTER["cer"]}  # fmt: skip
"""The figures of a stage over all clips: worst SNR and KL, mean agreement, sums, and corpus rates: `wer` and `cer`
against the transcripts, `wer_to_parent` and `cer_to_parent` against the parent's texts."""


@dataclass(frozen=True, slots=True)
class Point:
    """One figure of one run."""

    run: str
    created: str
    commit: str
    artifact: str
    value: float


@dataclass(frozen=True, slots=True)
class Trend:
    """One figure of one stage over the runs of one checkpoint, policy and set of clips, oldest first."""

    stage: str
    metric: str
    series: str
    """The runs' common checkpoint, policy and clips: "micro-whisper, 13 clips"."""
    points: tuple[Point, ...]

    @property
    def cause(self) -> str:
        """Run, artifact and commit of the last change; "" when nothing has changed."""
        for before, after in zip(self.points[-2::-1], self.points[:0:-1]):
            if not same(before.value, after.value):
                change = f"{numbers.figure(before.value)} -> {numbers.figure(after.value)}"
                return f"{after.run}: {change}, {_changed(before, after)}"
        return ""


def rebuild(reports: Path) -> Path:
    """Read every run under reports/ into a new database; unreadable runs are noted there, not fatal.

    Raises:
        OutputError: the database cannot be written.
    """
    file = reports / FILE
    try:
        with replacing(file) as partial, closing(sqlite3.connect(partial)) as database, database:
            database.executescript(SCHEMA)
            for folder in _runs(reports):
                _insert(database, folder)
    except (OSError, sqlite3.Error) as error:
        raise OutputError(f"{file}: cannot be written ({error})") from error
    return file


def trends(file: Path, metric: str | None = None, stage: str | None = None) -> list[Trend]:
    """Trends out of the database, by stage in the order of the first run that has it.

    Raises:
        UsageError: no run has such a metric or stage.
    """
    query = (
        "select stage, metric, checkpoint, checkpoint_sha256, policy, clips, run, created, commit_id, artifact, value "
        "from figures join runs using (run) where (?1 is null or metric = ?1) and (?2 is null or stage = ?2) "
        "order by created, run, figures.rowid"
    )
    points_by_key: dict[tuple[str, ...], list[Point]] = {}
    with closing(sqlite3.connect(file)) as database:
        for row in database.execute(query, (metric, stage)):
            points_by_key.setdefault(tuple(row[:6]), []).append(Point(row[6], row[7], row[8], row[9], float(row[10])))
    if not points_by_key and (metric or stage):
        raise UsageError(f"no run has {metric or stage!r}", hint=f"Metrics: {', '.join(HIGHER_IS_BETTER)}")
    return [
        Trend(key[0], key[1], f"{key[2]}-{key[4]}, {_size(key[5])}", tuple(run)) for key, run in points_by_key.items()
    ]


def skipped(file: Path) -> list[tuple[str, str]]:
    """Folders without a readable run, with the reason."""
    with closing(sqlite3.connect(file)) as database:
        return list(database.execute("select folder, reason from skipped order by folder"))


def show(file: Path, console: Console, metric: str | None = None, stage: str | None = None) -> None:
    """Print the trends, a table for each stage and series; below each what changed, below all what is no run."""
    console = terminal.unfolded(console)
    tables: dict[tuple[str, str, int], list[Trend]] = {}
    for trend in trends(file, metric, stage):
        tables.setdefault((trend.stage, trend.series, len(trend.points)), []).append(trend)
    for (spec, series, count), found in tables.items():
        terminal.line(console, f"{spec}: {series}, {counted(count, 'run')}", "bold")
        console.print(trend_table(found))
        for trend in found:
            if trend.cause:
                terminal.line(console, f"{trend.metric} changed in {trend.cause}")
    for folder, reason in skipped(file):
        terminal.line(console, f"skipped {folder}: {reason}", "magenta")


def trend_table(found: Sequence[Trend]) -> Table:
    """One line for each figure: its bars, its latest value, its direction."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("metric", "trend", "latest", "better"):
        grid.add_column(name, no_wrap=True)
    for trend in found:
        values = [point.value for point in trend.points]
        direction = "higher" if HIGHER_IS_BETTER[trend.metric] else "lower"
        grid.add_row(*map(terminal.cell, (trend.metric, sparkline(values), numbers.figure(values[-1]), direction)))
    return grid


def sparkline(values: Sequence[float]) -> str:
    """The latest values as bars between their smallest and largest; infinite ones as the outermost bars."""
    latest = values[-SHOWN:]
    finite = [value for value in latest if abs(value) != float("inf")]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    return "".join(BARS[_level(value, low, high)] for value in latest)


def figures(report: Report, stage: StageInfo) -> dict[str, float]:
    """Every defined figure of a stage over all its clips."""
    stage_cells = [cell for cell in report.rows if cell.stage == stage.spec and cell.label]
    cells = [measure.cell(cell) for cell in stage_cells]
    totals: dict[str, float] = {}
    for name, combine in (("features_snr_db", min), ("encoder_output_snr_db", min), ("logits_snr_db", min),
                          ("kl_max", max), ("top_movement", max), ("flips", sum), ("steps_at_risk", sum),
                          ("punctuation", sum)):  # fmt: skip
        if values := [cell[name] for cell in cells if name in cell]:
            totals[name] = float(combine(values))
    if values := [cell["argmax_agreement"] for cell in cells if "argmax_agreement" in cell]:
        totals["argmax_agreement"] = sum(values) / len(values)
    truths = [cell.vs_transcript for cell in stage_cells if cell.vs_transcript]
    texts = [cell.judged.comparison.text for cell in stage_cells if cell.judged and cell.judged.comparison.text]
    totals |= _rates(truths, "") | _rates(texts, "_to_parent")
    return totals | ({"seconds": sum(cell.seconds for cell in stage_cells)} if stage_cells else {})


def _rates(texts: Sequence[TextDiff], suffix: str) -> dict[str, float]:
    """Corpus WER where WER leads, CER elsewhere, never mixed."""
    counts = {name: [text.leading_counts for text in texts if text.leading == name] for name in ("wer", "cer")}
    rates = {name: total(errors).rate for name, errors in counts.items()}
    return {f"{name}{suffix}": rate for name, rate in rates.items() if rate is not None}


def _runs(reports: Path) -> list[RunFolder]:
    """Every run folder: neither hidden, nor a lone page such as the sample."""
    folders = sorted(path for path in reports.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [run for run in map(RunFolder, folders) if not run.is_page_alone()]


def _insert(database: sqlite3.Connection, folder: RunFolder) -> None:
    if not folder.report.exists():
        reason = f"no {folder.report.name}: cut off, or no run"
        database.execute("insert or replace into skipped values (?, ?)", (printable(folder.name), reason))
        return
    try:
        report = records.load(folder)
    except ParityError as error:
        database.execute("insert or replace into skipped values (?, ?)", (printable(folder.name), str(error)))
        return
    report = report.held if report.pages else report
    database.execute("insert or replace into runs values (?, ?, ?, ?, ?, ?, ?)", _run(report, folder))
    database.executemany("insert or replace into figures values (?, ?, ?, ?, ?)", list(_figures(report, folder)))


def _run(report: Report, folder: RunFolder) -> tuple[str, ...]:
    commit = (report.machine.commit or "") + ("+" if report.machine.dirty else "")
    clips = "\n".join(sorted({cell.clip for cell in report.rows if cell.stage}))
    facts = (report.created, report.checkpoint, report.checkpoint_sha256, report.policy, commit, clips)
    return (printable(folder.name), *facts)


def _figures(report: Report, folder: RunFolder) -> Iterator[tuple[str, str, str, str, float]]:
    for stage in report.stages:
        for name, value in figures(report, stage).items():
            yield printable(folder.name), stage.spec, stage.sha256, name, value


def _changed(before: Point, after: Point) -> str:
    """The difference between two runs: the artifact, the commit, or neither."""
    parts = []
    if before.artifact != after.artifact:
        parts.append(f"artifact {before.artifact[:12] or 'none'} -> {after.artifact[:12] or 'none'}")
    if before.commit != after.commit:
        parts.append(f"commit {before.commit[:12] or 'unknown'} -> {after.commit[:12] or 'unknown'}")
    return ", ".join(parts) or "same artifact, same commit: the machine, its load or chance"


def same(before: float, after: float) -> bool:
    """Whether a figure has not changed, rounding aside."""
    return before == after or abs(before - after) <= SAME * max(abs(before), abs(after))


def _level(value: float, low: float, high: float) -> int:
    if value > high or (value == high and high > low):
        return len(BARS) - 1
    if value <= low:
        return 0
    return int((value - low) / (high - low) * (len(BARS) - 1))


def _size(clips: str) -> str:
    count = len(clips.split("\n")) if clips else 0
    return f"{count} clip{'' if count == 1 else 's'}"

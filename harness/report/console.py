"""The table at the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from whisper_parity.compare.text import TextDiff, total
from whisper_parity.judge.verdict import Outcome
from whisper_parity.report import numbers
from whisper_parity.report.numbers import rate, snr
from whisper_parity.run import order, placement
from whisper_parity.run.report import OrderCheck, Report, Row
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


@dataclass(frozen=True, slots=True)
class Line:
    """One line under the table: a failure, and how to repeat it."""

    text: str
    style: str


def show(report: Report, console: Console) -> None:
    """Print table, failures and verdict; at least as wide as it needs when the output is a pipe."""
    console = terminal.unfolded(console)
    console.print(heading(report), style="bold", highlight=False, soft_wrap=True, markup=False)
    console.print(table(report))
    for line in lines(report):
        console.print(line.text, style=line.style, highlight=False, soft_wrap=True, markup=False)
    style = STYLES[report.verdict]
    console.print(f"parity {report.summary}", style=style, highlight=False, soft_wrap=True, markup=False)


def heading(report: Report) -> str:
    """One line that says what was run."""
    note = f" ({report.checkpoint_note})" if report.checkpoint_note else ""
    state = "" if report.finished else ", unfinished"
    return (
        f"run {report.run}: checkpoint {report.checkpoint}{note}, policy {report.policy}, {report.seconds:.1f} s{state}"
    )


def table(report: Report) -> Table:
    """Clips x stages: verdict, error rate against the parent, first divergence, worst SNR, time; corpus rates below."""
    grid = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    stages = [stage.spec for stage in report.stages]
    grid.add_column("clip", footer="all clips", overflow="fold")
    for stage in report.stages:
        footer = _corpus([row for row in report.rows if row.stage == stage.spec])
        fell_back = " fell back" if any(placed.fell_back for placed in stage.placement) else ""
        title = f"{stage.spec} ({stage.source})" if stage.source else stage.spec
        grid.add_column(
            escape(title), footer=f"{escape(footer)}[yellow]{fell_back}[/]" if fell_back else escape(footer)
        )
    cells = {(row.clip, row.stage): cell(row) for row in report.rows}
    for clip in dict.fromkeys(row.clip for row in report.rows):
        whole = cells.get((clip, ""))
        found = [whole or "", *[""] * (len(stages) - 1)] if whole else [cells.get((clip, s), "not run") for s in stages]
        grid.add_row(escape(clip), *found)
    return grid


def cell(row: Row) -> str:
    """One cell, with markup."""
    parts = [row.verdict.outcome.value]
    if row.judged:
        comparison = row.judged.comparison
        if comparison.text:
            parts.append(f"{comparison.text.leading.upper()} {rate(comparison.text.leading_counts)}")
        if comparison.tokens and comparison.tokens.first_divergence is not None:
            parts.append(f"@{comparison.tokens.first_divergence}")
        if comparison.tensors:
            parts.append(f"{snr(min(item.diff.snr_db for item in comparison.tensors))} dB")
    if row.seconds:
        parts.append(f"{row.seconds:.2f} s")
    style = STYLES[row.verdict.outcome]
    return f"[{style}]{escape(parts[0])}[/] {escape(' '.join(parts[1:]))}".rstrip()


def lines(report: Report) -> list[Line]:
    """One line for each failure, drift note and remark: which stage, what, and the command that reproduces it."""
    found: list[Line] = []
    for row in report.rows:
        outcome, where = row.verdict.outcome, f"{row.clip} · {row.stage}" if row.stage else row.clip
        if outcome.exit_code:
            command = f"  →  {row.reproduce}" if row.reproduce else ""
            found.append(Line(f"{outcome.value}: {where}: {row.verdict.reason}{command}", STYLES[outcome]))
        elif outcome is Outcome.DRIFT:
            found.append(Line(f"drift: {where}: {row.verdict.reason}", STYLES[outcome]))
    beside = [
        *_subset(report),
        *_transcripts(report),
        *_risks(report),
        *_placed(report),
        *_states(report),
        *_limits(report),
    ]
    return [*beside, *_devices(report), *found, *_notes(report)]


def _subset(report: Report) -> list[Line]:
    """What a selection left out, and which files were taken for what."""
    lines = [Line(f"subset: {report.subset}; nothing is said of the others", "yellow")] if report.subset else []
    return lines + [Line(f"given: {info.spec}: {note}", "dim") for info in report.stages for note in info.notes]


def _notes(report: Report) -> list[Line]:
    """Remarks, those of several stages on one line; one that a stage makes on every clip is said once."""
    clips = dict.fromkeys(row.clip for row in report.rows)
    said: dict[tuple[str, str], list[str]] = {}
    for row in report.rows:
        for note in row.notes:
            said.setdefault((note, row.stage), []).append(row.clip)
    notes: dict[str, list[str]] = {}
    for (note, stage), where in said.items():
        for place in ["all clips"] if 1 < len(where) == len(clips) else where:
            notes.setdefault(f"{place}: {note}", []).append(stage)
    return [Line(f"note: {note} ({', '.join(stages)})", "dim") for note, stages in notes.items()]


def _corpus(rows: Sequence[Row]) -> str:
    """Corpus rates of a stage against its parent, and its time."""
    texts = [row.judged.comparison.text for row in rows if row.judged]
    seconds = f"{sum(row.seconds for row in rows):.1f} s"
    return " ".join([*_rates([text for text in texts if text]), seconds]) if rows else ""


def _transcripts(report: Report) -> list[Line]:
    """Corpus rates of every stage against the clips' transcripts: how good it is, not whether it is the same."""
    texts = {
        stage.spec: [row.vs_transcript for row in report.rows if row.stage == stage.spec and row.vs_transcript]
        for stage in report.stages
    }
    parts = [f"{spec} {' '.join(_rates(found))}" for spec, found in texts.items() if found]
    return [Line(f"against the transcripts: {' · '.join(parts)}", "dim")] if parts else []


def _risks(report: Report) -> list[Line]:
    """Steps that this stage's own noise could flip, against its parent: what a run without a flip does not show."""
    parts = []
    for stage in report.stages:
        found = [row.judged.comparison for row in report.rows if row.stage == stage.spec and row.judged]
        if steps := sum(comparison.steps for comparison in found):
            at_risk = sum(comparison.steps_at_risk for comparison in found)
            flips = sum(len(comparison.flips) for comparison in found)
            parts.append(f"{stage.spec} {at_risk} of {steps} ({100 * at_risk / steps:.1f} %), {flips} flipped")
    return [Line(f"steps at risk: {' · '.join(parts)}", "dim")] if parts else []


def _placed(report: Report) -> list[Line]:
    """Where the stages ran, and a warning for each file of which a part fell back."""
    where = placement.of_report(report)
    found = [Line(f"placement: {' · '.join(where)}", "dim")] if where else []
    warned = [line for info in report.stages for line in placement.fallbacks(info)]
    found += [Line(f"warning: {line}", "yellow") for line in warned if line not in report.misplaced]
    return found + [Line(f"placement required: {line}", "bold magenta") for line in report.misplaced]


def _states(report: Report) -> list[Line]:
    """One line for what is steady, and one for each check that is not, or that could not be made."""
    steady: dict[str, list[str]] = {}
    for check in report.states:
        if check.checked and not check.reason:
            steady.setdefault(check.sequence, []).append(check.stage)
    parts = [f"{sequence} ({', '.join(stages)})" for sequence, stages in steady.items()]
    found = [Line(f"state: nothing depends on what ran before: {' · '.join(parts)}", "dim")] if parts else []
    others = [check for check in report.states if check.reason]
    return found + [Line(order.describe(check), _state_style(check)) for check in others]


def _state_style(check: OrderCheck) -> str:
    return "bold red" if check.stateful else "bold magenta" if check.error_code else "yellow"


def _limits(report: Report) -> list[Line]:
    """The limits that were written as multiples of noise, as numbers and as they were written."""
    return [
        Line(f"tolerance {edge}: {key} {numbers.limit(report.tolerances[edge][key])} = {origin}", "dim")
        for edge, origins in report.tolerance_origins.items()
        for key, origin in origins.items()
    ]


def _devices(report: Report) -> list[Line]:
    """What each device did: clips, its own compute, bytes over the link, and the time beside its compute."""
    rows: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.usage:
            rows.setdefault(row.usage.device, []).append(row)
    return [Line(f"device {name}: {_spent(found)}", "dim") for name, found in rows.items()]


def _spent(rows: Sequence[Row]) -> str:
    used = [row.usage for row in rows if row.usage]
    compute = sum(usage.device_s for usage in used)
    beside = sum(row.seconds for row in rows) - compute
    moved = sum(usage.sent_bytes + usage.received_bytes for usage in used) / 1e6
    warm = max((usage.temperature_c for usage in used if usage.temperature_c is not None), default=None)
    heat = "" if warm is None else f", up to {warm:.0f} degrees Celsius"
    times = f"{compute:.2f} s of its own compute, {beside:.2f} s beside it"
    return f"{len(rows)} clips, {times}, {moved:.1f} MB over the link with what was pushed{heat}"


def _rates(texts: Sequence[TextDiff]) -> list[str]:
    """WER of what WER leads, CER of the rest: sums of counts, the two never mixed."""
    counts = {name: [text.leading_counts for text in texts if text.leading == name] for name in ("wer", "cer")}
    return [f"{name.upper()} {rate(total(found))}" for name, found in counts.items() if found]

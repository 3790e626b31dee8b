"""The table at the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from whisper_parity.compare.text import TextDiff, total
from whisper_parity.judge import program
from whisper_parity.judge.program import ProgramCheck
from whisper_parity.judge.verdict import Outcome, RungResult, worse
from whisper_parity.report import numbers
from whisper_parity.report.numbers import rate
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


SENTENCES = 4
"""Of a stage's weights; the report has all."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line under the table: a failure, and how to reproduce it."""

    text: str
    style: str


def show(report: Report, console: Console) -> None:
    """Print table, failures and verdict, unfolded when the output is a pipe."""
    console = terminal.unfolded(console)
    terminal.line(console, heading(report), "bold")
    console.print(table(report))
    for line in lines(report):
        terminal.line(console, line.text, line.style)
    terminal.line(console, f"parity {report.summary}", STYLES[report.verdict])


def heading(report: Report) -> str:
    """One line: run, checkpoint, policy, time."""
    note = f" ({report.checkpoint_note})" if report.checkpoint_note else ""
    state = "" if report.finished else ", unfinished"
    duration = numbers.seconds(report.seconds, 1)
    return f"run {report.run}: checkpoint {report.checkpoint}{note}, policy {report.policy}, {duration}{state}"


def table(report: Report) -> Table:
    """Clips x stages: verdict, error rate against the parent, first divergence, worst SNR, time; corpus rates below."""
    grid = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    stages = [stage.spec for stage in report.stages]
    grid.add_column("clip", footer="all clips", overflow="fold")
    for stage in report.stages:
        footer = terminal.cell(_corpus([entry for entry in report.rows if entry.stage == stage.spec]))
        fell_back = any(placed.fell_back for placed in stage.placement)
        title = f"{stage.spec} ({stage.source})" if stage.source else stage.spec
        grid.add_column(terminal.cell(title), footer=f"{footer}[yellow] fell back[/]" if fell_back else footer)
    rendered = {(entry.clip, entry.stage): cell(entry) for entry in report.rows}
    for clip in dict.fromkeys(entry.clip for entry in report.rows):
        whole = rendered.get((clip, ""))
        columns = (
            [whole or "", *[""] * (len(stages) - 1)] if whole else [rendered.get((clip, s), "not run") for s in stages]
        )
        grid.add_row(terminal.cell(clip), *columns)
    return grid


def cell(cell: Row) -> str:
    """One cell, with markup."""
    parts = [cell.verdict.outcome.value]
    if cell.judged:
        comparison = cell.judged.comparison
        if comparison.text:
            parts.append(f"{comparison.text.leading.upper()} {rate(comparison.text.leading_counts)}")
        if comparison.tokens and comparison.tokens.first_divergence is not None:
            parts.append(f"@{comparison.tokens.first_divergence}")
        if comparison.tensors:
            parts.append(numbers.decibels(min(item.diff.snr_db for item in comparison.tensors)))
    if cell.seconds:
        parts.append(numbers.seconds(cell.seconds))
    style = STYLES[cell.verdict.outcome]
    return f"[{style}]{terminal.cell(parts[0])}[/] {terminal.cell(' '.join(parts[1:]))}".rstrip()


def lines(report: Report) -> list[Line]:
    """One line per failure, drift and remark: stage, reason and reproducing command."""
    failures: list[Line] = []
    for cell in report.rows:
        outcome, where = cell.verdict.outcome, f"{cell.clip} · {cell.stage}" if cell.stage else cell.clip
        if outcome.exit_code:
            command = f"  →  {cell.reproduce}" if cell.reproduce else ""
            failures.append(Line(f"{outcome.value}: {where}: {cell.verdict.reason}{command}", STYLES[outcome]))
        elif outcome is Outcome.DRIFT:
            failures.append(Line(f"drift: {where}: {cell.verdict.reason}", STYLES[outcome]))
    summary = [
        *_subset(report),
        *_threads(report),
        *_kept(report),
        *_transcripts(report),
        *_risks(report),
        *_weights(report),
        *_programs(report),
        *_placed(report),
        *_states(report),
        *_limits(report),
    ]
    return [
        *(Line(f"window: {text}", "yellow") for text in report.windows),
        *_findings(report),
        *summary,
        *_devices(report),
        *failures,
        *_notes(report),
    ]


def _findings(report: Report) -> list[Line]:
    """Loops, lost and invented text and their like, cell by cell."""
    lines = [
        Line(f"{'finding' if item.is_fault else 'remark'}: {cell.clip} · {cell.stage}: {item.sentence}",
             "bold red" if cell.verdict.outcome.exit_code and item.is_fault else "yellow")
        for cell in report.rows for item in cell.findings
    ]  # fmt: skip
    return numbers.folded(lines, lambda count: Line(f"finding: {count} more, all of them in report.json", "yellow"))


def _subset(report: Report) -> list[Line]:
    """The cells that a selection left out, and the uses of given files."""
    lines = [Line(f"subset: {report.subset}; the others were not judged", "yellow")] if report.subset else []
    return lines + [Line(f"given: {info.spec}: {note}", "dim") for info in report.stages for note in info.notes]


def _kept(report: Report) -> list[Line]:
    """Stages that an earlier run recorded, with the time that it took then."""
    rows: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.recorded:
            rows.setdefault(row.stage, []).append(row)
    parts = [f"{stage} {len(kept)} clips, {numbers.seconds(sum(row.seconds for row in kept), 1)} then"
             for stage, kept in rows.items()]  # fmt: skip
    return [Line(f"recorded before, and kept in the cache: {' · '.join(parts)}", "dim")] if parts else []


def _threads(report: Report) -> list[Line]:
    """How many threads the numbers were computed with, and a warning where waiting ones keep their core."""
    if not report.threads:
        return []
    machine = report.machine
    line = Line(f"threads: {report.threads} for every runtime, {machine.cores} of {machine.cpus} cores usable", "dim")
    if not machine.waiting.startswith("active"):
        return [line]
    return [line, Line(f"warning: threads that wait keep their core ({machine.waiting})", "yellow")]


def _notes(report: Report) -> list[Line]:
    """Remarks on the selection and on clips, joined over stages; a stage's remark on every clip is printed once."""
    clips = dict.fromkeys(cell.clip for cell in report.rows)
    clips_by_note: dict[tuple[str, str], list[str]] = {}
    for cell in report.rows:
        for note in cell.notes:
            clips_by_note.setdefault((note, cell.stage), []).append(cell.clip)
    notes: dict[str, list[str]] = {}
    for (note, stage), noted in clips_by_note.items():
        for place in ["all clips"] if 1 < len(noted) == len(clips) else noted:
            notes.setdefault(f"{place}: {note}", []).append(stage)
    on_clips = [Line(f"note: {note} ({', '.join(stages)})", "dim") for note, stages in notes.items()]
    return [*(Line(f"note: {note}", "dim") for note in report.clip_notes), *on_clips]


def _corpus(cells: Sequence[Row]) -> str:
    """Corpus rates of a stage against its parent, and its time."""
    texts = [cell.judged.comparison.text for cell in cells if cell.judged]
    seconds = numbers.seconds(sum(cell.seconds for cell in cells), 1)
    return " ".join([*_rates([text for text in texts if text]), seconds]) if cells else ""


def _transcripts(report: Report) -> list[Line]:
    """Corpus rates of every stage against the clips' transcripts: quality, not parity."""
    texts = {
        stage.spec: [cell.vs_transcript for cell in report.rows if cell.stage == stage.spec and cell.vs_transcript]
        for stage in report.stages
    }
    parts = [f"{spec} {' '.join(_rates(diffs))}" for spec, diffs in texts.items() if diffs]
    return [Line(f"against the transcripts: {' · '.join(parts)}", "dim")] if parts else []


def _risks(report: Report) -> list[Line]:
    """Steps that a stage's own noise could flip against its parent, which a run without a flip hides."""
    parts = []
    for stage in report.stages:
        comparisons = [cell.judged.comparison for cell in report.rows if cell.stage == stage.spec and cell.judged]
        if steps := sum(comparison.steps for comparison in comparisons):
            at_risk = sum(comparison.steps_at_risk for comparison in comparisons)
            flips = sum(len(comparison.flips) for comparison in comparisons)
            parts.append(f"{stage.spec} {at_risk} of {steps} ({100 * at_risk / steps:.1f} %), {flips} flipped")
    return [Line(f"steps at risk: {' · '.join(parts)}", "dim")] if parts else []


def _weights(report: Report) -> list[Line]:
    """One line for the stages whose files hold the checkpoint's weights, and one for each thing that they do not."""
    looked = {stage.spec: stage.weights for stage in report.stages if stage.weights}
    good = [
        f"{spec} {weights.sentences[-1]}" for spec, weights in looked.items() if weights.was_read and weights.is_good
    ]
    lines = [Line(f"weights: {' · '.join(good)}", "dim")] if good else []
    for spec, weights in looked.items():
        if not weights.is_good or not weights.was_read:
            lines += [Line(f"weights: {spec}: {sentence}", "yellow") for sentence in weights.sentences[:SENTENCES]]
    return lines


def _programs(report: Report) -> list[Line]:
    """What each program showed of itself: its rungs, the worst clip of each."""
    lines = []
    for stage in report.stages:
        checks = [row.program for row in report.rows if row.stage == stage.spec and row.program]
        worst: dict[str, RungResult] = {}
        for rung in (rung for check in checks for rung in check.rungs):
            worst[rung.rung] = max(worst.get(rung.rung, rung), rung, key=lambda result: worse(result.grade))
        parts = [f"{name} {result.grade.value}{_lowest(name, checks)}" for name, result in worst.items()]
        if parts:
            lines.append(Line(f"program {stage.spec}: {' · '.join(parts)}", "dim"))
    return lines


def _lowest(rung: str, checks: Sequence[ProgramCheck]) -> str:
    """Of the features their lowest SNR, in brackets."""
    values = (
        [program.lowest_db(diff) for check in checks for diff in check.features] if rung == program.FEATURES else []
    )
    known = [value for value in values if value is not None]
    return f" (at least {numbers.decibels(min(known), 1)})" if known else ""


def _placed(report: Report) -> list[Line]:
    """Where the stages ran, and a warning for each file that fell back in part."""
    where = placement.of_report(report)
    lines = [Line(f"placement: {' · '.join(where)}", "dim")] if where else []
    fallbacks = [line for info in report.stages for line in placement.fallbacks(info)]
    lines += [Line(f"warning: {line}", "yellow") for line in fallbacks if line not in report.misplaced]
    return lines + [Line(f"placement required: {line}", "bold magenta") for line in report.misplaced]


def _states(report: Report) -> list[Line]:
    """One line for all steady stages, and one for each check that failed or could not run."""
    steady: dict[str, list[str]] = {}
    for check in report.states:
        if check.checked and not check.reason:
            sequence = f"{check.sequence}, checked before" if check.recorded else check.sequence
            steady.setdefault(sequence, []).append(check.stage)
    parts = [f"{sequence} ({', '.join(stages)})" for sequence, stages in steady.items()]
    lines = [Line(f"state: nothing depends on what ran before: {' · '.join(parts)}", "dim")] if parts else []
    others = [check for check in report.states if check.reason]
    return lines + [Line(order.describe(check), _state_style(check)) for check in others]


def _state_style(check: OrderCheck) -> str:
    return "bold red" if check.stateful else "bold magenta" if check.error_code else "yellow"


def _limits(report: Report) -> list[Line]:
    """Limits written as multiples of noise, as numbers and as written."""
    return [
        Line(f"tolerance {edge}: {key} {numbers.limit(report.tolerances[edge][key])} = {origin}", "dim")
        for edge, origins in report.tolerance_origins.items()
        for key, origin in origins.items()
    ]


def _devices(report: Report) -> list[Line]:
    """Per device: clips, its compute time, other time, bytes over the link."""
    cells: dict[str, list[Row]] = {}
    for cell in report.rows:
        if cell.usage:
            cells.setdefault(cell.usage.device, []).append(cell)
    return [Line(f"device {name}: {_spent(used_cells)}", "dim") for name, used_cells in cells.items()]


def _spent(cells: Sequence[Row]) -> str:
    usages = [cell.usage for cell in cells if cell.usage]
    compute = sum(usage.device_s for usage in usages)
    overhead = sum(cell.seconds for cell in cells) - compute
    transferred = sum(usage.sent_bytes + usage.received_bytes for usage in usages) / 1e6
    temperature = max((usage.temperature_c for usage in usages if usage.temperature_c is not None), default=None)
    heat = "" if temperature is None else f", up to {temperature:.0f} degrees Celsius"
    times = f"{numbers.seconds(compute)} of its own compute, {numbers.seconds(overhead)} beside it"
    return f"{len(cells)} clips, {times}, {transferred:.1f} MB over the link with what was pushed{heat}"


def _rates(texts: Sequence[TextDiff]) -> list[str]:
    """Corpus WER where WER leads, CER elsewhere: sums of counts, never mixed."""
    counts = {name: [text.leading_counts for text in texts if text.leading == name] for name in ("wer", "cer")}
    return [f"{name.upper()} {rate(total(errors))}" for name, errors in counts.items() if errors]

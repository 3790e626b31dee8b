"""A run at the terminal: the verdict, its tables, and what needs attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console

from whisper_parity.judge import program
from whisper_parity.judge.verdict import Outcome
from whisper_parity.report import numbers
from whisper_parity.report.tables import STYLES, cell_table, rates, stage_table
from whisper_parity.run import order, placement, tally
from whisper_parity.run.pages import PagedRows
from whisper_parity.run.report import OrderCheck, Report
from whisper_parity.run.totals import DeviceTotals, Totals
from whisper_parity.system import terminal
from whisper_parity.system.terminal import Amount

SENTENCES = 4
"""Of a stage's weights; the report has all."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line under the tables."""

    text: str
    style: str
    command: str = ""
    """Repeats the cell that failed; "" for what is no failure."""
    is_detail: bool = False
    """It says what is as it should be."""


def show(report: Report, console: Console, amount: Amount = Amount.SCREEN) -> None:
    """Print verdict, tables and what needs attention; sentences unfolded when the output is a pipe."""
    screen, console = console, terminal.unfolded(console)
    terminal.line(console, f"parity {report.summary}", STYLES[report.verdict])
    if amount is Amount.LINE:
        return
    everything = amount is Amount.ALL
    report = report if everything else report.short
    terminal.line(console, heading(report), "bold")
    console.print(stage_table(report))
    if grid := cell_table(report, screen, everything=everything):
        console.print(grid)
    all_lines = lines(report)
    for line in all_lines if everything else shortened(all_lines):
        _print(console, line)


def heading(report: Report) -> str:
    """One line: run, checkpoint, policy, time."""
    note = f" ({report.checkpoint_note})" if report.checkpoint_note else ""
    state = "" if report.finished else ", unfinished"
    duration = numbers.seconds(report.seconds, 1)
    return f"run {report.run}: checkpoint {report.checkpoint}{note}, policy {report.policy}, {duration}{state}"


def shortened(lines: Sequence[Line]) -> list[Line]:
    """What needs attention: without what is as it should be, long lists of cells folded."""
    shown: list[Line] = []
    for what, group in groupby((line for line in lines if not line.is_detail), key=_list_of):
        of_kind = list(group)
        shown += _folded(of_kind, what) if what else of_kind
    details = sum(line.is_detail for line in lines)
    return [*shown, *([Line(f"{details} more lines on what is as it should be: with -v", "dim")] if details else [])]


def _list_of(line: Line) -> str:
    """The list of cells that a line belongs to; "" for none."""
    return "failed" if line.command else "drift" if line.text.startswith("drift: ") else ""


def _folded(lines: Sequence[Line], what: str) -> list[Line]:
    return numbers.folded(lines, lambda count: Line(f"{what}: {count} more cells, all of them with -v", "yellow"))


def _print(console: Console, line: Line) -> None:
    """A line and its command: behind it in a pipe, at a terminal below it, where it can be copied."""
    if not line.command or not console.is_terminal:
        terminal.line(console, f"{line.text}{f'  →  {line.command}' if line.command else ''}", line.style)
        return
    terminal.line(console, line.text, line.style)
    terminal.command(console, f"  → {line.command}", "dim")


def lines(report: Report) -> list[Line]:
    """One line per failure, drift and remark: stage, reason and reproducing command."""
    failures: list[Line] = []
    for cell in report.rows:
        outcome, where = cell.verdict.outcome, f"{cell.clip} · {cell.stage}" if cell.stage else cell.clip
        if outcome.exit_code:
            text = f"{outcome.value}: {where}: {cell.verdict.reason}"
            failures.append(Line(text, STYLES[outcome], command=cell.reproduce))
        elif outcome is Outcome.DRIFT:
            failures.append(Line(f"drift: {where}: {cell.verdict.reason}", STYLES[outcome]))
    summary = [
        *_subset(report),
        *_left_out(report),
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
        *_findings(report),
        *sorted(failures, key=lambda line: not line.command),
        *(Line(f"window: {text}", "yellow") for text in report.windows),
        *summary,
        *_devices(report),
        *_notes(report),
    ]


def _detail(text: str) -> Line:
    """A line on what is as it should be."""
    return Line(text, "dim", is_detail=True)


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


def _left_out(report: Report) -> list[Line]:
    """How many cells of a large run have no line of their own here, and where they are."""
    if isinstance(report.rows, PagedRows) or not report.pages:
        return []
    counts = Counter(row.verdict.outcome for row in report.rows)
    totals = report.totals
    bad = sum(one.count(outcome) - counts[outcome] for outcome in Outcome if outcome.exit_code for one in totals)
    lines = [
        _detail(f"rows: of the {len({row.clip for row in report.rows})} worst of {report.clips} clips; all with -v, "
                f"and in {report.pages[0].file} and on")
    ]  # fmt: skip
    return [Line(f"rows: {bad} more cells failed: all of them with -v", "yellow"), *lines] if bad > 0 else lines


def _kept(report: Report) -> list[Line]:
    """Stages that an earlier run recorded, with the time that it took then."""
    parts = [
        f"{stage} {one.kept} clips, {numbers.seconds(one.kept_s, 1)} then"
        for stage, one in tally.of_report(report).items()
        if one.kept
    ]
    return [_detail(f"recorded before, and kept in the cache: {' · '.join(parts)}")] if parts else []


def _threads(report: Report) -> list[Line]:
    """How many threads the numbers were computed with, and a warning where waiting ones keep their core."""
    if not report.threads:
        return []
    machine = report.machine
    line = _detail(f"threads: {report.threads} for every runtime, {machine.cores} of {machine.cpus} cores usable")
    if not machine.waiting.startswith("active"):
        return [line]
    return [line, Line(f"warning: threads that wait keep their core ({machine.waiting})", "yellow")]


def _notes(report: Report) -> list[Line]:
    """Remarks on the selection and on clips, joined over stages; a stage's remark on every clip is printed once.

    Of a large run they are counted.
    """
    selected = [Line(f"note: {note}", "dim") for note in report.clip_notes]
    if report.pages:
        return [*selected, *_counted(report)]
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
    return [*selected, *on_clips]


def _counted(report: Report) -> list[Line]:
    counted: dict[tuple[str, int], list[str]] = {}
    for spec, one in tally.of_report(report).items():
        for note, count in one.notes.items():
            counted.setdefault((note, count), []).append(spec)
    return [
        Line(f"note: {count} clips: {note} ({', '.join(stages)})", "dim") for (note, count), stages in counted.items()
    ]


def _transcripts(report: Report) -> list[Line]:
    """Corpus rates of every stage against the clips' transcripts: quality, not parity."""
    totals = tally.of_report(report).items()
    parts = [f"{spec} {' '.join(rates(one.transcripts))}" for spec, one in totals if one.transcripts]
    return [_detail(f"against the transcripts: {' · '.join(parts)}")] if parts else []


def _risks(report: Report) -> list[Line]:
    """Steps that a stage's own noise could flip against its parent, which a run without a flip hides."""
    parts = []
    for spec, one in tally.of_report(report).items():
        if one.steps:
            share = 100 * one.steps_at_risk / one.steps
            parts.append(f"{spec} {one.steps_at_risk} of {one.steps} ({share:.1f} %), {one.flips} flipped")
    return [_detail(f"steps at risk: {' · '.join(parts)}")] if parts else []


def _weights(report: Report) -> list[Line]:
    """One line for the stages whose files hold the checkpoint's weights, and one for each thing that they do not."""
    looked = {stage.spec: stage.weights for stage in report.stages if stage.weights}
    good = [
        f"{spec} {weights.sentences[-1]}" for spec, weights in looked.items() if weights.was_read and weights.is_good
    ]
    lines = [_detail(f"weights: {' · '.join(good)}")] if good else []
    for spec, weights in looked.items():
        if not weights.is_good or not weights.was_read:
            lines += [Line(f"weights: {spec}: {sentence}", "yellow") for sentence in weights.sentences[:SENTENCES]]
    return lines


def _programs(report: Report) -> list[Line]:
    """What each program showed of itself: its rungs, the worst clip of each."""
    lines = []
    for spec, one in tally.of_report(report).items():
        parts = [f"{name} {grade.value}{_lowest(name, one)}" for name, grade in one.rungs.items()]
        if parts:
            lines.append(Line(f"program {spec}: {' · '.join(parts)}", "dim"))
    return lines


def _lowest(rung: str, totals: Totals) -> str:
    """Of the features their lowest SNR, in brackets."""
    level = totals.features_db if rung == program.FEATURES else None
    return "" if level is None else f" (at least {numbers.decibels(level, 1)})"


def _placed(report: Report) -> list[Line]:
    """Where the stages ran, and a warning for each file that fell back in part."""
    where = placement.of_report(report)
    lines = [_detail(f"placement: {' · '.join(where)}")] if where else []
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
    lines = [_detail(f"state: nothing depends on what ran before: {' · '.join(parts)}")] if parts else []
    others = [check for check in report.states if check.reason]
    return lines + [Line(order.describe(check), _state_style(check)) for check in others]


def _state_style(check: OrderCheck) -> str:
    return "bold red" if check.failed else "bold magenta" if check.error_code else "yellow"


def _limits(report: Report) -> list[Line]:
    """Limits written as multiples of noise, as numbers and as written."""
    return [
        Line(f"tolerance {edge}: {key} {numbers.limit(report.tolerances[edge][key])} = {origin}", "dim")
        for edge, origins in report.tolerance_origins.items()
        for key, origin in origins.items()
    ]


def _devices(report: Report) -> list[Line]:
    """Per device: clips, its compute time, other time, bytes over the link."""
    devices: dict[str, DeviceTotals] = {}
    for one in tally.of_report(report).values():
        for name, spent in one.devices.items():
            devices[name] = devices.get(name, DeviceTotals()) + spent
    return [Line(f"device {name}: {_spent(spent)}", "dim") for name, spent in devices.items()]


def _spent(device: DeviceTotals) -> str:
    heat = "" if device.temperature_c is None else f", up to {device.temperature_c:.0f} degrees Celsius"
    beside = numbers.seconds(device.seconds - device.device_s)
    times = f"{numbers.seconds(device.device_s)} of its own compute, {beside} beside it"
    return f"{device.clips} clips, {times}, {device.moved_bytes / 1e6:.1f} MB over the link with what was pushed{heat}"

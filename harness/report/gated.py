"""The gate at the terminal: every rule with its limit and its actual, the statistics, the sentence last."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from whisper_parity.gate.judging import Judgement
from whisper_parity.gate.result import GateResult, RuleResult, Statistic
from whisper_parity.gate.rules import UNJUDGED
from whisper_parity.report import numbers
from whisper_parity.system import terminal

LINES = 40
"""Lines of the difference to the approved result that are printed."""


def show(judged: Judgement, console: Console) -> None:
    """Print the gate's result, unfolded when the output is a pipe."""
    console = terminal.unfolded(console)
    result = judged.result
    console.print(rules_table(result))
    if result.statistics:
        console.print(statistics_table(result.statistics))
    for line in (*_head(judged.diff), *result.expected):
        terminal.line(console, line, _style_of(line))
    for rule in [rule for rule in result.rules if not rule.passed]:
        terminal.line(console, f"FAIL {failure(rule)}", "bold red")
    terminal.line(console, f"gate {result.sentence}", "green" if result.passed else "bold red")


def rules_table(result: GateResult) -> Table:
    """One line per rule."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "rule", "edge", "language", "limit", "actual", "from"):
        grid.add_column(name, overflow="fold")
    for rule in result.rules:
        mark, style = outcome(rule)
        cells = (rule.rule, rule.edge, rule.language, rule.limit, rule.actual, rule.source)
        grid.add_row(f"[{style}]{mark}[/]", *map(terminal.cell, cells))
    return grid


def statistics_table(statistics: Sequence[Statistic]) -> Table:
    """One line per edge and language, one column per figure."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="candidate - reference, paired", title_justify="left")
    for name in ("edge", "language", "rate", "reference", "difference", "no regression", "MAPSSWE p", "McNemar p",
                 "could be seen from", "clips for 1%", "clips for 0.1%"):  # fmt: skip
        grid.add_column(name, overflow="fold")
    for edge, language in dict.fromkeys((statistic.edge, statistic.language) for statistic in statistics):
        figures = [statistic for statistic in statistics if (statistic.edge, statistic.language) == (edge, language)]
        grid.add_row(terminal.cell(edge), terminal.cell(language), *(figure(statistic) for statistic in figures))
    return grid


def outcome(result: RuleResult) -> tuple[str, str]:
    """A rule's mark and its style."""
    if result.limit == UNJUDGED:
        return UNJUDGED, "dim"
    return ("pass", "green") if result.passed else ("FAIL", "bold red")


def failure(rule: RuleResult) -> str:
    """A failed rule in one line, with the deciding clips."""
    place = " ".join(part for part in (rule.edge, rule.language) if part)
    clips = f"; clips {', '.join(rule.clips[:5])}" if rule.clips else ""
    more = f" and {len(rule.clips) - 5} more" if len(rule.clips) > 5 else ""
    return f"{rule.rule} {place}".rstrip() + f": {rule.actual}; limit {rule.limit} ({rule.source}){clips}{more}"


def figure(statistic: Statistic) -> str:
    """A statistic with its interval; "n/a" where it has no value."""
    if statistic.value is None:
        return numbers.UNKNOWN
    if statistic.name.startswith("clips_"):
        return f"{statistic.value:.0f}"
    if statistic.name.endswith("_p"):
        return f"{statistic.value:.2g}"
    value = f"{statistic.value:+.2%}" if statistic.name.endswith("_delta") else f"{statistic.value:.2%}"
    return (
        value
        if statistic.low is None or statistic.high is None
        else f"{value} [{statistic.low:.2%}, {statistic.high:.2%}]"
    )


def _head(lines: Sequence[str]) -> list[str]:
    """The first lines of the difference; the rest is in the two files."""
    remaining = len(lines) - LINES
    return [*lines[:LINES], *([f"and {remaining} lines more: compare the two files"] if remaining > 0 else [])]


def _style_of(line: str) -> str:
    return {"-": "red", "+": "green", "@": "cyan"}.get(line[:1], "dim")

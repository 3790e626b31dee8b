"""The gate at the terminal: the verdict, what failed, and one line of what passed; all rules and figures on demand."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from whisper_parity.gate.judging import Judgement
from whisper_parity.gate.result import NO_RESULT, UNJUDGED, GateResult, RuleResult, Statistic
from whisper_parity.gate.rule import counted
from whisper_parity.report import numbers
from whisper_parity.system import terminal
from whisper_parity.system.terminal import Amount

LINES = {Amount.SCREEN: 12, Amount.ALL: 40}
"""Lines of the difference to the approved result that are printed."""
CLIPS = 5
FIGURES = {
    "wer_reference": "reference", "wer_delta": "difference", "wer": "rate",
    "improvement_probability": "better in the draws", "no_regression_rate": "no regression",
    "mapsswe_p": "MAPSSWE p", "sign_p": "sign p", "wilcoxon_p": "Wilcoxon p", "mcnemar_p": "McNemar p",
    "smallest_detectable_wer_change": "could be seen from", "clips_for_wer_change_0.01": "clips for 1%",
    "clips_for_wer_change_0.001": "clips for 0.1%",
}  # fmt: skip
"""What a statistic is called here, by its name in the gate's file; CER is called as WER is."""


def show(judged: Judgement, console: Console, amount: Amount = Amount.SCREEN) -> None:
    """Print the gate's result, unfolded when the output is a pipe."""
    console = terminal.unfolded(console)
    result = judged.result
    style = "green" if result.passed else "bold red"
    if amount is Amount.LINE:
        terminal.line(console, f"gate {result.sentence}", style)
        return
    if result.passed and amount is Amount.SCREEN:
        terminal.line(console, f"gate {heading(result)}{_besides(result)}", style)
        return
    terminal.line(console, f"gate {heading(result)}", style)
    for text in failures(result.rules_that("failed")):
        terminal.line(console, text, "bold red", indent=5)
    for line in _head(judged.diff, LINES[amount]) if judged.has_approved else ():
        terminal.line(console, line, _style_of(line))
    for line in result.expected if amount is Amount.ALL else ():
        terminal.line(console, line, "dim")
    if amount is Amount.ALL:
        _show_all(result, console)
    else:
        terminal.line(console, f"passed: {len(result.rules_that('passed'))} rules{_besides(result)}", "dim")


def heading(result: GateResult) -> str:
    """The verdict with its counts: "failed: 7 of 92 rules on 6 edges"."""
    failed, passed = len(result.rules_that("failed")), len(result.rules_that("passed"))
    edges = len({rule.edge for rule in result.rules if rule.edge and rule.outcome != UNJUDGED})
    share = f"{failed} of {failed + passed}" if failed else f"{passed}"
    return f"{'failed' if failed else 'passed'}: {share} rules on {counted(edges, 'edge')}"


def _besides(result: GateResult) -> str:
    """What else there is to read."""
    parts = [f"{len(result.rules_that(UNJUDGED))} not judged"] if result.rules_that(UNJUDGED) else []
    parts += [counted(len(result.expected), "expected divergence")] if result.expected else []
    return f", {', '.join(parts)}: each of them with -v" if parts else ": each of them with -v"


def failures(failed: Sequence[RuleResult]) -> list[str]:
    """Failed rules in a line each; the same finding on several edges is one, and so is a result that is missing."""
    groups: dict[tuple[str, ...], list[RuleResult]] = {}
    for rule in failed:
        cause = _missing(rule)
        groups.setdefault((cause,) if cause else (rule.rule, rule.limit, rule.actual, rule.source), []).append(rule)
    lines = (_without_result(group, *key) if len(key) == 1 else failure(group) for key, group in groups.items())
    return [f"FAIL {line}" for line in lines]


def _missing(rule: RuleResult) -> str:
    """What a rule says of a result that is missing, without what it measured on the others; "" for none."""
    cause, _, measured = rule.actual.partition("); ")
    return f"{cause})" if rule.actual.startswith(NO_RESULT) and measured else ""


def _without_result(group: Sequence[RuleResult], cause: str) -> str:
    edges = list(dict.fromkeys(rule.edge for rule in group))
    return f"{counted(len(group), 'rule')} on {', '.join(edges)}: {cause}"


def failure(group: Sequence[RuleResult]) -> str:
    """A rule that failed alike at one or more places, with the deciding clips."""
    rule = group[0]
    places = [" ".join(filter(None, (one.edge, one.language))) for one in group]
    place = f"{len(group)} times ({', '.join(places)})" if len(group) > 1 else places[0]
    clips = list(dict.fromkeys(clip for one in group for clip in one.clips))
    named = f"; clips {', '.join(clips[:CLIPS])}" if clips else ""
    more = f" and {len(clips) - CLIPS} more" if len(clips) > CLIPS else ""
    return f"{rule.rule} {place}".rstrip() + f": {rule.actual}; limit {rule.limit} ({rule.source}){named}{more}"


def _show_all(result: GateResult, console: Console) -> None:
    for rule in result.rules:
        mark, style = outcome(rule)
        terminal.line(console, f"{mark:<4} {measured(rule)}", style, indent=5)
    if result.statistics:
        terminal.line(console, "candidate - reference, paired:")
        for line in statistics(result.statistics):
            terminal.line(console, line, indent=4)


def measured(rule: RuleResult) -> str:
    """A rule in one line: where, what was measured, the limit and where that comes from."""
    place = " ".join(filter(None, (rule.rule, rule.edge, rule.language)))
    if rule.outcome == UNJUDGED:
        return f"{place}: {UNJUDGED} ({rule.source})"
    return f"{place}: {rule.actual}; limit {rule.limit} ({rule.source})"


def outcome(result: RuleResult) -> tuple[str, str]:
    """A rule's mark and its style."""
    return {"passed": ("pass", "green"), "failed": ("FAIL", "bold red")}.get(result.outcome, ("-", "dim"))


def statistics(found: Sequence[Statistic]) -> list[str]:
    """One line per edge and language, with every figure and its name."""
    figures: dict[tuple[str, str], list[str]] = {}
    for statistic in found:
        name = FIGURES.get(statistic.name.replace("cer", "wer"), statistic.name)
        figures.setdefault((statistic.edge, statistic.language), []).append(f"{name} {figure(statistic)}")
    return [f"  {' '.join(filter(None, place))}: {', '.join(values)}" for place, values in figures.items()]


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


def _head(lines: Sequence[str], most: int) -> list[str]:
    """The first lines of the difference; the rest is in the two files."""
    remaining = len(lines) - most
    return [*lines[:most], *([f"and {remaining} lines more: compare the two files"] if remaining > 0 else [])]


def _style_of(line: str) -> str:
    return {"-": "red", "+": "green", "@": "cyan"}.get(line[:1], "dim")

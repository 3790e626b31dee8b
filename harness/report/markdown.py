"""A run as Markdown: for a pull request or the page of a job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from whisper_parity.errors import printable
from whisper_parity.gate.result import UNJUDGED, GateResult, RuleResult, Statistic
from whisper_parity.judge.verdict import Outcome
from whisper_parity.report import numbers
from whisper_parity.run.report import Report, Row

MARKS = {
    Outcome.PASS: "✅", Outcome.DRIFT: "🟡", Outcome.REFERENCE: "⚪", Outcome.DIVERGED: "❌",
    Outcome.NOT_COMPARED: "🟣", Outcome.INVALID_INPUT: "🟣", Outcome.FAILED: "🟣",
}  # fmt: skip
LONGEST = 300
"""Characters of a text from outside in one cell."""
MOST = 50
"""Lines of a list: a job page holds a megabyte."""


def render(report: Report, gate: GateResult | None) -> str:
    """The whole page: verdict, failed rules, all rules, grid, failures, statistics."""
    left_out, report = report.left_out, report.short
    parts = [_head(report, gate)]
    if gate:
        failed = [rule for rule in gate.rules if not rule.passed]
        parts += ["### Rules that failed\n\n" + _rules(failed)] if failed else []
        parts += [_folded(f"All {len(gate.rules)} rules", _rules(gate.rules))]
    parts += [_grid(report), f"And {left_out} more clips, none worse than these." if left_out else ""]
    parts += [_trouble(report.rows)]
    if gate and gate.expected:
        parts.append("### Expected divergences\n\n" + "\n".join(f"- {escape(rule)}" for rule in gate.expected[:MOST]))
    if gate and gate.statistics:
        parts.append(_folded("Statistics, candidate - reference, paired", _statistics(gate.statistics)))
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text from outside as plain text: no markup, link, mention, cell border or line break of its own.

    Punctuation that could start any of these becomes a character reference. Forges look for mentions and issue numbers
    in the finished page, references resolved: "@" and "#" get a space of no width behind them, and so does "www".
    """
    shown = printable(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
    plain = re.sub(r"[!-/:-@\[-`{-~]", lambda mark: mark[0] if mark[0] in PLAIN else f"&#{ord(mark[0])};", shown)
    return re.sub(r"(&#64;|&#35;|www(?=\.))", r"\1&#8203;", plain, flags=re.IGNORECASE)


PLAIN = frozenset(",;%+()'/.-")
"""Marks that mean nothing inside a line."""


def _head(report: Report, gate: GateResult | None) -> str:
    mark = "✅" if (gate.passed if gate else report.exit_code == 0) else "❌"
    sentence = f"gate {gate.sentence}" if gate else report.summary
    commit = f", commit {escape(report.machine.commit[:12])}" if report.machine.commit else ""
    left_out = "".join(f"\n\nNote: {escape(note)}" for note in (*report.windows, *report.clip_notes))
    facts = f"run {escape(report.run)}: checkpoint {escape(report.checkpoint)}, policy {escape(report.policy)}{commit}"
    return f"## {mark} parity {escape(sentence)}\n\n{facts}\n\nVerdicts: {escape(report.summary)}{left_out}"


def _rules(rules: Sequence[RuleResult]) -> str:
    lines = [
        ("—" if rule.limit == UNJUDGED else "✅" if rule.passed else "❌",
         rule.rule, rule.edge, rule.language, rule.limit, rule.actual, ", ".join(rule.clips[:5]), rule.source)
        for rule in rules
    ]  # fmt: skip
    return _table(("", "rule", "edge", "language", "limit", "actual", "clips", "from"), lines)


def _grid(report: Report) -> str:
    stages = [stage.spec for stage in report.stages]
    cells = {(cell.clip, cell.stage): _cell(cell) for cell in report.rows if cell.stage}
    clips = list(dict.fromkeys(clip for clip, _ in cells))
    table = _table(("clip", *stages), [(clip, *(cells.get((clip, s), "not run") for s in stages)) for clip in clips])
    return f"### {len(clips)} clips, {len(stages)} stages\n\n{table}"


def _cell(cell: Row) -> str:
    parts = [f"{MARKS[cell.verdict.outcome]} {cell.verdict.outcome.value}"]
    comparison = cell.judged.comparison if cell.judged else None
    if comparison and comparison.text:
        parts.append(f"{comparison.text.leading.upper()} {numbers.rate(comparison.text.leading_counts)}")
    if comparison and comparison.tensors:
        parts.append(numbers.decibels(min(item.diff.snr_db for item in comparison.tensors)))
    return " ".join(parts)


def _trouble(cells: Sequence[Row]) -> str:
    bad = [cell for cell in cells if cell.verdict.outcome.exit_code]
    lines = [f"- **{escape(cell.clip)}** {escape(cell.stage)}: {escape(cell.verdict.reason)}" for cell in bad[:MOST]]
    lines += [f"- and {len(bad) - MOST} more"] if len(bad) > MOST else []
    return "### What diverged or failed\n\n" + "\n".join(lines) if lines else ""


def _statistics(statistics: Sequence[Statistic]) -> str:
    from whisper_parity.report.gated import figure

    lines = [
        (statistic.edge, statistic.language, statistic.name, figure(statistic), statistic.note)
        for statistic in statistics
    ]
    return _table(("edge", "language", "figure", "value", "what it is"), lines)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *([escape(cell) for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>\n\n{body}\n\n</details>"

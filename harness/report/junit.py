"""A recorded run as JUnit XML in pytest's form: one test case per cell and per rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from whisper_parity.errors import printable
from whisper_parity.gate.result import UNJUDGED, GateResult, RuleResult
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run.report import Report, Row

ERRORS = frozenset({Outcome.FAILED, Outcome.INVALID_INPUT, Outcome.NOT_COMPARED})
"""Outcomes that do not judge the model: errors, not failures."""


def render(report: Report, gate: GateResult | None) -> str:
    """The XML; where a gate has judged, a diverged cell is left to it and skipped, as under pytest."""
    cases = [_cell(cell, gate) for cell in report.rows] + [_rule(rule) for rule in (gate.rules if gate else ())]
    counts = {name: sum(case.find(tag) is not None for case in cases)
              for name, tag in (("errors", "error"), ("failures", "failure"), ("skipped", "skipped"))}  # fmt: skip
    attributes = {"name": "parity", **{name: str(count) for name, count in counts.items()}, "tests": str(len(cases))}
    suite = ET.Element("testsuite", {**attributes, "time": f"{report.seconds:.3f}", "timestamp": report.created})
    suite.extend(cases)
    suites = ET.Element("testsuites", name="parity")
    suites.append(suite)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _cell(cell: Row, gate: GateResult | None) -> ET.Element:
    outcome = cell.verdict.outcome
    facts = {"clip": cell.clip, "stage": cell.stage, "verdict": outcome.value, "label": cell.label}
    case = _case("parity", f"{cell.stage or 'manifest'}-{cell.clip}", cell.seconds, facts)
    message = f"{outcome.value}: {cell.verdict.reason}"
    if outcome is Outcome.DIVERGED and gate is not None:
        ET.SubElement(
            case, "skipped", type="pytest.xfail", message=printable(f"left to the gate: {cell.verdict.reason}")
        )
    elif outcome.exit_code:
        tag = "error" if outcome in ERRORS else "failure"
        ET.SubElement(case, tag, message=printable(message)).text = _lines([message, cell.reproduce])
    return case


def _rule(rule: RuleResult) -> ET.Element:
    place = ",".join(part for part in (rule.edge, rule.language) if part)
    facts = {name: str(getattr(rule, name)) for name in ("edge", "language", "limit", "actual", "source")}
    case = _case("parity-gate", rule.rule + (f"[{place}]" if place else ""), 0.0, facts)
    if rule.limit == UNJUDGED:
        ET.SubElement(case, "skipped", type="pytest.skip", message=printable(f"{UNJUDGED}: {rule.actual}"))
    if not rule.passed:
        lines = [rule.actual, f"limit: {rule.limit} ({rule.source})", *_clips(rule.clips)]
        ET.SubElement(case, "failure", message=printable(rule.actual)).text = _lines(lines)
    return case


def _case(group: str, name: str, seconds: float, facts: Mapping[str, str]) -> ET.Element:
    case = ET.Element("testcase", classname=group, name=printable(name), time=f"{seconds:.3f}")
    properties = ET.SubElement(case, "properties")
    for key, value in facts.items():
        ET.SubElement(properties, "property", name=key, value=printable(value))
    return case


def _clips(clips: Sequence[str]) -> list[str]:
    return [f"clips: {', '.join(clips[:20])}"] if clips else []


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(map(printable, lines))

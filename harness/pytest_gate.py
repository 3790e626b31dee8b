"""The gate's rules as finished items of pytest: one for each, when the run is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from whisper_parity.errors import printable
from whisper_parity.gate.result import UNJUDGED, RuleResult

GATE_FILE = "parity-gate"
"""Where the gate's items seem to stand; they are no functions."""
SHOWN = 20


def of_rules(rules: Sequence[RuleResult]) -> list[pytest.TestReport]:
    """Two reports for each rule: its call, and its teardown, which completes the item."""
    return [report for rule in rules for report in _of_rule(rule)]


def of_failure(name: str, reason: str) -> list[pytest.TestReport]:
    """The item of a gate that could not judge."""
    return _item(name, failure=reason)


def _of_rule(rule: RuleResult) -> list[pytest.TestReport]:
    place = ",".join(part for part in (rule.edge, rule.language) if part)
    lines = [rule.actual, f"limit: {rule.limit} ({rule.source})"]
    lines += [f"clips: {', '.join(rule.clips[:SHOWN])}"] if rule.clips else []
    failure = "\n".join(map(printable, lines))
    properties = tuple(
        (name, printable(str(getattr(rule, name)))) for name in ("edge", "language", "limit", "actual", "source")
    )
    skipped = printable(f"{UNJUDGED}: {rule.actual} ({rule.source})") if rule.limit == UNJUDGED else ""
    name = rule.rule + (f"[{place}]" if place else "")
    return _item(name, failure="" if rule.passed else failure, properties=properties, skipped=skipped)


def _item(
    name: str, *, failure: str = "", properties: tuple[tuple[str, str], ...] = (), skipped: str = ""
) -> list[pytest.TestReport]:
    shared: dict[str, Any] = {"location": (GATE_FILE, None, name), "keywords": {"parity_gate": 1}, "duration": 0.0}
    shared |= {"nodeid": f"{GATE_FILE}::{name}", "user_properties": [("gate", name), *properties]}
    outcome: Any = "failed" if failure else "skipped" if skipped else "passed"
    reason: Any = failure or ((GATE_FILE, 0, skipped) if skipped else None)
    call = pytest.TestReport(outcome=outcome, longrepr=reason, when="call", **shared)
    return [call, pytest.TestReport(outcome="passed", longrepr=None, when="teardown", **shared)]

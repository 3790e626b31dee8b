"""What the check of a KV cache found in a run, as causes: a cache kept wrongly lies in front of what its rows lose."""

from __future__ import annotations

from collections.abc import Iterator

from whisper_parity.explain.explanation import Cause
from whisper_parity.run import order_checks
from whisper_parity.run import report as records
from whisper_parity.run.journal import Journal
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import OrderCheck


def causes(plan: Plan, edge: str, spec: str) -> Iterator[Cause]:
    """The faults of a stage's cache; none where its cache was not checked, or is sound."""
    for check in _checks(plan, spec):
        for fault in check.cache:
            if fault.fails:
                unit = "" if fault.layer is None else f"decoder.blocks.{fault.layer}"
                yield Cause(edge, "cache", unit, (), fault.sentence)


def _checks(plan: Plan, spec: str) -> tuple[OrderCheck, ...]:
    """Of a stage: a run that has no report yet has them in its journal, one of an earlier version has no journal."""
    if plan.folder.journal.is_file():
        stage = order_checks.read(Journal(plan.folder.journal), spec)
        return stage.checks if stage else ()
    return tuple(check for check in records.load(plan.folder).states if check.stage == spec)

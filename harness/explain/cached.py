"""What the check of a KV cache found in a run, as causes: a cache kept wrongly lies in front of what its rows lose."""

from __future__ import annotations

from collections.abc import Iterator

from whisper_parity.explain.explanation import Cause
from whisper_parity.run import report as records
from whisper_parity.run.plan import Plan


def causes(plan: Plan, edge: str, spec: str) -> Iterator[Cause]:
    """The faults of a stage's cache; none where its cache was not checked, or is sound."""
    for check in records.load(plan.folder).states:
        for fault in check.cache if check.stage == spec else ():
            if fault.fails:
                unit = "" if fault.layer is None else f"decoder.blocks.{fault.layer}"
                yield Cause(edge, "cache", unit, (), fault.sentence)

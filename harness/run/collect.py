"""From the rows that a run wrote to its report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from whisper_parity.backend import artifact
from whisper_parity.backend.registry import Stage
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.run import orders, placement
from whisper_parity.run import report as schema
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import Report, Row, StageInfo, StateCheck
from whisper_parity.system import serial
from whisper_parity.system.machine import describe as describe_machine


def collect(plan: Plan, seconds: float) -> Report:
    """Gather the rows that were written into the report, and write that."""
    known = {(row.clip, row.stage): row for row in _written_rows(plan)}
    wanted = [(clip, stage) for clip in plan.clips for stage in plan.stages]
    rows = [known[clip.name, stage.spec] for clip, stage in wanted if (clip.name, stage.spec) in known]
    rows += [_row_of_bad_clip(bad.name, bad.error) for bad in plan.bad_clips]
    stages = tuple(stage_info(plan, stage) for stage in plan.stages)
    checks = tuple(check for stage in plan.stages for check in _written_states(plan, stage))
    misplaced = tuple(placement.misplaced(stages)) if plan.options.require_placement else ()
    outcome, exit_code, summary = _overall(rows, _troubles(checks, misplaced))
    report = Report(
        schema_version=schema.SCHEMA_VERSION,
        run=plan.folder.name,
        created=artifact.now(),
        finished=all((clip.name, stage.spec) in known for clip, stage in wanted),
        verdict=outcome,
        exit_code=exit_code,
        summary=summary,
        checkpoint=plan.checkpoint.name,
        checkpoint_sha256=plan.checkpoint.sha256,
        checkpoint_note=plan.checkpoint.note,
        policy=plan.policy.name,
        policy_options=dict(plan.policy.options),
        tolerances={edge: {k: _written(v) for k, v in values.items()} for edge, values in plan.tolerances.items()},
        machine=describe_machine(),
        stages=stages,
        rows=tuple(rows),
        seconds=seconds,
        states=checks,
        misplaced=misplaced,
        tolerance_origins={edge: dict(values) for edge, values in plan.tolerance_origins.items()},
    )
    serial.write(plan.folder / schema.REPORT, report)
    return report


def _written(limit: Any) -> Any:
    """A limit as the report has it: JSON has no infinity, and where any value is allowed none is made of it."""
    if isinstance(limit, list):
        return [_written(bound) for bound in limit]
    return "Infinity" if limit == math.inf else limit


def _row_of_bad_clip(name: str, error: str) -> Row:
    return schema.row_without_trace(name, "", Verdict(Outcome.INVALID_INPUT, "", error, ()), "")


def _written_rows(plan: Plan) -> list[Row]:
    return [serial.read(Row, path) for path in sorted((plan.folder / schema.ROWS).glob("*.json"))]


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What fails a run beside its rows."""

    outcome: Outcome
    exit_code: int
    words: str


def _troubles(states: Sequence[StateCheck], misplaced: Sequence[str]) -> list[_Trouble]:
    """Stateful stages, checks of state that an error ended, and stages that are not where they have to be."""
    stateful = [f"{check.stage} ({check.sequence})" for check in states if check.stateful]
    ended = [check for check in states if check.error_code and not check.stateful]
    found = [_Trouble(Outcome.DIVERGED, 1, f"stateful: {', '.join(stateful)}")] if stateful else []
    if ended:
        code = max(check.error_code for check in ended)
        names = ", ".join(dict.fromkeys(check.stage for check in ended))
        outcome = Outcome.INVALID_INPUT if code == Outcome.INVALID_INPUT.exit_code else Outcome.FAILED
        found.append(_Trouble(outcome, code, f"state and order not checked: {names}"))
    if misplaced:
        stages = ", ".join(dict.fromkeys(line.partition(": ")[0] for line in misplaced))
        found.append(_Trouble(Outcome.FAILED, 1, f"not placed as required: {stages}"))
    return found


def _overall(rows: Sequence[Row], troubles: Sequence[_Trouble]) -> tuple[Outcome, int, str]:
    """Verdict, exit code and summary: the worst of the rows and of what stands beside them."""
    counts = {outcome: sum(row.verdict.outcome is outcome for row in rows) for outcome in Outcome}
    parts = [f"{count} {outcome.value}" for outcome, count in counts.items() if count]
    outcome = _of_rows(rows, counts)
    worst = max(troubles, key=lambda trouble: trouble.exit_code, default=None)
    if worst is None and outcome is Outcome.NOT_COMPARED and not counts[outcome]:
        return outcome, outcome.exit_code, "nothing was compared: ask for at least two stages and one clip"
    code = outcome.exit_code
    if worst is not None and worst.exit_code > code:
        outcome, code = worst.outcome, worst.exit_code
    return outcome, code, "; ".join([f"{outcome.value}: {', '.join(parts)}", *(each.words for each in troubles)])


def _of_rows(rows: Sequence[Row], counts: Mapping[Outcome, int]) -> Outcome:
    bad = [row.verdict.outcome for row in rows if row.verdict.outcome.exit_code]
    if bad:
        return max(bad, key=lambda outcome: outcome.exit_code)
    if not counts[Outcome.PASS] + counts[Outcome.DRIFT]:
        return Outcome.NOT_COMPARED
    return Outcome.DRIFT if counts[Outcome.DRIFT] else Outcome.PASS


def _written_states(plan: Plan, stage: Stage) -> tuple[StateCheck, ...]:
    found = orders.read(plan, stage.spec)
    return found.checks if found else ()


def stage_info(plan: Plan, stage: Stage) -> StageInfo:
    """What was written of a stage, with where it ran."""
    path = plan.folder / schema.STAGES / f"{stage.spec.replace(':', '-')}.json"
    if not path.is_file():
        return StageInfo(stage.spec, stage.parent, False, "not run")
    info = serial.read(StageInfo, path)
    return replace(info, placement=placement.of_stage(plan.folder, stage.spec, info.sha256))

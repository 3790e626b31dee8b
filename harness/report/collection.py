"""From the rows that a run wrote to its report."""

from __future__ import annotations

from harness import artifact, serial
from harness.machine import describe as describe_machine
from harness.plan import Plan
from harness.registry import Stage
from harness.report import schema
from harness.report.schema import Report, Row, StageInfo
from harness.verdict import Outcome, Verdict


def collect(plan: Plan, seconds: float) -> Report:
    """Gather the rows that were written into the report, and write that."""
    known = {(row.clip, row.stage): row for row in _written_rows(plan)}
    wanted = [(clip, stage) for clip in plan.clips for stage in plan.stages]
    rows = [known[clip.name, stage.spec] for clip, stage in wanted if (clip.name, stage.spec) in known]
    rows += [_row_of_bad_clip(bad.name, bad.error) for bad in plan.bad_clips]
    outcome, summary = _overall(rows)
    report = Report(
        schema_version=schema.SCHEMA_VERSION,
        run=plan.folder.name,
        created=artifact.now(),
        finished=all((clip.name, stage.spec) in known for clip, stage in wanted),
        verdict=outcome,
        exit_code=max([outcome.exit_code, *(row.verdict.outcome.exit_code for row in rows)]),
        summary=summary,
        checkpoint=plan.checkpoint.name,
        checkpoint_sha256=plan.checkpoint.sha256,
        checkpoint_note=plan.checkpoint.note,
        policy=plan.policy.name,
        policy_options=dict(plan.policy.options),
        tolerances={edge: dict(values) for edge, values in plan.tolerances.items()},
        machine=describe_machine(),
        stages=tuple(_written_stage(plan, stage) for stage in plan.stages),
        rows=tuple(rows),
        seconds=seconds,
    )
    serial.write(plan.folder / schema.REPORT, report)
    return report


def _row_of_bad_clip(name: str, error: str) -> Row:
    return schema.row_without_trace(name, "", Verdict(Outcome.INVALID_INPUT, "", error, ()), "")


def _written_rows(plan: Plan) -> list[Row]:
    return [serial.read(Row, path) for path in sorted((plan.folder / schema.ROWS).glob("*.json"))]


def _overall(rows: list[Row]) -> tuple[Outcome, str]:
    counts = {outcome: sum(row.verdict.outcome is outcome for row in rows) for outcome in Outcome}
    parts = [f"{count} {outcome.value}" for outcome, count in counts.items() if count]
    judged = counts[Outcome.PASS] + counts[Outcome.DRIFT] + counts[Outcome.DIVERGED]
    bad = [row for row in rows if row.verdict.outcome.exit_code]
    if bad:
        worst = max(bad, key=lambda row: row.verdict.outcome.exit_code).verdict.outcome
        return worst, f"{worst.value}: {', '.join(parts)}"
    if not judged:
        return Outcome.NOT_COMPARED, "nothing was compared: ask for at least two stages and one clip"
    outcome = Outcome.DRIFT if counts[Outcome.DRIFT] else Outcome.PASS
    return outcome, f"{outcome.value}: {', '.join(parts)}"


def _written_stage(plan: Plan, stage: Stage) -> StageInfo:
    path = plan.folder / schema.STAGES / f"{stage.spec.replace(':', '-')}.json"
    return serial.read(StageInfo, path) if path.is_file() else StageInfo(stage.spec, stage.parent, False, "not run")

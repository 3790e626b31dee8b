"""From rows to totals."""

from __future__ import annotations

from collections.abc import Iterable

from whisper_parity.compare.text import ErrorCounts, TextDiff
from whisper_parity.judge import program
from whisper_parity.judge.verdict import Grade, worse
from whisper_parity.run.report import Report, Row
from whisper_parity.run.totals import DeviceTotals, Totals


def of_report(report: Report) -> dict[str, Totals]:
    """Totals by stage; of a report without them, as an earlier version wrote it, they are counted now."""
    return {one.stage: one for one in report.totals} or of_rows(report.rows)


def of_rows(rows: Iterable[Row]) -> dict[str, Totals]:
    """Totals by stage, in the order in which the stages come."""
    totals: dict[str, Totals] = {}
    for row in rows:
        totals[row.stage] = totals.get(row.stage, Totals(row.stage)) + of_row(row)
    return totals


def of_row(row: Row) -> Totals:
    """Totals of a single cell."""
    comparison = row.judged.comparison if row.judged else None
    check, usage = row.program, row.usage
    features = [program.lowest_db(diff) for diff in check.features] if check else []
    rungs: dict[str, Grade] = {}
    for rung in check.rungs if check else ():
        rungs[rung.rung] = max(rungs.get(rung.rung, rung.grade), rung.grade, key=worse)
    moved = usage.sent_bytes + usage.received_bytes if usage else 0
    return Totals(
        stage=row.stage,
        cells=1,
        compared=int(comparison is not None),
        outcomes={row.verdict.outcome.value: 1},
        audio_s=row.audio_s,
        seconds=row.seconds,
        texts=_errors(comparison.text if comparison else None),
        transcripts=_errors(row.vs_transcript),
        lowest_snr_db=min((item.diff.snr_db for item in comparison.tensors), default=None) if comparison else None,
        steps=comparison.steps if comparison else 0,
        steps_at_risk=comparison.steps_at_risk if comparison else 0,
        flips=len(comparison.flips) if comparison else 0,
        kept=int(bool(row.recorded)),
        kept_s=row.seconds if row.recorded else 0.0,
        rungs=rungs,
        features_db=min((value for value in features if value is not None), default=None),
        devices={usage.device: DeviceTotals(1, usage.device_s, row.seconds, moved, usage.temperature_c)}
        if usage
        else {},
        notes=dict.fromkeys(row.notes, 1),
    )


def _errors(text: TextDiff | None) -> dict[str, ErrorCounts]:
    return {text.leading: text.leading_counts} if text else {}

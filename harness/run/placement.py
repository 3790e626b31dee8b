"""Where the stages of a run ran, and whether that was their target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whisper_parity.backend.contract import Placement
from whisper_parity.run.journal import Journal
from whisper_parity.run.report import Report, StageInfo


@dataclass(frozen=True, slots=True)
class Located:
    """The placement reported by a session."""

    artifact_sha256: str
    placement: tuple[Placement, ...]


def of_stage(journal: Journal, spec: str, artifact_sha256: str) -> tuple[Placement, ...]:
    """The placement reported by this artifact's session in this run; empty when none was."""
    record = journal.find("placement", spec)
    located = record.read(Located) if record else None
    return located.placement if located and located.artifact_sha256 == artifact_sha256 else ()


def fallbacks(info: StageInfo) -> list[str]:
    """One line for each file of a stage that runs off its target, in part or as a whole."""
    return [f"{info.spec}: {describe(placed)}" for placed in info.placement if placed.fell_back]


def misplaced(stages: Sequence[StageInfo]) -> list[str]:
    """Why stages that ran do not meet `require_placement`: a fall-back, or placement unknown."""
    reasons = []
    for info in stages:
        if not info.available:
            continue
        reasons += fallbacks(info)
        reasons += [f"{info.spec}: {describe(placed)}" for placed in info.placement if not placed.target]
        if not info.placement:
            reasons.append(f"{info.spec}: placement unknown, its runtime does not report it")
    return reasons


def of_report(report: Report) -> list[str]:
    """The stages of a report with their placement, where known."""
    return [
        f"{info.spec} {', '.join(_short(placed) for placed in info.placement)}"
        for info in report.stages
        if info.placement
    ]


def describe(placed: Placement) -> str:
    """One placement in words."""
    if not placed.target:
        return f"{placed.component}: placement unknown ({placed.note})"
    if placed.elsewhere:
        return f"{placed.component}: also on {', '.join(placed.elsewhere)}, not only on {placed.target} ({placed.note})"
    if placed.nodes is None or placed.delegated is None:
        return f"{placed.component}: {placed.target} ({placed.note})"
    left = placed.nodes - placed.delegated
    fell = f", {left} fell back to the CPU" if left else ""
    return f"{placed.component}: {placed.delegated} of {placed.nodes} nodes on {placed.target}{fell} ({placed.note})"


def _short(placed: Placement) -> str:
    share = "" if placed.share is None else f" {placed.delegated}/{placed.nodes} nodes"
    others = "".join(f" + {other}" for other in placed.elsewhere)
    simulated = " (simulated)" if "simulated" in placed.note else ""
    return f"{placed.component} {placed.target or 'unknown'}{others}{share}{simulated}"

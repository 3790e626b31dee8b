"""What a run knows about each edge: one pair for each clip, what is missing included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from whisper_parity.backend.stage import Edge
from whisper_parity.compare.comparison import Comparison
from whisper_parity.compare.text import ErrorCounts
from whisper_parity.gate import measure
from whisper_parity.judge import tolerance
from whisper_parity.judge.tolerance import Tolerance
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run.report import Judged, Report, Row

NOT_RUN = frozenset({Outcome.FAILED, Outcome.INVALID_INPUT, Outcome.NOT_COMPARED})
"""Outcomes of a cell that has no result to judge."""


@dataclass(frozen=True, slots=True)
class CellEvidence:
    """One clip on one edge."""

    clip: str
    language: str
    """"" when no stage got as far as a language."""
    row: Row | None
    """The candidate's."""
    judged: Judged | None
    """None when there is nothing to judge; `missing` says why."""
    truth: tuple[ErrorCounts, ErrorCounts] | None
    """Leading error counts of candidate and reference against the transcript."""
    missing: str
    """Why there is no comparison; "" when there is one."""
    expected: bool = False
    """Every divergence of this cell is on the reviewed list: flips and text are not held against the edge."""

    @property
    def comparison(self) -> Comparison:
        """The comparison of a pair that has one."""
        assert self.judged is not None  # noqa: S101 - only asked of pairs that are not missing
        return self.judged.comparison


@dataclass(frozen=True, slots=True)
class EdgeEvidence:
    """An edge of the run, with its clips in the order of the run."""

    edge: Edge
    pairs: tuple[CellEvidence, ...]
    tolerance: Tolerance

    @property
    def name(self) -> str:
        """As the reports write it: "reference->candidate"."""
        return str(self.edge)

    def languages(self) -> tuple[str, ...]:
        """Languages of its clips, sorted; "" for clips of unknown language."""
        return tuple(sorted({pair.language for pair in self.pairs}))


def edges(report: Report, expected: Iterable[tuple[str, str]] = ()) -> tuple[EdgeEvidence, ...]:
    """All edges that the run's stages have: each stage against its parent, and against the root behind that.

    Args:
        report: the run.
        expected: (clip, stage) of cells whose divergences are all expected.
    """
    rows = {(row.clip, row.stage): row for row in report.rows}
    languages = {row.clip: row.language for row in report.rows if row.language}
    excused = frozenset(expected)
    evidence = []
    for edge in _ends(report):
        reference, candidate = edge.reference, edge.candidate
        pairs = [
            _pair(clip, languages.get(clip, ""), rows.get((clip, reference)), rows.get((clip, candidate)), reference)
            for clip in clips(report)
            if not report.subset or (clip, candidate) in rows
        ]
        pairs = [_excuse(pair) if (pair.clip, candidate) in excused else pair for pair in pairs]
        if pairs or not report.subset:
            evidence.append(EdgeEvidence(edge, tuple(pairs), tolerance.for_edge(report.tolerances, edge)))
    return tuple(evidence)


def clips(report: Report) -> tuple[str, ...]:
    """Clips of a run in its order, lines of the manifest that gave none aside."""
    return tuple(dict.fromkeys(row.clip for row in report.rows if row.stage))


def of_language(pairs: Sequence[CellEvidence], language: str) -> tuple[CellEvidence, ...]:
    """Pairs of one language; a clip whose language nobody knows belongs to each, so that it never goes missing."""
    return tuple(pair for pair in pairs if pair.language in (language, ""))


def _ends(report: Report) -> list[Edge]:
    stages = {stage.spec: stage.parent for stage in report.stages}
    edges = []
    for spec, parent in stages.items():
        if parent is not None:
            edges.append(Edge(parent, spec))
        if parent not in (None, report.root) and spec != report.root and report.root in stages:
            edges.append(Edge(report.root, spec))
    return edges


def _pair(clip: str, language: str, reference_row: Row | None, row: Row | None, reference: str) -> CellEvidence:
    if row is None:
        return CellEvidence(clip, language, None, None, None, "not run")
    sides = (row.vs_parent, row.vs_root)
    judged = next((each for each in sides if each and each.comparison.reference == reference), None)
    truth = measure.errors_against_truth(row, reference_row) if reference_row else measure.errors_by_text(row, judged)
    missing = "" if judged else f"{row.verdict.outcome.value}: {row.verdict.reason}".rstrip(": ")
    return CellEvidence(clip, language, row, judged, truth, missing)


def _excuse(pair: CellEvidence) -> CellEvidence:
    return CellEvidence(pair.clip, pair.language, pair.row, pair.judged, pair.truth, pair.missing, expected=True)

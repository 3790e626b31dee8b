"""A run's evidence on each edge: one pair per clip, missing ones included."""

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
    """"" when no stage determined a language."""
    row: Row | None
    """The candidate's cell."""
    judged: Judged | None
    """None when there is nothing to judge; `missing` gives the reason."""
    truth: tuple[ErrorCounts, ErrorCounts] | None
    """Leading error counts of candidate and reference against the transcript."""
    missing: str
    """Why there is no comparison; "" when there is one."""
    expected: bool = False
    """Every divergence of this cell is on the reviewed list: its flips and text do not count."""

    @property
    def comparison(self) -> Comparison:
        """The comparison of a pair that has one."""
        assert self.judged is not None  # noqa: S101 - callers skip missing pairs
        return self.judged.comparison


@dataclass(frozen=True, slots=True)
class EdgeEvidence:
    """An edge of the run, with its clips in the order of the run."""

    edge: Edge
    pairs: tuple[CellEvidence, ...]
    tolerance: Tolerance

    @property
    def name(self) -> str:
        """The edge as shown in reports: "reference->candidate"."""
        return str(self.edge)

    def languages(self) -> tuple[str, ...]:
        """Languages of its clips, sorted; "" for clips of unknown language."""
        return tuple(sorted({pair.language for pair in self.pairs}))


def edges(report: Report, expected: Iterable[tuple[str, str]] = ()) -> tuple[EdgeEvidence, ...]:
    """All edges of the run's stages: each stage against its parent, and, if another, against the root.

    Args:
        report: the run.
        expected: (clip, stage) of cells whose divergences are all expected.
    """
    cells = {(cell.clip, cell.stage): cell for cell in report.rows}
    languages = {cell.clip: cell.language for cell in report.rows if cell.language}
    expected_cells = frozenset(expected)
    evidence = []
    for edge in _run_edges(report):
        reference, candidate = edge.reference, edge.candidate
        pairs = [
            _pair(clip, languages.get(clip, ""), cells.get((clip, reference)), cells.get((clip, candidate)), reference)
            for clip in clips(report)
            if not report.subset or (clip, candidate) in cells
        ]
        pairs = [_excuse(pair) if (pair.clip, candidate) in expected_cells else pair for pair in pairs]
        if pairs or not report.subset:
            evidence.append(EdgeEvidence(edge, tuple(pairs), tolerance.for_edge(report.tolerances, edge)))
    return tuple(evidence)


def clips(report: Report) -> tuple[str, ...]:
    """Clips of a run in its order, without manifest lines that gave none."""
    return tuple(dict.fromkeys(cell.clip for cell in report.rows if cell.stage))


def of_language(pairs: Sequence[CellEvidence], language: str) -> tuple[CellEvidence, ...]:
    """Pairs of one language; a clip of unknown language belongs to each, so that it is never lost."""
    return tuple(pair for pair in pairs if pair.language in (language, ""))


def _run_edges(report: Report) -> list[Edge]:
    specs = {stage.spec for stage in report.stages}
    edges = []
    for stage in report.stages:
        root = stage.root or report.root
        if stage.parent is not None:
            edges.append(Edge(stage.parent, stage.spec))
        if stage.parent not in (None, root) and stage.spec != root and root in specs:
            edges.append(Edge(root, stage.spec))
    return edges


def _pair(clip: str, language: str, reference_cell: Row | None, cell: Row | None, reference: str) -> CellEvidence:
    if cell is None:
        return CellEvidence(clip, language, None, None, None, "not run")
    sides = (cell.vs_parent, cell.vs_root)
    judged = next((side for side in sides if side and side.comparison.reference == reference), None)
    if reference_cell:
        truth = measure.errors_against_truth(cell, reference_cell)
    else:
        truth = measure.errors_by_text(cell, judged)
    missing = "" if judged else f"{cell.verdict.outcome.value}: {cell.verdict.reason}".rstrip(": ")
    return CellEvidence(clip, language, cell, judged, truth, missing)


def _excuse(pair: CellEvidence) -> CellEvidence:
    return CellEvidence(pair.clip, pair.language, pair.row, pair.judged, pair.truth, pair.missing, expected=True)

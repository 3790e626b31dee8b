"""One edge over all clips: worst clips, signal-to-noise ratios, layers, risk, and a sample of single values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import stage as chain
from whisper_parity.explain.explanation import Explanation, LayerFinding
from whisper_parity.judge import tolerance
from whisper_parity.judge.tolerance import Tolerance
from whisper_parity.judge.verdict import RungResult, flip_kind, severity, worse
from whisper_parity.report.html import names
from whisper_parity.report.html.names import Cell, cell_anchor
from whisper_parity.report.html.recorded import Recorded
from whisper_parity.report.numbers import decibels
from whisper_parity.report.opening import place
from whisper_parity.run.report import Row, StageInfo
from whisper_parity.trace.trace import Trace, share_windows

WORST = 8
"""Clips in the table of an edge."""
SAMPLES = 240
"""Values of each tensor in the scatter plot of an edge, over all clips."""
LAYERED = 5
"""Clips in the chart of layers: more lines are not told apart."""

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Worst:
    """One of an edge's clips, worst first."""

    clip: str
    cell: Cell
    encoder_db: float | None
    logits_db: float | None
    flips: int
    at_risk: int


@dataclass(frozen=True, slots=True)
class Risk:
    """How close an edge comes to flips."""

    steps: int
    at_risk: int
    ties: int
    faults: int
    movement: float | None
    """Root mean square movement over all steps of the edge [logit]."""
    tie_margin: float
    """Widest margin of a tie: 3 times what a sound port moves [logit]."""
    smallest_margin: float | None
    smallest_clip: str


@dataclass(frozen=True, slots=True)
class Layers:
    """A clip's finding on an edge's layers."""

    clip: str
    finding: LayerFinding


@dataclass(frozen=True, slots=True)
class Place:
    """Something that is wrong on an edge, and the clips that it was measured on."""

    edge: str
    part: str
    unit: str
    clips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rung:
    """A rung of the ladder over all clips of an edge."""

    name: str
    counts: tuple[tuple[str, int], ...]
    """(grade, clips), the worst grade first."""
    clip: str
    """The first clip of the worst grade; "" for what is of no clip."""
    reason: str

    @property
    def css(self) -> str:
        """Class of its worst grade in the style sheet."""
        return {"pass": "pass", "drift": "drift", "fail": "diverged"}.get(self.counts[0][0], "not-compared")


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of the run."""

    stage: StageInfo
    outcomes: tuple[tuple[str, int], ...]
    worst: tuple[Worst, ...]
    hidden: int
    """Compared clips outside `worst`."""
    risk: Risk
    layers: tuple[Layers, ...]
    causes: tuple[Place, ...]
    rungs: tuple[Rung, ...]
    limits: Tolerance
    snr: tuple[Point, ...]
    """{"clip", "anchor", "tensor", "db", "SNR"}: worst clip first."""

    @property
    def fails(self) -> bool:
        """Whether a clip diverged on it, or did not get through."""
        return any(entry.cell.failed for entry in self.worst) or not self.worst


def edge(recorded: Recorded, stage: StageInfo) -> Edge:
    """Gather an edge from a run's cells and explanations."""
    cells = [cell for cell in recorded.report.rows if cell.stage == stage.spec]
    judged = sorted((cell for cell in cells if cell.judged), key=_badness)
    limits = limits_of(recorded, stage.parent or "", stage.spec)
    counts: dict[str, int] = {}
    for cell in cells:
        counts[cell.verdict.outcome.value] = counts.get(cell.verdict.outcome.value, 0) + 1
    return Edge(
        stage=stage,
        outcomes=tuple(counts.items()),
        worst=tuple(_worst(cell) for cell in judged[:WORST]),
        hidden=max(0, len(judged) - WORST),
        risk=_risk(judged, limits),
        layers=tuple(_layers(recorded, stage)),
        causes=_causes(recorded, stage),
        rungs=tuple(_rungs(stage, cells)),
        limits=limits,
        snr=tuple(_snr_points(judged)),
    )


def limits_of(recorded: Recorded, reference: str, candidate: str) -> Tolerance:
    """The tolerances of an edge as the run used them."""
    return tolerance.for_edge(recorded.report.tolerances, chain.Edge(reference, candidate))


def sample(reference: Trace, candidate: Trace, share: int) -> Iterator[Point]:
    """Single values of a clip: magnitude of the reference against absolute error, `share` of each tensor.

    Positions are drawn with a seed from the clip's name: the page of a run is reproducible, and clips are sampled at
    different positions.
    Exact zeros have no logarithm and are left out.
    """
    random = np.random.default_rng(crc32(reference.header.clip.encode(errors="replace")))
    for ours, theirs in zip(reference.windows, candidate.windows) if share_windows(reference, candidate) else ():
        pairs = (
            ("encoder_output", ours.encoder_output, theirs.encoder_output),
            ("logits", ours.teacher_forced.logits, theirs.teacher_forced.logits),
        )
        for name, ref, cand in pairs:
            if ref.shape == cand.shape and ref.size:
                at = random.integers(0, ref.size, size=max(1, share // len(reference.windows)))
                yield from _sampled(name, ref, cand, at)


def layer_points(edge: Edge) -> list[Point]:
    """{"unit", "error", "db", "SNR", "clip"} of every measured unit, in the order of the graph, of LAYERED clips."""
    clips = list(dict.fromkeys(clip_layers.clip for clip_layers in edge.layers))[:LAYERED]
    return [
        {"unit": unit.unit, "error": error, "db": value, "SNR": _snr_text(value), "clip": clip_layers.clip}
        for clip_layers in edge.layers
        if clip_layers.clip in clips
        for unit in clip_layers.finding.units
        for error, value in (("entire", unit.entire_snr_db), ("single", unit.single_snr_db))
        if value is not None
    ]


def _snr_text(db: float) -> str:
    return "identical" if db == math.inf else decibels(db, 1)


def _sampled(name: str, ref: NDArray[np.float32], cand: NDArray[np.float32], at: NDArray[np.int64]) -> Iterator[Point]:
    magnitude = np.abs(ref.reshape(-1)[at].astype(np.float64))
    error = np.abs(ref.reshape(-1)[at].astype(np.float64) - cand.reshape(-1)[at])
    for m, e in zip(magnitude, error):
        if m > 0 and 0 < e < math.inf:
            yield {"tensor": name, "magnitude": float(f"{m:.3g}"), "error": float(f"{e:.3g}")}


def _badness(cell: Row) -> tuple[float, ...]:
    """Sort key of cells, worst first: by verdict, then by the lowest SNR."""
    exit_code, drift = severity(cell.verdict)
    return -exit_code, -drift, min(_db(cell, "encoder_output"), _db(cell, "logits"))


def _db(cell: Row, name: str) -> float:
    worst = cell.judged.comparison.worst(name) if cell.judged else None
    return worst.snr_db if worst else math.inf


def _measured(cell: Row, name: str) -> float | None:
    worst = cell.judged.comparison.worst(name) if cell.judged else None
    return worst.snr_db if worst else None


def _worst(cell: Row) -> Worst:
    comparison = cell.judged.comparison if cell.judged else None
    return Worst(
        clip=cell.clip,
        cell=names.cell(cell),
        encoder_db=_measured(cell, "encoder_output"),
        logits_db=_measured(cell, "logits"),
        flips=len(comparison.flips) if comparison else 0,
        at_risk=comparison.steps_at_risk if comparison else 0,
    )


def _risk(cells: Sequence[Row], limits: Tolerance) -> Risk:
    """Sum over clips; the movement is the root mean square over all steps of all clips."""
    comparisons = [cell.judged.comparison for cell in cells if cell.judged and cell.judged.comparison.noise is not None]
    steps = sum(comparison.steps for comparison in comparisons)
    energy = sum(comparison.steps * (comparison.noise or 0.0) ** 2 for comparison in comparisons)
    flips = [flip_kind(flip, comparison, limits) for comparison in comparisons for flip in comparison.flips]
    closest = min(comparisons, key=lambda comparison: _or_infinity(comparison.smallest_margin), default=None)
    return Risk(
        steps=steps,
        at_risk=sum(comparison.steps_at_risk for comparison in comparisons),
        ties=flips.count("tie"),
        faults=flips.count("fault"),
        movement=math.sqrt(energy / steps) if steps else None,
        tie_margin=limits.max_tie_margin,
        smallest_margin=closest.smallest_margin if closest else None,
        smallest_clip=closest.clip if closest else "",
    )


def _or_infinity(value: float | None) -> float:
    return math.inf if value is None else value


def _layers(recorded: Recorded, stage: StageInfo) -> Iterator[Layers]:
    """The findings of this edge, one per clip and component: all differences of a clip share them."""
    seen: set[tuple[str, str]] = set()
    for one in recorded.explanations:
        of_differences = [layer for item in one.found if _is_of(item, stage) for layer in item.layers]
        for finding in (*of_differences, *(one.layers if one.stage == stage.spec else ())):
            if (one.clip, finding.component) not in seen:
                seen.add((one.clip, finding.component))
                yield Layers(one.clip, finding)


def _causes(recorded: Recorded, stage: StageInfo) -> tuple[Place, ...]:
    """The causes that were named on clips of this stage, each once."""
    clips: dict[tuple[str, str, str], list[str]] = {}
    for one in recorded.explanations:
        for cause in one.causes if one.stage == stage.spec else ():
            if cause.part:
                clips.setdefault((cause.edge, cause.part, cause.unit), []).append(one.clip)
    return tuple(Place(*place, tuple(dict.fromkeys(named))) for place, named in clips.items())


def _rungs(stage: StageInfo, cells: Sequence[Row]) -> Iterator[Rung]:
    """The rungs that clips of the edge were judged on, in the order of the flow; the weights of its files first."""
    if stage.weights and stage.weights.sentences:
        grade = "pass" if stage.weights.is_good else "fail" if stage.weights.was_read else "not compared"
        yield Rung("weights", ((grade, len(cells)),), "", stage.weights.sentences[0])
    results: dict[str, list[tuple[str, RungResult]]] = {}
    for cell in cells:
        for result in cell.verdict.rungs:
            results.setdefault(result.rung, []).append((cell.clip, result))
    for name in sorted(results, key=place):
        clip, worst = max(results[name], key=lambda pair: worse(pair[1].grade))
        counts = Counter(result.grade for _, result in results[name])
        ordered = sorted(counts.items(), key=lambda pair: -worse(pair[0]))
        yield Rung(name, tuple((grade.value, count) for grade, count in ordered), clip, worst.reason)


def _is_of(explanation: Explanation, stage: StageInfo) -> bool:
    return explanation.candidate == stage.spec and explanation.reference == stage.parent


def _snr_points(cells: Sequence[Row]) -> Iterator[Point]:
    for cell in sorted(cells, key=lambda cell: min(_db(cell, "encoder_output"), _db(cell, "logits"))):
        for name in ("encoder_output", "logits"):
            value = _measured(cell, name)
            if value is not None:
                anchor = cell_anchor(cell.clip, cell.stage)
                point = {"clip": cell.clip, "anchor": anchor, "tensor": name}
                yield {**point, "db": value, "SNR": _snr_text(value)}

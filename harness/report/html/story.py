"""One clip of the page: its audio, its texts, and its results at each stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whisper_parity.explain.explanation import Explanation
from whisper_parity.judge.program import FEATURES
from whisper_parity.judge.verdict import Grade, Outcome
from whisper_parity.model import vocabulary
from whisper_parity.report.html import edges, strip
from whisper_parity.report.html.alignment import Alignment, align
from whisper_parity.report.html.edges import Point
from whisper_parity.report.html.names import Cell, cell, clip_anchor, css_class, worst
from whisper_parity.report.html.recorded import Recorded, Traces
from whisper_parity.report.html.spectrogram import Picture, own_picture, picture
from whisper_parity.report.html.strip import Strip
from whisper_parity.run.report import Row, StageInfo
from whisper_parity.trace.trace import Trace

TRANSCRIPT = "transcript"
STOP_BYTES = 4_000
"""Bytes in the page for a stage of a clip without its steps; measured on 570 of them: 3.2 kB."""
FLIP_BYTES = 2_500
"""Bytes in the page for the two lists of five at a differing step."""
STRIP_BYTES = 3
"""Bytes in the page for each of a strip's data: quotation marks are escaped, and the bars are drawn from them."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A stage on the clip's way through the chain."""

    stage: StageInfo
    row: Row | None
    cell: Cell | None
    strip: Strip | None
    explanations: tuple[Explanation, ...]
    own_features: Picture | None = None
    """The log-mel that a program computed itself, where it is not Whisper's."""


@dataclass(frozen=True, slots=True)
class Story:
    """A clip and all its stops."""

    name: str
    anchor: str
    outcome: str
    css: str
    outcomes: tuple[str, ...]
    """Distinct outcomes of its cells, for the filter."""
    needs_a_look: bool
    language: str
    seconds: float
    text: str
    """The last non-empty text along the chain."""
    error: str
    """The reason of an unusable clip."""
    picture: Picture
    alignment: Alignment | None
    stops: tuple[Stop, ...]


@dataclass(frozen=True, slots=True)
class Gathered:
    """The stories of all clips and the data from their traces."""

    stories: tuple[Story, ...]
    samples: dict[str, list[Point]]
    """Values for the scatter plot of each edge, by its candidate."""
    margins: NDArray[np.float64]
    """Of all steps of the root, float64 [n_steps]."""

    audio_sha256: dict[str, str]
    """SHA-256 of the audio files in the run, by clip."""

    unread: dict[str, str]
    """Why a trace is unreadable, by its file name."""

    @property
    def size(self) -> int:
        """Estimated bytes of the stories in the page, without their sounds."""
        pictures = sum(len(story.picture.uri) for story in self.stories)
        stops = [stop for story in self.stories for stop in story.stops]
        pictures += sum(len(stop.own_features.uri) for stop in stops if stop.own_features)
        strips = sum(len(stop.strip.data) for stop in stops if stop.strip)
        flips = sum(len(stop.strip.differences) for stop in stops if stop.strip)
        return pictures + STRIP_BYTES * strips + FLIP_BYTES * flips + STOP_BYTES * len(stops)


def gather(recorded: Recorded) -> Gathered:
    """Gather every clip's story; each trace is read once or twice and released."""
    traces = Traces(recorded.folder)
    samples: dict[str, list[Point]] = {stage.spec: [] for stage in recorded.edges}
    margins: list[NDArray[np.float64]] = []
    stories, audio_sha256 = [], {}
    for name in recorded.clip_names:
        stories.append(_story(recorded, name, traces, samples, margins))
        if trace := _first(recorded, name, traces):
            audio_sha256[name] = trace.header.audio_sha256
    all_margins = np.concatenate(margins) if margins else np.zeros(0)
    return Gathered(tuple(stories), samples, all_margins, audio_sha256, traces.unread)


def worst_first(recorded: Recorded) -> list[str]:
    """Names of the clips, failed ones first."""
    rank = {name: worst(_rows(recorded, name)) for name in recorded.clip_names}
    return sorted(rank, key=lambda name: (-rank[name].exit_code, rank[name] is not Outcome.DRIFT))


def _story(
    recorded: Recorded,
    name: str,
    traces: Traces,
    samples: dict[str, list[Point]],
    margins: list[NDArray[np.float64]],
) -> Story:
    cells = _rows(recorded, name)
    root = _first_with_windows(recorded, name, traces)
    if root is not None:
        margins.append(strip.margins_of(root))
    stops = [_stop(recorded, name, stage, traces, samples) for stage in recorded.report.stages if cells[0].stage]
    language = (root.header.language if root else None) or _language(recorded, name)
    outcome = worst(cells)
    return Story(
        name=name,
        anchor=clip_anchor(name),
        outcome=outcome.value,
        css=css_class(outcome),
        outcomes=tuple(dict.fromkeys(cell.verdict.outcome.value for cell in cells)),
        needs_a_look=bool(outcome.exit_code),
        language=language,
        seconds=max(cell.audio_s for cell in cells),
        text=next((cell.text for cell in reversed(cells) if cell.text.strip()), ""),
        error="" if cells[0].stage else cells[0].verdict.reason,
        picture=picture(recorded.clips.get(name), root, recorded.options.cache if recorded.options else None),
        alignment=_alignment(recorded, name, cells, language),
        stops=tuple(stops),
    )


def _stop(recorded: Recorded, name: str, stage: StageInfo, traces: Traces, samples: dict[str, list[Point]]) -> Stop:
    row = recorded.cell(name, stage.spec)
    records = (record for record in recorded.explanations if (record.clip, record.stage) == (name, stage.spec))
    explained = tuple(explanation for record in records for explanation in record.found)
    drawn = None
    if row and row.vs_parent and stage.parent:
        reference, candidate = traces.get(name, stage.parent), traces.get(name, stage.spec)
        if reference and candidate:
            limits = edges.limits_of(recorded, stage.parent, stage.spec)
            drawn = strip.strip(reference, candidate, row.vs_parent.comparison, limits, _speaker(reference))
            share = max(1, edges.SAMPLES // len(recorded.clip_names))
            samples[stage.spec].extend(edges.sample(reference, candidate, share))
    return Stop(stage, row, cell(row) if row else None, drawn, explained, _own_features(row, traces))


def _own_features(row: Row | None, traces: Traces) -> Picture | None:
    """A picture of a program's features where their rung is not green."""
    rungs = row.program.rungs if row and row.program else ()
    if row is None or not any(rung.rung == FEATURES and rung.grade is not Grade.PASS for rung in rungs):
        return None
    trace = traces.get(row.clip, row.stage)
    return own_picture(trace) if trace else None


def _speaker(trace: Trace) -> strip.TokenText:
    def text(tokens: Sequence[int]) -> str:
        try:
            return vocabulary.token_text(trace.header.vocabulary, tokens)
        except (KeyError, ValueError, OverflowError):  # a foreign file may hold a token outside the vocabulary
            return f"token {', '.join(map(str, tokens))}"

    return text


def _alignment(recorded: Recorded, name: str, rows: list[Row], language: str) -> Alignment | None:
    """Align all texts, the root's first, with the clip's transcript where it has one."""
    texts = dict(sorted(_texts(recorded, name, rows), key=lambda pair: pair[0] != recorded.report.root))
    return align(texts, language or None) if texts else None


def _texts(recorded: Recorded, name: str, cells: list[Row]) -> Iterator[tuple[str, str]]:
    clip = recorded.clips.get(name)
    transcript = next(
        (cell.vs_transcript.reference for cell in cells if cell.vs_transcript), clip.text if clip else None
    )
    if transcript is not None:
        yield TRANSCRIPT, transcript
    for row in cells:
        if row.label:  # a stage that ran
            yield row.stage, row.text


def _first(recorded: Recorded, name: str, traces: Traces) -> Trace | None:
    """Any trace, the last stage's first, since that is still in memory."""
    candidates = (traces.get(name, stage.spec) for stage in reversed(recorded.report.stages))
    return next((trace for trace in candidates if trace), None)


def _first_with_windows(recorded: Recorded, name: str, traces: Traces) -> Trace | None:
    """The root's trace, or the first with windows."""
    specs = sorted((stage.spec for stage in recorded.report.stages), key=lambda spec: spec != recorded.report.root)
    candidates = (traces.get(name, spec) for spec in specs)
    return next((trace for trace in candidates if trace and trace.windows), None)


def _language(recorded: Recorded, name: str) -> str:
    clip = recorded.clips.get(name)
    return (clip.language if clip else None) or ""


def _rows(recorded: Recorded, name: str) -> list[Row]:
    return [row for row in recorded.report.rows if row.clip == name]

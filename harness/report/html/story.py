"""One clip of the page: its audio, its texts, and its results at each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whisper_parity.explain.explanation import Explanation
from whisper_parity.judge.program import FEATURES
from whisper_parity.judge.verdict import TIES, Grade, RungResult
from whisper_parity.model import vocabulary
from whisper_parity.report.html import edges, strip
from whisper_parity.report.html.alignment import Alignment, align
from whisper_parity.report.html.edges import Point
from whisper_parity.report.html.names import Cell, cell, clip_anchor, css_class
from whisper_parity.report.html.recorded import Recorded, Traces
from whisper_parity.report.html.spectrogram import NO_PICTURE, Picture, own_picture, picture
from whisper_parity.report.html.strip import Strip
from whisper_parity.report.html.timing import UNKNOWN, Clock, Times
from whisper_parity.run.excerpt import outcome, rank
from whisper_parity.run.report import Row, StageInfo
from whisper_parity.trace.trace import Trace

PACES, MOST_TICKS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800), 12
"""Seconds between two ticks of a spectrogram, and how many there may be."""
PICTURES = 2_000_000
"""Bytes for pictures of log-mels, worst clips first; the page's script draws the others from their sound."""


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

    @property
    def needs_a_look(self) -> bool:
        """Whether it is open from the start: it fails, or is not there."""
        return self.row is None or bool(self.row.verdict.outcome.exit_code)

    @property
    def failing(self) -> tuple[RungResult, ...]:
        """The rungs that fail, in the order of the flow."""
        return tuple(rung for rung in self.row.verdict.rungs if rung.grade is Grade.FAIL) if self.row else ()

    @property
    def is_of_ties(self) -> bool:
        """Whether words changed, and no flip is more than noise can turn."""
        return bool(self.row and self.row.verdict.reason.endswith(TIES))


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
    transcript: str | None
    """What the clip's own transcript says; None without one."""
    stops: tuple[Stop, ...]
    rank: tuple[float, ...] = ()
    """Sort key, worst first: verdict, words that changed, lowest SNR."""

    @property
    def lowest(self) -> str:
        """The lowest SNR of its tensors [dB], for sorting; large where all are identical or none is known."""
        return f"{min(self.rank[-1], 999.0):.2f}" if self.rank else "999"

    @property
    def marks(self) -> tuple[tuple[float, str, str], ...]:
        """(second, words, class) of each edit whose time is known, for the spectrogram."""
        pieces = [piece for line in (self.alignment.lines if self.alignment else ()) for piece in line.pieces]
        return tuple(
            (piece.second, f"{piece.was or 'nothing'} → {piece.text or 'nothing'}", piece.edit_class)
            for piece in pieces
            if piece.edit_class and piece.second is not None
        )

    @property
    def ticks(self) -> tuple[int, ...]:
        """Seconds that are written under the spectrogram, ten or so."""
        length = self.picture.seconds or self.seconds
        pace = next((pace for pace in PACES if length / pace <= MOST_TICKS), PACES[-1])
        return tuple(range(0, int(length) + 1, pace))

    @property
    def changed(self) -> int:
        """Edits over all stages."""
        return sum(line.edits for line in self.alignment.lines) if self.alignment else 0


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


def gather(recorded: Recorded) -> Gathered:
    """Gather every clip's story; each trace is read once or twice and released."""
    traces, clock = Traces(recorded.folder), Clock(recorded)
    samples: dict[str, list[Point]] = {stage.spec: [] for stage in recorded.edges}
    margins: list[NDArray[np.float64]] = []
    stories: list[Story] = []
    audio_sha256 = {}
    for name in worst_first(recorded):
        with_picture = sum(len(item.picture.uri) for item in stories) < PICTURES
        stories.append(_story(recorded, name, traces, samples, margins, clock, with_picture))
        if trace := _first(recorded, name, traces):
            audio_sha256[name] = trace.header.audio_sha256
    all_margins = np.concatenate(margins) if margins else np.zeros(0)
    return Gathered(tuple(stories), samples, all_margins, audio_sha256, traces.unread)


def worst_first(recorded: Recorded) -> list[str]:
    """Names of the clips: failed ones first, of equal verdicts those whose words change, then by the lowest SNR."""
    return sorted(recorded.clip_names, key=lambda name: rank(recorded.of_clip(name)))


def _is_changed(rows: Sequence[Row]) -> bool:
    """Whether a text or a token differs somewhere: only then a time is of use."""
    comparisons = [side.comparison for row in rows for side in (row.vs_parent, row.vs_root) if side]
    return any(
        comparison.flips or (comparison.text and not comparison.text.equal) or comparison.split
        for comparison in comparisons
    )


def _story(
    recorded: Recorded,
    name: str,
    traces: Traces,
    samples: dict[str, list[Point]],
    margins: list[NDArray[np.float64]],
    clock: Clock,
    with_picture: bool,
) -> Story:
    cells = recorded.of_clip(name)
    root = _first_with_windows(recorded, name, traces)
    if root is not None:
        margins.append(strip.margins_of(root))
    times = clock.times(_reference(recorded, name, traces, root)) if _is_changed(cells) else UNKNOWN
    stages = recorded.report.stages if cells[0].stage else ()
    stops = [_stop(recorded, name, stage, traces, samples, times) for stage in stages]
    language = (root.header.language if root else None) or _language(recorded, name)
    filed = outcome(cells)
    return Story(
        name=name,
        anchor=clip_anchor(name),
        outcome=filed.value,
        css=css_class(filed),
        outcomes=tuple(dict.fromkeys(cell.verdict.outcome.value for cell in cells)),
        needs_a_look=bool(filed.exit_code),
        language=language,
        seconds=max(cell.audio_s for cell in cells),
        text=next((cell.text for cell in reversed(cells) if cell.text.strip()), ""),
        error="" if cells[0].stage else cells[0].verdict.reason,
        picture=_picture(recorded, name, root) if with_picture else NO_PICTURE,
        alignment=_alignment(recorded, cells, language, times),
        transcript=_transcript(recorded, name, cells),
        stops=tuple(stops),
        rank=rank(cells),
    )


def _picture(recorded: Recorded, name: str, root: Trace | None) -> Picture:
    return picture(recorded.clips.get(name), root, recorded.options.cache if recorded.options else None)


def _stop(
    recorded: Recorded, name: str, stage: StageInfo, traces: Traces, samples: dict[str, list[Point]], times: Times
) -> Stop:
    row = recorded.cell(name, stage.spec)
    records = (record for record in recorded.explanations if (record.clip, record.stage) == (name, stage.spec))
    explained = tuple(explanation for record in records for explanation in record.found)
    drawn = None
    if row and row.vs_parent and stage.parent:
        reference, candidate = traces.get(name, stage.parent), traces.get(name, stage.spec)
        if reference and candidate:
            limits = edges.limits_of(recorded, stage.parent, stage.spec)
            drawn = strip.strip(reference, candidate, row.vs_parent.comparison, limits, _speaker(reference), times)
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


def _alignment(recorded: Recorded, rows: list[Row], language: str, times: Times) -> Alignment | None:
    """Align the texts of the stages, the root's first: every edit is one from the reference to a candidate."""
    ran = [row for row in rows if row.label]
    texts = {row.stage: row.text for row in sorted(ran, key=lambda row: row.stage != recorded.report.root)}
    return align(texts, language or None, times) if texts else None


def _transcript(recorded: Recorded, name: str, cells: list[Row]) -> str | None:
    clip = recorded.clips.get(name)
    return next((cell.vs_transcript.reference for cell in cells if cell.vs_transcript), clip.text if clip else None)


def _reference(recorded: Recorded, name: str, traces: Traces, with_windows: Trace | None) -> Trace | None:
    """The trace of the root; where it has neither tensors nor segments, the first with windows that says the same."""
    root = traces.get(name, recorded.report.root)
    if root is None or root.windows or root.header.segments:
        return root or with_windows
    return with_windows


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

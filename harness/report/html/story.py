"""One clip of the page: what was heard, what was said, and what each stage did with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whisper_parity.explain.explanation import Explanation
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import vocabulary
from whisper_parity.report.html import edges, strip
from whisper_parity.report.html.alignment import Alignment, align
from whisper_parity.report.html.edges import Point
from whisper_parity.report.html.names import Cell, cell, clip_anchor, css_class, worst
from whisper_parity.report.html.recorded import Recorded, Traces
from whisper_parity.report.html.spectrogram import Picture, picture
from whisper_parity.report.html.strip import Strip
from whisper_parity.run.report import Row, StageInfo
from whisper_parity.trace.trace import Trace

TRANSCRIPT = "transcript"
STOP_BYTES = 4_000
"""What a stage of a clip takes in the page, its steps aside; measured on 570 of them: 3.2 kB."""
FLIP_BYTES = 2_500
"""What the two lists of five at a differing step take."""
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


@dataclass(frozen=True, slots=True)
class Story:
    """A clip and all its stops."""

    name: str
    anchor: str
    outcome: str
    css: str
    outcomes: tuple[str, ...]
    """Distinct outcomes of its rows, for the filter."""
    needs_a_look: bool
    language: str
    seconds: float
    text: str
    """What the last stage that said something said."""
    error: str
    """For a clip that could not be used at all."""
    picture: Picture
    alignment: Alignment | None
    stops: tuple[Stop, ...]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the traces of all clips give beside the stories."""

    stories: tuple[Story, ...]
    samples: dict[str, list[Point]]
    """Values for the scatter plot of each edge, by the stage at its end."""
    margins: NDArray[np.float64]
    """Of all steps of the root, float64 [n_steps]."""

    audio_sha256: dict[str, str]
    """Of the files that the run heard, by clip."""

    unread: dict[str, str]
    """Why a trace that is there could not be read, by the name of its file."""

    @property
    def size(self) -> int:
        """About how many bytes the stories take in the page, their sounds aside."""
        pictures = sum(len(each.picture.uri) for each in self.stories)
        stops = [stop for each in self.stories for stop in each.stops]
        strips = sum(len(stop.strip.data) for stop in stops if stop.strip)
        flips = sum(len(stop.strip.differences) for stop in stops if stop.strip)
        return pictures + STRIP_BYTES * strips + FLIP_BYTES * flips + STOP_BYTES * len(stops)


def gather(recorded: Recorded) -> Gathered:
    """Tell every clip's story; each trace is read once or twice and let go."""
    traces = Traces(recorded.folder)
    samples: dict[str, list[Point]] = {stage.spec: [] for stage in recorded.edges}
    margins: list[NDArray[np.float64]] = []
    stories, heard = [], {}
    for name in recorded.clip_names:
        stories.append(_story(recorded, name, traces, samples, margins))
        if found := _first(recorded, name, traces):
            heard[name] = found.header.audio_sha256
    all_margins = np.concatenate(margins) if margins else np.zeros(0)
    return Gathered(tuple(stories), samples, all_margins, heard, traces.unread)


def worst_first(recorded: Recorded) -> list[str]:
    """Names of the clips, those that need a look in front."""
    rank = {name: worst(_rows(recorded, name)) for name in recorded.clip_names}
    return sorted(rank, key=lambda name: (-rank[name].exit_code, rank[name] is not Outcome.DRIFT))


def _story(
    recorded: Recorded,
    name: str,
    traces: Traces,
    samples: dict[str, list[Point]],
    margins: list[NDArray[np.float64]],
) -> Story:
    rows = _rows(recorded, name)
    root = _first_with_windows(recorded, name, traces)
    if root is not None:
        margins.append(strip.margins_of(root))
    stops = [_stop(recorded, name, stage, traces, samples) for stage in recorded.report.stages if rows[0].stage]
    language = (root.header.language if root else None) or _language(recorded, name)
    outcome = worst(rows)
    return Story(
        name=name,
        anchor=clip_anchor(name),
        outcome=outcome.value,
        css=css_class(outcome),
        outcomes=tuple(dict.fromkeys(row.verdict.outcome.value for row in rows)),
        needs_a_look=bool(outcome.exit_code),
        language=language,
        seconds=max(row.audio_s for row in rows),
        text=next((row.text for row in reversed(rows) if row.text.strip()), ""),
        error="" if rows[0].stage else rows[0].verdict.reason,
        picture=picture(recorded.clips.get(name), root, recorded.options.cache if recorded.options else None),
        alignment=_alignment(recorded, name, rows, language),
        stops=tuple(stops),
    )


def _stop(recorded: Recorded, name: str, stage: StageInfo, traces: Traces, samples: dict[str, list[Point]]) -> Stop:
    row = recorded.row(name, stage.spec)
    found = tuple(
        each for one in recorded.explanations if (one.clip, one.stage) == (name, stage.spec) for each in one.found
    )
    drawn = None
    if row and row.vs_parent and stage.parent:
        reference, candidate = traces.get(name, stage.parent), traces.get(name, stage.spec)
        if reference and candidate:
            limits = edges.limits_of(recorded, stage.parent, stage.spec)
            drawn = strip.strip(reference, candidate, row.vs_parent.comparison, limits, _speaker(reference))
            share = max(1, edges.SAMPLES // len(recorded.clip_names))
            samples[stage.spec].extend(edges.sample(reference, candidate, share))
    return Stop(stage, row, cell(row) if row else None, drawn, found)


def _speaker(trace: Trace) -> strip.TokenText:
    def text(tokens: Sequence[int]) -> str:
        try:
            return vocabulary.token_text(trace.header.n_vocab, tokens)
        except (KeyError, ValueError, OverflowError):  # a token that no vocabulary holds, in a file of somebody else's
            return f"token {', '.join(map(str, tokens))}"

    return text


def _alignment(recorded: Recorded, name: str, rows: list[Row], language: str) -> Alignment | None:
    """All texts, the root's in front; the clip's transcript too, where it has one."""
    texts = dict(sorted(_texts(recorded, name, rows), key=lambda pair: pair[0] != recorded.report.root))
    return align(texts, language or None) if texts else None


def _texts(recorded: Recorded, name: str, rows: list[Row]) -> Iterator[tuple[str, str]]:
    clip = recorded.clips.get(name)
    known = next((row.vs_transcript.reference for row in rows if row.vs_transcript), clip.text if clip else None)
    if known is not None:
        yield TRANSCRIPT, known
    for row in rows:
        if row.label:  # a stage that ran
            yield row.stage, row.text


def _first(recorded: Recorded, name: str, traces: Traces) -> Trace | None:
    """Any trace; the last stage's is the one that was read last."""
    found = (traces.get(name, stage.spec) for stage in reversed(recorded.report.stages))
    return next((trace for trace in found if trace), None)


def _first_with_windows(recorded: Recorded, name: str, traces: Traces) -> Trace | None:
    """The root's trace, or the first that has windows."""
    specs = sorted((stage.spec for stage in recorded.report.stages), key=lambda spec: spec != recorded.report.root)
    found = (traces.get(name, spec) for spec in specs)
    return next((trace for trace in found if trace and trace.windows), None)


def _language(recorded: Recorded, name: str) -> str:
    clip = recorded.clips.get(name)
    return (clip.language if clip else None) or ""


def _rows(recorded: Recorded, name: str) -> list[Row]:
    return [row for row in recorded.report.rows if row.clip == name]

"""A strip of decoder steps: margin, movement and the widest tie on one scale, to show ties and faults at a glance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whisper_parity.compare import logits
from whisper_parity.compare.comparison import Comparison
from whisper_parity.compare.logits import Flip
from whisper_parity.judge.tolerance import Tolerance
from whisper_parity.judge.verdict import flip_kind
from whisper_parity.report.html.names import shown
from whisper_parity.report.html.timing import UNKNOWN, Times
from whisper_parity.report.numbers import number
from whisper_parity.trace.context import as_far_as_fed
from whisper_parity.trace.trace import Trace, WindowTrace

LOWEST, HIGHEST = -6, 2
"""Decades of the scale [log10 logit]: float32 rounding is near the lower end, a sure decoder near the upper."""
HEIGHT = 104.0
TOP = 8.0
LABEL = 11
"""Characters of a token under its bar."""
MAX_STEPS = 240
MAX_FLIPS = 8
"""Differing steps of a cell that are shown with their top five."""
KINDS = ("sure", "risk", "tie", "fault")

TokenText = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Step:
    """One teacher-forced step."""

    window: int
    step: int
    choice: str
    """The reference's choice."""
    other: str
    """The candidate's choice where they differ, else the reference's runner-up."""
    margin: float
    movement: float
    kind: str
    """"sure", "risk" (as small as a tie's margin, and not flipped), "tie" or "fault"."""
    second: float | None = None
    """When the reference's choice is spoken [s]; None for what is not spoken, and where nothing is known."""

    @property
    def label(self) -> str:
        """The token under the bar, cut where it is long."""
        return self.choice if len(self.choice) <= LABEL else f"{self.choice[: LABEL - 1]}…"


@dataclass(frozen=True, slots=True)
class Ranked:
    """One of the five largest logits at a step."""

    token: int
    text: str
    logit: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A step with different choices, with the five largest raw logits of both."""

    flip: Flip
    kind: str
    reference: tuple[Ranked, ...]
    candidate: tuple[Ranked, ...]
    second: float | None = None
    """When the reference's choice is spoken [s]."""


@dataclass(frozen=True, slots=True)
class Strip:
    """The steps of a comparison and their drawing."""

    steps: tuple[Step, ...]
    tie_margin: float
    """Widest margin of a tie on the edge [logit]."""
    differences: tuple[Difference, ...]
    hidden_steps: int
    hidden_differences: int

    @property
    def pitch(self) -> float:
        """Width of a step [px]."""
        return min(24.0, max(15.0, 900.0 / len(self.steps)))

    @property
    def width(self) -> float:
        """Width of all steps [px]."""
        return self.pitch * len(self.steps)

    @property
    def tie_y(self) -> float:
        """Position of the widest tie [px from above]."""
        return height(self.tie_margin)

    def bars(self, kind: str) -> str:
        """SVG path of the margins of one kind."""
        places = ((i, step) for i, step in enumerate(self.steps) if step.kind == kind)
        return "".join(f"M{self._x(i):.1f} {TOP + HEIGHT:g}V{height(step.margin):.1f}" for i, step in places)

    @property
    def movements(self) -> str:
        """SVG path of a tick for each movement."""
        half = self.pitch * 0.32
        return "".join(
            f"M{self._x(i) - half:.1f} {height(step.movement):.1f}h{2 * half:.1f}" for i, step in enumerate(self.steps)
        )

    @property
    def counts(self) -> dict[str, int]:
        """Number of steps of each kind."""
        return {kind: sum(step.kind == kind for step in self.steps) for kind in KINDS}

    @property
    def labels(self) -> Iterator[tuple[float, Step]]:
        """(middle of a step [px], step), for the tokens under the bars."""
        return ((self._x(i), step) for i, step in enumerate(self.steps))

    @property
    def data(self) -> str:
        """Data of the page's script: a line for each step, fields between tabs; neither stands in a shown text."""
        return "\n".join("\t".join(_fields(step)) for step in self.steps)

    def _x(self, index: int) -> float:
        return (index + 0.5) * self.pitch


def _fields(step: Step) -> Iterator[str]:
    yield from (str(step.window), str(step.step), shown(step.choice), shown(step.other))
    yield from (number(step.margin), number(step.movement), step.kind)
    yield "" if step.second is None else f"{step.second:.2f}"


def height(value: float) -> float:
    """Position of a value on the logarithmic scale [px from above]; values outside it are clamped."""
    decade = math.log10(value) if value > 0 else LOWEST
    share = (min(max(decade, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return TOP + HEIGHT * (1 - share)


def strip(
    reference: Trace,
    candidate: Trace,
    comparison: Comparison,
    tolerance: Tolerance,
    text: TokenText,
    times: Times = UNKNOWN,
) -> Strip | None:
    """The strip of a comparison; None without steps to draw."""
    if comparison.broken or not comparison.steps:
        return None
    if {window.header.index for window in candidate.windows} != {window.header.index for window in reference.windows}:
        return None
    reference, candidate = as_far_as_fed(reference, candidate)
    windows = {window.header.index: window for window in candidate.windows}
    flips = {(flip.window, flip.step): flip for flip in comparison.flips}
    kinds = {place: flip_kind(flip, comparison, tolerance) for place, flip in flips.items()}
    steps, differences = [], []
    for window in reference.windows:
        other = windows[window.header.index]
        steps += _steps(window, other, kinds, tolerance.max_tie_margin, text, times)
        differences += [
            _difference(window, other, flip, kinds[place], text, times)
            for place, flip in list(flips.items())[:MAX_FLIPS]
            if flip.window == window.header.index
        ]
    drawn = tuple(steps[:MAX_STEPS])
    hidden = len(steps) - len(drawn), len(flips) - len(differences)
    return Strip(drawn, tolerance.max_tie_margin, tuple(differences), *hidden)


def margins_of(trace: Trace) -> NDArray[np.float64]:
    """Margins of all steps of a trace, float64 [n_steps]."""
    forced = [window.teacher_forced for window in trace.windows]
    margins = [logits.margins(steps.logits, steps.choices, steps.runners_up) for steps in forced]
    return np.concatenate(margins) if margins else np.zeros(0)


def _steps(
    ours: WindowTrace,
    theirs: WindowTrace,
    kinds: dict[tuple[int, int], str],
    tie_margin: float,
    text: TokenText,
    times: Times,
) -> list[Step]:
    """The steps of a window; movement = |margin of the reference - the same pair's in the candidate|."""
    r, c, index = ours.teacher_forced, theirs.teacher_forced, ours.header.index
    margins = logits.margins(r.logits, r.choices, r.runners_up)
    moved = np.abs(margins - logits.margins(c.logits, r.choices, r.runners_up))
    steps = []
    for i, (margin, movement) in enumerate(zip(margins, moved)):
        near = "risk" if margin <= tie_margin else "sure"
        kind = kinds.get((index, i), near)
        other = int(c.choices[i]) if (index, i) in kinds else int(r.runners_up[i])
        tokens = text([int(r.choices[i])]), text([other])
        steps.append(Step(index, i, *tokens, float(margin), float(movement), kind, times.start((index, i))))
    return steps


def _difference(
    ours: WindowTrace, theirs: WindowTrace, flip: Flip, kind: str, text: TokenText, times: Times
) -> Difference:
    first, second = (_top5(window.teacher_forced.logits[flip.step], text) for window in (ours, theirs))
    return Difference(flip, kind, first, second, times.start((flip.window, flip.step)))


def _top5(row: NDArray[np.float32], text: TokenText) -> tuple[Ranked, ...]:
    return tuple(Ranked(token, text([token]), float(row[token])) for token in logits.top_tokens(row, 5))

"""Does it matter: the margin of a flip, compared with how far sound ports of its edge move pairs.

    margin            logit of the reference's choice minus that of the candidate's choice, at this step
    movement          how far the candidate moved that pair; always above the margin, else it would not flip
    floor             root mean square movement of (choice, runner-up) in sound ports of this kind of edge
    flip_probability  0.5 erfc(margin / (floor sqrt 2)): that Gaussian noise of the floor's size exceeds the margin
                      (Abramowitz and Stegun 1964, 7.1 and 26.2)

A flip is a *tie* when its margin is at most `max_tie_margin`, TIE_SIGMAS times the floor, and no rung below the tokens
fails: what the candidate itself moves excuses nothing, as the noise of a broken model covers any margin. Otherwise it
is *justified* when no unit fails its limit alone but the output of a component does, in a file that represents the
shipped one: errors that every layer may have add up to it. It is a *fault* when a unit fails, when no measurement
explains it, and when logits are not finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from whisper_parity.compare import logits
from whisper_parity.explain.explanation import LayerFinding, Weight
from whisper_parity.judge.tolerance import Tolerance
from whisper_parity.trace.trace import Trace, WindowTrace

QUANTILES = (5, 25, 50, 75, 95)

Place = tuple[str, int, int]
"""(clip, window, step)."""


def movements(pairs: Iterable[tuple[Trace, Trace]]) -> dict[Place, float]:
    """How far the candidate moved each step's (choice, runner-up), over pairs of traces (reference, candidate)."""
    moves: dict[Place, float] = {}
    for reference, candidate in pairs:
        for r, c in zip(reference.windows, candidate.windows):
            if _comparable(r, c):
                moved = _moved(r, c)
                moves |= {(reference.header.clip, r.header.index, step): float(v) for step, v in enumerate(moved)}
    return moves


def weigh(
    reference: WindowTrace, candidate: WindowTrace, place: Place, elsewhere: dict[Place, float],
    layers: Sequence[LayerFinding], limits: Tolerance, failing: str = "",
) -> Weight | None:  # fmt: skip
    """Judge the flip at a step; None when the candidate does not flip there under the reference's tokens.

    Args:
        reference: the window of the reference.
        candidate: the window of the candidate, fed the reference's tokens.
        place: clip, window and step of the flip.
        elsewhere: movements over the run, this step included or not.
        layers: the findings on the candidate's layers; empty when none.
        limits: the tolerance of the edge, with the floor of its kind.
        failing: the rung below the tokens that fails on this clip; "" when none does.
    """
    step = place[2]
    ours, theirs = (int(window.teacher_forced.choices[step]) for window in (reference, candidate))
    if ours == theirs:
        return None
    row, other = reference.teacher_forced.logits[step], candidate.teacher_forced.logits[step]
    margin = float(row[ours]) - float(row[theirs])
    movement = margin - (float(other[ours]) - float(other[theirs]))
    rest = np.array([value for key, value in elsewhere.items() if key != place and math.isfinite(value)])
    lost = sum(key != place for key in elsewhere) - rest.size
    why_not = f"; {lost} other steps are not finite and were left out" if lost else ""
    probability = flip_probability(margin, limits.floor)
    if not math.isfinite(movement) or _broken(row, other):
        kind, why = "fault", "logits are not finite here"
    else:
        kind, why = _kind(margin, limits.max_tie_margin, layers, failing)
    return Weight(
        margin=margin,
        movement=movement,
        floor=limits.floor,
        movements=tuple(float(value) for value in np.percentile(np.abs(rest), QUANTILES)) if rest.size else (),
        flip_probability=probability,
        kind=kind,
        finding=f"{kind}: margin {margin:.3g}, moved {movement:.3g}; floor of this edge {limits.floor:.2g}, "
        f"which flips such a margin with probability {probability:.2g}; {_elsewhere(rest)}{why}{why_not}",
    )


def _elsewhere(rest: NDArray[np.float64]) -> str:
    """How far this candidate moves pairs at other steps: what it does, not what it may."""
    if not rest.size:
        return ""
    return f"over {rest.size} other steps this stage moves them by {float(np.sqrt(np.mean(rest**2))):.2g}; "


def _broken(row: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether the candidate has non-finite values where the reference's are finite."""
    return bool((np.isfinite(row) & ~np.isfinite(other)).any())


def flip_probability(margin: float, noise: float) -> float:
    """Probability that Gaussian movement of standard deviation `noise` exceeds `margin`."""
    if not math.isfinite(margin):
        return 0.0
    if noise <= 0:
        return 0.5 if margin == 0 else float(margin < 0)
    return 0.5 * math.erfc(margin / (noise * math.sqrt(2)))


def _kind(margin: float, limit: float, layers: Sequence[LayerFinding], failing: str) -> tuple[str, str]:
    culprits = [finding.culprit for finding in layers if finding.culprit]
    outside = f"the margin is outside the {limit:.2g} that a tie may have here"
    if margin <= limit and not failing:
        return "tie", f"the margin is inside the {limit:.2g} that a tie may have here"
    if margin <= limit:
        outside = f"no tie where {failing} fails"
    if culprits:
        return "fault", f"{outside}, and {culprits[0]} fails"
    if any(finding.output_fails for finding in layers):
        return "justified", f"{outside}, but no unit is at fault: errors add up"
    if layers:
        return "fault", f"{outside}, and the layers' errors do not explain it"
    return "fault", f"{outside}, and no layer was measured"


def _comparable(r: WindowTrace, c: WindowTrace) -> bool:
    return r.header.prompt == c.header.prompt and r.teacher_forced.tokens == c.teacher_forced.tokens


def _moved(r: WindowTrace, c: WindowTrace) -> NDArray[np.float64]:
    choices, runners_up = r.teacher_forced.choices, r.teacher_forced.runners_up
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which `weigh` leaves out
        ours, theirs = (logits.margins(window.teacher_forced.logits, choices, runners_up) for window in (r, c))
        return np.asarray(ours - theirs)

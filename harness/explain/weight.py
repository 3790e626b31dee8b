"""Does it matter: the margin of a flip, compared with how far the candidate moves pairs elsewhere.

    margin            logit of the reference's choice minus that of the candidate's choice, at this step
    movement          how far the candidate moved that pair; always above the margin, else it would not flip
    noise             root mean square movement of (choice, runner-up) over all other steps of the run on this edge
    flip_probability  0.5 erfc(margin / (noise sqrt 2)): that Gaussian noise of this size exceeds the margin
                      (Abramowitz and Stegun 1964, 7.1 and 26.2)

A flip is a *tie* when its margin is at most NOISE_SIGMAS times the noise, and at most the edge's `max_tie_margin`: the
noise of a broken model covers any margin. Otherwise it is *justified* when no unit fails its limit alone but the output
of a component does, in a file that represents the shipped one: errors that every layer may have add up to it. It is a
*fault* when a unit fails, when no measurement explains it, and when logits are not finite. With fewer than MIN_STEPS
other steps the noise is unknown, and the flip is *unjudged*.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from whisper_parity.compare import logits
from whisper_parity.compare.comparison import NOISE_SIGMAS
from whisper_parity.explain.explanation import LayerFinding, Weight
from whisper_parity.trace.trace import Trace, WindowTrace

QUANTILES = (5, 25, 50, 75, 95)
MIN_STEPS = 5
"""Fewer movements do not determine their size."""

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
    layers: Sequence[LayerFinding], max_tie_margin: float = math.inf,
) -> Weight | None:  # fmt: skip
    """Judge the flip at a step; None when the candidate does not flip there under the reference's tokens.

    Args:
        reference: the window of the reference.
        candidate: the window of the candidate, fed the reference's tokens.
        place: clip, window and step of the flip.
        elsewhere: movements over the run, this step included or not.
        layers: the findings on the candidate's layers; empty when none.
        max_tie_margin: of the edge's tolerance, in logits.
    """
    step = place[2]
    ours, theirs = (int(window.teacher_forced.choices[step]) for window in (reference, candidate))
    if ours == theirs:
        return None
    row, other = reference.teacher_forced.logits[step], candidate.teacher_forced.logits[step]
    margin = float(row[ours]) - float(row[theirs])
    movement = margin - (float(other[ours]) - float(other[theirs]))
    rest = np.array([value for key, value in elsewhere.items() if key != place and math.isfinite(value)])
    noise = float(np.sqrt(np.mean(rest**2))) if rest.size else 0.0
    lost = sum(key != place for key in elsewhere) - rest.size
    why_not = f"; {lost} other steps are not finite and were left out" if lost else ""
    probability = flip_probability(margin, noise) if rest.size >= MIN_STEPS else None
    if not math.isfinite(movement) or _broken(row, other):
        kind, why = "fault", "logits are not finite here"
    elif probability is None:
        kind, why = "unjudged", f"fewer than {MIN_STEPS} other steps do not determine the noise"
    else:
        kind, why = _kind(margin, min(NOISE_SIGMAS * noise, max_tie_margin), layers)
    return Weight(
        margin=margin,
        movement=movement,
        noise=noise,
        movements=tuple(float(value) for value in np.percentile(np.abs(rest), QUANTILES)) if rest.size else (),
        flip_probability=probability,
        kind=kind,
        finding=f"{kind}: margin {margin:.3g}, moved {movement:.3g}; "
        f"{_noise(rest.size, noise, probability)}{why}{why_not}",
    )


def _broken(row: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether the candidate has non-finite values where the reference's are finite."""
    return bool((np.isfinite(row) & ~np.isfinite(other)).any())


def _noise(steps: int, noise: float, probability: float | None) -> str:
    if probability is None:
        return ""
    return (
        f"over {steps} other steps the movement is {noise:.2g} (root mean square), "
        f"which flips such a margin with probability {probability:.2g}; "
    )


def flip_probability(margin: float, noise: float) -> float:
    """Probability that Gaussian movement of standard deviation `noise` exceeds `margin`."""
    if not math.isfinite(margin):
        return 0.0
    if noise <= 0:
        return 0.5 if margin == 0 else float(margin < 0)
    return 0.5 * math.erfc(margin / (noise * math.sqrt(2)))


def _kind(margin: float, limit: float, layers: Sequence[LayerFinding]) -> tuple[str, str]:
    culprits = [finding.culprit for finding in layers if finding.culprit]
    allowed = f"the {limit:.2g} that a tie may have here"
    if margin <= limit:
        return "tie", f"the margin is inside {allowed}"
    if culprits:
        return "fault", f"the margin is outside {allowed}, and {culprits[0]} fails"
    if any(finding.output_fails for finding in layers):
        return "justified", f"the margin is outside {allowed}, but no unit is at fault: errors add up"
    if layers:
        return "fault", f"the margin is outside {allowed}, and the layers' errors do not explain it"
    return "fault", f"the margin is outside {allowed}, and no layer was measured"


def _comparable(r: WindowTrace, c: WindowTrace) -> bool:
    return r.header.prompt == c.header.prompt and r.teacher_forced.tokens == c.teacher_forced.tokens


def _moved(r: WindowTrace, c: WindowTrace) -> NDArray[np.float64]:
    choices, runners_up = r.teacher_forced.choices, r.teacher_forced.runners_up
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which `weigh` leaves out
        ours, theirs = (logits.margins(window.teacher_forced.logits, choices, runners_up) for window in (r, c))
        return np.asarray(ours - theirs)

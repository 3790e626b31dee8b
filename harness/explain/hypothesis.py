"""What kind of wrong a unit is: said only with its proof."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A kind of wrong under which the reference computes what the candidate computes."""

    unit: str
    kind: str
    """In words: "GELU by tanh in its MLP", "epsilon 0.001 in attn_ln"."""
    explains: float
    """Part of the error's energy that it reproduces, 0 to 1.

    1 - sum (candidate - reference under the hypothesis)^2 / sum (candidate - reference)^2, over the unit's output where
    both are fed the reference's hidden state.
    """
    finding: str
    """One sentence: the unit, the kind, and how much it explains."""


def of(unit: str, kind: str, explains: float, left_db: float) -> Hypothesis:
    """A hypothesis with its sentence; the share is rounded down, so that only equality is 100 %.

    Args:
        unit: that is wrong.
        kind: in words.
        explains: the share of the error.
        left_db: SNR of the unit under the hypothesis against the candidate: what is left unexplained.
    """
    percent = math.floor(explains * 1000) / 10
    left = "nothing is left" if left_db == math.inf else f"what is left is at {left_db:.0f} dB"
    finding = f"{unit} with {kind} reproduces {percent:.1f} % of the error's energy; {left}"
    return Hypothesis(unit, kind, explains, finding)

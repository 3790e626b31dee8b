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


def of(unit: str, kind: str, explains: float) -> Hypothesis:
    """A hypothesis with its sentence; the share is rounded down, so that only equality is 100 %."""
    percent = math.floor(explains * 1000) / 10
    return Hypothesis(unit, kind, explains, f"{unit} with {kind} reproduces {percent:.1f} % of the error's energy")

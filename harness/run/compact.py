"""What is written down of a cell whose trace may go: numbers of each step, kilobytes where a trace is megabytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whisper_parity.compare import logits
from whisper_parity.trace.trace import Trace, WindowTrace, share_windows

SHORT = "compact"
TOP = 5
DIGITS = 4
"""Decimal places of logits: far below what any verdict depends on."""


@dataclass(frozen=True, slots=True)
class CompactWindow:
    """The teacher-forced steps of a window."""

    tokens: tuple[int, ...]
    """Those that were fed; a step more than these predicts what follows, unless the policy's limit ended them."""
    margins: tuple[float, ...]
    """Of each step: the stage's choice minus its runner-up [logit]."""
    movement: tuple[float, ...]
    """Of each step: how far the stage moved its parent's choice and runner-up apart [logit]; empty without a parent
    that was fed the same."""
    top: tuple[tuple[int, ...], ...]
    """Of each step: the TOP tokens with the largest logits."""
    top_logits: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Compact:
    """A cell in short; its tokens, texts and figures are in its row."""

    windows: tuple[CompactWindow, ...]


def of_trace(trace: Trace, parent: Trace | None) -> Compact:
    """The compact record of a trace.

    Args:
        trace: of the cell.
        parent: of the stage that it is judged against; None for none.
    """
    beside = parent.windows if parent and share_windows(parent, trace) else ()
    paired: Sequence[WindowTrace | None] = beside if len(beside) == len(trace.windows) else [None] * len(trace.windows)
    return Compact(tuple(_window(own, theirs) for own, theirs in zip(trace.windows, paired)))


def _window(own: WindowTrace, parent: WindowTrace | None) -> CompactWindow:
    forced = own.teacher_forced
    moved: NDArray[np.float64] = np.zeros(0)
    if parent and parent.teacher_forced.logits.shape == forced.logits.shape:
        pair = parent.teacher_forced.choices, parent.teacher_forced.runners_up
        moved = logits.margins(parent.teacher_forced.logits, *pair) - logits.margins(forced.logits, *pair)
    top = [logits.top_tokens(row, TOP) for row in forced.logits]
    return CompactWindow(
        forced.tokens,
        _rounded(logits.margins(forced.logits, forced.choices, forced.runners_up)),
        _rounded(moved),
        tuple(map(tuple, top)),
        tuple(_rounded(row[tokens].astype(np.float64)) for row, tokens in zip(forced.logits, top)),
    )


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), DIGITS) for value in values)

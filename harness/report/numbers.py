"""Numbers as every view writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from whisper_parity.compare.text import ErrorCounts

UNKNOWN = "n/a"
FIRST, LAST = 8, 3
"""Entries of a long list that are shown from its beginning and from its end."""

T = TypeVar("T")


def folded(entries: Sequence[T], left_out: Callable[[int], T]) -> list[T]:
    """A list with the middle left out where it is long, and an entry in its place that says how many."""
    if len(entries) <= FIRST + LAST + 1:
        return list(entries)
    return [*entries[:FIRST], left_out(len(entries) - FIRST - LAST), *entries[-LAST:]]


def rate(counts: ErrorCounts) -> str:
    """A rate in per cent; "n/a" where there is nothing to divide by."""
    return UNKNOWN if counts.rate is None else f"{counts.rate:.1%}"


def snr(value: float) -> str:
    """An SNR [dB] without its unit, "inf" for identical."""
    return f"{value:.0f}" if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def decibels(value: float | None, digits: int = 0) -> str:
    """An SNR with its unit; "n/a" where there is none."""
    if value is None:
        return UNKNOWN
    return f"{value:.{digits}f} dB" if math.isfinite(value) else f"{snr(value)} dB"


def number(value: float | None) -> str:
    """Three significant digits; "n/a" where there is none."""
    return UNKNOWN if value is None else f"{value:.3g}"


def figure(value: float) -> str:
    """Four significant digits: for what is compared from run to run."""
    return f"{value:.4g}"


def limit(value: Any) -> str:
    """A limit, or a pair of them: "[90, 60]"."""
    bounds = value if isinstance(value, list) else [value]
    text = ", ".join(figure(float(bound)) for bound in bounds)
    return f"[{text}]" if isinstance(value, list) else text


def seconds(value: float, digits: int = 2) -> str:
    """A duration."""
    return f"{value:.{digits}f} s"


def size(count: int) -> str:
    """Bytes in KiB or MiB."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 1024:.1f} KiB"

"""Numbers as every view writes them."""

from __future__ import annotations

import math

from whisper_parity.compare.text import ErrorCounts


def rate(counts: ErrorCounts) -> str:
    """A rate in per cent; "n/a" where there is nothing to divide by."""
    return "n/a" if counts.rate is None else f"{counts.rate:.1%}"


def snr(value: float) -> str:
    """An SNR in dB, "inf" for identical."""
    return f"{value:.0f}" if math.isfinite(value) else ("inf" if value > 0 else "-inf")

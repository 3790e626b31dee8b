"""Sizes and times as people write them."""

from __future__ import annotations

import re

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGT]i?B|[KMGT])?", re.IGNORECASE)

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)", re.IGNORECASE)
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def size(text: str) -> int:
    """Bytes of "16GiB", "500 MB", "2G" or "0"; every unit is a power of 1024.

    Raises:
        ValueError: no such size.
    """
    written = _SIZE.fullmatch(text.strip())
    if not written:
        raise ValueError(f"{text!r:.60} is no size: expected one as 16GiB, 500MiB or 0")
    exponent = " KMGT".index((written[2] or " ")[0].upper().replace("B", " "))
    return int(float(written[1]) * 1024**exponent)


def seconds(text: str) -> float:
    """Seconds of "90s", "30 min", "12h" or "30d".

    Raises:
        ValueError: no such time.
    """
    written = _TIME.fullmatch(text.strip())
    if not written:
        raise ValueError(f"{text!r:.60} is no time: expected one as 90s, 30min, 12h or 30d")
    return float(written[1]) * SECONDS[written[2].lower()]


def shown(count: int) -> str:
    """Bytes in the largest unit of which there is one: "1.5 GiB"."""
    exponent = min(len(UNITS) - 1, max(0, (count.bit_length() - 1) // 10))
    return f"{count / 1024**exponent:.1f} {UNITS[exponent]}" if exponent else f"{count} B"


def age(seconds: float) -> str:
    """A time that has passed, in the largest unit of which there is one: "3 d"."""
    name, unit = next(((name, unit) for name, unit in reversed(SECONDS.items()) if seconds >= unit), ("s", 1))
    return f"{seconds / unit:.0f} {name}"

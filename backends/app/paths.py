"""Paths into JSON: "$.text", "$.windows[].tokens", "$.list[0].language": what JSONPath has in all its kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from whisper_parity.errors import ConfigError

Step = str | int | None
"""The name of a field, the number of an item, or None for every item."""
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]{0,80})|\[([0-9]{0,6})\]")


def parse(text: str) -> tuple[Step, ...]:
    """The steps of a path.

    Raises:
        ConfigError: it is none.
    """
    steps: list[Step] = []
    at = 1
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise ConfigError(
                f"[backends.app.patterns] {text!r:.80}: no path from character {at + 1} on",
                hint='Write "$.name", "$.list[].name" or "$.list[0]"',
            )
        steps.append(found[1] if found[1] is not None else int(found[2]) if found[2] else None)
        at = found.end()
    return tuple(steps)


def values(content: Any, steps: Sequence[Step]) -> list[Any]:
    """What a path leads to: one value, or one for each item of its lists; [] where it leads nowhere."""
    reached = [content]
    for step in steps:
        reached = [inner for outer in reached for inner in _inside(outer, step)]
    return reached


def _inside(outer: Any, step: Step) -> Iterable[Any]:
    if isinstance(step, str):
        return (outer[step],) if isinstance(outer, Mapping) and step in outer else ()
    if not isinstance(outer, list):
        return ()
    return outer if step is None else outer[step : step + 1]

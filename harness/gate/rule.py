"""One rule of the gate: its measurement and the wording of its limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from whisper_parity.gate import measure
from whisper_parity.gate.evidence import CellEvidence
from whisper_parity.judge.tolerance import Tolerance


@dataclass(frozen=True, slots=True)
class Measured:
    """A rule's measurement on an edge."""

    value: float | None
    """None when nothing could be measured, which fails any limit."""
    words: str
    clips: tuple[str, ...]
    """The deciding clips, worst first."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its measurement and the wording of its limit."""

    name: str
    rung: str
    limit: str
    """Wording with {} for the number: "at least {} dB"."""
    measure: Callable[[str, Sequence[CellEvidence], Tolerance], Measured]
    by_language: bool = False
    """Judged per language even where no language has its own limit: WER and CER are never mixed."""


def number(name: str, value: float) -> str:
    """A limit or actual for display: rates in per cent, the rest with three digits."""
    if name in ("text_rate", "text_delta", "no_regression_rate"):
        return f"{value:.2%}"
    return f"{value:.3g}"


def counted(count: int, what: str) -> str:
    """A count in words: "1 clip", "3 clips", "2 edits of punctuation"."""
    head, _, rest = what.partition(" ")
    return f"{count} {what}" if count == 1 else f"{count} {head}s{' ' + rest if rest else ''}"


def worst_clip(name: str, values: Mapping[str, float | None]) -> Measured:
    """The worst clip of a figure; unknown when a clip lacks the figure.

    Args:
        name: of the figure.
        values: by clip.
    """
    known = {clip: value for clip, value in values.items() if value is not None}
    unknown = tuple(clip for clip in values if clip not in known)
    if unknown or not known:
        return Measured(None, f"not measured on {counted(len(unknown), 'clip')}" if unknown else "no clip", unknown)
    ranked = sorted(known, key=lambda clip: measure.goodness(name, known[clip]))
    worst = known[ranked[0]]
    unit = {"kl_max": " nat", "top_movement": " logit"}.get(name, " dB")
    return Measured(worst, f"{number(name, worst)}{unit} on {ranked[0]}", tuple(ranked[:5]))

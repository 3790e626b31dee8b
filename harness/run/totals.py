"""What a run comes to, stage by stage: counts that add up, by which a report of thousands of cells is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from whisper_parity.compare.text import ErrorCounts
from whisper_parity.judge.verdict import Grade, Outcome, worse

NOTES = 50
"""Different notes that are counted; the rows have all."""


@dataclass(frozen=True, slots=True)
class DeviceTotals:
    """What a device did."""

    clips: int = 0
    device_s: float = 0.0
    seconds: float = 0.0
    """Wall time, its own compute included."""
    moved_bytes: int = 0
    """Over the link, both ways."""
    temperature_c: float | None = None
    """The highest."""

    def __add__(self, other: DeviceTotals) -> DeviceTotals:
        """Both together."""
        degrees = [value for value in (self.temperature_c, other.temperature_c) if value is not None]
        return DeviceTotals(
            self.clips + other.clips,
            self.device_s + other.device_s,
            self.seconds + other.seconds,
            self.moved_bytes + other.moved_bytes,
            max(degrees, default=None),
        )


V = TypeVar("V", int, ErrorCounts, DeviceTotals)


@dataclass(frozen=True)
class Totals:
    """What a stage comes to over its cells."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    stage: str
    """"" for lines that gave no clip."""
    cells: int = 0
    compared: int = 0
    """Cells that were compared with their parent."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Cells by outcome."""
    audio_s: float = 0.0
    seconds: float = 0.0
    texts: dict[str, ErrorCounts] = field(default_factory=dict)
    """Against the parent, by the unit that leads: "wer", "cer"."""
    transcripts: dict[str, ErrorCounts] = field(default_factory=dict)
    """Against the clips' own transcripts."""
    lowest_snr_db: float | None = None
    """Of all tensors against the parent; None where none was compared."""
    steps: int = 0
    steps_at_risk: int = 0
    flips: int = 0
    kept: int = 0
    """Cells that an earlier run recorded."""
    kept_s: float = 0.0
    """How long these took then [s]."""
    rungs: dict[str, Grade] = field(default_factory=dict)
    """Of a program by itself: the worst grade of each rung."""
    features_db: float | None = None
    """Of a program's own features, the lowest SNR."""
    devices: dict[str, DeviceTotals] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    """Cells by note, of NOTES notes."""

    def __add__(self, other: Totals) -> Totals:
        """Those of two parts of a stage's cells."""
        return Totals(
            stage=self.stage,
            cells=self.cells + other.cells,
            compared=self.compared + other.compared,
            outcomes=_sum(self.outcomes, other.outcomes),
            audio_s=self.audio_s + other.audio_s,
            seconds=self.seconds + other.seconds,
            texts=_sum(self.texts, other.texts),
            transcripts=_sum(self.transcripts, other.transcripts),
            lowest_snr_db=_least(self.lowest_snr_db, other.lowest_snr_db),
            steps=self.steps + other.steps,
            steps_at_risk=self.steps_at_risk + other.steps_at_risk,
            flips=self.flips + other.flips,
            kept=self.kept + other.kept,
            kept_s=self.kept_s + other.kept_s,
            rungs={
                name: max((one.rungs[name] for one in (self, other) if name in one.rungs), key=worse)
                for name in dict.fromkeys((*self.rungs, *other.rungs))
            },
            features_db=_least(self.features_db, other.features_db),
            devices=_sum(self.devices, other.devices),
            notes=dict(list(_sum(self.notes, other.notes).items())[:NOTES]),
        )

    def count(self, outcome: Outcome) -> int:
        """Cells that ended so."""
        return self.outcomes.get(outcome.value, 0)


def _sum(one: dict[str, V], other: dict[str, V]) -> dict[str, V]:
    """Two tables, added entry by entry."""
    both = {name: one[name] + other[name] for name in one if name in other}
    return {**one, **other, **both}


def _least(one: float | None, other: float | None) -> float | None:
    return min((value for value in (one, other) if value is not None), default=None)

"""Which units of a half are at fault: from their single errors, and from what the file holds of their weights.

A unit is at fault when its single error is outside the limit and stands apart from what the others lose. Where all lose
alike (noise on every weight, quantisation, arithmetic of less precision, another checkpoint's weights) no unit is at
fault by itself, and the error is *spread*: then one that is named has to stand out of its own kind, since blocks,
convolutions and norms do not lose the same by the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from whisper_parity.explain.explanation import PartFinding, UnitError
from whisper_parity.explain.held import Held

STANDS_OUT_DB = 10.0
"""A unit stands apart from sound ones when it is this far below their median: in float32 they lose next to nothing."""
LOSSY_OUT_DB = 15.0
"""The same below the worst of the units that pass, where these lose more than sound float32: int8 blocks differ."""
SHARED_OUT_DB = 20.0
"""The same where all units lose. Measured on Whisper base, where nothing else is wrong: 8 bits in every block leave one
13 dB below the median of the other blocks, noise on every weight 10 dB."""
LOST_DB = 6.0
"""A unit whose error is half as large as its output stands out, unless the others are lost as well."""
BLOCK = ".blocks."
FLOOR_DB = 10.0
"""Limits stand this far below what sound ports of an edge lose at worst: what is nearer to one has lost something."""
KIND = 3
"""Blocks that a half needs for them to be compared with each other alone."""
SENTENCES = 3
"""Of the look-up of weights, behind a finding."""
SAME_DB = 1.0
"""What a unit loses is a shift of columns where the two differ by at most this: an eighth of the amplitude."""
DOMINANT = 0.9
"""Share of the sum of relative errors from which on one unit makes the error of a half that no unit leaves alone."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The conclusion from the errors of a component."""

    culprits: tuple[str, ...]
    """In the order of the graph; empty when there are none."""
    finding: str
    spread: bool = False

    @property
    def culprit(self) -> str:
        """The first one, or ""."""
        return next(iter(self.culprits), "")


def judge(
    units: Sequence[UnitError], limit_db: float, held: Held | None = None, alone: PartFinding | None = None
) -> Judgement:
    """Name the culprits among fully measured units: those that fail and stand out.

    Args:
        units: of a half, in the order of the graph.
        limit_db: SNR from which on an output passes [dB].
        held: what the shipped file holds of the weights; None where that is not known.
        alone: what the half as a whole lost, where it left a limit of its edge, perhaps another one than of the SNR.
    """
    failing = [unit for unit in units if unit.fails]
    if not failing:
        return _without_failing(units, limit_db, held, alone)
    shared = _is_shared(units, limit_db, held)
    if shared:
        culprits = [unit for unit in failing if _stands_out(unit, units)]
    else:
        culprits = [unit for unit in failing if _stands_apart(unit, units, limit_db)]
    if culprits and not (held and held.other):
        names, others = tuple(unit.unit for unit in culprits), len(failing) - len(culprits)
        return Judgement(names, _accuse(culprits, units, limit_db, held), spread=shared and others > 0)
    return Judgement((), _spread(units, limit_db, held), spread=True)


def _without_failing(
    units: Sequence[UnitError], limit_db: float, held: Held | None, alone: PartFinding | None
) -> Judgement:
    everywhere = held is not None and held.everywhere
    worst = None if alone is None or everywhere else _maker(units, alone)
    if worst is None:
        return Judgement((), _none_fails(units, limit_db), spread=alone is not None and everywhere)
    said = f"{worst.unit} ({decibels(worst.single_snr_db)}) makes the error of the {_half(worst)}, and passes by itself"
    return Judgement((worst.unit,), f"{said} (limit {limit_db:g} dB){_weights_of([worst], held)}")


def _maker(units: Sequence[UnitError], alone: PartFinding) -> UnitError | None:
    """The unit that makes the error of a half by itself: nearly all of it, or, as the last one, shifts of columns."""
    last, worst = units[-1], worst_of(units)
    if alone.shift_db is not None and abs(_level(last) - alone.shift_db) <= SAME_DB:
        return last
    return worst if worst is not None and share(worst, units) >= DOMINANT else None


def _is_shared(units: Sequence[UnitError], limit_db: float, held: Held | None) -> bool:
    """Whether all lose more than a sound port does: nearly all weights differ, or all blocks do and an end of the half.

    Of the ends (convolutions, norm, projection) one is enough: embedding and positions may be whole, as they are looked
    up, and a norm has few weights. Blocks alone may share a mistake of their code, which is a fault of each.
    """
    if held is not None and held.everywhere:
        return True
    lost = {unit.unit: unit.fails or _level(unit) < limit_db + FLOOR_DB for unit in units}
    blocks = [name for name in lost if BLOCK in name]
    ends = any(lost[name] for name in lost.keys() - blocks) or (held is not None and held.quantised)
    return len(blocks) > 1 and all(lost[name] for name in blocks) and ends


def _stands_apart(unit: UnitError, units: Sequence[UnitError], limit_db: float) -> bool:
    """Not finite, lost, or far below the units that pass: below their median, or where they lose as well the worst."""
    if unit.nonfinite or unit.single_snr_db is None:
        return unit.nonfinite > 0
    passing = [_level(other) for other in units if not other.fails and _loses(other)]
    usual = median_low(passing) if passing else math.inf
    if usual < limit_db + FLOOR_DB:
        return unit.single_snr_db <= max(LOST_DB, min(passing) - LOSSY_OUT_DB)
    return unit.single_snr_db <= max(LOST_DB, usual - STANDS_OUT_DB)


def _stands_out(unit: UnitError, units: Sequence[UnitError]) -> bool:
    """Among units that all lose: not finite, or far below what its own kind loses; where that is few, below all."""
    if unit.nonfinite or unit.single_snr_db is None:
        return unit.nonfinite > 0
    others = [other for other in units if other is not unit and _loses(other)]
    kind = [_level(other) for other in others if BLOCK in other.unit]
    if BLOCK in unit.unit and len(kind) >= KIND - 1:
        return unit.single_snr_db <= median_low(kind) - SHARED_OUT_DB
    return unit.single_snr_db <= min(map(_level, others), default=math.inf) - SHARED_OUT_DB


def _loses(unit: UnitError) -> bool:
    return unit.single_snr_db is not None and unit.single_snr_db < math.inf


def _level(unit: UnitError) -> float:
    """Its single SNR; inf where there is none."""
    return math.inf if unit.single_snr_db is None else unit.single_snr_db


def share(unit: UnitError, units: Sequence[UnitError]) -> float:
    """A unit's relative error (noise power over signal power) as a fraction of the sum over all units."""
    noise = {other.unit: 10 ** (-level / 10) for other in units if (level := other.single_snr_db) is not None}
    return noise[unit.unit] / total if (total := sum(noise.values())) else 0.0


def worst_of(units: Sequence[UnitError]) -> UnitError | None:
    """The unit with the lowest single SNR; None where none was compared."""
    errors = [(unit.single_snr_db, place) for place, unit in enumerate(units) if unit.single_snr_db is not None]
    return units[min(errors)[1]] if errors else None


def _with_share(unit: UnitError, units: Sequence[UnitError]) -> str:
    return f"{unit.unit} ({decibels(unit.single_snr_db)}, {share(unit, units):.0%} of the sum of relative errors)"


def _half(unit: UnitError) -> str:
    return unit.unit.partition(".")[0]


def _none_fails(units: Sequence[UnitError], limit_db: float) -> str:
    worst = worst_of(units)
    if worst is None:
        return "no unit could be compared"
    final = units[-1].entire_snr_db
    if final is not None and final < limit_db:
        return (
            f"errors add up to {decibels(final)} (limit {limit_db:g} dB), but no unit fails alone: "
            f"the worst is {_with_share(worst, units)}"
        )
    if worst.single_snr_db == math.inf:
        return "every unit is identical"
    return f"no unit fails: the worst is {worst.unit} ({decibels(worst.single_snr_db)}, limit {limit_db:g} dB)"


def _spread(units: Sequence[UnitError], limit_db: float, held: Held | None) -> str:
    worst, count = worst_of(units), sum(unit.fails for unit in units)
    if worst is None:
        return "no unit could be compared"
    over = f"over all {'weights' if held and not held.exact else 'units'} of the {_half(worst)}"
    if held and held.other:
        return f"spread {over}, which are another checkpoint's: {_listed(held.sentences)}"
    said = (
        f"spread {over}: {count} of {len(units)} outside the limit of {limit_db:g} dB, and none stands out: "
        f"the worst is {_with_share(worst, units)}"
    )
    if held is None:
        return said
    if held.exact:
        rounded = ", equal to the quantisation step" if held.quantised else ""
        return f"{said}; the weights are the checkpoint's{rounded}"
    return f"{said}; {_listed(held.sentences)}"


def _accuse(culprits: Sequence[UnitError], units: Sequence[UnitError], limit_db: float, held: Held | None) -> str:
    first, *more = culprits
    others = [unit.unit for unit in units if unit.fails and unit not in culprits]
    place = [unit.unit for unit in units].index(first.unit)
    before = units[place - 1] if place else None
    finding = f"{failure(first)}, limit {limit_db:g} dB"
    if before is not None and before.entire_snr_db is not None:
        passes = before.entire_snr_db >= limit_db and not before.nonfinite
        finding += f"; its input {'passes' if passes else 'does not pass'} ({decibels(before.entire_snr_db)})"
    finding += "".join(f"; {failure(unit)}, too" for unit in more)
    finding += _weights_of(culprits, held)
    finding += f"; outside the limit too: {', '.join(others)}" if others else ""
    final = units[-1].entire_snr_db
    harmless = final is not None and final >= limit_db
    return finding + (f"; the component's output still passes ({decibels(final)})" if harmless else "")


def _weights_of(culprits: Sequence[UnitError], held: Held | None) -> str:
    """Whether the weights of the culprits are the checkpoint's; "" where that is not known."""
    if held is None:
        return ""
    exact = [unit.unit for unit in culprits if not any(_is_of(other, unit.unit) for other in held.units)]
    if len(exact) == len(culprits):
        return "; its weights are the checkpoint's, so its graph differs" if len(culprits) == 1 else (
            "; their weights are the checkpoint's, so their graph differs"
        )  # fmt: skip
    graph = f"; the weights of {', '.join(exact)} are the checkpoint's" if exact else ""
    return f"; {_listed(held.sentences)}{graph}"


def _is_of(differing: str, unit: str) -> bool:
    """Whether a unit whose weights differ is this one, or this one is a part of it."""
    return unit == differing or unit.startswith(f"{differing}.") or differing.startswith(f"{unit}.")


def _listed(sentences: Sequence[str]) -> str:
    more = len(sentences) - SENTENCES
    return "; ".join(sentences[:SENTENCES]) + (f"; and {more} more" if more > 0 else "")


def failure(unit: UnitError) -> str:
    """How a unit fails alone."""
    name = f"{unit.unit} (token embedding + positions)" if unit.unit == "decoder.positions" else unit.unit
    if unit.nonfinite:
        return f"{name} gives {unit.nonfinite} NaN or infinite value(s)"
    return f"{name} fails alone ({decibels(unit.single_snr_db)})"


def decibels(value: float | None) -> str:
    """An SNR in a finding."""
    if value is None:
        return "not measured"
    return "identical" if value == math.inf else f"{value:.1f} dB" if math.isfinite(value) else "not finite"

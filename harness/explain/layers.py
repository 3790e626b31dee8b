"""Which layer: the first unit that fails while its inputs pass.

Of every unit (convolutions, positions, a block, a norm, the projection) two numbers, as SNR against the reference:
*entire*, accumulated from the start of its component on the component's own input, and *single*, of this unit alone,
fed with the reference's hidden state. Both come from probes, real artifacts of the stage; how far a probe speaks for
the shipped file is checked by their final outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median_low

from whisper_parity.backend import taps
from whisper_parity.backend.stage import Edge
from whisper_parity.clips.clip import Clip
from whisper_parity.errors import UsageError
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.bisect import first_failing
from whisper_parity.explain.explanation import LayerFinding, UnitError
from whisper_parity.explain.measured import Measurer, Probed, Question, TapError
from whisper_parity.judge import tolerance

STANDS_OUT_DB = 10.0
"""A unit that fails stands out when it is so far below the median of the others: a fault of its own, not the habit of
all. Units of a healthy int8 file lie some 10 dB around their median; a broken unit of a float32 file lies far below."""

LOST_DB = 6.0
"""A unit whose error is half as large as its output computes something else, whatever the others lose."""

Errors = Mapping[str, TapError]
"""By unit."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the errors of a component say."""

    culprit: str
    """"" when there is none."""
    finding: str


def locate(
    bench: Bench,
    reference: str,
    candidate: str,
    clip: Clip,
    window: int,
    component: str,
    *,
    bisect: bool = False,
    detail: bool = False,
) -> LayerFinding:
    """Find the unit of a component in which a candidate departs from a reference.

    Args:
        bench: a run.
        reference: stage whose hidden states are right.
        candidate: stage under test.
        clip: what both are fed.
        window: which window of it.
        component: "encoder", or "decoder", which is fed the reference's tokens and the reference's encoder output.
        bisect: halve instead of measuring every unit; a stage on a device always is.
        detail: look into the blocks too: attention, cross attention, MLP.

    Raises:
        UnavailableError: one of the two cannot make probes, or gives text only.
        UsageError: no such component, window or stage in this run.
        ParityError: a probe cannot be built or run here.
    """
    if component not in taps.COMPONENTS:
        raise UsageError(f"no component {component!r:.60}", hint=f"There are {' and '.join(taps.COMPONENTS)}")
    for spec in (reference, candidate):
        bench.plan.stage(spec)
    measurer = Measurer(bench, Question(reference, candidate, clip, window, component, detail))
    edge = tolerance.for_edge(bench.plan.tolerances, Edge(reference, candidate))
    limit_db = (edge.encoder_output_snr_db if component == "encoder" else edge.logits_snr_db).passes
    return _halved(measurer, limit_db) if bisect or measurer.metered else _measured(measurer, limit_db)


def judge(units: Sequence[UnitError], limit_db: float) -> Judgement:
    """Name the culprit among units of which all errors are known: the first that fails and stands out.

    Where those that fail lose no more than the others do, the error is spread, as quantisation spreads it: none is to
    blame, and the worst is named with its share of the noise.
    """
    failing = [unit for unit in units if unit.fails]
    if not failing:
        return Judgement("", _nothing(units, limit_db))
    if not (culprits := [unit for unit in failing if _stands_out(unit, units)]):
        return Judgement("", _spread(units, limit_db))
    return Judgement(culprits[0].unit, _blame(culprits[0], units, limit_db))


def unit_error(unit: str, entire: TapError | None, single: TapError | None, limit_db: float) -> UnitError:
    """Both errors of a unit; it fails by its single one."""
    known = single or entire
    return UnitError(
        unit=unit,
        entire_snr_db=entire.snr_db if entire else None,
        single_snr_db=single.snr_db if single else None,
        nonfinite=known.nonfinite if known else 0,
        fails=single is not None and outside(single, limit_db),
        entire_fails=entire is not None and outside(entire, limit_db),
    )


def outside(error: TapError, limit_db: float) -> bool:
    """Whether an error is outside the limit; values that are not finite always are."""
    return error.snr_db is not None and (error.nonfinite > 0 or error.snr_db < limit_db)


def _measured(measurer: Measurer, limit_db: float) -> LayerFinding:
    """Two probes: all units entire, all units single."""
    measurer.build()
    probed = measurer.entire(measurer.units)
    entire, single = _by_unit(probed), _by_unit(measurer.single(measurer.units))
    units = tuple(unit_error(unit, entire.get(unit), single.get(unit), limit_db) for unit in measurer.units)
    found = judge(units, limit_db)
    return _finding(measurer, limit_db, units, found, [probed])


def _halved(measurer: Measurer, limit_db: float) -> LayerFinding:
    """One tap a probe, then the suspect alone; where the output passes, every unit alone in one probe."""
    entire: dict[str, TapError] = {measurer.final: measurer.shipped.error}
    runs: list[Probed] = []

    def fails(unit: str) -> bool:
        runs.append(measurer.entire([unit]))
        entire.update(_by_unit(runs[-1]) if unit != measurer.final else {})
        return outside(entire[unit], limit_db)

    if not outside(measurer.shipped.error, limit_db):  # a later unit may hide what an early one does
        single = _by_unit(measurer.single(measurer.units))
        units = tuple(unit_error(unit, entire.get(unit), single.get(unit), limit_db) for unit in measurer.units)
        return _finding(measurer, limit_db, units, judge(units, limit_db), [])
    suspect = first_failing(measurer.units, fails)
    single = _by_unit(measurer.single([suspect, *_inside(measurer, suspect)]))
    units = tuple(unit_error(unit, entire.get(unit), single.get(unit), limit_db) for unit in measurer.units)
    found = _suspected(suspect, units, limit_db)
    return _finding(measurer, limit_db, units, found, runs, halved=True)


def _inside(measurer: Measurer, suspect: str) -> list[str]:
    """Sublayers whose block the suspect is, when they are units: without them in the probe it would be the whole."""
    if not measurer.question.detail:
        return []
    block = ".".join(suspect.split(".")[:3])
    return [unit for unit in measurer.units if ".blocks." in suspect and unit.startswith(f"{block}.")]


def _suspected(suspect: str, units: Sequence[UnitError], limit_db: float) -> Judgement:
    failing = [unit for unit in units if unit.fails]
    if failing:
        before = takewhile(lambda unit: unit is not failing[0], units)
        passed = ", ".join(unit.unit for unit in before if unit.entire_snr_db is not None and not unit.entire_fails)
        behind = f"; the error is not yet outside it behind {passed}" if passed else ""
        return Judgement(failing[0].unit, f"{_said(failing[0])}, limit {limit_db:g} dB{behind}")
    own = next(unit for unit in units if unit.unit == suspect)
    said = f"errors add up: {suspect} is the first outside the limit of {limit_db:g} dB ({_db(own.entire_snr_db)})"
    return Judgement("", f"{said}, but alone it passes ({_db(own.single_snr_db)}), so no unit is to blame alone")


def _finding(
    measurer: Measurer,
    limit_db: float,
    units: tuple[UnitError, ...],
    found: Judgement,
    probes: Sequence[Probed],
    halved: bool = False,
) -> LayerFinding:
    notes = [found.finding, *_caveats(probes, measurer.question.reference, limit_db)]
    if halved:
        notes.append("found by halving: an error once in is taken to stay in, and units without figures were not run")
    return LayerFinding(
        component=measurer.question.component,
        units=units,
        culprit=found.culprit,
        faithful=all(probe.faithful for probe in probes),
        probes=measurer.runs,
        finding="; ".join(notes),
        output_fails=units[-1].entire_fails and all(_speaks(probe, limit_db) for probe in probes),
    )


def _speaks(probe: Probed, limit_db: float) -> bool:
    """Whether what an entire probe shows holds for the shipped file: their outputs agree to within the limit."""
    return bool(probe.faithful) or (probe.final_snr_db is not None and probe.final_snr_db >= limit_db)


def _caveats(probes: Sequence[Probed], reference: str, limit_db: float) -> list[str]:
    """How far the probes speak for the shipped file."""
    if not probes:
        return []
    notes = ["a probe may be fused differently from the shipped file"]
    if all(probe.faithful for probe in probes):
        notes[0] += ", but its final output equals the shipped file's bit for bit"
    else:
        worst = min((probe.final_snr_db for probe in probes if probe.final_snr_db is not None), default=None)
        notes[0] += f", and its final output is not the shipped file's (SNR {_db(worst)} between them)"
        if not all(_speaks(probe, limit_db) for probe in probes):
            notes.append("so this is said of a file that we built, and may not hold for the shipped one")
    if any(error.snr_db is None for probe in probes for error in probe.errors):
        notes.append(f"hidden states of {reference} itself are not finite, and units that they feed are not judged")
    return notes


def _by_unit(probed: Probed) -> dict[str, TapError]:
    return {error.unit: error for error in probed.errors}


def _stands_out(unit: UnitError, units: Sequence[UnitError]) -> bool:
    """Not finite, lost, or far below the median of what the other units lose."""
    if unit.nonfinite or unit.single_snr_db is None:
        return unit.nonfinite > 0
    others = [each.single_snr_db for each in units if each is not unit and each.single_snr_db is not None]
    usual = median_low(others) if others else math.inf
    return unit.single_snr_db <= max(LOST_DB, usual - STANDS_OUT_DB)


def _with_share(unit: UnitError, units: Sequence[UnitError]) -> str:
    return f"{unit.unit} ({_db(unit.single_snr_db)}, {_share(unit, units):.0%} of the sum of relative errors)"


def _share(unit: UnitError, units: Sequence[UnitError]) -> float:
    """A unit's relative error (noise power over signal power) as a part of the sum over all units."""
    noise = {each.unit: 10 ** (-each.single_snr_db / 10) for each in units if each.single_snr_db is not None}
    return noise[unit.unit] / sum(noise.values())


def _worst(units: Sequence[UnitError]) -> UnitError | None:
    known = [(unit.single_snr_db, place) for place, unit in enumerate(units) if unit.single_snr_db is not None]
    return units[min(known)[1]] if known else None


def _nothing(units: Sequence[UnitError], limit_db: float) -> str:
    worst = _worst(units)
    if worst is None:
        return "no unit could be compared"
    final = units[-1].entire_snr_db
    if final is not None and final < limit_db:
        return (
            f"errors add up to {_db(final)} (limit {limit_db:g} dB), but no unit fails alone: "
            f"the worst is {_with_share(worst, units)}"
        )
    return f"no unit fails: the worst is {worst.unit} ({_db(worst.single_snr_db)}, limit {limit_db:g} dB)"


def _spread(units: Sequence[UnitError], limit_db: float) -> str:
    worst, count = _worst(units), sum(unit.fails for unit in units)
    if worst is None:
        return "no unit could be compared"
    return (
        f"spread: {count} of {len(units)} units outside the limit of {limit_db:g} dB, and none stands out: "
        f"the worst is {_with_share(worst, units)}"
    )


def _blame(culprit: UnitError, units: Sequence[UnitError], limit_db: float) -> str:
    others = [unit.unit for unit in units if unit.fails and unit is not culprit]
    place = [unit.unit for unit in units].index(culprit.unit)
    before = units[place - 1] if place else None
    said = f"{_said(culprit)}, limit {limit_db:g} dB"
    if before is not None and before.entire_snr_db is not None:
        passes = before.entire_snr_db >= limit_db and not before.nonfinite
        said += f"; its input {'passes' if passes else 'does not pass'} ({_db(before.entire_snr_db)})"
    said += f"; outside the limit too: {', '.join(others)}" if others else ""
    final = units[-1].entire_snr_db
    harmless = final is not None and final >= limit_db
    return said + (f"; the component's output passes all the same ({_db(final)})" if harmless else "")


def _said(unit: UnitError) -> str:
    name = f"{unit.unit} (token embedding + positions)" if unit.unit == "decoder.positions" else unit.unit
    if unit.nonfinite:
        return f"{name} gives {unit.nonfinite} value(s) that are NaN or infinite"
    return f"{name} fails alone ({_db(unit.single_snr_db)})"


def _db(value: float | None) -> str:
    if value is None:
        return "not measured"
    return "identical" if value == math.inf else f"{value:.1f} dB" if math.isfinite(value) else "not finite"

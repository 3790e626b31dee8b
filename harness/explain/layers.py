"""Which layer: the units that fail alone and stand apart.

Every unit (convolutions, positions, a block, a norm, the projection) has two errors, as SNR against the reference:
*entire*, accumulated from the start of its component on the component's own input, and *single*, of this unit alone,
fed the reference's hidden state. Both come from copies with taps; comparing final outputs shows how far a copy
represents the shipped file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from whisper_parity.backend import taps
from whisper_parity.backend.stage import Edge
from whisper_parity.clips.clip import Clip
from whisper_parity.errors import ParityError, UsageError
from whisper_parity.explain import held, trials
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.explanation import LayerFinding, PartFinding, UnitError
from whisper_parity.explain.held import Held
from whisper_parity.explain.judgement import Judgement, decibels, judge
from whisper_parity.explain.measured import Measurer, Probed, Question, TapError
from whisper_parity.judge import tolerance

INSIDE = "measured in the file itself, a copy with its hidden states as outputs"
UNLIKE = "a copy that computes otherwise"

Errors = Mapping[str, TapError]
"""By unit."""


def locate(
    bench: Bench,
    reference: str,
    candidate: str,
    clip: Clip,
    window: int,
    component: str,
    *,
    detail: bool = False,
    alone: PartFinding | None = None,
) -> LayerFinding:
    """Find the units of a component at which a candidate departs from a reference.

    Args:
        bench: a run.
        reference: stage with the right hidden states.
        candidate: stage under test.
        clip: the input of both.
        window: index of the clip's window.
        component: "encoder", or "decoder", which is fed the reference's tokens and the reference's encoder output.
        detail: measure the sublayers of blocks too: attention, cross attention, MLP.
        alone: what the component as a whole lost, where it left a limit of the edge, by whatever measure.

    Raises:
        UnavailableError: one of the two cannot build probes, or gives text only.
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
    finding = _measure_all(measurer, limit_db, held.of(bench.weights(candidate), component), alone)
    try:
        return replace(finding, kinds=trials.hypotheses(bench, measurer, finding.culprits, finding.units))
    except ParityError as error:
        return replace(finding, finding=f"{finding.finding}; what kind of wrong it is was not tried: {error}")


def unit_error(unit: str, entire: TapError | None, single: TapError | None, limit_db: float) -> UnitError:
    """Both errors of a unit; its single error decides whether it fails."""
    error = single or entire
    return UnitError(
        unit=unit,
        entire_snr_db=entire.snr_db if entire else None,
        single_snr_db=single.snr_db if single else None,
        nonfinite=error.nonfinite if error else 0,
        fails=single is not None and outside(single, limit_db),
        entire_fails=entire is not None and outside(entire, limit_db),
    )


def outside(error: TapError, limit_db: float) -> bool:
    """Whether an error is outside the limit; non-finite values always are."""
    return error.snr_db is not None and (error.nonfinite > 0 or error.snr_db < limit_db)


def _measure_all(
    measurer: Measurer, limit_db: float, weights: Held | None = None, alone: PartFinding | None = None
) -> LayerFinding:
    """Run two probes: all units entire, all units single."""
    measurer.build()
    probed = measurer.entire(measurer.units)
    entire, single = _by_unit(probed), _by_unit(measurer.single(measurer.units))
    units = tuple(unit_error(unit, entire.get(unit), single.get(unit), limit_db) for unit in measurer.units)
    judgement = judge(units, limit_db, weights, alone)
    return _finding(measurer, limit_db, units, judgement, [probed])


def _finding(
    measurer: Measurer,
    limit_db: float,
    units: tuple[UnitError, ...],
    judgement: Judgement,
    probes: Sequence[Probed],
) -> LayerFinding:
    notes = [judgement.finding, *_caveats(probes, measurer.question.reference, limit_db)]
    merged = [unit.unit for unit in units if unit.entire_snr_db is None and unit.single_snr_db is None]
    if merged:
        notes.append(f"not told apart from what follows: {', '.join(merged)}")
    return LayerFinding(
        component=measurer.question.component,
        units=units,
        culprit=judgement.culprit,
        faithful=all(probe.faithful for probe in probes),
        probes=measurer.runs,
        finding="; ".join(notes),
        output_fails=units[-1].entire_fails and all(_represents_shipped(probe, limit_db) for probe in probes),
        culprits=judgement.culprits,
        spread=judgement.spread,
    )


def _represents_shipped(probe: Probed, limit_db: float) -> bool:
    """Whether an entire probe's result holds for the shipped file: their outputs agree within the limit."""
    return bool(probe.faithful) or (probe.final_snr_db is not None and probe.final_snr_db >= limit_db)


def _caveats(probes: Sequence[Probed], reference: str, limit_db: float) -> list[str]:
    """Notes on how far the probes represent the shipped file."""
    if not probes:
        return []
    inside = all(probe.inside for probe in probes)
    notes = [INSIDE if inside else probes[0].made]
    if all(probe.faithful for probe in probes):
        notes[0] += ", and its final output equals the shipped file's bit for bit"
    else:
        worst = min((probe.final_snr_db for probe in probes if probe.final_snr_db is not None), default=None)
        notes[0] += f", but its final output is not the shipped file's (SNR {decibels(worst)} between them)"
        if not all(_represents_shipped(probe, limit_db) for probe in probes):
            notes.append(f"so this describes {UNLIKE}, and may not hold for the shipped one")
    if any(error.snr_db is None for probe in probes for error in probe.errors):
        notes.append(f"hidden states of {reference} itself are not finite, so the units that they feed are not judged")
    return notes


def _by_unit(probed: Probed) -> dict[str, TapError]:
    return {error.unit: error for error in probed.errors}

"""What kind of wrong it is, told by trials on the reference.

A culprit's output and the reference's are there, both fed the reference's hidden state. The reference's unit is
computed again under every kind of wrong that its backend knows (`backend.facets.Hypothetical`), first for some rows,
where the error is and spread evenly; what explains most is computed again for all rows, and said with the share of the
error's energy that it explains. Nothing is said that explains less than LEAST, nor where another explains as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.facets import Hypothetical, Trial, Trials
from whisper_parity.backend.taps import Step
from whisper_parity.compare import columns, tensor
from whisper_parity.explain import hypothesis
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.explanation import UnitError
from whisper_parity.explain.hypothesis import Hypothesis
from whisper_parity.explain.measured import Measurer

LEAST, SURE = 0.90, 0.99
"""Least share of the error that a kind has to explain to be named: SURE in a file of exact arithmetic, where the
right kind leaves nothing; less in one whose other units lose something too, and never less than LEAST."""
RIVAL = 4.0
"""Another kind that leaves at most this many times as much unexplained is as good: then none of the two is named."""
VERSIONS = 3
"""Most versions of a kind that this input does not tell apart: all of them are said."""
SETTLED = 0.999
"""Share from which on the costly trials are left out: what they do, such as rounding, resembles no other kind."""
PRECISION = 1e-6
"""Share of the error below which two kinds are not told apart, more where the reference's arithmetic is coarser."""
SPREAD_ROWS, WORST_ROWS = 24, 24
"""Rows that are tried first."""
PROMISING = 0.5
"""Least squared cosine between a kind's error and the candidate's for its number to be fitted."""
ROUNDS = 14
"""Halvings of the distance between two numbers: the fit is as exact as 1 / 16384 of it."""
MOST_VALUES = 2**20
"""Values of the rows that are tried first: logits have many columns, and fewer rows do."""
LOOKED_AT = 2
"""Most culprits whose kind is looked for."""
RANGES = 3
"""Most ranges of columns that "a bias of the logits" may consist of."""


@dataclass(frozen=True, slots=True)
class Error:
    """The candidate's unit against the reference's, float32 [1, n_rows, n_columns]."""

    reference: Float32
    candidate: Float32

    @property
    def energy(self) -> float:
        """The sum of (candidate - reference)^2."""
        return _energy(self.candidate, self.reference)

    @property
    def snr_db(self) -> float:
        """SNR of the candidate."""
        return tensor.measure(reference=self.reference, candidate=self.candidate).snr_db

    def explained(self, output: Float32) -> float:
        """Share of the energy that an output explains; at most 1, and -inf for one that is not finite."""
        left = _energy(self.candidate, output)
        return 1 - left / self.energy if math.isfinite(left) else -math.inf

    def left_db(self, output: Float32) -> float:
        """SNR at which an output is the candidate's."""
        return tensor.measure(reference=output, candidate=self.candidate).snr_db

    def alignment(self, output: Float32) -> float:
        """Squared cosine between an output's error and the candidate's, whatever its size."""
        ours, theirs = output - self.reference, self.candidate - self.reference
        product = float(np.multiply(ours, theirs, dtype=np.float64).sum()) ** 2
        sizes = _energy(output, self.reference) * self.energy
        return product / sizes if math.isfinite(sizes) and sizes else 0.0

    def of_rows(self, rows: Sequence[int]) -> Error:
        """The same of some rows."""
        return Error(self.reference[:, rows], self.candidate[:, rows])


@dataclass(frozen=True, slots=True)
class Attempt:
    """A trial with its number, and what it explains."""

    number: int
    """Which of those offered."""
    trial: Trial
    value: float
    explains: float
    is_fitted: bool = False

    @property
    def kind(self) -> str:
        """In words."""
        return self.trial.kind.format(value=self.value)

    @property
    def freedom(self) -> int:
        """How much it was fitted to the error: 0 without a number, 1 with one of a list, 2 with any."""
        return bool(self.trial.values) + self.is_fitted


def hypotheses(
    bench: Bench, measurer: Measurer, culprits: Sequence[str], units: Sequence[UnitError]
) -> tuple[Hypothesis, ...]:
    """The kinds of wrong that explain the errors of units: of each at most one, none where no kind does, or two do.

    Args:
        bench: the run.
        measurer: of the question whose units were measured.
        culprits: units that stand out; of many, the first ones are looked at.
        units: all that were measured.

    Raises:
        ParityError: a unit cannot be run again.
    """
    session = _hypothetical(bench, measurer) if culprits else None
    if session is None:
        return ()
    others = [unit.single_snr_db for unit in units if unit.unit not in culprits and unit.single_snr_db is not None]
    usual_db = median_low(others) if others else math.inf
    return tuple(found for unit in culprits[:LOOKED_AT] for found in _of_unit(session, measurer, unit, usual_db))


def _of_unit(session: Hypothetical, measurer: Measurer, unit: str, usual_db: float) -> tuple[Hypothesis, ...]:
    error = Error(measurer.hidden[unit], measurer.alone(unit))
    if error.reference.shape != error.candidate.shape:
        return ()
    place = Place(_step(measurer, unit), measurer.fed(unit), measurer.dims.vocabulary, usual_db)
    return told(session, place, error)


@dataclass(frozen=True, slots=True)
class Place:
    """A unit and what it is fed."""

    step: Step
    inputs: Mapping[str, NDArray[Any]]
    """As a single probe of this unit takes them."""
    vocabulary: int
    """Size of the vocabulary, for names of tokens."""
    usual_db: float = math.inf
    """Median SNR of the other units alone: what this file's arithmetic costs."""

    def least(self, error: Error) -> float:
        """The share that a kind has to explain here: all but twice what units of this file usually lose."""
        usual = 2 * 10 ** ((error.snr_db - self.usual_db) / 10)
        return 1 - min(max(usual, 1 - SURE), 1 - LEAST)


def told(session: Hypothetical, place: Place, error: Error) -> tuple[Hypothesis, ...]:
    """The kind of wrong that explains an error: see `hypotheses`.

    Args:
        session: computes the unit under trials.
        place: the unit.
        error: of its output.
    """
    if not _is_measurable(error):
        return ()
    named = [_of_columns(place, error), _of_lost_columns(place, error), _of_trials(session, place, error)]
    return _best([item for item in named if item is not None])


def _of_trials(session: Hypothetical, place: Place, error: Error) -> Hypothesis | None:
    """The best trial, proven on all rows: the worst of its versions."""
    rows = _rows(error)
    few, trials = error.of_rows(rows), session.trials(place.step, place.inputs, rows)
    noise = _energy(trials.unchanged(), few.reference) / few.energy
    if not noise < 1 - LEAST:  # this session computes the unit otherwise than the reference
        return None
    best = _unrivalled(_attempts(trials, few), max(PRECISION, noise))
    if not best:
        return None
    whole = session.trials(place.step, place.inputs, range(error.reference.shape[1]))
    outputs = [whole.output(version.number, version.value) for version in best]
    worst = min(outputs, key=error.explained)
    return _said(place, error, " or ".join(version.kind for version in best), worst)


def _said(place: Place, error: Error, kind: str, output: Float32) -> Hypothesis | None:
    """A hypothesis by the output that it gives, if that explains enough."""
    explains = error.explained(output)
    if explains <= place.least(error):
        return None
    return hypothesis.of(place.step.unit, kind, explains, error.left_db(output))


def _hypothetical(bench: Bench, measurer: Measurer) -> Hypothetical | None:
    """A session whose units can be computed wrongly: the reference's, else the root's."""
    question = measurer.question
    for spec in (question.reference, bench.plan.root_of(question.candidate) or bench.plan.root):
        session = bench.session(spec) if spec else None
        if isinstance(session, Hypothetical):
            return session
    return None


def _is_measurable(error: Error) -> bool:
    return bool(np.isfinite(error.reference).all() and np.isfinite(error.candidate).all() and error.energy > 0)


def _step(measurer: Measurer, unit: str) -> Step:
    steps = taps.steps(measurer.dims, measurer.question.component, measurer.units)
    return next(step for step in steps if step.unit == unit)


def _rows(error: Error) -> list[int]:
    """Rows that are tried first: where the error is largest, and some from first to last."""
    count, width = error.reference.shape[1:]
    share = min(1.0, MOST_VALUES / (width * (SPREAD_ROWS + WORST_ROWS)))
    spread, worst = (max(4, int(share * rows)) for rows in (SPREAD_ROWS, WORST_ROWS))
    energies = np.square(error.candidate - error.reference).sum(axis=(0, 2))
    chosen = {*np.linspace(0, count - 1, min(spread, count)).astype(int), *np.argsort(energies)[-worst:]}
    return sorted(int(row) for row in chosen)


def _attempts(trials: Trials, error: Error) -> list[Attempt]:
    """Each trial with the best of its numbers; the costly ones only where no other settles it."""
    attempts = list(_of_cost(trials, error, is_costly=False))
    if max((attempt.explains for attempt in attempts), default=0.0) < SETTLED:
        attempts += _of_cost(trials, error, is_costly=True)
    return attempts


def _of_cost(trials: Trials, error: Error, *, is_costly: bool) -> Iterator[Attempt]:
    for number, trial in enumerate(trials.offered):
        if trial.is_costly is not is_costly:
            continue
        if trial.values:
            yield from _with_numbers(trials, number, trial, error)
        else:
            yield Attempt(number, trial, 0.0, error.explained(trials.output(number, 0.0)))


def _with_numbers(trials: Trials, number: int, trial: Trial, error: Error) -> Iterator[Attempt]:
    """The best number that is offered; and one between them, where that explains more."""
    outputs = {value: trials.output(number, value) for value in trial.values}
    attempts = [Attempt(number, trial, value, error.explained(output)) for value, output in outputs.items()]
    best = max(attempts, key=lambda attempt: attempt.explains)
    yield best
    if trial.fitted and max(error.alignment(output) for output in outputs.values()) > PROMISING:
        yield _fit(trials, best, error)


def _fit(trials: Trials, start: Attempt, error: Error) -> Attempt:
    """The number between its neighbours that explains most: the better of two sides, at half the distance each time."""
    best, axis = start, _axis(start)
    place, distance = axis.place(start.value), axis.distance(start)
    for _ in range(ROUNDS):
        sides = [axis.value(place + side * distance) for side in (-1, 1)]
        tried = [replace(start, value=v, explains=error.explained(trials.output(start.number, v)), is_fitted=True)
                 for v in sides]  # fmt: skip
        best = max(best, *tried, key=lambda attempt: attempt.explains)
        place, distance = axis.place(best.value), distance / 2
    return best


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where numbers are compared: by their ratio where all are positive, else by their difference."""

    is_ratio: bool
    is_whole: bool

    def place(self, value: float) -> float:
        return math.log(value) if self.is_ratio else value

    def value(self, place: float) -> float:
        value = math.exp(place) if self.is_ratio else place
        return float(round(value)) if self.is_whole else value

    def distance(self, start: Attempt) -> float:
        """To the farther neighbour of a number that is offered."""
        places = sorted(self.place(value) for value in start.trial.values if value > 0 or not self.is_ratio)
        own = places.index(self.place(start.value))
        return max(abs(places[own] - place) for place in places[max(0, own - 1) : own + 2])


def _axis(start: Attempt) -> _Axis:
    is_ratio = not start.trial.is_whole and start.value > 0 and min(start.trial.values) >= 0
    return _Axis(is_ratio, start.trial.is_whole)


def _unrivalled(attempts: Sequence[Attempt], precision: float) -> tuple[Attempt, ...]:
    """The kind that explains most, in its plainest versions; none where it is too little, or another does as well."""
    best = max(attempts, key=lambda attempt: attempt.explains)
    as_good = [attempt for attempt in attempts if _is_as_good(attempt.explains, best.explains, precision)]
    if best.explains <= LEAST or any(attempt.trial.family != best.trial.family for attempt in as_good):
        return ()
    plainest = min(attempt.freedom for attempt in as_good)
    versions = {attempt.kind: attempt for attempt in as_good if attempt.freedom == plainest}
    return tuple(versions.values()) if len(versions) <= VERSIONS else ()


def _is_as_good(explains: float, best: float, precision: float = PRECISION) -> bool:
    return 1 - explains <= RIVAL * max(1 - best, precision)


def _of_columns(place: Place, error: Error) -> Hypothesis | None:
    """A bias of the logits: columns that are off by the same at every step."""
    if place.step.unit != taps.FINAL["decoder"]:
        return None
    pairs = [(error.reference[0], error.candidate[0])]
    ranges = columns.shifted(pairs, place.vocabulary)
    output = error.reference.copy()
    for shifted in ranges:
        output[..., shifted.first : shifted.last + 1] += np.float32(shifted.shift)
    if not 0 < len(ranges) <= RANGES:
        return None
    return _said(place, error, f"a bias of its own ({columns.describe(ranges)})", output)


def _of_lost_columns(place: Place, error: Error) -> Hypothesis | None:
    """Logits that are zero at every step."""
    if place.step.unit != taps.FINAL["decoder"]:
        return None
    is_lost = (error.candidate[0] == 0).all(axis=0) & (error.reference[0] != 0).any(axis=0)
    ids = np.flatnonzero(is_lost)
    if not ids.size or ids[-1] - ids[0] >= ids.size:
        return None
    output = np.where(is_lost, np.float32(0), error.reference)
    return _said(place, error, f"the logits of tokens {ids[0]} to {ids[-1]} zero", output)


def _best(found: Sequence[Hypothesis]) -> tuple[Hypothesis, ...]:
    """The one that explains most; none where another does as well."""
    ordered = sorted(found, key=lambda item: -item.explains)
    if len(ordered) > 1 and _is_as_good(ordered[1].explains, ordered[0].explains):
        return ()
    return tuple(ordered[:1])


def _energy(first: Float32, second: Float32) -> float:
    """The sum of (first - second)^2, in float64; by no product of vectors, for which BLAS would wake its threads."""
    difference = first - second
    return float(np.square(difference, dtype=np.float64).sum())

"""Graphs of units, and which of the trials is said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.checkout import CHECKOUT
from tests.support.faults import Reference
from whisper_parity.backend import taps
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.facets import Trial
from whisper_parity.backends.pytorch.graph import Graph, Node, constant
from whisper_parity.explain import hypothesis, trials
from whisper_parity.explain.trials import Error
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.run.options import RunOptions

ROWS = range(0, 40, 3)


@pytest.fixture(scope="module")
def micro() -> Reference:
    """Hidden states of the micro checkpoint on a sentence."""
    clip = CHECKOUT / "fixtures" / "clips" / "en-comma-01.flac"
    return Reference(checkpoints.resolve(RunOptions().checkpoint), clip)


@pytest.mark.parametrize("detail", [False, True])
@pytest.mark.parametrize("component", taps.COMPONENTS)
def test_every_unit_is_computed_as_whisper_computes_it(micro, component, detail):
    """To what float32 makes of another order of sums; every trial gives an output of the same shape."""
    for unit in taps.units(micro.dims, component, detail=detail):
        place = micro.place(unit, detail=detail)
        chosen = micro.session.trials(place.step, place.inputs, ROWS)
        reference, output = micro.hidden[unit][:, list(ROWS)], chosen.unchanged()
        np.testing.assert_allclose(output, reference, atol=2e-6 * np.abs(reference).max(), rtol=0)
        for number, trial in enumerate(chosen.offered[::7]):
            changed = chosen.output(7 * number, trial.values[0] if trial.values else 0.0)
            assert (changed.shape, changed.dtype) == (reference.shape, np.float32)


def test_trials_are_the_same_whatever_the_rows(micro):
    """What was best of some is proven on all."""
    place = micro.place("decoder.blocks.1")
    few, all_ = (micro.session.trials(place.step, place.inputs, rows) for rows in (ROWS, range(40)))
    assert [trial.kind for trial in few.offered] == [trial.kind for trial in all_.offered]


def test_only_what_depends_on_a_change_is_computed_again():
    """A value made otherwise; the others are kept, and the graph stays as it is."""
    made: list[str] = []

    def add(name: str, amount: float) -> Node:
        return Node(lambda value: (made.append(name), value + amount)[1], ("start",) if name == "left" else ("left",))

    nodes = {"start": constant(torch.zeros(1)), "left": add("left", 1), "right": add("right", 2)}
    chart = Graph(nodes, "right")
    assert float(chart.value("right")) == 3
    made.clear()
    assert float(chart.output({"right": nodes["right"].then(lambda value: value * 2)})) == 6
    assert made == ["right"]
    assert float(chart.output({"left": nodes["start"]})) == 2
    assert float(chart.value("right")) == 3


@dataclass
class Offers:
    """Trials with ready outputs, by number and value."""

    offered: list[Trial]
    outputs: Mapping[tuple[int, float], Float32] = field(default_factory=dict)
    base: float = 0.0

    def unchanged(self) -> Float32:
        return np.zeros((1, 4, 8), np.float32)

    def output(self, number: int, value: float) -> Float32:
        return self.outputs[number, value] if (number, value) in self.outputs else self._scaled(value)

    def _scaled(self, value: float) -> Float32:
        return np.full((1, 4, 8), value, np.float32)

    def trials(self, step: object, inputs: object, rows: range | list[int]) -> Offers:
        return self


def said(offers: Offers, candidate: Float32, usual_db: float = math.inf) -> list[str]:
    """Kinds that are named where the reference's output is zero."""
    step = taps.Step("encoder.blocks.0", "block")
    error = Error(np.zeros((1, 4, 8), np.float32), candidate)
    place = trials.Place(step, {}, 51865, usual_db)
    return [found.kind for found in trials.told(offers, place, error)]  # type: ignore[arg-type]


ONES = np.ones((1, 4, 8), np.float32)


def nearly(share: float) -> Float32:
    """An output that explains this share of an error of ones."""
    return ONES * np.float32(1 - math.sqrt(1 - share))


@pytest.mark.parametrize(
    ("shares", "kinds"),
    [
        ((0.995,), ["a"]),
        ((0.985,), []),
        ((0.999, 0.9), ["a"]),
        ((0.995, 0.99), []),
        ((1.0, 0.99999999), []),
        ((1.0, 0.9999), ["a"]),
    ],
)
def test_the_best_is_said_where_it_explains_enough_and_no_other_as_much(shares, kinds):
    """Above 99 %, and a quarter of what the next one leaves."""
    offered = [Trial(name, name) for name, _ in zip("ab", shares)]
    outputs = {(number, 0.0): nearly(share) for number, share in enumerate(shares)}
    assert said(Offers(offered, outputs), ONES) == kinds


@pytest.mark.parametrize(("usual_db", "least"), [(math.inf, 0.99), (60, 0.99), (40, 0.98), (30, 0.9), (10, 0.9)])
def test_less_has_to_be_explained_where_other_units_lose_something_too(usual_db, least):
    """An error at 20 dB: all but twice what units usually lose, 1 % to 10 % of it."""
    error = Error(10 * ONES, 11 * ONES)
    place = trials.Place(taps.Step("encoder.blocks.0", "block"), {}, 51865, usual_db)
    assert place.least(error) == pytest.approx(least)


def test_versions_of_a_kind_that_are_not_told_apart_are_all_said():
    """The plainest ones: no number before one of a list, that before any."""
    outputs = {(number, 0.0): ONES for number in range(3)}
    one = [Trial("f", "a"), Trial("f", "b"), Trial("f", "a")]
    assert said(Offers(one, outputs), ONES) == ["a or b"]
    assert said(Offers([Trial("f", "{value:g} of it", (1.0, 2.0)), Trial("f", "it")], {(1, 0.0): ONES}), ONES) == ["it"]
    assert said(Offers([Trial("f", f"kind {n}") for n in range(4)], {(n, 0.0): ONES for n in range(4)}), ONES) == []


def test_a_number_between_those_offered_is_fitted():
    """By ratio, by difference, and whole ones."""
    by = {"fitted": True}
    assert said(Offers([Trial("f", "{value:.3g}", (0.5, 2.0, 8.0), **by)]), 3 * ONES) == ["3"]
    assert said(Offers([Trial("f", "{value:.3g}", (-8.0, -2.0), **by)]), -3.5 * ONES) == ["-3.5"]
    assert said(Offers([Trial("f", "{value:.3g}", (100.0, 200.0, 400.0), **by, is_whole=True)]), 317 * ONES) == ["317"]
    assert said(Offers([Trial("f", "{value:.3g}", (0.5, 2.0, 8.0))]), 3 * ONES) == []


def test_costly_trials_wait_for_the_others():
    """And are tried where these do not settle it."""
    offered = [Trial("a", "a"), Trial("b", "b", is_costly=True)]
    assert said(Offers(offered, {(0, 0.0): ONES}), ONES) == ["a"]
    assert said(Offers(offered, {(0, 0.0): nearly(0.95), (1, 0.0): ONES}), ONES) == ["b"]


def test_nothing_is_said_of_what_is_not_finite_or_equal():
    """Neither an error without end, nor none."""
    broken = ONES.copy()
    broken[0, 1, 1] = np.inf
    for candidate in (broken, np.zeros_like(ONES)):
        assert said(Offers([Trial("a", "a")], {(0, 0.0): ONES}), candidate) == []
    assert said(Offers([Trial("a", "a")], {(0, 0.0): broken}), ONES) == []


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
def test_no_output_explains_more_than_all_and_alignment_knows_no_size(seed, size):
    """The share is at most 1; the squared cosine between 0 and 1."""
    draw = np.random.default_rng(seed)
    reference, candidate, output = (draw.normal(size=(1, 3, 5)).astype(np.float32) for _ in range(3))
    error = Error(reference, candidate)
    assert error.explained(output) <= 1
    assert error.explained(candidate) == 1
    assert 0 <= error.alignment(output) <= 1 + 1e-6
    scaled = (reference + size * (candidate - reference)).astype(np.float32)
    assert error.alignment(scaled) == pytest.approx(1, abs=1e-3)


def test_the_sentence_rounds_down_and_says_what_is_left():
    """Only all of it is 100 %."""
    nearly_all, all_ = (hypothesis.of("u", "k", *figures).finding for figures in ((0.99999, 71.2), (1.0, math.inf)))
    assert nearly_all == "u with k reproduces 99.9 % of the error's energy; what is left is at 71 dB"
    assert all_ == "u with k reproduces 100.0 % of the error's energy; nothing is left"

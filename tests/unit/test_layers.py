"""Judging units, and halving: from errors to a culprit, no model involved."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from whisper_parity.explain import layers
from whisper_parity.explain.bisect import first_failing
from whisper_parity.explain.explanation import UnitError
from whisper_parity.explain.layers import judge
from whisper_parity.explain.measured import Probed, Shipped, TapError

INF = math.inf


def units(*errors: float | tuple[float, float], limit_db: float = 90) -> list[UnitError]:
    """Units "u0", "u1", ... from single errors, or (entire, single); -inf is not finite."""
    found = []
    for number, error in enumerate(errors):
        entire, single = error if isinstance(error, tuple) else (error, error)
        taps = [TapError(f"u{number}", value, 3 if value == -INF else 0) for value in (entire, single)]
        found.append(layers.unit_error(f"u{number}", *taps, limit_db))
    return found


def test_nothing_fails():
    """The worst is named all the same, so that the reader sees how far it is from the limit."""
    found = judge(units(INF, 120.0, 131.0), 90)
    assert (found.culprit, found.finding) == ("", "no unit fails: the worst is u1 (120.0 dB, limit 90 dB)")


def test_one_unit_fails_while_its_inputs_pass():
    """Units behind it carry its error on, and are not blamed."""
    found = judge(units(INF, 130.0, (31.0, 30.0), (31.0, 125.0), (29.0, INF)), 90)
    assert found.culprit == "u2"
    assert found.finding == "u2 fails alone (30.0 dB), limit 90 dB; its input passes (130.0 dB)"


def test_the_only_unit_that_loses_anything():
    """No others to compare it with."""
    assert judge(units(INF, INF, 12.0, INF), 90).culprit == "u2"


def test_the_first_of_two():
    """And the second is told."""
    found = judge(units(INF, 130.0, 30.0, (29.0, 125.0), (10.0, 10.0), (9.0, 128.0)), 90)
    assert found.culprit == "u2"
    assert found.finding.endswith("; outside the limit too: u4")


def test_errors_that_all_units_have_are_spread():
    """As int8 spreads them: no culprit, the worst and its share of the noise."""
    found = judge(units(INF, 33.0, 30.0, 33.0, INF), 35)
    assert found.culprit == ""
    said = "spread: 3 of 5 units outside the limit of 35 dB, and none stands out: "
    assert found.finding == f"{said}the worst is u2 (30.0 dB, 50% of the sum of relative errors)"


def test_one_that_stands_out_of_the_spread():
    """A block that int8 treats far worse than the others."""
    found = judge(units(INF, 33.0, 34.0, 12.0, 33.5, (11.0, INF)), 35)
    assert found.culprit == "u3"
    assert found.finding.endswith("outside the limit too: u1, u2, u4")


def test_a_hair_below_the_limit_among_equals_is_no_culprit():
    """34.9 is outside and 35.3 is not, but they are of one kind."""
    assert judge(units(INF, 34.9, 35.3, 36.0), 35).culprit == ""


def test_values_that_are_not_finite():
    """Fail whatever the limit, and are counted."""
    found = judge(units(INF, 130.0, -INF, (-INF, 130.0)), -1000)
    assert (found.culprit, found.finding) == (
        "u2", "u2 gives 3 NaN or infinite value(s), limit -1000 dB; its input passes (130.0 dB)",
    )  # fmt: skip


def test_errors_that_only_add_up():
    """No unit fails alone, the component does."""
    found = judge(units((95.0, 95.0), (92.0, 95.0), (89.0, 95.0)), 90)
    assert found.culprit == ""
    assert found.finding.startswith("errors add up to 89.0 dB (limit 90 dB), but no unit fails alone")


def test_a_unit_whose_error_goes_away_again():
    """Named, and said to be harmless here."""
    found = judge(units(INF, (80.0, 80.0), (95.0, 130.0)), 90)
    assert found.culprit == "u1"
    assert found.finding.endswith("; the component's output still passes (95.0 dB)")


def test_a_reference_that_is_not_finite_is_not_held_against_the_candidate():
    """Nothing can be said of that unit."""
    error = layers.unit_error("u0", None, TapError("u0", None, 5), 90)
    assert (error.fails, error.single_snr_db, error.nonfinite) == (False, None, 5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 8, 9, 16, 17, 33])
def test_halving_finds_every_place_with_few_questions(count):
    """At most ceil(log2 n), each unit asked about once."""
    names = [f"u{number}" for number in range(count)]
    for first in range(count):
        asked: list[str] = []

        def fails(unit: str, first: int = first, asked: list[str] = asked) -> bool:
            asked.append(unit)
            return names.index(unit) >= first

        assert first_failing(names, fails) == names[first]
        assert len(asked) == len(set(asked)) <= math.ceil(math.log2(count))


class FakeMeasurer:
    """Errors from a table: unit `broken` loses `single`, everything from there on `entire`; `hidden` loses it alone."""

    def __init__(
        self, count: int, broken: int, *, entire: float = 20.0, single: float = 20.0, faithful: bool = True, hidden=None
    ):
        self.units = tuple(f"encoder.blocks.{number}" for number in range(count))
        self.final = self.units[-1]
        self.question = SimpleNamespace(component="encoder", reference="pytorch", detail=False)
        self.runs, self.asked, self._alone = 0, [], broken if hidden is None else hidden
        self._broken, self._entire, self._single, self._faithful = broken, entire, single, faithful
        self.shipped = Shipped("fake", self._error(self.final))

    def _error(self, unit: str) -> TapError:
        return TapError(unit, self._entire if self.units.index(unit) >= self._broken else 130.0, 0)

    def entire(self, units):
        self.runs, self.asked = self.runs + 1, [*self.asked, *units]
        errors = tuple(self._error(unit) for unit in dict.fromkeys([*units, self.final]))
        return Probed("entire", "fake", errors, self._faithful, INF if self._faithful else 60.0)

    def single(self, units):
        self.runs += 1
        errors = {unit: self._single if self.units.index(unit) == self._alone else 130.0 for unit in units}
        return Probed("single", "fake", tuple(TapError(unit, db, 0) for unit, db in errors.items()), None, None)


@pytest.mark.parametrize("count", [3, 6, 9, 35])
def test_halving_needs_few_probes(count):
    """One tap each: at most ceil(log2 n) + 2, wherever the broken unit is."""
    for broken in range(count):
        measurer = FakeMeasurer(count, broken)
        found = layers._bisect(measurer, 90)
        assert found.culprit == measurer.units[broken]
        assert found.probes == measurer.runs <= math.ceil(math.log2(count)) + 2
        assert measurer.final not in measurer.asked  # known from the shipped file
        assert "it assumes that an error stays in" in found.finding


@pytest.mark.parametrize(("hidden", "culprit"), [(None, ""), (2, "encoder.blocks.2")])
def test_where_the_output_passes_every_unit_is_looked_at_alone(hidden, culprit):
    """One probe, no halving: a later unit may hide what an early one does."""
    measurer = FakeMeasurer(6, 6, hidden=hidden)
    found = layers._bisect(measurer, 90)
    assert (found.culprit, found.probes, measurer.runs, measurer.asked) == (culprit, 1, 1, [])
    assert not found.output_fails


def test_units_that_were_probed_and_pass_are_named():
    """Not "its input", where nobody looked at it."""
    found = layers._bisect(FakeMeasurer(6, 3), 90)
    assert "fails alone (20.0 dB), limit 90 dB; the error is not yet outside it behind " in found.finding
    assert "encoder.blocks.3" not in found.finding.partition("behind ")[2]
    assert "its input passes" not in found.finding


def test_an_error_that_is_only_accumulated_is_not_the_units_own():
    """The entire error says nothing about one unit."""
    found = layers.unit_error("u1", TapError("u1", 31.0, 0), None, 90)
    assert (found.fails, found.entire_fails) == (False, True)


@pytest.mark.parametrize(("faithful", "final"), [(True, True), (False, False)])
def test_the_output_explains_only_in_a_file_that_speaks_for_the_shipped_one(faithful, final):
    """Else what adds up is that of another file."""
    found = layers._bisect(FakeMeasurer(6, 3, entire=89.0, single=95.0, faithful=faithful), 90)
    assert found.output_fails is final


def test_halving_clears_a_suspect_that_passes_alone():
    """Errors that add up until one unit is outside the limit."""
    found = layers._bisect(FakeMeasurer(6, 3, entire=89.0, single=95.0), 90)
    assert found.culprit == ""
    assert "errors add up: encoder.blocks.3 is the first outside the limit" in found.finding


def test_a_probe_that_differs_from_the_shipped_file_is_said_to():
    """With how far, and what that means."""
    found = layers._bisect(FakeMeasurer(6, 3, faithful=False), 90)
    assert not found.faithful
    assert "its final output is not the shipped file's (SNR 60.0 dB between them)" in found.finding
    assert "may not hold for the shipped one" in found.finding

"""Judging units, and halving: from errors to a culprit, no model involved."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from whisper_parity.explain import layers
from whisper_parity.explain.bisect import first_failing
from whisper_parity.explain.explanation import PartFinding, UnitError
from whisper_parity.explain.held import Held
from whisper_parity.explain.judgement import judge
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


def test_two_that_stand_apart_are_both_named():
    """In the order of the graph."""
    found = judge(units(INF, 130.0, 30.0, (29.0, 125.0), (10.0, 10.0), (9.0, 128.0)), 90)
    assert (found.culprits, found.spread) == (("u2", "u4"), False)
    assert found.finding.endswith("its input passes (130.0 dB); u4 fails alone (10.0 dB), too")


def half(conv: float, *blocks: float, last: float = INF, limit_db: float = 90) -> list[UnitError]:
    """An encoder with these single errors; embedding-like positions lose nothing."""
    errors = {"encoder.conv": conv, "encoder.positions": INF}
    errors |= {f"encoder.blocks.{number}": error for number, error in enumerate(blocks)} | {"encoder.ln_post": last}
    return [layers.unit_error(name, None, TapError(name, error, 0), limit_db) for name, error in errors.items()]


NOISE = (37.3, 42.7, 49.3, 54.5), 57.7
"""Measured on micro: noise of 1e-3 on every weight of the encoder."""
SMALL_NOISE = (77.2, 82.7, 89.3, 94.5), 97.7
"""Of 1e-5: the last block and the norm pass."""
INT8 = (33.7, 40.3, 45.4, 50.4), INF
BASE_NOISE = (26.6, 36.7, 33.2, 45.6, 42.6, 34.3), 34.1
"""Measured on Whisper base: noise of 1e-3 on every weight of the decoder."""
BASE_INT8 = (32.7, 40.3, 26.9, 50.7, 47.1, 30.2), 37.3
"""8 bits in its decoder."""


@pytest.mark.parametrize(("measured", "limit_db"), [(BASE_NOISE, 90), (BASE_INT8, 90), (BASE_INT8, 40)])
def test_blocks_of_a_real_model_do_not_lose_alike(measured, limit_db):
    """Nothing but noise, or 8 bits: none is at fault by itself, whatever the limit of the edge."""
    blocks, last = measured
    errors = {f"decoder.blocks.{number}": error for number, error in enumerate(blocks)} | {"decoder.logits": last}
    found = judge(
        [layers.unit_error(name, None, TapError(name, e, 0), limit_db) for name, e in errors.items()], limit_db
    )
    assert (found.culprits, found.spread) == ((), True)


@pytest.mark.parametrize("measured", [NOISE, SMALL_NOISE, INT8])
def test_errors_that_all_units_have_are_spread(measured):
    """The convolutions lose most by nature: no culprit, the worst and its share of the noise."""
    errors, last = measured
    found = judge(half(*errors, last=last), 90)
    assert (found.culprits, found.spread) == ((), True)
    assert found.finding.startswith("spread over all units of the encoder: ")
    assert "and none stands out: the worst is encoder.conv (" in found.finding


@pytest.mark.parametrize(
    ("errors", "culprit"),
    [
        ((33.0, 34.0, 12.0, 33.5, 33.0), "encoder.blocks.1"),  # a block that int8 treats far worse than the others
        ((12.0, 34.0, 35.0, 33.5, 33.0), "encoder.conv"),
    ],
)
def test_one_that_stands_out_of_the_spread(errors, culprit):
    """Of its own kind, or where it is alone of it below all; the rest is spread all the same."""
    found = judge(half(*errors, limit_db=35), 35)
    assert (found.culprits, found.spread) == ((culprit,), True)
    assert "outside the limit too: " in found.finding


def test_of_two_blocks_none_is_the_usual_one():
    """Noise on a decoder of two layers: one of them is 14 dB worse, which is no fault of its own."""
    assert judge(half(40.0, 30.0, 44.0, last=50.0), 90).culprits == ()


def test_what_all_blocks_share_is_a_fault_of_each():
    """The ends of the half are whole: their code is wrong, not the numbers of all."""
    found = judge(half(120.0, 40.0, 41.0, 60.0, last=130.0), 90)
    assert (found.culprits, found.spread) == (("encoder.blocks.0", "encoder.blocks.1", "encoder.blocks.2"), False)


HELD = Held((), everywhere=False, other=False, quantised=False, table=False, sentences=())


def test_weights_that_differ_everywhere_make_no_unit_a_culprit():
    """However few of them fail."""
    held = replace(HELD, units=("encoder.conv",), everywhere=True, sentences=("e.pt: 51 of 52 tensors differ",))
    found = judge(half(82.0, 95.0, 97.0), 90, held)
    assert (found.culprits, found.spread) == ((), True)
    assert found.finding.startswith("spread over all weights of the encoder: 1 of 5 outside the limit of 90 dB")
    assert found.finding.endswith("; e.pt: 51 of 52 tensors differ")


def test_another_checkpoint_is_called_so():
    """Nothing stands out of what is lost altogether."""
    held = replace(
        HELD, units=("encoder.conv",), everywhere=True, other=True, sentences=("e.pt: 50 of 52 are not in it",)
    )
    found = judge(half(-1.0, 2.0, -30.0, 1.0, last=0.5), 90, held)
    assert (found.culprits, found.spread) == ((), True)
    assert found.finding == (
        "spread over all weights of the encoder, which are another checkpoint's: e.pt: 50 of 52 are not in it"
    )


@pytest.mark.parametrize(
    ("differing", "said"),
    [
        ((), "; its weights are the checkpoint's, so its graph differs"),
        (("encoder.blocks.1",), "; e.pt: blocks.1 differs"),
    ],
)
def test_a_culprit_is_told_apart_by_its_weights(differing, said):
    """What the file holds of it decides where to look: in the weights, or in the graph."""
    held = replace(HELD, units=differing, sentences=("e.pt: blocks.1 differs",) if differing else ())
    found = judge(half(120.0, 120.0, 40.0, 120.0), 90, held)
    assert found.culprits == ("encoder.blocks.1",)
    assert said in found.finding


def test_a_half_at_fault_whose_units_pass_has_a_culprit_where_one_makes_the_error():
    """Another limit than that of the SNR was left: a bias of one token."""
    assert judge(half(120.0, 121.0, 119.0, last=93.0), 90).culprits == ()
    alone = PartFinding("encoder", 92.0, True, "")
    found = judge(half(120.0, 121.0, 119.0, last=93.0), 90, None, alone)
    assert found.culprits == ("encoder.ln_post",)
    assert "makes the error of the encoder, and passes by itself (limit 90 dB)" in found.finding
    assert judge(half(100.0, 101.0, 99.0, last=98.0), 90, None, alone).culprits == ()


def test_a_shift_of_columns_is_the_last_units():
    """Where the last unit loses as much as the shift alone would, whatever the others lose."""
    alone = PartFinding("decoder", 98.0, True, "", shift_db=102.3)
    assert judge(half(104.0, 105.0, 104.0, last=102.0), 90, None, alone).culprits == ("encoder.ln_post",)
    assert judge(half(104.0, 105.0, 104.0, last=99.0), 90, None, alone).culprits == ()


def test_a_hair_below_the_limit_among_equals_is_no_culprit():
    """34.9 is outside and 35.3 is not, but they are of one kind."""
    assert judge(units(INF, 34.9, 35.3, 36.0, limit_db=35), 35).culprit == ""


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

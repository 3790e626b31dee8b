"""Does a flip matter: its margin held against how far sound ports of its edge move pairs."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import norm

from tests.support import sites
from tests.support.traces import SPANISH, says
from whisper_parity.explain import weight
from whisper_parity.explain.explanation import LayerFinding, Weight
from whisper_parity.judge.tolerance import Tolerance
from whisper_parity.trace.trace import Trace, WindowTrace

PLACE = ("jfk", 0, 0)
SPREAD = LayerFinding("encoder", (), "", True, 1, "spread", output_fails=True)
SOUND = LayerFinding("encoder", (), "", True, 1, "no unit fails")
BROKEN = LayerFinding("decoder", (), "decoder.blocks.2", True, 1, "decoder.blocks.2 fails alone")


def window(*rows: tuple[float, float], choices: tuple[int, ...] = ()) -> WindowTrace:
    """Logits of a vocabulary of two, one row a step; the first token is chosen unless said otherwise."""
    whole = says((400,) * (len(rows) - 1)).windows[0]
    chosen = np.array(choices or (0,) * len(rows))
    logits = np.array(rows, np.float32)
    forced = dataclasses.replace(whole.teacher_forced, logits=logits, choices=chosen, runners_up=1 - chosen)
    return dataclasses.replace(whole, teacher_forced=forced)


def clip(*windows: WindowTrace, name: str = "jfk") -> Trace:
    """A trace of windows, numbered."""
    header = dataclasses.replace(says("").header, clip=name)
    numbered = (
        dataclasses.replace(each, header=dataclasses.replace(each.header, index=i)) for i, each in enumerate(windows)
    )
    return Trace(header, tuple(numbered))


def limits(max_tie_margin: float) -> Tolerance:
    """An edge with ties of this margin."""
    return dataclasses.replace(sites.limits_of("pytorch", "torchscript"), max_tie_margin=max_tie_margin)


def weigh(margin: float, *movements: float, layers: tuple[LayerFinding, ...] = (), failing: str = "") -> Weight:
    """A flip of this margin on an edge whose floor is 1, where other steps moved so far."""
    reference, candidate = window((margin, 0)), window((-1, 0), choices=(1,))
    elsewhere = {("jfk", 0, step): moved for step, moved in enumerate(movements, 1)}
    found = weight.weigh(reference, candidate, PLACE, elsewhere, layers, limits(3.0), failing)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("margin", "layers", "kind", "why"),
    [
        (2.5, (), "tie", "the margin is inside the 3 that a tie may have here"),
        (3.0, (BROKEN,), "tie", "the margin is inside the 3 that a tie may have here"),
        (3.5, (SPREAD,), "justified", "no unit is at fault: errors add up"),
        (3.5, (SPREAD, BROKEN), "fault", "and decoder.blocks.2 fails"),
        (3.5, (SOUND, SOUND), "fault", "and the layers' errors do not explain it"),
        (3.5, (), "fault", "and no layer was measured"),
    ],
)
def test_each_flip_has_its_kind(margin, layers, kind, why):
    """A tie inside three times the floor; outside it layers decide."""
    found = weigh(margin, 1, -1, 1, -1, 1, layers=layers)
    assert found.kind == kind
    assert found.finding.startswith(f"{kind}: margin {margin:.3g}, moved {margin + 1:.3g}; floor of this edge 1, ")
    assert "; over 5 other steps this stage moves them by 1; " in found.finding
    assert found.finding.endswith(why)


@pytest.mark.parametrize("movement", [0.0, 100.0])
def test_what_the_candidate_moves_elsewhere_excuses_nothing(movement):
    """The noise of a broken model covers any margin."""
    assert [weigh(margin, *[movement] * 9).kind for margin in (2.5, 3.5)] == ["tie", "fault"]


def test_no_tie_where_another_rung_fails():
    """However small the margin is."""
    found = weigh(0.01, 1, layers=(BROKEN,), failing="logits")
    assert found.kind == "fault"
    assert found.finding.endswith("; no tie where logits fails, and decoder.blocks.2 fails")


def test_values_by_hand():
    """The probability is that of the floor; quantiles are of this stage's absolute movements."""
    found = weigh(5, -3, 4, 0, 0, 0)
    assert (found.margin, found.movement, found.floor) == (5, 6, 1)
    assert found.movements == pytest.approx((0, 0, 0, 3, 3.8))
    assert found.flip_probability == pytest.approx(norm.sf(5))


def test_the_step_itself_is_not_its_own_noise():
    """Nor are movements that are not finite."""
    elsewhere = {PLACE: 100.0, ("jfk", 0, 1): 2.0, ("jfk", 1, 0): math.nan, ("other", 0, 0): -math.inf}
    found = weight.weigh(window((5, 0)), window((0, 1), choices=(1,)), PLACE, elsewhere, (), limits(3.0))
    assert found.movements == (2.0,) * 5
    assert found.finding.endswith("; 2 other steps are not finite and were left out")


def test_a_step_that_does_not_flip_has_no_weight():
    """The free-running difference came from an earlier one."""
    assert weight.weigh(window((5, 0)), window((1, 0)), PLACE, {}, (), limits(3.0)) is None


@pytest.mark.parametrize("others", [(), (1,) * 9])
@pytest.mark.parametrize("margin", [math.nan, math.inf])
def test_a_margin_that_is_not_finite_is_a_fault(margin, others):
    """However much is known of the noise."""
    found = weigh(margin, *others)
    assert (found.kind, found.finding.rpartition("; ")[2]) == ("fault", "logits are not finite here")


def test_a_candidate_whose_logits_break_is_never_a_tie():
    """The pair may be finite, and other values of the row not."""
    whole = window((0.1, 0))
    reference, candidate = (
        dataclasses.replace(
            whole,
            teacher_forced=dataclasses.replace(
                whole.teacher_forced, logits=np.array([row], np.float32), choices=np.array([chosen])
            ),
        )
        for row, chosen in (((0.1, 0, -1), 0), ((0, 0.1, math.nan), 1))
    )
    found = weight.weigh(reference, candidate, PLACE, {("jfk", 0, step): 9.0 for step in range(1, 9)}, (), limits(3.0))
    assert found is not None
    assert (found.kind, found.finding.rpartition("; ")[2]) == ("fault", "logits are not finite here")


@pytest.mark.parametrize("margin", [0, 1e-3, 0.5, 1, 3, 8, -0.5])
@pytest.mark.parametrize("noise", [1e-3, 1, 7.5])
def test_the_probability_of_a_flip_is_the_normal_distributions_tail(margin, noise):
    """As scipy has it."""
    assert weight.flip_probability(margin, noise) == pytest.approx(norm.sf(margin / noise), rel=1e-9)


@pytest.mark.parametrize(
    ("margin", "expected"), [(1, 0), (0, 0.5), (-1, 1), (math.inf, 0), (-math.inf, 0), (math.nan, 0)]
)
def test_without_noise_the_sign_decides(margin, expected):
    """And what is not finite is no matter of noise."""
    assert weight.flip_probability(margin, 0) == expected


class TestMovements:
    """whisper_parity.explain.weight.movements"""

    def test_each_step_of_each_window_has_one(self):
        """Choice minus runner-up, reference minus candidate."""
        reference = clip(window((5, 0), (3, 1)), window((0, 4), choices=(1,)))
        candidate = clip(window((4, 0), (3, 2)), window((0, 6), choices=(1,)))
        assert weight.movements([(reference, candidate)]) == {
            ("jfk", 0, 0): 1, ("jfk", 0, 1): 1, ("jfk", 1, 0): -2,
        }  # fmt: skip

    def test_clips_are_kept_apart(self):
        """The noise is that of the run."""
        pair = clip(window((5, 0))), clip(window((4, 0)))
        other = clip(window((5, 0)), name="other"), clip(window((2, 0)))
        assert weight.movements([pair, other]) == {("jfk", 0, 0): 1, ("other", 0, 0): 3}

    @pytest.mark.parametrize("other", [says("", prompt=SPANISH), says(" ask")])
    def test_windows_that_were_not_fed_the_same_are_left_out(self, other):
        """Another prompt, or other tokens."""
        ours = clip(window((5, 0)), window((5, 0)))
        theirs = clip(other.windows[0], window((4, 0)))
        assert weight.movements([(ours, theirs)]) == {("jfk", 1, 0): 1}

    def test_logits_that_are_not_finite_move_by_nan(self):
        """Without a warning: `weigh` leaves them out."""
        ours, theirs = clip(window((math.inf, math.inf), (5, 0))), clip(window((4, 0), (4, 0)))
        found = weight.movements([(ours, theirs)])
        assert math.isnan(found.pop(("jfk", 0, 0)))
        assert found == {("jfk", 0, 1): 1}

"""Sessions that remember, leak, drift or roll dice: told apart, the verdict naming what differs and where."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support import orders
from tests.support.orders import AfterSilence, Drifting, Random, Shared, Stale, Steady
from whisper_parity.run import order as state
from whisper_parity.run.order import Order, Sound
from whisper_parity.run.report import OrderCheck

A, B, SILENCE = orders.A, orders.B, orders.SILENCE
SOUNDS = (Sound(A, 2.0, False), Sound(B, 5.0, False), Sound(SILENCE, 3.0, True))
ABA = state.small(SOUNDS)[0]
WHOLE = {order.name: order for order in state.whole(SOUNDS)}


def checked(make: Callable[[], Steady], order: Order = ABA, **options) -> OrderCheck:
    return state.check(orders.player(make, **options), order)


def stateful(make: Callable[[], Steady]) -> set[str]:
    """The sequences of the whole set that a session fails."""
    found = {name: checked(make, order).stateful for name, order in WHOLE.items()}
    found["two sessions"] = at_once(make).stateful
    return {name for name, bad in found.items() if bad}


def at_once(make: Callable[[], Steady], **options) -> OrderCheck:
    return state.check(orders.player(make, **options), state.two_sessions(SOUNDS), at_once=True)


def test_a_steady_session_passes_every_sequence():
    """A check that never passes is no check either; nothing is run a second time."""
    checks = [checked(Steady, order) for order in WHOLE.values()]
    assert [(check.stateful, check.checked, check.reproducible, check.reason) for check in checks] == [
        (False, True, True, "")
    ] * 5
    assert [check.runs for check in checks] == [2, 6, 3, 4, 10]
    assert (at_once(Steady).stateful, at_once(Steady).reason) == (False, "")


def test_the_encoder_output_of_the_previous_clip_is_found_by_a_b_a():
    """The logits differ and the encoder output does not: the decoder read something stale."""
    check = checked(Stale)
    assert (check.stateful, check.reproducible, check.exit_code, check.clips) == (True, True, 1, (A, B))
    assert re.fullmatch(r"logits of a \(run 3, after b\) differs by \d+ dB SNR", check.reason)
    assert check.runs == 9
    assert stateful(Stale) == {"A B A", "short after long", "silence after speech"}


def test_a_session_that_ran_the_last_clip_of_the_sequence_hides_nothing():
    """A worker took the clips in another order: both results of A would be those after B, and equal."""
    used = Stale()
    orders.play(used, B)
    check = state.check(orders.player(Stale, used), ABA)
    assert (check.stateful, check.reproducible, check.exit_code) == (True, True, 1)


def test_a_leak_after_silence_is_found_by_that_sequence_alone():
    """A B A knows no silence."""
    assert stateful(AfterSilence) == {"silence after speech"}
    check = checked(AfterSilence, WHOLE["silence after speech"])
    assert check.reason.startswith("encoder_output of a (run 3, after silence) differs by 60 dB SNR; logits of a")


def test_a_drift_over_repeats_is_told_from_noise():
    """Fresh sessions drift alike, so that it is state; it grows, and that is said."""
    check = checked(Drifting, WHOLE["ten repeats"])
    assert (check.stateful, check.reproducible, check.runs) == (True, True, 30)
    assert check.reason.startswith("encoder_output of a (run 10, after a) differs by ")
    assert re.search(r"; it grows with every run, from \d+ dB SNR$", check.reason)


def test_a_runtime_that_is_not_reproducible_is_no_stateful_one():
    """No two passes are alike, with nothing in between either: said, and judged against that noise."""
    seeds = iter(range(100))
    check = checked(lambda: Random(noise=orders.np.random.default_rng(next(seeds))))
    assert (check.stateful, check.reproducible, check.checked, check.exit_code) == (False, False, True, 0)
    assert re.match(r"not reproducible: in a fresh session \w+ of [ab] \(run \d, repeated\) differs by", check.reason)


def test_state_beyond_the_repeat_noise_is_found_all_the_same():
    """Noise at 80 dB does not hide a leak at 20."""

    class NoisyAndStale(Random):
        last = 0.0

        def encode(self, features):
            output = super().encode(features) + orders.np.float32(self.last)
            self.last = float(features[0])
            return output

    seeds = iter(range(100))
    check = checked(lambda: NoisyAndStale(noise=orders.np.random.default_rng(next(seeds))))
    assert (check.stateful, check.reproducible) == (True, False)
    assert "; repeats alone move up to encoder_output " in check.reason


def test_what_ran_before_the_sequence_is_found_in_the_session_of_the_run():
    """The run's session heard silence last; its first A is not like the others, fresh sessions are steady."""
    used = AfterSilence(quiet=True)
    check = state.check(orders.player(AfterSilence, used), ABA)
    assert check.stateful
    assert check.reason.startswith("encoder_output of a (in the session of the run, not in a fresh one) differs by 60")


@pytest.mark.parametrize(("make", "state_is"), [(Steady, False), (Stale, True), (Drifting, True)])
def test_one_repeat_finds_state_where_the_run_recorded_the_rest(make, state_is):
    """Of a steady session one clip is run again; what differs is looked into in fresh sessions."""
    check = orders.checked_after_run(make, ABA)
    assert (check.stateful, check.checked, check.runs) == (state_is, True, 7 if state_is else 1)


def test_a_program_that_remembers_is_found_by_its_repeat():
    """Without windows the whole clip is played."""
    check = orders.checked_after_run(Stale, ABA, in_part=False)
    assert (check.stateful, check.runs) == (True, 7)


def test_one_odd_pass_of_three_fresh_sessions_is_not_reproducible():
    """The first session glitched once; two later ones are steady, and the sequence is the same: no state."""
    made: list[Steady] = []

    def make() -> Steady:
        made.append(Steady() if made else AfterSilence(quiet=True))
        return made[-1]

    check = checked(make)
    assert (check.stateful, check.reproducible) == (False, False)


def test_two_sessions_that_share_a_buffer():
    """Alone each is steady; the second one's encoder output is what the first one decodes."""
    assert stateful(Shared) == {"two sessions"}
    assert at_once(Shared).reason.startswith("logits of a (beside a second session) differs by ")


def test_one_device_has_no_second_session_and_says_so():
    """Not checked is a row of its own, not a pass."""
    check = at_once(Steady, single=True)
    assert (check.checked, check.stateful, check.exit_code, check.reason) == (False, False, 0, "one device")


def test_sequences_that_the_clips_do_not_give_say_what_is_missing():
    """One clip that speaks: A A and ten repeats are all there is."""
    orders_of_one = state.whole(SOUNDS[:1])
    checks = [checked(Steady, order) for order in orders_of_one]
    assert [(check.sequence, check.reason) for check in checks if not check.checked] == [
        ("A B A", "the run has one clip only"),
        ("short after long", "all clips of the run are of one length"),
        ("silence after speech", "no clip of the run is silent beside one that is not"),
    ]
    assert state.small(SOUNDS[:1]) == (Order("same clip twice", (A, A)),)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_compared_too(value):
    """The same NaN twice is the same; one that appears on the second run is not."""

    class Always(Steady):
        def encode(self, features):
            output = super().encode(features)
            output[0] = value
            return output

    class Second(Steady):
        runs = 0

        def encode(self, features):
            self.runs += 1
            output = super().encode(features)
            output[0] = value if self.runs > 1 else output[0]
            return output

    assert not checked(Always).stateful
    found = checked(Second)
    assert found.stateful
    assert found.reason.startswith("encoder_output of a (run 3, after b) differs; its distance is not finite")

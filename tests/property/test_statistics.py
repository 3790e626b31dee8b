"""The paired statistics against closed forms and scipy's own implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from whisper_parity.gate import statistics
from whisper_parity.gate.statistics import Scores, scores

LENGTHS = st.integers(1, 40)
CLIP = st.tuples(st.integers(0, 5), st.integers(0, 5), LENGTHS)


def of(clips: list[tuple[int, int, int]]) -> Scores:
    return scores(*zip(*clips)) if clips else scores([], [], [])


@given(st.lists(CLIP, min_size=1, max_size=30))
def test_a_corpus_rate_is_a_sum_over_a_sum(clips):
    """Never a mean of rates."""
    found = of(clips)
    expected = sum(c for c, _, _ in clips) / sum(n for _, _, n in clips)
    assert statistics.corpus_rate(found.candidate, found.lengths) == pytest.approx(expected)


@given(st.lists(CLIP, min_size=1, max_size=60))
def test_no_regression_is_wilsons_interval(clips):
    """Against the closed form of Wilson 1927."""
    k, n = sum(c <= r for c, r, _ in clips), len(clips)
    z = stats.norm.ppf(0.975)
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    found = statistics.no_regression(of(clips))
    assert found.value == k / n
    assert (found.low, found.high) == (pytest.approx(centre - half, abs=1e-9), pytest.approx(centre + half, abs=1e-9))


@given(st.lists(CLIP, min_size=2, max_size=60))
def test_mapsswe_is_the_paired_z_test(clips):
    """Its W is the statistic of scipy's paired t test; its p is that of the normal distribution."""
    found = of(clips)
    estimate = statistics.mapsswe(found)
    if not found.differences.std():
        assert (estimate.value, estimate.note) == (None, "n/a: no clip differs")
        return
    w = stats.ttest_rel(found.candidate, found.reference).statistic
    assert estimate.value == pytest.approx(2 * stats.norm.sf(abs(w)))
    assert estimate.note == f"W {w:.2f}"


@given(st.lists(CLIP, max_size=60))
def test_mcnemar_is_the_exact_binomial(clips):
    """The sum of the binomial's tails, in closed form."""
    b = sum(c > 0 and r == 0 for c, r, _ in clips)
    c = sum(c == 0 and r > 0 for c, r, _ in clips)
    estimate = statistics.mcnemar(of(clips))
    if not b + c:
        assert estimate.value is None
        return
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
    assert estimate.value == pytest.approx(min(1.0, 2 * tail))
    assert estimate.note == f"{b} clips broken, {c} mended"


def test_mcnemar_of_a_textbook():
    """Ten clips broken and two mended: p = 2 (1 + 12 + 66) / 4096."""
    found = of([(1, 0, 9)] * 10 + [(0, 1, 9)] * 2 + [(0, 0, 9)] * 30)
    assert statistics.mcnemar(found).value == pytest.approx(158 / 4096)


@given(st.lists(CLIP, min_size=2, max_size=12))
def test_swapping_the_sides_turns_every_sign(clips):
    """candidate - reference, not the reverse; tests without direction stay as they are."""
    ours, theirs = of(clips), of([(r, c, n) for c, r, n in clips])
    assert statistics.rate_difference(ours).value == pytest.approx(-statistics.rate_difference(theirs).value)
    assert statistics.mapsswe(ours).value == statistics.mapsswe(theirs).value
    assert statistics.mcnemar(ours).value == statistics.mcnemar(theirs).value
    detectable = statistics.smallest_detectable_change
    assert detectable(ours).value == pytest.approx(detectable(theirs).value)


def test_the_bootstrap_interval():
    """Repeatable, around the value, and near the normal interval of many clips of one length."""
    rng = np.random.default_rng(3)
    found = scores(rng.binomial(10, 0.12, 2000), rng.binomial(10, 0.10, 2000), [10] * 2000)
    first, second = statistics.rate_difference(found), statistics.rate_difference(found)
    assert first == second
    half = 1.96 * found.differences.std(ddof=1) / math.sqrt(2000) / 10
    assert first.low == pytest.approx(first.value - half, abs=half * 0.1)
    assert first.high == pytest.approx(first.value + half, abs=half * 0.1)


def test_the_bootstrap_is_paired():
    """Sides that err on the same clips leave a narrow interval, however much the clips differ."""
    errors = list(range(50)) * 4
    paired = scores([e + i % 2 for i, e in enumerate(errors)], errors, [100] * 200)
    shuffled = scores(list(reversed(errors)), errors, [100] * 200)
    widths = [found.high - found.low for found in map(statistics.rate_difference, (paired, shuffled))]
    assert widths[0] < widths[1] / 10


def test_the_smallest_change_that_could_be_seen():
    """Simulated: a change of that size is found in about 80 % of the draws."""
    rng = np.random.default_rng(11)
    shape = (4000, 120)
    reference = rng.binomial(20, 0.10, shape)
    plan = scores(rng.binomial(20, 0.10, 20000), rng.binomial(20, 0.10, 20000), [20] * 20000)
    spread = float(plan.differences.std(ddof=1))
    change = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * spread / (math.sqrt(120) * 20)
    z = rng.binomial(20, 0.10 + change, shape) - reference
    w = z.mean(axis=1) / (z.std(axis=1, ddof=1) / math.sqrt(120))
    assert 0.75 < float((np.abs(w) > stats.norm.ppf(0.975)).mean()) < 0.85
    small = Scores(plan.candidate[:120], plan.reference[:120], plan.lengths[:120])
    assert statistics.smallest_detectable_change(small).value == pytest.approx(change, rel=0.25)


@given(st.lists(CLIP, min_size=2, max_size=60))
def test_clips_needed_and_smallest_change_are_inverse(clips):
    """What n clips can show needs n clips."""
    found = of(clips)
    change = statistics.smallest_detectable_change(found).value
    assert statistics.clips_needed(found, change).value in (found.clips, found.clips + 1)
    assert statistics.clips_needed(found, change / 2).value > statistics.clips_needed(found, change).value - 1


def test_where_no_clip_differs():
    """A fault on a share p of the clips is seen with probability 1 - (1 - p)^n: no claim that everything was seen."""
    found = of([(0, 0, 10)] * 20)
    change = statistics.smallest_detectable_change(found)
    assert 1 - (1 - change.value * 10) ** 20 == pytest.approx(0.8)
    assert change.note == "no clip differs: one clip hit"
    assert (statistics.rate_difference(found).low, statistics.rate_difference(found).high) == (0.0, 0.0)


@pytest.mark.parametrize("clips", [[], [(0, 0, 0)], [(1, 0, 0), (0, 0, 0)]])
def test_nothing_said_is_not_zero(clips):
    """N = 0 has no rate, no interval and no detectable change: "n/a" with the reason."""
    found = of(clips)
    for estimate in (
        statistics.rate_difference(found),
        statistics.smallest_detectable_change(found),
        statistics.clips_needed(found, 0.01),
    ):
        assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
        assert estimate.note == "n/a: the transcripts of these clips are empty"
    assert statistics.corpus_rate(found.candidate, found.lengths) is None


def test_one_clip_has_no_interval():
    """A value, and the reason why there is no more."""
    found = statistics.rate_difference(of([(1, 0, 10)]))
    assert (found.value, found.low, found.note) == (0.1, None, "no interval from one clip")
    assert statistics.mapsswe(of([(1, 0, 10)])).note == "n/a: fewer than two clips"
    assert statistics.no_regression(of([])).value is None


def test_sides_of_another_length_are_not_paired():
    """An error, never a truncation."""
    with pytest.raises(ValueError, match="cannot be paired"):
        scores([1, 2], [1], [3, 4])

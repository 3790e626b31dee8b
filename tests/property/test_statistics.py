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
        assert estimate.value == (None if found.differences.any() else 1.0)
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
        assert estimate.value == (1.0 if clips else None)
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


TWO_SENTENCES = {"first": [1, 2], "second": [0, 1], "words": [3, 3]}
"""kaldialign (cf478ab, README and tests/test_align.py): a b c, d e f heard as a b d, e f f, and as a b c, e e f."""


def test_the_bootstrap_of_kaldialigns_example(monkeypatch):
    """WER and half width of both systems and the probability of improvement, as printed there (tolerance 3e-3).

    Its interval is mean +- 1.96 standard deviations, which goes below 0 for the second system; ours are percentiles.
    """
    monkeypatch.setattr(statistics, "RESAMPLES", 100_000)  # the chance of 9999 draws alone is 2e-3
    found = scores(TWO_SENTENCES["second"], TWO_SENTENCES["first"], TWO_SENTENCES["words"])
    draws = statistics.drawn(found)
    for rates, wer, half, low, high in (
        (draws.reference, 0.4989, 0.2312, 0.2678, 0.7301),
        (draws.candidate, 0.1656, 0.2312, -0.0656, 0.3968),
    ):
        mean, width = float(rates.mean()), 1.96 * float(rates.std())
        assert (mean, width, mean - width, mean + width) == pytest.approx((wer, half, low, high), abs=3e-3)
    assert statistics.improvement(draws).value == 1.0
    assert statistics.rate(found.candidate, found.lengths, draws.candidate).low == 0.0


SEGMENTS = [(4, 7), (6, 19), (17, 0), (2, 6), (21, 21), (5, 17)]
"""(errors, words) of the first segments of lvc_hyp.ctm (SCTK 9688a26, src/hubscr/test1.base)."""


def test_equal_systems_of_sctk():
    """lvc_hyp.ctm and lvc_hyp2.ctm err alike: Ensemble.stats.unified prints "~ 1.000" for MP, SI, WI and MN."""
    found = of([(errors, errors, words) for errors, words in SEGMENTS])
    tests = (statistics.mapsswe, statistics.sign, statistics.wilcoxon, statistics.mcnemar)
    assert [f"{test(found).value:.3f}" for test in tests] == ["1.000"] * 4


SPEAKERS = {
    "sys1": [49, 38, 39, 39, 45, 66, 42, 38, 33, 49],
    "sys2": [45, 42, 34, 45, 39, 36, 44, 50, 39, 36],
    "sys3": [130, 128, 125, 118, 138, 122, 127, 121, 122, 123],
}
"""Errors of three systems by speaker, 289 words each (SCTK, doc/st_out.htm, report rsum)."""


def test_rates_of_sctks_speakers():
    """Sum and per cent as printed there: 438, 410 and 1254 of 2890 words, 15.2, 14.2 and 43.4 %."""
    printed = {"sys1": (438, "15.2"), "sys2": (410, "14.2"), "sys3": (1254, "43.4")}
    lengths = np.full(10, 289)
    for name, errors in SPEAKERS.items():
        rate = statistics.corpus_rate(np.array(errors), lengths)
        assert (sum(errors), f"{100 * rate:.1f}") == printed[name]


@pytest.mark.parametrize("other", ["sys2", "sys3"])
def test_signs_and_ranks_of_sctks_speakers(other):
    """By their definitions, every outcome counted: 2^10 signs of ten speakers."""
    found = scores(SPEAKERS[other], SPEAKERS["sys1"], [289] * 10)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1).T
    plus = (found.differences > 0).sum()
    tail = (np.minimum((signs > 0).sum(1), (signs < 0).sum(1)) <= min(plus, 10 - plus)).mean()
    assert statistics.sign(found).value == pytest.approx(tail)
    ranks = stats.rankdata(np.abs(found.differences))
    sums = (signs * ranks).sum(1)
    exact = (np.abs(sums) >= abs((np.sign(found.differences) * ranks).sum()) - 1e-9).mean()
    assert statistics.wilcoxon(found).value == pytest.approx(exact, abs=0.04)  # by the normal distribution


@given(st.lists(CLIP, min_size=1, max_size=60))
def test_sign_and_wilcoxon_do_not_care_which_side_is_which(clips):
    """Two-sided; 1 where no clip differs."""
    ours, theirs = of(clips), of([(r, c, n) for c, r, n in clips])
    for test in (statistics.sign, statistics.wilcoxon):
        assert test(ours).value == pytest.approx(test(theirs).value)
        assert 0 <= test(ours).value <= 1 + 1e-12

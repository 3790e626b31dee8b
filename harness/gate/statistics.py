"""Paired statistics of one edge: the difference candidate - reference, and how much the clips can prove.

A clip gives three numbers: the errors of candidate and reference against the same transcript, and its length (words, or
characters in unspaced scripts). A corpus rate is the sum of errors over the sum of lengths. A statistic without a value
(no clip, no word, no difference) is None with the reason, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.8
RESAMPLES = 9999
SEED = 0

Counts = NDArray[np.int64]
Rates = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """Errors of candidate and reference over the clips, int64 [n_clips] each."""

    candidate: Counts
    reference: Counts
    lengths: Counts

    @property
    def clips(self) -> int:
        """Number of clips."""
        return len(self.lengths)

    @property
    def differences(self) -> Counts:
        """Errors of the candidate minus errors of the reference, clip by clip."""
        return self.candidate - self.reference


@dataclass(frozen=True, slots=True)
class Draws:
    """Corpus rates of the same clips drawn again and again, float64 [n_draws] each."""

    candidate: Rates
    reference: Rates


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % confidence interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    """Why there is no value or interval."""


def scores(candidate: Sequence[int], reference: Sequence[int], lengths: Sequence[int]) -> Scores:
    """Build scores from plain counts.

    Raises:
        ValueError: the three lists differ in length.
    """
    if not len(candidate) == len(reference) == len(lengths):
        raise ValueError(f"{len(candidate)}, {len(reference)} and {len(lengths)} clips cannot be paired")
    return Scores(*(np.asarray(side, dtype=np.int64) for side in (candidate, reference, lengths)))


def corpus_rate(errors: Counts, lengths: Counts) -> float | None:
    """Sum of errors over sum of lengths; None when the length is 0."""
    total = int(lengths.sum())
    return int(errors.sum()) / total if total else None


def drawn(scores: Scores) -> Draws | None:
    """The corpus rates of clips drawn with replacement; None where there are no two clips, or no word.

    Each clip is drawn with both its error counts (Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in
    ASR performance evaluation"): 9999 draws of `scipy.stats.bootstrap` with a fixed seed.
    """
    from scipy.stats import bootstrap

    if scores.clips < 2 or not scores.lengths.sum():
        return None

    def rates(candidate: Any, reference: Any, lengths: Any, axis: int) -> Any:
        total, both = lengths.sum(axis=axis), np.stack([side.sum(axis=axis) for side in (candidate, reference)])
        return np.divide(both, total, out=np.zeros(both.shape), where=total > 0)

    resampled = bootstrap(
        (scores.candidate, scores.reference, scores.lengths),
        rates,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // scores.clips),
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return Draws(*resampled.bootstrap_distribution)


def rate(errors: Counts, lengths: Counts, rates: Rates | None) -> Estimate:
    """The corpus rate of one side, with the percentile interval of its draws."""
    value = corpus_rate(errors, lengths)
    if value is None:
        return Estimate(None, note="n/a: the transcripts of these clips are empty")
    if rates is None:
        return Estimate(value, note="no interval from one clip")
    return Estimate(value, *_interval(rates))


def rate_difference(scores: Scores, draws: Draws | None = None) -> Estimate:
    """Corpus rate of the candidate minus that of the reference, with the percentile interval of the same draws.

    Args:
        scores: of the clips.
        draws: `drawn(scores)`, where it is there already.
    """
    candidate, reference = (corpus_rate(side, scores.lengths) for side in (scores.candidate, scores.reference))
    if candidate is None or reference is None:
        return Estimate(None, note="n/a: the transcripts of these clips are empty")
    value = candidate - reference
    if scores.clips < 2:
        return Estimate(value, note="no interval from one clip")
    if not scores.differences.any():
        return Estimate(value, 0.0, 0.0, "no clip differs")
    draws = draws or drawn(scores)
    assert draws is not None  # noqa: S101 - two clips with words
    return Estimate(value, *_interval(draws.candidate - draws.reference))


def improvement(draws: Draws | None) -> Estimate:
    """Share of the draws in which the candidate has the lower rate: Bisani and Ney's probability of improvement."""
    if draws is None:
        return Estimate(None, note="n/a: fewer than two clips with words")
    return Estimate(float((draws.candidate < draws.reference).mean()))


def no_regression(scores: Scores) -> Estimate:
    """Share of clips on which the candidate has no more errors than the reference, with the Wilson interval.

    Wilson 1927, without continuity correction, as in `scipy.stats.binomtest(...).proportion_ci(method="wilson")`.
    """
    from scipy.stats import binomtest

    if not scores.clips:
        return Estimate(None, note="n/a: no clip")
    kept = int((scores.differences <= 0).sum())
    interval = binomtest(kept, scores.clips).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(kept / scores.clips, float(interval.low), float(interval.high))


def mapsswe(scores: Scores) -> Estimate:
    """Two-sided p of the matched-pairs sentence-segment word error test; the segments are whole clips.

    Gillick and Cox 1989, "Some statistical issues in the comparison of speech recognition algorithms": with Z_i the
    difference of errors on segment i, W = mean(Z) / (sd(Z) / sqrt(n)) is about N(0, 1) under "no difference".
    """
    from scipy.stats import norm

    if scores.clips < 2:
        return Estimate(None, note="n/a: fewer than two clips")
    if not scores.differences.any():
        return Estimate(1.0, note="no clip differs")
    if not (spread := _spread(scores)):
        return Estimate(None, note="n/a: every clip differs by the same number of errors")
    w = float(scores.differences.mean()) / (spread / math.sqrt(scores.clips))
    return Estimate(float(2 * norm.sf(abs(w))), note=f"W {w:.2f}")


def mcnemar(scores: Scores) -> Estimate:
    """Two-sided exact p of McNemar's test on "this clip has no error" (McNemar 1947; binomial, no approximation)."""
    from scipy.stats import binomtest

    broken = int(((scores.candidate > 0) & (scores.reference == 0)).sum())
    mended = int(((scores.candidate == 0) & (scores.reference > 0)).sum())
    if not broken + mended:
        return Estimate(1.0 if scores.clips else None, note="no clip is right in one and wrong in the other")
    p = float(binomtest(min(broken, mended), broken + mended).pvalue)
    return Estimate(min(1.0, p), note=f"{broken} clips broken, {mended} mended")


def sign(scores: Scores) -> Estimate:
    """Two-sided exact p of the sign test on the errors of each clip; clips with equal ones do not count."""
    from scipy.stats import binomtest

    worse, better = int((scores.differences > 0).sum()), int((scores.differences < 0).sum())
    if not worse + better:
        return Estimate(1.0 if scores.clips else None, note="no clip differs")
    p = float(binomtest(min(worse, better), worse + better).pvalue)
    return Estimate(min(1.0, p), note=f"{worse} clips worse, {better} better")


def wilcoxon(scores: Scores) -> Estimate:
    """Two-sided p of Wilcoxon's signed ranks of the differences, by the normal distribution (Wilcoxon 1945)."""
    from scipy import stats

    differences = scores.differences[scores.differences != 0]
    if not len(differences):
        return Estimate(1.0 if scores.clips else None, note="no clip differs")
    tested = stats.wilcoxon(differences, zero_method="wilcox", correction=False, method="asymptotic")
    return Estimate(float(tested.pvalue), note=f"{len(differences)} clips differ")


def smallest_detectable_change(scores: Scores) -> Estimate:
    """Smallest change of the corpus rate that this many clips can show, with power 0.8 at alpha 0.05.

    delta = (z_{1 - alpha/2} + z_{power}) sd(Z) / (sqrt(n) m)     Z_i difference of errors, m mean length of a clip

    the sample-size formula of the paired z test (Cohen 1988, chapter 2), solved for the difference. Where no clip
    differs, sd(Z) is 0 and the formula fails. Instead: a fault that hits a share p of clips is seen at least once with
    probability 1 - (1 - p)^n; the p for which that is 0.8, at one error per hit clip, is delta = (1 - 0.2^(1/n)) / m.
    """
    if not scores.lengths.sum():
        return Estimate(None, note="n/a: the transcripts of these clips are empty")
    if spread := _spread(scores):
        return Estimate(_z() * spread / (math.sqrt(scores.clips) * _mean_length(scores)), note="paired z test")
    return Estimate(
        (1 - (1 - POWER) ** (1 / scores.clips)) / _mean_length(scores), note="no clip differs: one clip hit"
    )


def clips_needed(scores: Scores, change: float) -> Estimate:
    """Number of such clips needed to show a change of the corpus rate: the formulas above, solved for n.

    n = ((z_{1 - alpha/2} + z_{power}) sd(Z) / (m change))^2, or ln(1 - power) / ln(1 - m change) where no clip differs.
    """
    if not scores.lengths.sum() or change <= 0:
        return Estimate(None, note="n/a: the transcripts of these clips are empty")
    if spread := _spread(scores):
        return Estimate(float(math.ceil((_z() * spread / (_mean_length(scores) * change)) ** 2)), note="paired z test")
    share = min(_mean_length(scores) * change, 1.0)
    needed = 1 if share >= 1 else math.ceil(math.log(1 - POWER) / math.log1p(-share))
    return Estimate(float(needed), note="no clip differs: one clip hit")


def _interval(values: Rates) -> tuple[float, float]:
    """The percentile interval."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _spread(scores: Scores) -> float:
    """Standard deviation of the differences, 0 for fewer than two clips."""
    return float(scores.differences.std(ddof=1)) if scores.clips > 1 else 0.0


def _mean_length(scores: Scores) -> float:
    return float(scores.lengths.mean())


def _z() -> float:
    from scipy.stats import norm

    return float(norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER))

"""Paired statistics of one edge: what the clips can say about the difference candidate - reference, and what not.

A clip gives three numbers: the errors of candidate and reference against the same transcript, and its length (words, or
characters in unspaced scripts). A corpus rate is the sum of errors over the sum of lengths. Where something has no
value (no clip, no word, no difference) it is None with the reason, never 0.
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
class Estimate:
    """A value with its 95 % confidence interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    """Why there is no value or interval."""


def scores(candidate: Sequence[int], reference: Sequence[int], lengths: Sequence[int]) -> Scores:
    """Scores from plain counts.

    Raises:
        ValueError: not one of each for every clip.
    """
    if not len(candidate) == len(reference) == len(lengths):
        raise ValueError(f"{len(candidate)}, {len(reference)} and {len(lengths)} clips cannot be paired")
    return Scores(*(np.asarray(each, dtype=np.int64) for each in (candidate, reference, lengths)))


def corpus_rate(errors: Counts, lengths: Counts) -> float | None:
    """Sum of errors over sum of lengths; None when the length is 0."""
    total = int(lengths.sum())
    return int(errors.sum()) / total if total else None


def rate_difference(found: Scores) -> Estimate:
    """Corpus rate of the candidate minus that of the reference, with its paired bootstrap interval.

    Clips are drawn with replacement, each with both its error counts (Bisani and Ney 2004, "Bootstrap estimates for
    confidence intervals in ASR performance evaluation"); the statistic is the difference of corpus rates, the interval
    is the percentile interval of `scipy.stats.bootstrap`, 9999 draws with a fixed seed.
    """
    candidate, reference = (corpus_rate(side, found.lengths) for side in (found.candidate, found.reference))
    if candidate is None or reference is None:
        return Estimate(None, note="n/a: nothing is said on these clips")
    value = candidate - reference
    if found.clips < 2:
        return Estimate(value, note="no interval from one clip")
    if not found.differences.any():
        return Estimate(value, 0.0, 0.0, "no clip differs")
    low, high = _bootstrap(found)
    return Estimate(value, low, high)


def no_regression(found: Scores) -> Estimate:
    """Share of clips on which the candidate has no more errors than the reference, with the Wilson interval.

    Wilson 1927, without continuity correction, as in `scipy.stats.binomtest(...).proportion_ci(method="wilson")`.
    """
    from scipy.stats import binomtest

    if not found.clips:
        return Estimate(None, note="n/a: no clip")
    kept = int((found.differences <= 0).sum())
    interval = binomtest(kept, found.clips).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(kept / found.clips, float(interval.low), float(interval.high))


def mapsswe(found: Scores) -> Estimate:
    """Two-sided p of the matched-pairs sentence-segment word error test; the segments are whole clips.

    Gillick and Cox 1989, "Some statistical issues in the comparison of speech recognition algorithms": with Z_i the
    difference of errors on segment i, W = mean(Z) / (sd(Z) / sqrt(n)) is about N(0, 1) under "no difference".
    """
    from scipy.stats import norm

    spread = _spread(found)
    if not spread:
        return Estimate(None, note="n/a: no clip differs" if found.clips > 1 else "n/a: fewer than two clips")
    w = float(found.differences.mean()) / (spread / math.sqrt(found.clips))
    return Estimate(float(2 * norm.sf(abs(w))), note=f"W {w:.2f}")


def mcnemar(found: Scores) -> Estimate:
    """Two-sided exact p of McNemar's test on "this clip has no error" (McNemar 1947; binomial, no approximation)."""
    from scipy.stats import binomtest

    broken = int(((found.candidate > 0) & (found.reference == 0)).sum())
    mended = int(((found.candidate == 0) & (found.reference > 0)).sum())
    if not broken + mended:
        return Estimate(None, note="n/a: no clip is right in one and wrong in the other")
    p = float(binomtest(min(broken, mended), broken + mended).pvalue)
    return Estimate(min(1.0, p), note=f"{broken} clips broken, {mended} mended")


def smallest_detectable_change(found: Scores) -> Estimate:
    """Smallest change of the corpus rate that this many clips would show, with power 0.8 at alpha 0.05.

    delta = (z_{1 - alpha/2} + z_{power}) sd(Z) / (sqrt(n) m)     Z_i difference of errors, m mean length of a clip

    the sample-size formula of the paired z test (Cohen 1988, chapter 2), solved for the difference. Where no clip
    differs, sd(Z) is 0 and says nothing. Then: a fault that hits a share p of clips is seen at least once with
    probability 1 - (1 - p)^n; the p for which that is 0.8, at one error a clip hit, is delta = (1 - 0.2^(1/n)) / m.
    """
    if not found.lengths.sum():
        return Estimate(None, note="n/a: nothing is said on these clips")
    if spread := _spread(found):
        return Estimate(_z() * spread / (math.sqrt(found.clips) * _mean_length(found)), note="paired z test")
    return Estimate((1 - (1 - POWER) ** (1 / found.clips)) / _mean_length(found), note="no clip differs: one clip hit")


def clips_needed(found: Scores, change: float) -> Estimate:
    """Clips like these that a change of the corpus rate by `change` needs: the formulas above, solved for n.

    n = ((z_{1 - alpha/2} + z_{power}) sd(Z) / (m change))^2, or ln(1 - power) / ln(1 - m change) where no clip differs.
    """
    if not found.lengths.sum() or change <= 0:
        return Estimate(None, note="n/a: nothing is said on these clips")
    if spread := _spread(found):
        return Estimate(float(math.ceil((_z() * spread / (_mean_length(found) * change)) ** 2)), note="paired z test")
    share = min(_mean_length(found) * change, 1.0)
    needed = 1 if share >= 1 else math.ceil(math.log(1 - POWER) / math.log1p(-share))
    return Estimate(float(needed), note="no clip differs: one clip hit")


def _bootstrap(found: Scores) -> tuple[float, float]:
    from scipy.stats import bootstrap

    def statistic(candidate: Any, reference: Any, lengths: Any, axis: int) -> Any:
        total = lengths.sum(axis=axis)
        difference = candidate.sum(axis=axis) - reference.sum(axis=axis)
        return np.divide(difference, total, out=np.zeros(np.shape(total)), where=total > 0)

    interval = bootstrap(
        (found.candidate, found.reference, found.lengths),
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // found.clips),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _spread(found: Scores) -> float:
    """Standard deviation of the differences, 0 for fewer than two clips."""
    return float(found.differences.std(ddof=1)) if found.clips > 1 else 0.0


def _mean_length(found: Scores) -> float:
    return float(found.lengths.mean())


def _z() -> float:
    from scipy.stats import norm

    return float(norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER))

"""The paired statistics of a run's edges, one set per language, as the gate reports them."""

from __future__ import annotations

from collections.abc import Sequence

from whisper_parity.gate import statistics
from whisper_parity.gate.evidence import CellEvidence, EdgeEvidence
from whisper_parity.gate.result import Statistic
from whisper_parity.gate.statistics import Estimate, Scores

CHANGES = (0.01, 0.001)
"""Changes of WER for which the required number of clips is reported."""
NORM = "power 0.8 at alpha 0.05"


def describe(edge: EdgeEvidence) -> list[Statistic]:
    """The paired statistics of an edge, one set per language."""
    return [
        statistic
        for language in edge.languages()
        for statistic in _statistics(edge, language, [pair for pair in edge.pairs if pair.language == language])
    ]


def _statistics(edge: EdgeEvidence, language: str, pairs: Sequence[CellEvidence]) -> list[Statistic]:
    return of_scores(_scores(pairs), _metric(pairs), edge.name, language, len(pairs))


def of_scores(scores: Scores, metric: str, edge: str, language: str, n_clips: int) -> list[Statistic]:
    """The paired statistics of two sides against the same transcripts.

    Args:
        scores: of the clips that have a transcript.
        metric: "wer" or "cer": what the scores count.
        edge: "reference->candidate".
        language: of the clips.
        n_clips: with and without a transcript.
    """
    unit = "words" if metric == "wer" else "characters"
    size = f"{scores.clips} of {n_clips} clips, {int(scores.lengths.sum())} {unit}"
    return [
        Statistic(
            name=name,
            edge=edge,
            language=language,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            higher_is_better=direction,
            note="; ".join(part for part in (estimate.note, note, size) if part),
        )
        for name, estimate, direction, note in _estimates(scores, metric)
    ]


def _estimates(scores: Scores, metric: str) -> list[tuple[str, Estimate, bool | None, str]]:
    """(name, estimate, whether higher is better, formula)."""
    draws = statistics.drawn(scores)
    candidate, reference = (draws.candidate, draws.reference) if draws else (None, None)
    rate, lengths = statistics.rate, scores.lengths
    return [
        (metric, rate(scores.candidate, lengths, candidate), False, "sum of errors over sum of lengths, bootstrap"),
        (f"{metric}_reference", rate(scores.reference, lengths, reference), False, "the same of the reference"),
        (
            f"{metric}_delta",
            statistics.rate_difference(scores, draws),
            False,
            "candidate - reference, paired bootstrap",
        ),
        ("improvement_probability", statistics.improvement(draws), True, "draws in which the candidate errs less"),
        ("no_regression_rate", statistics.no_regression(scores), True, "clips with no more errors, Wilson interval"),
        ("mapsswe_p", statistics.mapsswe(scores), None, "matched pairs, clips as segments (Gillick and Cox 1989)"),
        ("sign_p", statistics.sign(scores), None, "clips with more and with fewer errors, exact"),
        ("wilcoxon_p", statistics.wilcoxon(scores), None, "signed ranks of the differences"),
        ("mcnemar_p", statistics.mcnemar(scores), None, "clips without error, exact"),
        (f"smallest_detectable_{metric}_change", statistics.smallest_detectable_change(scores), False, NORM),
        *(
            (f"clips_for_{metric}_change_{change:g}", statistics.clips_needed(scores, change), False, NORM)
            for change in CHANGES
        ),
    ]


def _scores(pairs: Sequence[CellEvidence]) -> Scores:
    truths = [pair.truth for pair in pairs if pair.truth]
    ours, theirs = [counts.errors for counts, _ in truths], [counts.errors for _, counts in truths]
    return statistics.scores(ours, theirs, [counts.length for _, counts in truths])


def _metric(pairs: Sequence[CellEvidence]) -> str:
    """The leading metric of this language: "wer" or "cer"."""
    texts = [pair.comparison.text for pair in pairs if not pair.missing and pair.comparison.text]
    return texts[0].leading if texts else "wer"

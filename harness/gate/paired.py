"""The paired statistics of a run's edges, one set per language, as the gate reports them."""

from __future__ import annotations

from collections.abc import Sequence

from whisper_parity.gate import statistics
from whisper_parity.gate.evidence import CellEvidence, EdgeEvidence
from whisper_parity.gate.result import Statistic
from whisper_parity.gate.statistics import Counts, Estimate, Scores

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
    scores, metric = _scores(pairs), _metric(pairs)
    unit = "words" if metric == "wer" else "characters"
    size = f"{scores.clips} of {len(pairs)} clips, {int(scores.lengths.sum())} {unit}"
    return [
        Statistic(
            name=name,
            edge=edge.name,
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
    return [
        (metric, _rate(scores.candidate, scores.lengths), False, "sum of errors over sum of lengths"),
        (f"{metric}_reference", _rate(scores.reference, scores.lengths), False, "the same of the reference"),
        (f"{metric}_delta", statistics.rate_difference(scores), False, "candidate - reference, paired bootstrap"),
        ("no_regression_rate", statistics.no_regression(scores), True, "clips with no more errors, Wilson interval"),
        ("mapsswe_p", statistics.mapsswe(scores), None, "matched pairs, clips as segments (Gillick and Cox 1989)"),
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


def _rate(errors: Counts, lengths: Counts) -> Estimate:
    rate = statistics.corpus_rate(errors, lengths)
    return Estimate(rate, note="" if rate is not None else "n/a: the transcripts of these clips are empty")

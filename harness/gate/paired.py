"""The paired statistics of a run's edges, one set per language, as the gate reports them."""

from __future__ import annotations

from collections.abc import Sequence

from whisper_parity.gate import statistics
from whisper_parity.gate.evidence import CellEvidence, EdgeEvidence
from whisper_parity.gate.result import Statistic
from whisper_parity.gate.statistics import Counts, Estimate, Scores

CHANGES = (0.01, 0.001)
"""Changes of WER for which the number of clips is told."""
NORM = "power 0.8 at alpha 0.05"


def describe(edge: EdgeEvidence) -> list[Statistic]:
    """The paired statistics of an edge, one set per language."""
    return [
        statistic
        for language in edge.languages()
        for statistic in _of_language(edge, language, [pair for pair in edge.pairs if pair.language == language])
    ]


def _of_language(edge: EdgeEvidence, language: str, pairs: Sequence[CellEvidence]) -> list[Statistic]:
    found, metric = _scores(pairs), _metric(pairs)
    unit = "words" if metric == "wer" else "characters"
    size = f"{found.clips} of {len(pairs)} clips, {int(found.lengths.sum())} {unit}"
    return [
        Statistic(
            name=name,
            edge=edge.name,
            language=language,
            value=each.value,
            low=each.low,
            high=each.high,
            higher_is_better=direction,
            note="; ".join(part for part in (each.note, note, size) if part),
        )
        for name, each, direction, note in _estimates(found, metric)
    ]


def _estimates(found: Scores, metric: str) -> list[tuple[str, Estimate, bool | None, str]]:
    """(name, estimate, whether higher is better, formula)."""
    return [
        (metric, _rate(found.candidate, found.lengths), False, "sum of errors over sum of lengths"),
        (f"{metric}_reference", _rate(found.reference, found.lengths), False, "the same of the reference"),
        (f"{metric}_delta", statistics.rate_difference(found), False, "candidate - reference, paired bootstrap"),
        ("no_regression_rate", statistics.no_regression(found), True, "clips with no more errors, Wilson interval"),
        ("mapsswe_p", statistics.mapsswe(found), None, "matched pairs, clips as segments (Gillick and Cox 1989)"),
        ("mcnemar_p", statistics.mcnemar(found), None, "clips without error, exact"),
        (f"smallest_detectable_{metric}_change", statistics.smallest_detectable_change(found), False, NORM),
        *(
            (f"clips_for_{metric}_change_{change:g}", statistics.clips_needed(found, change), False, NORM)
            for change in CHANGES
        ),
    ]


def _scores(pairs: Sequence[CellEvidence]) -> Scores:
    known = [pair.truth for pair in pairs if pair.truth]
    ours, theirs = [each.errors for each, _ in known], [each.errors for _, each in known]
    return statistics.scores(ours, theirs, [each.length for _, each in known])


def _metric(pairs: Sequence[CellEvidence]) -> str:
    """What leads in this language: "wer" or "cer"."""
    texts = [pair.comparison.text for pair in pairs if not pair.missing and pair.comparison.text]
    return texts[0].leading if texts else "wer"


def _rate(errors: Counts, lengths: Counts) -> Estimate:
    rate = statistics.corpus_rate(errors, lengths)
    return Estimate(rate, note="" if rate is not None else "n/a: nothing is said on these clips")

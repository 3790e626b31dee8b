"""The paired statistics of two sets of results against what was said."""

from __future__ import annotations

from whisper_parity.compare.sets import SetComparison
from whisper_parity.gate import paired, statistics
from whisper_parity.gate.result import Statistic


def describe(compared: SetComparison) -> tuple[Statistic, ...]:
    """The statistics that the gate gives of an edge; none where no truth is known."""
    judged = list(compared.judged())
    if not judged:
        return ()
    scores = statistics.scores(
        [candidate.errors for _, candidate, _ in judged],
        [reference.errors for _, _, reference in judged],
        [reference.length for _, _, reference in judged],
    )
    edge = f"{compared.reference}->{compared.candidate}"
    return tuple(paired.of_scores(scores, compared.metric, edge, "", len(compared.clips)))

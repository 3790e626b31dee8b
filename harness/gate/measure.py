"""The figures of one cell for the gate, approved results and the history, each with its direction."""

from __future__ import annotations

import math

from whisper_parity.compare import logits, tensor, text
from whisper_parity.compare.comparison import Comparison
from whisper_parity.compare.normalise import compare_texts
from whisper_parity.compare.text import ErrorCounts
from whisper_parity.judge import program
from whisper_parity.run.report import Judged, Row

HIGHER_IS_BETTER: dict[str, bool] = {
    "features_snr_db": tensor.HIGHER_IS_BETTER["snr_db"],
    "encoder_output_snr_db": tensor.HIGHER_IS_BETTER["snr_db"],
    "logits_snr_db": tensor.HIGHER_IS_BETTER["snr_db"],
    "kl_max": logits.HIGHER_IS_BETTER["kl_max"],
    "top_movement": logits.HIGHER_IS_BETTER["top_movement"],
    "argmax_agreement": logits.HIGHER_IS_BETTER["argmax_agreement"],
    "flips": False,
    "faults": False,
    "ties_per_thousand": False,
    "steps_at_risk": False,
    "steps_at_risk_per_thousand": False,
    "wer": text.HIGHER_IS_BETTER["wer"],
    "cer": text.HIGHER_IS_BETTER["cer"],
    "errors": text.HIGHER_IS_BETTER["wer"],
    "text_rate": text.HIGHER_IS_BETTER["wer"],
    "text_delta": text.HIGHER_IS_BETTER["wer"],
    "punctuation": text.HIGHER_IS_BETTER["punctuation"],
    "punctuation_per_thousand": text.HIGHER_IS_BETTER["punctuation"],
    "no_regression_rate": True,
    "findings": False,
    "prompt_faults": False,
    "detokenise_faults": False,
    "end_faults": False,
    "seconds": False,
}
"""Direction of every judged or charted figure, from the metric's own module where it has one."""


def within(name: str, value: float, limit: float) -> bool:
    """Whether a figure keeps its limit, a minimum or a maximum by its direction; NaN keeps none."""
    return value >= limit if HIGHER_IS_BETTER[name] else value <= limit


def goodness(name: str, value: float) -> float:
    """A figure with its sign turned so that higher is better."""
    return value if HIGHER_IS_BETTER[name] else -value


def features_snr_db(cell: Row) -> float | None:
    """Lowest SNR of the input features that a program computed itself, over all windows and their parts [dB]."""
    diffs = cell.program.features if cell.program else ()
    lowest = [program.lowest_db(diff) for diff in diffs]
    return min((value for value in lowest if value is not None), default=None)


def encoder_output_snr_db(comparison: Comparison) -> float | None:
    """Lowest SNR of the encoder output over all windows [dB]."""
    worst = comparison.worst("encoder_output")
    return worst.snr_db if worst else None


def logits_snr_db(comparison: Comparison) -> float | None:
    """Lowest SNR of the logits over all windows [dB]."""
    worst = comparison.worst("logits")
    return worst.snr_db if worst else None


def kl_max(comparison: Comparison) -> float | None:
    """Largest KL divergence of a step [nat]."""
    return max((diff.kl_max for diff in comparison.logits), default=None)


def top_movement(comparison: Comparison) -> float | None:
    """Largest movement of a top token of a step [logit]."""
    return max((diff.top_movement for diff in comparison.logits), default=None)


def argmax_agreement(comparison: Comparison) -> float | None:
    """Share of steps whose largest logit is the same token, over all windows."""
    steps = sum(diff.steps for diff in comparison.logits)
    return sum(diff.argmax_agreement * diff.steps for diff in comparison.logits) / steps if steps else None


def punctuation(comparison: Comparison) -> float | None:
    """Edits of punctuation or case."""
    return comparison.text.count("punctuation") + comparison.text.count("case") if comparison.text else None


def errors_against_truth(cell: Row, reference: Row) -> tuple[ErrorCounts, ErrorCounts] | None:
    """Leading error counts of a cell and of its reference, both against the transcript.

    Without a transcript the reference's own text takes its place, so that the reference has no error. None when one of
    the two is unknown.
    """
    if cell.vs_transcript and reference.vs_transcript:
        return cell.vs_transcript.leading_counts, reference.vs_transcript.leading_counts
    judged = next((side for side in (cell.vs_parent, cell.vs_root) if _is_against(side, reference)), None)
    if judged is None or judged.comparison.text is None or cell.vs_transcript or reference.vs_transcript:
        return None
    counts = judged.comparison.text.leading_counts
    return counts, ErrorCounts(hits=counts.length)


def cell(cell: Row) -> dict[str, float]:
    """All defined figures of one cell, against its parent and against the transcript."""
    figures: dict[str, float | None] = {}
    if cell.vs_parent:
        comparison = cell.vs_parent.comparison
        figures = {
            "encoder_output_snr_db": encoder_output_snr_db(comparison),
            "logits_snr_db": logits_snr_db(comparison),
            "kl_max": kl_max(comparison),
            "top_movement": top_movement(comparison),
            "argmax_agreement": argmax_agreement(comparison),
            "flips": len(comparison.flips) if comparison.steps else None,
            "steps_at_risk": comparison.steps_at_risk if comparison.steps else None,
            "punctuation": punctuation(comparison),
        }
    figures["features_snr_db"] = features_snr_db(cell)
    if cell.vs_transcript:
        figures["errors"] = cell.vs_transcript.leading_counts.errors
    return {name: value for name, value in figures.items() if value is not None and not math.isnan(value)}


def errors_by_text(cell: Row, judged: Judged | None) -> tuple[ErrorCounts, ErrorCounts] | None:
    """The same where the reference's own cell was not selected: its text is in the comparison."""
    if judged is None or judged.comparison.text is None:
        return None
    text = judged.comparison.text
    if cell.vs_transcript is None:
        return text.leading_counts, ErrorCounts(hits=text.leading_counts.length)
    transcript, language = cell.vs_transcript.reference, cell.language or None
    of_reference = compare_texts(reference=transcript, hypothesis=text.reference, language=language)
    return cell.vs_transcript.leading_counts, of_reference.leading_counts


def _is_against(judged: Judged | None, reference: Row) -> bool:
    return judged is not None and judged.comparison.reference == reference.stage

"""The first rung: what a stage's files hold of the checkpoint, laid before what its numbers say."""

from __future__ import annotations

from dataclasses import replace

from whisper_parity.judge.verdict import Grade, Outcome, RungResult, Verdict
from whisper_parity.weights.fit import Grade as Fit
from whisper_parity.weights.result import LookUp

RUNG = "weights"
JUDGED = (Outcome.PASS, Outcome.DRIFT, Outcome.DIVERGED)
ELSEWHERE = "what differs is the graph, or how it is run"


def laid_before(verdict: Verdict, looked: LookUp | None) -> Verdict:
    """The verdict of a row with its rung of weights.

    Weights that are not the checkpoint's make an amber row of a green one: its numbers are within the limits, and what
    would ship is another file than the one that was meant. They fail none by themselves.

    Args:
        verdict: of the row's numbers.
        looked: the look-up of its stage's files; None where there was none.
    """
    if looked is None or not looked.was_read or verdict.outcome not in JUDGED:
        return verdict
    grade = Grade.PASS if looked.is_good else Grade.DRIFT
    reason = summary(looked)
    rungs = (RungResult(RUNG, grade, reason), *verdict.rungs)
    if looked.is_good and verdict.outcome is not Outcome.DIVERGED:
        return replace(verdict, rungs=rungs)
    if verdict.outcome is Outcome.PASS:
        return Verdict(Outcome.DRIFT, RUNG, f"{RUNG}: {reason}", rungs)
    where = f"; {ELSEWHERE}" if looked.is_good and _is_exact(looked) else ""
    words = f"{verdict.reason}; {RUNG}: {reason}{where}" if looked.is_good else f"{RUNG}: {reason}; {verdict.reason}"
    return replace(verdict, reason=words, rungs=rungs)


def summary(looked: LookUp) -> str:
    """The first sentence, and how many there are more."""
    first, *others = looked.sentences
    return f"{first} (and {len(others)} more: parity weights)" if len(others) > 1 else first


def _is_exact(looked: LookUp) -> bool:
    """Whether every tensor was found, and none was rounded or quantised: its numbers can then be told from nothing."""
    rounded = {Fit.FLOAT16.value, Fit.BFLOAT16.value, Fit.QUANTISED.value}
    return not any(file.unread or file.remarks or rounded & set(file.counts) for file in looked.files)

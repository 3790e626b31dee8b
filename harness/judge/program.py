"""A program by itself: its front end, prompt, detokeniser and end, as rungs around those of its edge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from whisper_parity.compare.finding import Finding
from whisper_parity.compare.front_end.difference import FrontEndDiff
from whisper_parity.judge.tolerance import Tolerance
from whisper_parity.judge.verdict import Grade, Outcome, RungResult, Verdict, graded, worse

FEATURES, PROMPT, DETOKENISE, END = "features", "prompt", "detokenise", "end"
BEFORE, BEHIND = (FEATURES, PROMPT), (DETOKENISE, END)
"""Rungs in front of those of the edge and behind them, in the order of the flow."""
OUTCOMES = {Grade.DRIFT: Outcome.DRIFT, Grade.FAIL: Outcome.DIVERGED}
JUDGED = (Outcome.PASS, Outcome.DRIFT, Outcome.DIVERGED, Outcome.NOT_COMPARED)


@dataclass(frozen=True, slots=True)
class ProgramCheck:
    """What a program did by itself on a clip, judged."""

    features: tuple[FrontEndDiff, ...]
    """Of the windows whose input features it gave."""
    findings: tuple[Finding, ...]
    """Of prompt, detokeniser and end, in the order of the flow."""
    rungs: tuple[RungResult, ...]
    """Those that could be judged, in the order of the flow."""
    explained: tuple[str, ...] = ()
    """Rungs of the edge that fail because of one behind them: other text of the same tokens, tokens behind the end."""

    @property
    def failing(self) -> tuple[RungResult, ...]:
        """The rungs that fail."""
        return tuple(rung for rung in self.rungs if rung.grade is Grade.FAIL)


def checked(
    features: tuple[FrontEndDiff, ...],
    findings: Mapping[str, Iterable[Finding]],
    tolerance: Tolerance,
    *,
    tokens_agree: bool = False,
) -> ProgramCheck:
    """Judge what is known of a program by itself.

    Args:
        features: by window; () where it gave none.
        findings: by rung; a rung without evidence is left out, one with evidence and nothing found is empty.
        tolerance: of its edge.
        tokens_agree: up to the reference's end its tokens are the reference's, as far as it names them.
    """
    named = {rung: tuple(items) for rung, items in findings.items()}
    results = [*([_features_result(features, tolerance)] if features else [])]
    results += [_result(rung, named[rung], tolerance) for rung in (PROMPT, *BEHIND) if rung in named]
    every = tuple(item for items in named.values() for item in items)
    return ProgramCheck(features, every, tuple(results), tuple(_explained(named, tokens_agree=tokens_agree)))


def _explained(named: Mapping[str, tuple[Finding, ...]], *, tokens_agree: bool) -> Iterator[str]:
    """The rungs in front that a fault of the detokeniser, or of the end, accounts for."""
    ends = [item for item in named.get(END, ()) if item.is_fault]
    if ends and (tokens_agree or any(item.step == 0 for item in ends)):
        yield from ("token", "text")
    elif any(item.is_fault for item in named.get(DETOKENISE, ())):
        yield "text"


def laid_around(verdict: Verdict, check: ProgramCheck) -> Verdict:
    """The verdict of a row with the rungs of the program itself: the first rung of the worst grade decides."""
    if verdict.outcome not in JUDGED or not check.rungs:
        return verdict
    before = tuple(rung for rung in check.rungs if rung.rung in BEFORE)
    rungs = (*before, *verdict.rungs, *(rung for rung in check.rungs if rung.rung in BEHIND))
    worst = max(check.rungs, key=lambda rung: worse(rung.grade))
    if verdict.outcome is Outcome.NOT_COMPARED:
        outcome = OUTCOMES.get(worst.grade, Outcome.PASS)
        return Verdict(outcome, worst.rung if outcome is not Outcome.PASS else "", _said(worst, outcome), rungs)
    outcome = OUTCOMES.get(worst.grade, Outcome.PASS)
    if outcome.exit_code > verdict.outcome.exit_code or (outcome is Outcome.DRIFT and verdict.outcome is Outcome.PASS):
        return Verdict(outcome, worst.rung, _reason(check, worst.grade, verdict.reason), rungs)
    if outcome is verdict.outcome and outcome is not Outcome.PASS:
        is_first = worst.rung in BEFORE or verdict.rung in check.explained
        first = worst.rung if is_first else verdict.rung
        return Verdict(outcome, first, _reason(check, worst.grade, verdict.reason), rungs)
    return replace(verdict, rungs=rungs)


def _said(worst: RungResult, outcome: Outcome) -> str:
    return "" if outcome is Outcome.PASS else f"{worst.rung}: {worst.reason}"


def _reason(check: ProgramCheck, grade: Grade, others: str) -> str:
    """The rungs of the worst grade, those in front of the edge before its reason and the others behind it."""
    named = {rung.rung: f"{rung.rung}: {rung.reason}" for rung in check.rungs if rung.grade is grade}
    first = (*BEFORE, *BEHIND) if check.explained else BEFORE
    front, back = (
        [named[rung] for rung in part if rung in named] for part in (first, () if check.explained else BEHIND)
    )
    return "; ".join(filter(None, [*front, others, *back]))


def _result(rung: str, findings: tuple[Finding, ...], tolerance: Tolerance) -> RungResult:
    faults = [item for item in findings if item.is_fault]
    if faults:
        return RungResult(rung, Grade(tolerance.finding), "; ".join(item.sentence for item in faults))
    return RungResult(rung, Grade.PASS, "; ".join(item.sentence for item in findings) or "nothing found")


def _features_result(features: tuple[FrontEndDiff, ...], tolerance: Tolerance) -> RungResult:
    """The worst window's."""
    windows = [(_features_grade(diff, tolerance), diff) for diff in features]
    worst, diff = max(windows, key=lambda window: worse(window[0]))
    return RungResult(FEATURES, worst, describe(diff, tolerance))


def _features_grade(diff: FrontEndDiff, tolerance: Tolerance) -> Grade:
    snr_db = lowest_db(diff)
    return Grade.FAIL if diff.nonfinite or snr_db is None else graded(snr_db, tolerance.features_snr_db)


def lowest_db(diff: FrontEndDiff) -> float | None:
    """The SNR that decides: of the worst part [dB]; None where nothing can be compared."""
    parts = (diff.speech_db, diff.edges_db, diff.padding_db)
    return min((part for part in parts if part is not None), default=diff.whole_db)


def describe(diff: FrontEndDiff, tolerance: Tolerance) -> str:
    """Causes, the three SNRs, and the limits, in a sentence."""
    limit = tolerance.features_snr_db
    bounds = f"(pass from {limit.passes:g}, drift from {limit.drifts:g})"
    return "; ".join(
        filter(None, [", and ".join(cause.sentence for cause in diff.causes), f"{figures(diff)} {bounds}"])
    )


def figures(diff: FrontEndDiff) -> str:
    """The three SNRs, or why there are none."""
    if diff.whole_db is None:
        return f"input_features {list(diff.shape)}, expected {list(diff.expected)}"
    parts = {"speech": diff.speech_db, "edges": diff.edges_db, "padding": diff.padding_db}
    snrs = ", ".join(f"{part} {_decibels(value)}" for part, value in parts.items() if value is not None)
    odd = f", {diff.nonfinite} values NaN or infinite" if diff.nonfinite else ""
    return f"input_features SNR {_decibels(diff.whole_db)} ({snrs}){odd}"


def _decibels(value: float) -> str:
    return "identical" if value == float("inf") else f"{value:.1f} dB"

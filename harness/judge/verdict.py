"""From a comparison to a verdict: whether it is still the same model, and if not, on which rung it breaks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from whisper_parity.compare import columns
from whisper_parity.compare.comparison import Comparison
from whisper_parity.compare.finding import LEADING, Finding
from whisper_parity.compare.logits import Flip
from whisper_parity.compare.text import ErrorCounts, TextEdit
from whisper_parity.errors import InputError, ParityError
from whisper_parity.judge.tolerance import Limit, Tolerance


class Outcome(str, Enum):
    """Outcome of a stage on a clip; only PASS is green, DRIFT is amber and can ship."""

    PASS = "pass"
    DRIFT = "drift"
    REFERENCE = "reference"
    """The first stage of a run, which others are judged against."""
    DIVERGED = "diverged"
    NOT_COMPARED = "not compared"
    """Its reference did not run."""
    INVALID_INPUT = "invalid input"
    """The clip, or a user's artifact, is unusable."""
    FAILED = "failed"
    """Build or run failed, or is impossible on this machine."""

    @property
    def exit_code(self) -> int:
        """0 success, 1 diverged or nothing compared, 2 bad input, 3 environment."""
        return {"diverged": 1, "not compared": 1, "invalid input": 2, "failed": 3}.get(self.value, 0)


class Grade(str, Enum):
    """Grade of a rung."""

    PASS = "pass"
    DRIFT = "drift"
    FAIL = "fail"
    NOT_COMPARED = "not compared"


TIES = (
    "every flip is a tie, which says that noise can turn the token and not that the text may change so much: the text "
    "decides"
)
"""Why a cell of ties is diverged."""
FEW = 3
"""Errors of a text: fewer of them are no rate. "Yes." and "Yeah." differ by 100 %."""
OF_WORDS = frozenset({"lost beginning", "lost end", "lost text", "invented text"})
"""Findings that are counted in words, by `lost_words`."""
FINDINGS_NAMED = 2
"""Findings in front of a reason; all are in the report."""

_WORSE = (Grade.NOT_COMPARED, Grade.PASS, Grade.DRIFT, Grade.FAIL)


@dataclass(frozen=True, slots=True)
class RungResult:
    """One rung of the severity ladder."""

    rung: str
    """"tensor", "logits", "token" or "text"; "context" where the files have no room for a clip."""
    grade: Grade
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one comparison."""

    outcome: Outcome
    rung: str
    """The first rung of the worst grade; "" when nothing was compared."""
    reason: str
    rungs: tuple[RungResult, ...]


def judge(comparison: Comparison, tolerance: Tolerance) -> Verdict:
    """Judge a comparison by the tolerance of its edge."""
    if comparison.broken:
        broken = comparison.broken
        reason = f"{broken.tensor}: {broken.premise} broken: {broken.reason}"
        return Verdict(Outcome.DIVERGED, "tensor", reason, (RungResult("tensor", Grade.FAIL, reason),))
    rungs = (
        *tensor_results(comparison, tolerance),
        _token_rung(comparison, tolerance),
        _text_rung(comparison, tolerance),
    )
    worst = max(rungs, key=lambda result: _WORSE.index(result.grade))
    outcomes = {Grade.PASS: Outcome.PASS, Grade.DRIFT: Outcome.DRIFT, Grade.FAIL: Outcome.DIVERGED}
    if worst.grade is Grade.NOT_COMPARED:
        return Verdict(Outcome.NOT_COMPARED, "", "nothing was compared", rungs)
    reason = "" if worst.grade is Grade.PASS else _whole_reason(rungs, worst, comparison)
    return Verdict(outcomes[worst.grade], worst.rung, reason, rungs)


def of_error(error: ParityError) -> Verdict:
    """The verdict of a stage that failed before a comparison."""
    outcome = Outcome.INVALID_INPUT if isinstance(error, InputError) else Outcome.FAILED
    return Verdict(outcome, "", str(error), ())


def severity(verdict: Verdict) -> tuple[int, bool]:
    """Sort key of verdicts, from good to bad."""
    return verdict.outcome.exit_code, verdict.outcome is Outcome.DRIFT


def describe_flip(flip: Flip, comparison: Comparison, tolerance: Tolerance) -> str:
    """One flip in words."""
    allowed = f"a tie on this edge up to {tolerance.max_tie_margin:.2g}"
    if flip.margin <= tolerance.max_tie_margin and (failing := failing_tensors(comparison, tolerance)):
        allowed = f"no tie where {failing[0].rung} fails"
    kind = flip_kind(flip, comparison, tolerance)
    return (
        f"step {flip.step} {flip.reference_text!r} -> {flip.candidate_text!r} "
        f"(margin {flip.margin:.3g}, moved {flip.movement:.3g}, {allowed}: {kind})"
    )


def flip_kind(flip: Flip, comparison: Comparison, tolerance: Tolerance) -> str:
    """A "tie" where the margin is within the floor of the edge, and tensors and logits do not fail; else a "fault".

    The floor is that of sound ports. The candidate's own movement excuses nothing: a broken model moves every pair.
    """
    is_tie = flip.margin <= tolerance.max_tie_margin and not failing_tensors(comparison, tolerance)
    return "tie" if is_tie else "fault"


def failing_tensors(comparison: Comparison, tolerance: Tolerance) -> tuple[RungResult, ...]:
    """The rungs below the tokens that fail: no flip is a tie beside them."""
    return tuple(result for result in tensor_results(comparison, tolerance) if result.grade is Grade.FAIL)


def tensor_results(comparison: Comparison, tolerance: Tolerance) -> tuple[RungResult, RungResult]:
    """The rungs below the tokens: encoder output, and logits."""
    return _tensor_rung(comparison, tolerance), _logits_rung(comparison, tolerance)


def failing_findings(comparison: Comparison, tolerance: Tolerance) -> tuple[Finding, ...]:
    """The findings that fail by themselves.

    Of lost and invented text, those of more words than the edge allows; any where nothing is left of FEW words or more.
    Where the edge only shows findings, that alone.
    """
    text = comparison.text
    is_empty = text is not None and not text.hypothesis.strip() and text.leading_counts.length >= FEW
    named = [item for item in comparison.findings if item.is_fault and item.kind in LEADING]
    return tuple(item for item in named if is_empty or _fails(item, tolerance))


def _fails(item: Finding, tolerance: Tolerance) -> bool:
    if Grade(tolerance.finding) is not Grade.FAIL:
        return False
    return item.kind not in OF_WORDS or graded(item.count, tolerance.lost_words) is Grade.FAIL


def worse(grade: Grade) -> int:
    """Sort key of grades, from good to bad; what was not compared comes first."""
    return _WORSE.index(grade)


def graded(value: float, limit: Limit) -> Grade:
    """Grade of a figure by its limit; NaN fails."""
    sign = 1 if limit.higher_is_better else -1
    if sign * value >= sign * limit.passes:
        return Grade.PASS
    return Grade.DRIFT if sign * value >= sign * limit.drifts else Grade.FAIL


def _tensor_rung(comparison: Comparison, tolerance: Tolerance) -> RungResult:
    return _snr_result("tensor", comparison, "encoder_output", tolerance.encoder_output_snr_db)


def _snr_result(rung: str, comparison: Comparison, name: str, limit: Limit) -> RungResult:
    worst = comparison.worst(name)
    if worst is None:
        return RungResult(rung, Grade.NOT_COMPARED, "text and tokens only")
    grade = graded(worst.snr_db, limit)
    reason = (
        f"{name} SNR {worst.snr_db:.1f} dB (pass from {limit.passes:g}, drift from {limit.drifts:g}), "
        f"largest error {worst.max_abs_err:.3g} of {worst.max_abs_ref:.3g} at {list(worst.max_abs_err_index)}"
    )
    return RungResult(rung, grade, reason)


def _logits_rung(comparison: Comparison, tolerance: Tolerance) -> RungResult:
    by_snr = _snr_result("logits", comparison, "logits", tolerance.logits_snr_db)
    if not comparison.logits:
        return by_snr
    results = (by_snr, _kl_result(comparison, tolerance.kl_max), _top_result(comparison, tolerance.top_movement))
    worst = max(results, key=lambda result: _WORSE.index(result.grade))
    by_columns = _column_result(comparison, Limit(tolerance.floor, tolerance.max_tie_margin))
    if by_columns is None or _WORSE.index(by_columns.grade) < _WORSE.index(worst.grade):
        return worst
    return by_columns


def _kl_result(comparison: Comparison, limit: Limit) -> RungResult:
    kl = max(diff.kl_max for diff in comparison.logits)
    reason = f"largest KL of a step {kl:.3g} nat (pass to {limit.passes:g}, drift to {limit.drifts:g})"
    return RungResult("logits", graded(kl, limit), reason)


def _top_result(comparison: Comparison, limit: Limit) -> RungResult:
    diff = max(comparison.logits, key=lambda item: item.top_movement)
    reason = (
        f"of the top tokens, {diff.top_movement_text!r} moved by {diff.top_movement:.3g} "
        f"at step {diff.top_movement_step} (pass to {limit.passes:g}, drift to {limit.drifts:g})"
    )
    return RungResult("logits", graded(diff.top_movement, limit), reason)


def _column_result(comparison: Comparison, limit: Limit) -> RungResult | None:
    """A column that is off at every step; None where there is none.

    It is no noise, and decides every tie that it takes part in: it drifts from the floor of the edge on.
    """
    if not comparison.columns:
        return None
    size = abs(comparison.columns[0].shift)
    reason = f"{columns.describe(comparison.columns)} (pass to {limit.passes:g}, drift to {limit.drifts:g})"
    return RungResult("logits", graded(size, limit), reason)


def _token_rung(comparison: Comparison, tolerance: Tolerance) -> RungResult:
    tokens = comparison.tokens
    if tokens is None:
        return RungResult("token", Grade.NOT_COMPARED, "the program names no tokens")
    faults = [flip for flip in comparison.flips if flip_kind(flip, comparison, tolerance) == "fault"]
    if comparison.flips:
        first = describe_flip((faults or comparison.flips)[0], comparison, tolerance)
        counts = f"{len(comparison.flips)} flip(s), {len(faults)} fault(s)"
        return RungResult("token", Grade.FAIL if faults else Grade.DRIFT, f"{counts}: {first}")
    if tokens.equal:
        return RungResult("token", Grade.PASS, f"{tokens.candidate_count} tokens identical")
    if comparison.split:
        return _split_result(comparison, tolerance)
    grade = Grade.FAIL if comparison.logits else Grade(tolerance.token_difference)
    return RungResult("token", grade, _token_difference(comparison))


def _split_result(comparison: Comparison, tolerance: Tolerance) -> RungResult:
    """Tokens of a program without logits: what follows the first difference follows from it."""
    split = comparison.split
    assert split is not None  # noqa: S101 - narrowed by the caller
    is_tie = 0 <= split.margin <= tolerance.max_tie_margin and not failing_tensors(comparison, tolerance)
    kind = "a tie" if is_tie else "a fault"
    where = f"step {split.step}" if split.window == 0 else f"window {split.window}, step {split.step}"
    return RungResult(
        "token",
        Grade.DRIFT if is_tie else Grade.FAIL,
        f"{where} {split.reference_text!r} -> {split.candidate_text!r} (margin {split.margin:.3g} of the reference, "
        f"a tie on this edge up to {tolerance.max_tie_margin:.2g}: {kind})",
    )


def _token_difference(comparison: Comparison) -> str:
    assert comparison.tokens is not None  # noqa: S101 - narrowed by the caller
    edit = comparison.tokens.edits[0]
    reason = f"{len(comparison.tokens.edits)} edit(s), first at step {edit.reference_start}: "
    reason += f"{edit.kind} {edit.reference_text!r} -> {edit.candidate_text!r}"
    if count := len(comparison.edits_at_boundaries):
        reason += f"; {count} of marks at a segment boundary of the reference"
    return reason


def _text_rung(comparison: Comparison, tolerance: Tolerance) -> RungResult:
    text = comparison.text
    if text is None:
        return RungResult("text", Grade.NOT_COMPARED, "texts were not compared")
    if text.equal:
        return RungResult("text", Grade.PASS, "texts identical")
    counts = text.leading_counts
    by_rate = _rate_grade(counts, tolerance.text_rate)
    marks = text.count("punctuation") + text.count("case")
    by_marks = graded(marks, tolerance.punctuation_edits)
    shown = any(item.is_fault and item.kind in LEADING for item in comparison.findings)
    by_findings = Grade.FAIL if failing_findings(comparison, tolerance) else Grade.DRIFT if shown else Grade.PASS
    grade = max(by_rate, by_marks, by_findings, key=_WORSE.index)
    rate = "n/a" if counts.rate is None else f"{counts.rate:.1%}"
    worst = min(text.edits, key=_rank, default=None)
    edit = f", first {worst.edit_class} {worst.reference!r} -> {worst.hypothesis!r}" if worst else ""
    reason = (
        f"{text.leading.upper()} {rate} ({counts.errors}/{counts.length}), {marks} punctuation or case edit(s){edit}"
    )
    return RungResult("text", grade, reason)


def _rate_grade(counts: ErrorCounts, limit: Limit) -> Grade:
    """Grade a rate; fewer than FEW errors, or N = 0, make none: at best a drift, where drift is allowed at all."""
    if not counts.errors:
        return Grade.PASS
    if counts.rate is not None and counts.errors >= FEW:
        return graded(counts.rate, limit)
    return Grade.DRIFT if limit.drifts > limit.passes else Grade.FAIL


def _rank(edit: TextEdit) -> tuple[int, bool]:
    """Words before numbers, case and marks; of a class lost and invented ones first."""
    return ("word", "number", "case", "punctuation").index(edit.edit_class), bool(edit.reference and edit.hypothesis)


def _whole_reason(rungs: tuple[RungResult, ...], worst: RungResult, comparison: Comparison) -> str:
    tensor, logits = rungs[0].grade, rungs[1].grade
    hint = ""
    if worst.grade is Grade.FAIL and logits is Grade.FAIL and tensor in (Grade.PASS, Grade.DRIFT):
        hint = "; the encoder agrees: look at the decoder and the token embedding (of the same checkpoint?)"
    if worst.rung == "text" and worst.grade is Grade.FAIL and comparison.flips and rungs[2].grade is Grade.DRIFT:
        hint = f"; {TIES}"
    named = [item.sentence for item in comparison.findings if item.is_fault and item.kind in LEADING][:FINDINGS_NAMED]
    return "; ".join([*named, f"{worst.rung}: {worst.reason}{hint}"])

"""From two traces to a comparison: names, shapes, dtypes, finiteness, values, tokens, text, in this order.

The first broken premise ends it, and nothing behind it is compared. Nothing is paired by similarity or position, no NaN
is masked, and a tensor without partner is a finding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import account
from whisper_parity.compare import boundaries, columns, logits, recorded, tensor, token
from whisper_parity.compare.columns import ShiftedColumns
from whisper_parity.compare.finding import Finding
from whisper_parity.compare.logits import Flip, LogitsDiff
from whisper_parity.compare.normalise import compare_texts
from whisper_parity.compare.tensor import TensorDiff
from whisper_parity.compare.text import TextDiff
from whisper_parity.compare.token import TokenDiff
from whisper_parity.decode.loop import TeacherForced
from whisper_parity.model.vocabulary import eot_of, token_text
from whisper_parity.trace.trace import Trace, WindowTrace, share_windows

Encoding = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BrokenPremise:
    """Why a comparison ended early."""

    premise: str
    """"names", "shapes", "dtypes" or "finiteness"."""
    tensor: str
    reason: str


@dataclass(frozen=True, slots=True)
class TensorComparison:
    """One named tensor of one window."""

    window: int
    name: str
    """"encoder_output" or "logits"."""
    diff: TensorDiff


@dataclass(frozen=True, slots=True)
class Split:
    """Where the tokens of a program that gives no logits leave the reference's, under the same tokens before."""

    window: int
    step: int
    reference_token: int
    candidate_token: int
    reference_text: str
    candidate_text: str
    margin: float
    """Reference logit of its own choice minus that of the candidate's choice."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate's trace against a reference's."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    clip: str
    reference: str
    """Stage of the reference."""
    candidate: str
    """Stage of the candidate."""
    broken: BrokenPremise | None
    tensors: tuple[TensorComparison, ...]
    """Empty when one side has text and tokens only."""
    logits: tuple[LogitsDiff, ...]
    """One per window."""
    flips: tuple[Flip, ...]
    noise: float | None
    """Root mean square movement of (choice, runner-up) over all teacher-forced steps; None without logits. It informs:
    a candidate's own movement excuses none of its flips."""
    smallest_margin: float | None
    """Smallest margin of the reference over all steps."""
    tokens: TokenDiff | None
    """None when a premise broke first, and where one of the two names no tokens."""
    text: TextDiff | None
    edits_at_boundaries: tuple[int, ...] = ()
    """Indices of the token edits that the decode policy can have moved, not the conversion: marks, or the case of a
    token, at a pair of the reference's timestamps, a segment boundary."""
    steps: int = 0
    """Compared teacher-forced steps."""
    steps_at_risk: int = 0
    """Steps whose margin is that of a tie on this edge: near flips, flipped or not."""
    findings: tuple[Finding, ...] = ()
    """Named findings of the texts, worst first: loops, lost and invented text."""
    split: Split | None = None
    """The first step of a program without logits that differs; None where none does, or the reference has no logits."""
    columns: tuple[ShiftedColumns, ...] = ()
    """Columns of the logits that are off by the same at every step, the largest shift first."""

    def worst(self, name: str) -> TensorDiff | None:
        """The comparison with the lowest SNR of the tensor `name` over all windows; None when there is none."""
        diffs = [item.diff for item in self.tensors if item.name == name]
        return min(diffs, key=lambda diff: diff.snr_db) if diffs else None


def compare(reference: Trace, candidate: Trace, n_vocab: int, tie_margin: float = 0.0) -> Comparison:
    """Compare two traces of the same clip.

    Args:
        reference: known good.
        candidate: under test.
        n_vocab: size of the vocabulary of both.
        tie_margin: widest margin of a tie on this edge [logit], by which steps at risk are counted.
    """
    windows = _paired_windows(reference, candidate)
    broken = _broken_premise(reference, candidate)
    if broken:
        return _ended_early(reference, candidate, broken)
    forced = [(r.teacher_forced, c.teacher_forced) for r, c in windows]
    margins = _joined([logits.margins(r.logits, r.choices, r.runners_up) for r, _ in forced])
    moved = margins - _joined([logits.margins(c.logits, r.choices, r.runners_up) for r, c in forced])
    tokens = _token_diff(reference, candidate, n_vocab)
    pairs = boundaries.timestamp_pairs(reference.header.timestamped_tokens, n_vocab)
    return Comparison(
        clip=reference.header.clip,
        reference=reference.header.stage,
        candidate=candidate.header.stage,
        broken=None,
        tensors=tuple(_tensors(windows, own_encodings(reference, candidate))),
        logits=tuple(_logits_diff(r.logits, c.logits, n_vocab) for r, c in forced),
        flips=tuple(_flips(windows, n_vocab)),
        noise=math.sqrt(float(np.mean(moved**2))) if moved.size else None,
        smallest_margin=float(margins.min()) if margins.size else None,
        tokens=tokens,
        text=_text_diff(reference, candidate),
        edits_at_boundaries=boundaries.edits_at(tokens, pairs) if tokens else (),
        findings=recorded.of_traces(reference, candidate) if candidate.header.has_text else (),
        steps=margins.size,
        steps_at_risk=steps_at_risk([r for r, _ in forced], tie_margin),
        split=_split(reference, candidate, n_vocab),
        columns=columns.shifted([(r.logits, c.logits) for r, c in forced], n_vocab),
    )


def steps_at_risk(windows: Iterable[TeacherForced], tie_margin: float) -> int:
    """Steps of a reference whose margin is at most that of a tie [logit]."""
    margins = [logits.margins(window.logits, window.choices, window.runners_up) for window in windows]
    return int((_joined(margins) <= tie_margin).sum())


def _paired_windows(reference: Trace, candidate: Trace) -> list[tuple[WindowTrace, WindowTrace]]:
    if not share_windows(reference, candidate):
        return []
    return list(zip(reference.windows, candidate.windows))


def own_encodings(reference: Trace, candidate: Trace) -> list[tuple[int, Encoding, Encoding]]:
    """(window, reference's encoder output, candidate's) where one of the two is a program that gives its own.

    A leading axis of one element makes no other tensor: the candidate's has the reference's axes where the rest agrees.
    """
    if reference.windows and candidate.windows:
        return []
    ours, theirs = _encodings(reference), _encodings(candidate)
    return [(index, ours[index], _like(theirs[index], ours[index])) for index in ours if index in theirs]


def _encodings(trace: Trace) -> dict[int, Encoding]:
    if trace.windows:
        return {window.header.index: window.encoder_output for window in trace.windows}
    windows = trace.header.account.windows if trace.header.account else ()
    names = {index: account.tensor_name(account.ENCODER_OUTPUT, index) for index in range(len(windows))}
    return {index: trace.tensors[name] for index, name in names.items() if name in trace.tensors}


def _like(array: Encoding, other: Encoding) -> Encoding:
    bare = [tuple(size for size in shape if size != 1) for shape in (array.shape, other.shape)]
    return array.reshape(other.shape) if bare[0] == bare[1] else array


def _token_diff(reference: Trace, candidate: Trace, n_vocab: int) -> TokenDiff | None:
    """How the tokens differ; None where one of the two gives text alone."""
    if not (reference.header.names_tokens and candidate.header.names_tokens):
        return None
    return token.token_diff(reference.header.tokens, candidate.header.tokens, n_vocab)


def _text_diff(reference: Trace, candidate: Trace) -> TextDiff | None:
    """How the texts differ; None where one of the two has none."""
    ours, theirs = reference.header, candidate.header
    if not (ours.has_text and theirs.has_text):
        return None
    return compare_texts(reference=ours.text, hypothesis=theirs.text, language=ours.language)


def _split(reference: Trace, candidate: Trace, n_vocab: int) -> Split | None:
    account = candidate.header.account
    if account is None or not account.names_tokens:
        return None
    eot = eot_of(n_vocab)
    for ours, theirs in zip(reference.windows, account.windows):
        forced, chosen = ours.teacher_forced, (*(theirs.tokens or ()), eot)
        for step, (choice, token_id) in enumerate(zip(map(int, forced.choices), chosen)):
            if choice != token_id:
                margin = float(forced.logits[step, choice]) - float(forced.logits[step, token_id])
                texts = (token_text(n_vocab, [choice]), token_text(n_vocab, [token_id]))
                return Split(ours.header.index, step, choice, token_id, *texts, margin)
    return None


def _broken_premise(reference: Trace, candidate: Trace) -> BrokenPremise | None:
    for _, encoding, own in own_encodings(reference, candidate):
        if premise := _broken_tensor("encoder_output", encoding, own):
            return premise
    if not share_windows(reference, candidate):
        return None
    ours = {window.header.index for window in reference.windows}
    theirs = {window.header.index for window in candidate.windows}
    if ours != theirs:
        return BrokenPremise(
            "names", "windows", f"the reference has windows {sorted(ours)}, the candidate {sorted(theirs)}"
        )
    for r, c in zip(reference.windows, candidate.windows):
        if r.header.input_features_sha256 != c.header.input_features_sha256:
            reason = f"window {r.header.index}: reference and candidate were fed different input features"
            return BrokenPremise("names", "input_features", reason)
        if r.header.prompt != c.header.prompt:
            prompts = f"{list(r.header.prompt)} and {list(c.header.prompt)}"
            reason = f"window {r.header.index}: the prompts differ, {prompts} (another language?)"
            return BrokenPremise("names", "prompt", reason)
        if r.teacher_forced.tokens != c.teacher_forced.tokens:
            reason = f"window {r.header.index}: reference and candidate were fed different tokens"
            return BrokenPremise("names", "forced_tokens", reason)
        for name, ref, cand in _named(r, c):
            if premise := _broken_tensor(name, ref, cand):
                return premise
    return None


def _named(r: WindowTrace, c: WindowTrace) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    return [
        ("encoder_output", r.encoder_output, c.encoder_output),
        ("logits", r.teacher_forced.logits, c.teacher_forced.logits),
    ]


def _broken_tensor(name: str, reference: NDArray[Any], candidate: NDArray[Any]) -> BrokenPremise | None:
    if reference.shape != candidate.shape:
        return BrokenPremise("shapes", name, f"expected {list(reference.shape)}, found {list(candidate.shape)}")
    if reference.dtype != candidate.dtype:
        return BrokenPremise("dtypes", name, f"expected {reference.dtype}, found {candidate.dtype}")
    for side, array in (("reference", reference), ("candidate", candidate)):
        if count := tensor.count_nonfinite(array):
            at = list(tensor.first_nonfinite(array))
            return BrokenPremise(
                "finiteness", name, f"{count} of {array.size} values of the {side} are NaN or infinite, first at {at}"
            )
    return None


def _ended_early(reference: Trace, candidate: Trace, broken: BrokenPremise) -> Comparison:
    return Comparison(
        reference.header.clip,
        reference.header.stage,
        candidate.header.stage,
        broken,
        (),
        (),
        (),
        None,
        None,
        None,
        None,
    )


def _tensors(
    windows: list[tuple[WindowTrace, WindowTrace]], encodings: list[tuple[int, Encoding, Encoding]]
) -> list[TensorComparison]:
    named = [(r.header.index, name, ref, cand) for r, c in windows for name, ref, cand in _named(r, c)]
    named += [(index, "encoder_output", ours, theirs) for index, ours, theirs in encodings]
    return [
        TensorComparison(index, name, tensor.measure(reference=ref, candidate=cand)) for index, name, ref, cand in named
    ]


def _logits_diff(reference: logits.Logits, candidate: logits.Logits, n_vocab: int) -> LogitsDiff:
    diff = logits.measure(reference=reference, candidate=candidate)
    return replace(diff, top_movement_text=token_text(n_vocab, [diff.top_movement_token]))


def _joined(per_window: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(per_window) if per_window else np.zeros(0)


def _flips(windows: list[tuple[WindowTrace, WindowTrace]], n_vocab: int) -> list[Flip]:
    return [
        _flip(r, c, int(step), n_vocab)
        for r, c in windows
        for step in np.flatnonzero(r.teacher_forced.choices != c.teacher_forced.choices)
    ]


def _flip(r: WindowTrace, c: WindowTrace, step: int, n_vocab: int) -> Flip:
    ours, theirs = int(r.teacher_forced.choices[step]), int(c.teacher_forced.choices[step])
    reference, candidate = r.teacher_forced.logits[step], c.teacher_forced.logits[step]
    margin = float(reference[ours]) - float(reference[theirs])
    return Flip(
        window=r.header.index,
        step=step,
        reference_token=ours,
        candidate_token=theirs,
        reference_text=token_text(n_vocab, [ours]),
        candidate_text=token_text(n_vocab, [theirs]),
        margin=margin,
        movement=margin - (float(candidate[ours]) - float(candidate[theirs])),
    )

"""From two traces to a comparison: names, shapes, dtypes, finiteness, values, tokens, text, in this order.

The first broken premise ends it, and nothing behind it is compared. Nothing is paired by similarity or position, no NaN
is masked, and a tensor without partner is a finding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from whisper_parity.compare import boundaries, logits, recorded, tensor, token
from whisper_parity.compare.finding import Finding
from whisper_parity.compare.logits import Flip, LogitsDiff
from whisper_parity.compare.normalise import compare_texts
from whisper_parity.compare.tensor import TensorDiff
from whisper_parity.compare.text import TextDiff
from whisper_parity.compare.token import TokenDiff
from whisper_parity.model.vocabulary import token_text
from whisper_parity.trace.trace import Trace, WindowTrace, share_windows

NOISE_SIGMAS = 3.0
"""A flip is a tie when its margin is at most this many times the root mean square movement elsewhere."""


RISK_SIGMAS = 3.0
"""A step is at risk when its margin is at most this many times the comparison's noise."""


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
    """Root mean square movement of (choice, runner-up) over all teacher-forced steps; None without logits."""
    smallest_margin: float | None
    """Smallest margin of the reference over all steps."""
    tokens: TokenDiff | None
    """None when a premise broke first."""
    text: TextDiff | None
    edits_at_boundaries: tuple[int, ...] = ()
    """Indices of the token edits that the decode policy can have moved, not the conversion: marks, or the case of a
    token, at a pair of the reference's timestamps, a segment boundary."""
    steps: int = 0
    """Compared teacher-forced steps."""
    steps_at_risk: int = 0
    """Steps whose margin is at most RISK_SIGMAS times the noise of this comparison: near flips, flipped or not."""
    findings: tuple[Finding, ...] = ()
    """Named findings of the texts, worst first: loops, lost and invented text."""

    def worst(self, name: str) -> TensorDiff | None:
        """The comparison with the lowest SNR of the tensor `name` over all windows; None when there is none."""
        diffs = [item.diff for item in self.tensors if item.name == name]
        return min(diffs, key=lambda diff: diff.snr_db) if diffs else None


def compare(reference: Trace, candidate: Trace, n_vocab: int) -> Comparison:
    """Compare two traces of the same clip.

    Args:
        reference: known good.
        candidate: under test.
        n_vocab: size of the vocabulary of both.
    """
    windows = _paired_windows(reference, candidate)
    broken = _broken_premise(reference, candidate)
    if broken:
        return _ended_early(reference, candidate, broken)
    forced = [(r.teacher_forced, c.teacher_forced) for r, c in windows]
    moved = [_movement(r.logits, c.logits, r.choices, r.runners_up) for r, c in forced]
    steps = np.concatenate(moved) if moved else np.zeros(0)
    per_window = [logits.margins(r.logits, r.choices, r.runners_up) for r, _ in forced]
    margins = np.concatenate(per_window) if per_window else np.zeros(0)
    noise = _rms(steps) if steps.size else None
    tokens = token.token_diff(reference.header.tokens, candidate.header.tokens, n_vocab)
    pairs = boundaries.timestamp_pairs(reference.header.timestamped_tokens, n_vocab)
    return Comparison(
        clip=reference.header.clip,
        reference=reference.header.stage,
        candidate=candidate.header.stage,
        broken=None,
        tensors=tuple(_tensors(windows)),
        logits=tuple(logits.measure(reference=r.logits, candidate=c.logits) for r, c in forced),
        flips=tuple(_flips(windows, moved, n_vocab)),
        noise=noise,
        smallest_margin=float(margins.min()) if margins.size else None,
        tokens=tokens,
        text=compare_texts(
            reference=reference.header.text, hypothesis=candidate.header.text, language=reference.header.language
        ),
        edits_at_boundaries=boundaries.edits_at(tokens, pairs),
        findings=recorded.of_traces(reference, candidate),
        steps=margins.size,
        steps_at_risk=int((margins <= RISK_SIGMAS * noise).sum()) if noise is not None else 0,
    )


def _paired_windows(reference: Trace, candidate: Trace) -> list[tuple[WindowTrace, WindowTrace]]:
    if not share_windows(reference, candidate):
        return []
    return list(zip(reference.windows, candidate.windows))


def _broken_premise(reference: Trace, candidate: Trace) -> BrokenPremise | None:
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


def _tensors(windows: list[tuple[WindowTrace, WindowTrace]]) -> list[TensorComparison]:
    return [
        TensorComparison(r.header.index, name, tensor.measure(reference=ref, candidate=cand))
        for r, c in windows
        for name, ref, cand in _named(r, c)
    ]


def _movement(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], ours: NDArray[np.int64], theirs: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How far the candidate moved each step's pair (ours, theirs), float64 [n_steps]."""
    return logits.margins(reference, ours, theirs) - logits.margins(candidate, ours, theirs)


def _flips(
    windows: list[tuple[WindowTrace, WindowTrace]], moved: list[NDArray[np.float64]], n_vocab: int
) -> list[Flip]:
    steps = np.concatenate(moved) if moved else np.zeros(0)
    flips, offset = [], 0
    for (r, c), window_moves in zip(windows, moved):
        for step in np.flatnonzero(r.teacher_forced.choices != c.teacher_forced.choices):
            elsewhere = np.delete(steps, offset + int(step))
            flips.append(_flip(r, c, int(step), elsewhere, n_vocab))
        offset += len(window_moves)
    return flips


def _flip(r: WindowTrace, c: WindowTrace, step: int, elsewhere: NDArray[np.float64], n_vocab: int) -> Flip:
    ours, theirs = int(r.teacher_forced.choices[step]), int(c.teacher_forced.choices[step])
    reference, candidate = r.teacher_forced.logits[step], c.teacher_forced.logits[step]
    margin = float(reference[ours]) - float(reference[theirs])
    moved_margin = float(candidate[ours]) - float(candidate[theirs])
    noise = _rms(elsewhere)
    return Flip(
        window=r.header.index,
        step=step,
        reference_token=ours,
        candidate_token=theirs,
        reference_text=token_text(n_vocab, [ours]),
        candidate_text=token_text(n_vocab, [theirs]),
        margin=margin,
        movement=margin - moved_margin,
        noise=noise,
        kind="tie" if margin <= NOISE_SIGMAS * noise and math.isfinite(moved_margin) else "fault",
    )


def _rms(values: NDArray[np.float64]) -> float:
    return math.sqrt(float(np.mean(values**2))) if values.size else 0.0

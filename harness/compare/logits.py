"""How far a candidate's next-token distributions are from the reference's, step by step under teacher forcing.

KL(p || q) = sum p log(p / q)   [nat]   p = softmax(reference), q = softmax(candidate); Kullback and Leibler 1951
margin     = top-1 minus top-2 logit of the reference among the tokens that the policy allows
movement   = (ref[a] - ref[b]) - (cand[a] - cand[b])   how far the candidate moved the pair (a, b)
top_movement = max |d[j] - median(d)|  over the TOP largest of both, d = candidate - reference at a step

A shift common to all logits changes no softmax; the median takes it out, and is not moved by one column that is off. An
SNR over 51,865 columns does not see such a column, and the choice of a token depends on nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from whisper_parity.compare.median import median

Logits = NDArray[np.float32]
Tokens = NDArray[np.int64]

HIGHER_IS_BETTER = {
    "kl_mean": False,
    "kl_max": False,
    "argmax_agreement": True,
    "top5_overlap": True,
    "top_movement": False,
}
BLOCK = 256
"""Columns that are looked through at once for the largest ones."""
TOP = 10
"""Candidates of a step whose movement is measured: of each side, so that what rises counts like what falls."""


@dataclass(frozen=True, slots=True)
class LogitsDiff:
    """Distributions of `steps` teacher-forced steps, compared."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    steps: int
    kl_mean: float
    kl_max: float
    argmax_agreement: float
    """Share of steps whose largest raw logit is the same token."""
    top5_overlap: float
    """Mean share of the reference's five largest that are among the candidate's five largest."""
    top_movement: float
    """Largest movement of one of the top tokens against the others of its step, over all steps [logit]."""
    top_movement_step: int
    """Where that is."""
    top_movement_token: int
    top_movement_text: str = ""


@dataclass(frozen=True, slots=True)
class Flip:
    """A step at which reference and candidate, fed the same tokens, choose differently."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    window: int
    step: int
    reference_token: int
    candidate_token: int
    reference_text: str
    candidate_text: str
    margin: float
    """Reference logit of its own choice minus that of the candidate's choice."""
    movement: float
    """How far the candidate moved that pair; always above the margin, else it would not flip."""


def measure(*, reference: Logits, candidate: Logits) -> LogitsDiff:
    """Compare two sets of logits, float32 [n_steps, n_vocab], finite, n_steps at least 1.

    Raises:
        ValueError: shapes differ, or there is no step.
    """
    if reference.shape != candidate.shape or reference.shape[0] == 0:
        raise ValueError(f"logits of shape {reference.shape} and {candidate.shape} cannot be compared")
    kl = np.array([kl_divergence(r, c) for r, c in zip(reference, candidate)])
    overlap = [_top5_overlap(r, c) for r, c in zip(reference, candidate)]
    moved = [top_movement(r, c) for r, c in zip(reference, candidate)]
    step = max(range(len(moved)), key=lambda index: moved[index][0])
    return LogitsDiff(
        steps=len(kl),
        kl_mean=float(kl.mean()),
        kl_max=float(kl.max()),
        argmax_agreement=float((reference.argmax(-1) == candidate.argmax(-1)).mean()),
        top5_overlap=float(np.mean(overlap)),
        top_movement=moved[step][0],
        top_movement_step=step,
        top_movement_token=moved[step][1],
    )


def top_movement(reference: Logits, candidate: Logits) -> tuple[float, int]:
    """Largest movement among the top tokens of one step, float32 [n_vocab] each: (logits, token)."""
    tokens = np.union1d(_largest(reference), _largest(candidate))
    moved = candidate[tokens].astype(np.float64) - reference[tokens]
    apart = np.abs(moved - median(moved))
    worst = int(apart.argmax())
    return float(apart[worst]), int(tokens[worst])


def kl_divergence(reference: Logits, candidate: Logits) -> float:
    """KL(softmax(reference) || softmax(candidate)) in nat, float32 [n_vocab] each, never below 0."""
    p = reference.astype(np.float64)
    q = candidate.astype(np.float64)
    p -= p.max()
    q -= q.max()
    gap = p - q
    weights = np.exp(p, out=p)
    total = weights.sum()
    log_ratio = math.log(np.exp(q, out=q).sum()) - math.log(total)
    return max(0.0, float(np.einsum("i,i->", weights, gap)) / float(total) + log_ratio)


def top_tokens(logits: Logits, k: int) -> list[int]:
    """Ids of the k largest logits of one row, largest first."""
    remaining = logits.copy()
    tokens = []
    for _ in range(min(k, len(remaining))):  # for small k, k passes of argmax are faster than a partition
        tokens.append(int(remaining.argmax()))
        remaining[tokens[-1]] = -np.inf
    return tokens


def margins(logits: Logits, choices: Tokens, runners_up: Tokens) -> NDArray[np.float64]:
    """Logit of each step's choice minus that of its runner-up, float64 [n_steps].

    Args:
        logits: float32 [n_steps, n_vocab].
        choices: int64 [n_steps], the policy's choices.
        runners_up: int64 [n_steps], its second choices.
    """
    steps = np.arange(len(choices))
    chosen: Any = logits[steps, choices].astype(np.float64)
    return np.asarray(chosen - logits[steps, runners_up])


def _largest(logits: Logits) -> NDArray[np.intp]:
    """Ids of the TOP largest: they lie in the TOP blocks with the largest maxima, and behind the last whole block.

    A partition of the whole row takes ten times as long: logits hold thousands of equal values.
    """
    count = len(logits) // BLOCK
    if count <= TOP:
        return np.argpartition(logits, -TOP)[-TOP:] if len(logits) > TOP else np.arange(len(logits))
    maxima = logits[: count * BLOCK].reshape(count, BLOCK).max(axis=1)
    blocks = np.argpartition(maxima, -TOP)[-TOP:, None] * BLOCK + np.arange(BLOCK)
    among = np.concatenate([blocks.ravel(), np.arange(count * BLOCK, len(logits))])
    return np.asarray(among[np.argpartition(logits[among], -TOP)[-TOP:]])


def _top5_overlap(reference: Logits, candidate: Logits) -> float:
    return len(set(top_tokens(reference, 5)) & set(top_tokens(candidate, 5))) / min(5, len(reference))

"""The one decode loop, and the verified draft that reduces its cost to one decoder call.

The decoder is causal and its shape is fixed, so one call on prompt + draft gives the logits of every position. Where
the policy's choice equals the draft, the token is accepted; at the first difference the candidate's own choice is
kept, the rest of the draft is re-aligned behind it, and the loop continues. (Leviathan et al. 2023 call it speculative
decoding; here it is exact, since decoding is greedy.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.contract import Float32, Halves
from whisper_parity.decode.cached import passes
from whisper_parity.decode.policy import DecodingPlan

REALIGN_BACK, REALIGN_AHEAD = 4, 8
"""How far from the difference its token is searched in the draft; a bad guess costs a call, never a token."""


@dataclass(frozen=True)
class TeacherForced:
    """A decoder's output at each step of a given token sequence."""

    tokens: tuple[int, ...]
    """The fed sequence, without prompt and end-of-text."""
    logits: Float32
    """Raw, float32 [n_steps, n_vocab]; the last row predicts what follows the sequence."""
    choices: NDArray[np.int64]
    """int64 [n_steps]: the policy's choice at each step."""
    runners_up: NDArray[np.int64]
    """int64 [n_steps]: its second choice."""
    limited: bool = False
    """The sequence fills the policy's limit, so that no step predicts what follows it: n_steps is the number of tokens,
    and one more otherwise."""

    def __post_init__(self) -> None:
        """Check that tokens, logits and choices belong together.

        Raises:
            ValueError: they do not.
        """
        steps = len(self.tokens) + (not self.limited)
        if self.logits.ndim != 2 or len(self.logits) != steps:
            raise ValueError(f"logits {list(self.logits.shape)} for {len(self.tokens)} tokens, {steps} steps")
        for chosen in (self.choices, self.runners_up):
            if chosen.shape != (steps,) or chosen.dtype.kind != "i":
                raise ValueError(f"choices {chosen.dtype} {list(chosen.shape)} for {steps} steps")
            if not ((chosen >= 0) & (chosen < self.logits.shape[1])).all():
                raise ValueError(f"a choice outside {self.logits.shape[1]} tokens")


ENDS = ("eot", "length", "nonfinite")
"""End-of-text; the policy's limit came first; a row of logits with NaN or infinity."""


@dataclass(frozen=True)
class Decoded:
    """A window's tokens and the underlying numbers."""

    tokens: tuple[int, ...]
    """Free-running, without prompt and end-of-text."""
    ended: str
    """One of ENDS."""
    teacher_forced: TeacherForced
    decoder_calls: int
    """Sequences that the decoder was asked for; of one with a KV cache, tokens that it was fed."""

    def __post_init__(self) -> None:
        """Check `ended`.

        Raises:
            ValueError: not one of ENDS.
        """
        if self.ended not in ENDS:
            raise ValueError(f"ended {self.ended!r}: expected one of {', '.join(ENDS)}")


def decode(
    session: Halves,
    plan: DecodingPlan,
    encoder_output: Float32,
    draft: Sequence[int],
    *,
    reference: Sequence[int] | None = None,
    step_by_step: bool = False,
) -> Decoded:
    """Decode one window greedily.

    Args:
        session: the decoder.
        plan: the policy, made concrete.
        encoder_output: float32 [1, n_audio_ctx, n_audio_state].
        draft: a guess at the tokens; it affects the cost, never the result.
        reference: tokens to feed for the teacher-forced record, as far as the policy's limit allows; None for the
            decoder's own.
        step_by_step: ignore the draft and decode one token per call.
    """
    loop = _Loop(session, plan, encoder_output)
    fed = list(reference)[: plan.max_steps] if reference is not None else None
    if fed is not None and step_by_step:
        forced = np.concatenate([loop.call(fed[:i], ()) for i in range(_steps(plan, fed))])
    tokens, rows, ended = loop.run(() if step_by_step else draft)
    if fed is None:
        fed, forced = list(tokens), np.stack(rows)
    elif not step_by_step:
        forced = loop.first if list(draft)[: plan.max_steps] == fed else loop.call((), fed)
    return Decoded(tokens, ended, teacher_forced(plan, fed, forced), loop.calls)


def teacher_forced(plan: DecodingPlan, tokens: Sequence[int], logits: Float32) -> TeacherForced:
    """Add the policy's choices to the logits of a fed sequence, float32 [n_steps, n_vocab]."""
    chosen = np.array([plan.choose(row, tokens[:i]) for i, row in enumerate(logits)], np.int64).reshape(-1, 2)
    return TeacherForced(tuple(tokens), logits, chosen[:, 0], chosen[:, 1], limited=len(logits) == len(tokens))


def rows_are_invariant(session: Halves, plan: DecodingPlan, encoder_output: Float32) -> bool:
    """Whether rows of a prefix stay bit-identical when the suffix changes, which verified drafts rely on.

    A suffix is also fed again after another one, to expose a KV cache that keeps withdrawn tokens.
    """
    prefix = [*plan.prompt, *range(100, 116)][: max(plan.n_ctx - 1, 1)]
    room = max(plan.n_ctx - len(prefix), 0)
    first, other = [*prefix, *([220, 11, 13] * 7)[:room]], [*prefix, *([1000] * 40)[:room]]
    alone = session.decode(prefix, encoder_output, range(len(prefix)))
    passes = [session.decode(fed, encoder_output, range(len(fed))) for fed in (first, other, first)]
    prefixes = all(np.array_equal(alone, rows[: len(prefix)], equal_nan=True) for rows in passes)
    return prefixes and np.array_equal(passes[0], passes[2], equal_nan=True)


def realign(draft: Sequence[int], position: int, token: int) -> int:
    """Where the draft continues after the candidate chose `token` instead of draft[position].

    Behind the nearest `token` in the draft, if there is one (a deletion or a repetition); otherwise at the next
    position (a replacement; an insertion is found one difference later).
    """
    near = range(max(0, position - REALIGN_BACK), min(len(draft), position + REALIGN_AHEAD))
    matches = sorted((abs(i - position), i) for i in near if draft[i] == token)
    return matches[0][1] + 1 if matches else position + 1


def _steps(plan: DecodingPlan, tokens: Sequence[int]) -> int:
    return min(len(tokens) + 1, plan.max_steps)


class _Loop:
    """One window's decoding: counts calls and keeps the first call's logits."""

    def __init__(self, session: Halves, plan: DecodingPlan, encoder_output: Float32) -> None:
        self._session, self._plan, self._encoder_output = session, plan, encoder_output
        self._passes = passes(session)
        self._count = 0
        self.first: Float32 = np.zeros((0, 0), np.float32)

    @property
    def calls(self) -> int:
        """Decoder calls; of a decoder with a KV cache, one for each token that was fed."""
        now = passes(self._session)
        return self._count if now is None or self._passes is None else now - self._passes

    def call(self, tokens: Sequence[int], guess: Sequence[int]) -> Float32:
        """Logits of the step after `tokens` and of each step covered by `guess`, in one decoder call."""
        room = self._plan.max_steps - len(tokens) - 1
        fed = [*self._plan.prompt, *tokens, *guess[:room]]
        start = len(self._plan.prompt) + len(tokens) - 1
        logits = self._session.decode(fed, self._encoder_output, range(start, len(fed)))
        self._count += 1
        if self._count == 1:
            self.first = logits
        return logits

    def run(self, draft: Sequence[int]) -> tuple[tuple[int, ...], list[Float32], str]:
        """Tokens, the deciding row of logits of each step (end-of-text included), and why decoding ended."""
        tokens: list[int] = []
        rows: list[Float32] = []
        position = 0
        while len(rows) < self._plan.max_steps:
            # Where every token costs a call, a guess behind the first difference costs as much as it may save.
            guess = draft[position:] if self._count == 0 or self._passes is None else ()
            for row in self.call(tokens, guess):
                rows.append(row)
                if not np.isfinite(row).all():
                    return tuple(tokens), rows, "nonfinite"
                choice, _ = self._plan.choose(row, tokens)
                if choice == self._plan.eot:
                    return tuple(tokens), rows, "eot"
                tokens.append(choice)
                if position >= len(draft) or draft[position] != choice:
                    position = realign(draft, position, choice)
                    break
                position += 1
        return tuple(tokens), rows, "length"

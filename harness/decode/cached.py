"""A decoder with a KV cache under the decode loop: `Stepper` sessions answer for rows as `Halves` do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from whisper_parity.backend.contract import CheckedHalves, Facts, Float32, Halves, Stepper, Usage


class Cached:
    """`Halves` over a `Stepper`: what is asked again is not fed again.

    The prefix that a call shares with what was fed before is kept, the rest is taken back and fed anew. So a free
    running and a teacher-forced pass share every step up to their first difference: a clip at parity costs as many
    passes as its prompt and its tokens, and what follows a difference is fed again.
    """

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper
        self._encoder_output: Float32 | None = None
        self._fed: list[int] = []
        self._rows: list[Float32] = []
        self.calls = 0
        """Tokens that were fed: decoder passes of the stepper."""

    @property
    def stepper(self) -> Stepper:
        """What it adapts; who feeds it otherwise calls `forget` afterwards."""
        return self._stepper

    def forget(self) -> None:
        """Begin anew at the next call: the stepper was used by somebody else."""
        self._encoder_output = None

    @property
    def facts(self) -> Facts:
        """Those of the stepper."""
        return self._stepper.facts

    def usage(self) -> Usage | None:
        """That of the stepper."""
        return self._stepper.usage()

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> encoder_output float32 [1, n_audio_ctx, n_audio_state]."""
        return self._stepper.encode(input_features)

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab]; the tokens behind the last asked row are not fed."""
        self._begin(encoder_output)
        wanted = list(tokens)[: max(rows) + 1]
        kept = _common_prefix(self._fed, wanted)
        if behind := len(self._fed) - kept:
            self._stepper.rewind(behind)
            del self._fed[kept:], self._rows[kept:]
        for token in wanted[kept:]:
            self._rows.append(self._stepper.feed(token))
            self._fed.append(token)
            self.calls += 1
        return np.stack([self._rows[row] for row in rows])

    def _begin(self, encoder_output: Float32) -> None:
        if self._encoder_output is None or not np.array_equal(self._encoder_output, encoder_output, equal_nan=True):
            self._stepper.begin(encoder_output)
            self._encoder_output = encoder_output.copy()
            self._fed, self._rows = [], []


def passes(session: Halves) -> int | None:
    """Tokens that were fed so far, of a session that takes one a call; None of one that takes whole sequences."""
    inner = session.session if isinstance(session, CheckedHalves) else session
    return inner.calls if isinstance(inner, Cached) else None


def _common_prefix(fed: Sequence[int], wanted: Sequence[int]) -> int:
    pairs = zip(fed, wanted)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(fed), len(wanted)))

"""A decoder that gives the logits of the last token alone: fed anew for each token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from whisper_parity.backend.contract import Facts, Float32, Halves, Usage

Row = Callable[[Sequence[int], Float32], Float32]
"""(tokens, encoder_output) -> logits float32 [n_vocab] of what follows them."""


class LastRow:
    """A `whisper_parity.backend.contract.Stepper` that keeps its tokens, since its file keeps nothing."""

    def __init__(self, session: Halves, row: Row) -> None:
        """Take a session for everything else, and what runs the decoder on all tokens so far."""
        self._session, self._row = session, row
        self._tokens: list[int] = []
        self._encoder_output = np.zeros((0, 0, 0), np.float32)

    @property
    def facts(self) -> Facts:
        """Those of the session."""
        return self._session.facts

    def usage(self) -> Usage | None:
        """That of the session."""
        return self._session.usage()

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, n_frames] -> encoder_output float32 [1, n_audio_ctx, n_audio_state]."""
        return self._session.encode(input_features)

    def begin(self, encoder_output: Float32) -> None:
        """See `Stepper`."""
        self._tokens, self._encoder_output = [], encoder_output

    def feed(self, token: int) -> Float32:
        """See `Stepper`."""
        self._tokens.append(token)
        return self._row(self._tokens, self._encoder_output)

    def rewind(self, count: int) -> None:
        """See `Stepper`."""
        del self._tokens[len(self._tokens) - count :]

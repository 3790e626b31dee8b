"""A numpy stand-in for a decoder: causal by construction, its weaknesses switchable. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from whisper_parity.backend.contract import Facts
from whisper_parity.decode.policy import DecodingPlan

VOCABULARY = 24
EOT = 0


def plan(max_steps: int = 12, prompt: tuple[int, ...] = (21, 22, 23)) -> DecodingPlan:
    """A policy without filters over the small vocabulary; special tokens are 20 and above."""
    return DecodingPlan(prompt=prompt, eot=EOT, n_ctx=64, max_steps=max_steps)


@dataclass
class FakeSession:
    """Logits of a position are drawn by a hash of all tokens up to it, so each prefix has its own, whatever follows."""

    seed: int = 0
    facts: Facts = Facts("fake (numpy 2)")
    eot_bias: float = 0.4
    reads_suffix: bool = False
    """Breaks causality: the last token fed changes every row."""
    nan_at: int | None = None
    """Position whose row is NaN."""
    calls: list[tuple[int, int]] = field(default_factory=list)
    """(tokens fed, rows asked) of each decoder call."""

    def usage(self) -> None: ...

    def encode(self, input_features: np.ndarray) -> np.ndarray:
        return np.zeros((1, 4, 2), np.float32)

    def decode(self, tokens: Sequence[int], encoder_output: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        self.calls.append((len(tokens), len(rows)))
        return np.stack([self._row(tokens, row) for row in rows])

    def _row(self, tokens: Sequence[int], row: int) -> np.ndarray:
        if row == self.nan_at:
            return np.full(VOCABULARY, np.nan, np.float32)
        seen = (self.seed, *tokens[: row + 1], *(tokens[-1:] if self.reads_suffix else ()))
        digest = hashlib.sha256(repr(seen).encode()).digest()
        logits = np.random.default_rng(int.from_bytes(digest[:8], "little")).standard_normal(VOCABULARY)
        logits[20:] = -9
        logits[EOT] += self.eot_bias
        return logits.astype(np.float32)


@dataclass
class FakeStepper:
    """The same decoder, fed one token at a time; it remembers what it was fed, as a KV cache does."""

    seed: int = 0
    facts: Facts = Facts("fake stepper (numpy 2)")
    fed: list[int] = field(default_factory=list)
    """Every token that was ever fed: decoder passes."""
    forgets_to_rewind: bool = False
    """The fault of KV ports: slots of tokens that were taken back are still seen."""
    _cache: list[int] = field(default_factory=list)

    def usage(self) -> None: ...

    def encode(self, input_features: np.ndarray) -> np.ndarray:
        return np.zeros((1, 4, 2), np.float32)

    def begin(self, encoder_output: np.ndarray) -> None:
        self._cache = []

    def feed(self, token: int) -> np.ndarray:
        self._cache.append(token)
        self.fed.append(token)
        return FakeSession(self.seed)._row(self._cache, len(self._cache) - 1)

    def rewind(self, count: int) -> None:
        if not self.forgets_to_rewind:
            del self._cache[len(self._cache) - count :]

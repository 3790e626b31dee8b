"""Sessions that remember what they should not, and a player that runs them on made-up clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from tests.support import traces
from whisper_parity.backend.contract import Facts
from whisper_parity.errors import OneSessionError
from whisper_parity.run import order as state
from whisper_parity.run.order import Order, Player
from whisper_parity.run.report import OrderCheck
from whisper_parity.trace.trace import Trace

A, B, SILENCE = "a", "b", "silence"
_RNG = np.random.default_rng(3)
FEATURES = {A: _RNG.standard_normal(8), B: _RNG.standard_normal(8), SILENCE: np.zeros(8)}


@dataclass
class Steady:
    """What a session has to be: an encoder that squares, a decoder that adds a sixteenth of its mean to logits."""

    facts: Facts = Facts("steady")

    def usage(self) -> None: ...

    def encode(self, features: np.ndarray) -> np.ndarray:
        return (features**2).astype(np.float32)

    def decode(self, tokens: object, encoder_output: np.ndarray, rows: object) -> np.ndarray:
        return LOGITS + np.float32(encoder_output.mean() / 16)


TRACE = traces.trace("fake")
LOGITS = TRACE.windows[0].teacher_forced.logits[:, :64]


@dataclass
class Stale(Steady):
    """Decodes against the encoder output of the clip before."""

    kept: np.ndarray | None = None

    def decode(self, tokens: object, encoder_output: np.ndarray, rows: object) -> np.ndarray:
        used = encoder_output if self.kept is None else self.kept
        self.kept = encoder_output
        return super().decode(tokens, used, rows)


@dataclass
class AfterSilence(Steady):
    """Leaks once: the encoder output that follows silence is a thousandth too large."""

    quiet: bool = False

    def encode(self, features: np.ndarray) -> np.ndarray:
        scale = np.float32(1.001 if self.quiet else 1)
        self.quiet = not features.any()
        return super().encode(features) * scale


@dataclass
class Drifting(Steady):
    """Every encoder pass adds a millionth."""

    passes: int = 0

    def encode(self, features: np.ndarray) -> np.ndarray:
        self.passes += 1
        return super().encode(features) + np.float32(1e-6 * (self.passes - 1))


@dataclass
class Random(Steady):
    """No pass is like another one."""

    noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))
    size: float = 1e-4

    def encode(self, features: np.ndarray) -> np.ndarray:
        clean = super().encode(features)
        return clean + self.size * self.noise.standard_normal(clean.shape).astype(np.float32)


class Shared(Steady):
    """All sessions write into one buffer."""

    buffer: np.ndarray

    def encode(self, features: np.ndarray) -> np.ndarray:
        Shared.buffer = super().encode(features)
        return Shared.buffer.copy()

    def decode(self, tokens: object, encoder_output: np.ndarray, rows: object) -> np.ndarray:
        return super().decode(tokens, Shared.buffer, rows)


def player(make: Callable[[], Steady], used: Steady | None = None, *, single: bool = False) -> Player:
    """A player of sessions that `make` makes; `used` is the one that the run has open; `single` has room for one."""

    @contextmanager
    def fresh() -> Iterator[Steady]:
        yield make()

    @contextmanager
    def pair() -> Iterator[tuple[Steady, Steady]]:
        if single:
            raise OneSessionError("one device")
        yield make(), make()

    @contextmanager
    def current() -> Iterator[Steady]:
        assert used is not None
        yield used

    return Player("fake", play, fresh, pair, current if used else None)


def checked_after_run(make: Callable[[], Steady], order: Order, *, in_part: bool = True) -> OrderCheck:
    """The check of a stage whose session has recorded every clip of the run, in the order of the clips."""
    session = make()
    recorded = {clip: play(session, clip) for clip in (A, B)}

    def again(session: Steady, trace: Trace) -> Trace:
        return play(session, next(clip for clip, kept in recorded.items() if kept is trace))

    ready = replace(
        player(make, session),
        recorded=lambda _, clips: list(map(recorded.__getitem__, clips)),
        again=again if in_part else None,
    )
    return state.check(ready, order)


def play(session: Steady, clip: str) -> Trace:
    """A trace of a clip: the encoder, then the decoder on it."""
    encoder_output = session.encode(FEATURES[clip])
    logits = session.decode(traces.TOKENS, encoder_output, range(len(LOGITS)))
    choices = np.zeros(len(logits), np.int64)
    return traces.changed(TRACE, encoder_output=encoder_output, logits=logits, choices=choices, runners_up=choices + 1)

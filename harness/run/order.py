"""State and order: whether a stage's result on a clip depends on earlier calls.

A sequence of clips runs in one session. Every later result of a clip is compared with its first one, bit for bit:
encoder output, logits, tokens, text. Where the run itself recorded the first results in that session, only the repeats
are run, and of halves the first window alone. Equal results show no state. Otherwise the sequence runs in two fresh
sessions. A runtime that reproduces its results there, position by position, is deterministic, and the difference is
state. One that does not is not reproducible: the distance between the runs at the same position is its repeat noise,
and only a difference of more than NOISE_SIGMAS times the largest of these is state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.contract import Facts, Float32, Halves, Program, Usage
from whisper_parity.errors import ParityError
from whisper_parity.run.report import OrderCheck
from whisper_parity.trace.trace import Trace

Session = Halves | Program

NOISE_SIGMAS = 3.0
"""An effect is state when it is more than this many times the repeat noise."""


@dataclass(frozen=True, slots=True)
class Order:
    """A named sequence of clips."""

    name: str
    clips: tuple[str, ...]
    missing: str = ""
    """Why it cannot be run on the clips of this run; "" when it can."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The facts of a clip for choosing sequences."""

    clip: str
    seconds: float
    silent: bool


@dataclass(frozen=True)
class Player:
    """Opens sessions of a stage, and runs clips in them."""

    stage: str
    play: Callable[[Session, str], Trace]
    fresh: Callable[[], AbstractContextManager[Session]]
    """A session that has run nothing yet."""
    pair: Callable[[], AbstractContextManager[tuple[Session, Session]]]
    """Two fresh sessions at once; OneSessionError where only one can be open."""
    used: Callable[[], AbstractContextManager[Session]] | None = None
    """The session already used by the run, for the first pass, since opening costs time."""
    recorded: Callable[[Session, Sequence[str]], list[Trace]] = lambda session, clips: []  # noqa: ARG005
    """Traces of clips that this very session has recorded in the run, the first of several not as its last: these
    replace the first pass up to its repeats. Else nothing."""
    again: Callable[[Session, Trace], Trace] | None = None
    """A recorded trace with as much of it run again as shows state; None to play the whole clip."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One result of a clip against another result of the same clip."""

    clip: str
    what: str
    """"encoder_output", "logits", "tokens" or "text"."""
    distance: float
    """Root mean square of the difference over that of the first result; infinite where they cannot be subtracted."""
    place: str
    """The differing result: "run 3, after en-comma-01"."""

    def __str__(self) -> str:
        """Tensor, clip, place and distance."""
        far = ""
        if self.what in TENSORS:
            finite = 0 < self.distance < math.inf
            far = f" by {_decibels(self.distance)}" if finite else "; its distance is not finite"
        return f"{self.what} of {self.clip} ({self.place}) differs{far}"


TENSORS = ("encoder_output", "logits")
REPEATS = 10


def small(sounds: Sequence[Sound]) -> tuple[Order, ...]:
    """The check of every run: the shortest clip that speaks again, after the last one that does."""
    speaking = _speaking(sounds)
    if not speaking:
        return ()
    *others, last = speaking
    if not others:
        return (Order("same clip twice", (last.clip, last.clip)),)
    first = min(others, key=lambda sound: sound.seconds)
    return (Order("A B A", (first.clip, last.clip, first.clip)),)


def whole(sounds: Sequence[Sound]) -> tuple[Order, ...]:
    """The checks of `--state`."""
    first, second = _first_two(sounds)
    if not first:
        return ()
    by_length = sorted(sounds, key=lambda sound: sound.seconds)
    short, long = by_length[0].clip, by_length[-1].clip
    silence = next((sound.clip for sound in sounds if sound.silent), "")
    both = "" if second else "the run has one clip only"
    lengths = "" if by_length[0].seconds < by_length[-1].seconds else "all clips of the run are of one length"
    quiet = "" if silence and silence != first else "no clip of the run is silent beside one that is not"
    return (
        Order("same clip twice", (first, first)),
        Order("A B A", (first, second, first) * 2, both),
        Order("short after long", (short, long, short), lengths),
        Order("silence after speech", (first, silence, first, silence), quiet),
        Order("ten repeats", (first,) * REPEATS),
    )


def _first_two(sounds: Sequence[Sound]) -> tuple[str, str]:
    """The first two clips with speech, or else of any; "" for a missing one."""
    names = [sound.clip for sound in _speaking(sounds)]
    return (*names, "", "")[0], (*names, "", "")[1]


def _speaking(sounds: Sequence[Sound]) -> list[Sound]:
    return [sound for sound in sounds if not sound.silent] or list(sounds)


def describe(check: OrderCheck) -> str:
    """One check in words."""
    words = "cache" if check.failed and not check.stateful else "stateful" if check.stateful else "state"
    state = words if check.checked else "not checked"
    return f"{state}: {check.stage}: {check.sequence or 'state and order'}: {check.reason or 'steady'}"


def check(player: Player, order: Order, *, at_once: bool = False) -> OrderCheck:
    """Run a sequence and judge it; an error that prevents the run becomes the reason."""
    started = time.perf_counter()
    clips = tuple(dict.fromkeys(filter(None, order.clips)))
    result = OrderCheck(player.stage, order.name, clips, False, order.missing, checked=not order.missing)
    if order.missing:
        return result
    counted = _CountingPlayer(player)
    try:
        finding = _judge_two_sessions(counted, order) if at_once else _judge_sequence(counted, order)
    except ParityError as error:
        finding = _Finding(False, True, str(error), False, error.exit_code)
    return replace(
        result,
        stateful=finding.stateful,
        reason=finding.reason,
        checked=finding.checked,
        reproducible=finding.reproducible,
        error_code=finding.error_code,
        runs=counted.runs,
        seconds=round(time.perf_counter() - started, 3),
    )


def two_sessions(sounds: Sequence[Sound]) -> Order:
    """Two sessions at once; with a single clip, both run it."""
    first, second = _first_two(sounds)
    return Order("two sessions", (first, second or first), "" if first else "the run has no clip")


@dataclass(frozen=True, slots=True)
class _Finding:
    stateful: bool
    reproducible: bool
    reason: str
    checked: bool = True
    error_code: int = 0


class _CountingPlayer:
    """A player that counts its runs."""

    def __init__(self, player: Player) -> None:
        self.player, self.runs = player, 0

    def run(self, session: Session, clip: str) -> Trace:
        self.runs += 1
        return self.player.play(session, clip)

    def repeat(self, session: Session, clip: str, recorded: Trace) -> Trace:
        """A clip again: as much of it as shows state, where the player knows how."""
        if self.player.again is None:
            return self.run(session, clip)
        self.runs += 1
        return self.player.again(session, recorded)

    def sequence(self, session: Session, clips: Sequence[str]) -> list[Trace]:
        return [self.run(session, clip) for clip in clips]

    def in_fresh_session(self, clips: Sequence[str]) -> list[Trace]:
        with self.player.fresh() as session:
            return self.sequence(session, clips)


def _judge_sequence(player: _CountingPlayer, order: Order) -> _Finding:
    """Judge one pass; run two more in fresh sessions where something differs."""
    used, clips = player.player.used, order.clips
    first = _first_pass(player, clips)
    if not _self_differences(*first):
        return _Finding(False, True, "")
    second, third = player.in_fresh_session(clips), player.in_fresh_session(clips)
    noise = _pass_differences(second, third, clips)
    effects = max(_self_differences(second, clips), _self_differences(third, clips), key=len)
    from_fresh = _differences_from(dict(zip(clips, second)), *first, "in the session of the run, not in a fresh one")
    if not effects and used:  # fresh sessions are steady: calls before this sequence still have an effect
        effects = from_fresh
    elif not effects:  # three fresh sessions, one of which differs
        noise = noise or from_fresh
    return _judge_effects(effects, noise)


def _first_pass(player: _CountingPlayer, clips: tuple[str, ...]) -> tuple[list[Trace], tuple[str, ...]]:
    """Results and their clips; of what the same session recorded in the run only the repeats are run."""
    used = player.player.used
    if used is None:
        return player.in_fresh_session(clips), clips
    names = tuple(dict.fromkeys(clips))
    with used() as session:
        recorded = dict(zip(names, player.player.recorded(session, names)))
        if not recorded:  # what it ran last may be what stands in front of a repeat; with the first clip, it is not
            settled = (clips[0], *clips)
            return player.sequence(session, settled), settled
        rest = clips[len(names) :]
        repeated = [player.repeat(session, clip, recorded[clip]) for clip in rest]
        return [*recorded.values(), *repeated], (*names, *rest)


def _judge_two_sessions(player: _CountingPlayer, order: Order) -> _Finding:
    """Run A alone and B alone, then A with B between its encoder and its decoder."""
    one, other = order.clips
    alone = player.in_fresh_session([one]) + player.in_fresh_session([other])
    together = _run_interrupted(player, one, other)
    effects = _pass_differences(alone, together, order.clips, "beside a second session")
    if not effects:
        return _Finding(False, True, "")
    again = player.in_fresh_session([one]) + player.in_fresh_session([other])
    noise = _pass_differences(alone, again, order.clips) + _pass_differences(
        together, _run_interrupted(player, one, other), order.clips
    )
    return _judge_effects(effects, noise)


def _run_interrupted(player: _CountingPlayer, one: str, other: str) -> list[Trace]:
    with player.player.pair() as (first, second):
        if isinstance(first, Program):  # it cannot be interrupted
            return [player.run(first, one), player.run(second, other)]
        meanwhile: list[Trace] = []
        trace = player.run(_Interrupted(first, lambda: meanwhile.append(player.run(second, other))), one)
        return [trace, meanwhile[0]]


class _Interrupted:
    """A session that calls `interrupt` after its first encoder pass."""

    def __init__(self, session: Halves, interrupt: Callable[[], None]) -> None:
        self._session, self._interrupt, self._done = session, interrupt, False

    @property
    def facts(self) -> Facts:
        return self._session.facts

    def usage(self) -> Usage | None:
        return self._session.usage()

    def encode(self, input_features: Float32) -> Float32:
        output = self._session.encode(input_features)
        if not self._done:
            self._done = True
            self._interrupt()
        return output

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        return self._session.decode(tokens, encoder_output, rows)

    def greedy(self, encoder_output: Float32, options: Mapping[str, Any]) -> list[int]:
        return self._session.greedy(encoder_output, options)  # type: ignore[attr-defined, no-any-return]


def _judge_effects(effects: Sequence[Difference], noise: Sequence[Difference]) -> _Finding:
    """Judge state: an effect without repeat noise, or beyond the repeat noise of the same tensor."""
    own = {effect.what: max(n.distance for n in noise if n.what == effect.what) for effect in noise}
    beyond = [effect for effect in effects if effect.distance > NOISE_SIGMAS * own.get(effect.what, 0.0)]
    if beyond:
        return _Finding(True, not noise, _reason(beyond, own))
    first = max(noise, key=lambda effect: effect.distance)
    return _Finding(False, False, f"not reproducible: in a fresh session {first}; no effect exceeds this noise")


def _reason(beyond: Sequence[Difference], own: Mapping[str, float]) -> str:
    """The worst difference of each tensor, tokens and text; the repeat noise; the growth."""
    groups = [
        [difference for difference in beyond if difference.what == what]
        for what in dict.fromkeys(difference.what for difference in beyond)
    ]
    parts = [str(max(group, key=lambda difference: difference.distance)) for group in groups]
    if own:
        parts.append(f"repeats alone move up to {', '.join(f'{w} {_decibels(d)}' for w, d in own.items())}")
    return "; ".join([*parts, *_growth(beyond)])


def _growth(beyond: Sequence[Difference]) -> list[str]:
    """A note where the difference grows with every run."""
    clip, what = beyond[0].clip, beyond[0].what
    steps = [difference.distance for difference in beyond if (difference.clip, difference.what) == (clip, what)]
    grows = len(steps) > 2 and all(a < b for a, b in pairwise(steps))
    return [f"it grows with every run, from {_decibels(steps[0])}"] if grows else []


def _self_differences(traces: Sequence[Trace], clips: Sequence[str]) -> list[Difference]:
    """Differences of every later result of a clip from its first one in the same sequence."""
    first: dict[str, Trace] = {}
    differences: list[Difference] = []
    for number, (clip, trace) in enumerate(zip(clips, traces)):
        place = f"run {number + 1}, after {clips[number - 1]}" if number else "run 1"
        differences += _differences(clip, first.setdefault(clip, trace), trace, place)
    return differences


def _differences_from(
    base: Mapping[str, Trace], traces: Sequence[Trace], clips: Sequence[str], place: str
) -> list[Difference]:
    """Differences of every result from the clip's result in `base`."""
    return [
        difference for clip, trace in zip(clips, traces) for difference in _differences(clip, base[clip], trace, place)
    ]


def _pass_differences(
    one: Sequence[Trace], other: Sequence[Trace], clips: Sequence[str], place: str = ""
) -> list[Difference]:
    """Differences between two passes of one sequence, position by position."""
    differences: list[Difference] = []
    for number, (clip, first, second) in enumerate(zip(clips, one, other)):
        differences += _differences(clip, first, second, place or f"run {number + 1}, repeated")
    return differences


def _differences(clip: str, first: Trace, second: Trace, place: str) -> list[Difference]:
    if first is second:
        return []
    differences = []
    for what in TENSORS:
        distance = max((_distance(*pair) for pair in _pairs(what, first, second)), default=0.0)
        if len(first.windows) != len(second.windows):
            distance = math.inf
        if distance:
            differences.append(Difference(clip, what, distance, place))
    ours, theirs = first.header, second.header
    for what, differs in (
        ("tokens", ours.timestamped_tokens != theirs.timestamped_tokens),
        ("text", ours.text != theirs.text),
    ):
        if differs:
            differences.append(Difference(clip, what, math.inf, place))
    return differences


def _pairs(what: str, first: Trace, second: Trace) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    for ours, theirs in zip(first.windows, second.windows):
        if what == "logits":
            yield ours.teacher_forced.logits, theirs.teacher_forced.logits
        else:
            yield ours.encoder_output, theirs.encoder_output


def _distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """sqrt(sum (second - first)^2 / sum first^2); 0 only when equal bit for bit, NaN and Inf included."""
    if first.shape != second.shape:
        return math.inf
    if np.array_equal(first, second, equal_nan=True):
        return 0.0
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return math.inf
    ours = first.astype(np.float64)
    moved = float(np.square(second - ours).sum())
    size = float(np.square(ours).sum())
    return math.sqrt(moved / size) if size else math.inf


def _decibels(distance: float) -> str:
    """A relative distance as SNR, like all other distances."""
    return f"{-20 * math.log10(distance):.0f} dB SNR" if 0 < distance < math.inf else "an infinite distance"

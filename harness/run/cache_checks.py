"""What only a KV cache can get wrong: a stage's decoder and the reference's play one script, and are compared.

An alarm has one of three grounds: the stage does not agree with itself (rows after a rewind, after another clip, beside
poisoned slots), a slip of the cache made in the reference gives the stage's rows, or rows go bad from the second token
on. A cause is named only where the reference with that slip gives the stage's rows, better by `PROOF` than without it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from whisper_parity.backend.contract import Float32, Session
from whisper_parity.backend.facets import Rehearsing, Slip, Slotted
from whisper_parity.decode.cached import Cached
from whisper_parity.errors import ParityError
from whisper_parity.run import cache_script
from whisper_parity.run.cache_script import BACK, STEPS, Material, Observed
from whisper_parity.run.report import CacheFault, OrderCheck

SEQUENCE = "KV cache"
EQUAL = 60.0
"""SNR in dB from which a decoder agrees with itself: above the noise of runtimes that add in another order."""
SOUND = 90.0
"""SNR in dB of rows against the reference's from which no cause is looked for."""
PROOF = 12.0
"""SNR in dB by which a slip's rows are nearer than the sound reference's: a quarter of the error is left."""
SLACK = 2.0
"""SNR in dB by which a slip's rows may be of another strength than the stage's where they are its own."""
BAD = 20.0
"""SNR in dB below which rows are bad, and by which they fall behind the first row where the cache is at fault."""
RIGHT = 3
"""Rows that are the reference's, `EQUAL`, after which one that is worse by `BAD` is no matter of precision: a cache in
8 bits shows as soon as one slot is read."""
NEEDED = ("encoder_output", "past_keys", "past_values", "position", "slot", "mask", "cross")
"""Inputs that every decoder depends on; keys and values of cross attention may be computed anew."""
TESTS = {
    "rewind": "rows after a rewind are not those of the same tokens before it",
    "A B A": "rows after another clip are not those of the same clip before it",
    "poison": "what lies in slots that are not in use moves rows",
    "last slots": "what lies in slots that are not in use moves the last rows that a cache has room for",
}


@dataclass(frozen=True, slots=True)
class Played:
    """A stage's rows, and the reference's on the same."""

    stage: Observed
    reference: Observed
    material: Material
    slots: int
    """Of the stage's cache where it was filled; else 0."""

    def worst(self) -> float:
        """SNR in dB of the part that is furthest from the reference's."""
        against = self.reference.rows
        own = self.stage.rows
        return min(
            snr(against[part], own[part]) if part in own.keys() & against.keys() else -math.inf for part in against
        )


def check(
    stage: str, session: Cached, reference: Session, features: Float32, clip: str, *, is_whole: bool
) -> OrderCheck:
    """Check the cache of a stage's session, which begins anew behind it; an error that ends it becomes the reason.

    Args:
        stage: its name.
        session: of the stage.
        reference: of the root.
        features: input_features float32 [1, n_mels, n_frames] of the clip.
        clip: its name.
        is_whole: whether the cache is filled up to its limit, too.
    """
    started, stepper = time.perf_counter(), session.stepper
    nothing = OrderCheck(stage, SEQUENCE, (clip,), False, "", checked=False)
    if not isinstance(stepper, Slotted) or not isinstance(reference, Rehearsing):
        who = "its session shows no cache" if isinstance(reference, Rehearsing) else "the root does not take steps"
        return replace(nothing, reason=who)
    try:
        found = faults(stepper, reference, features, is_whole=is_whole)
    except ParityError as error:
        return replace(nothing, reason=str(error), error_code=error.exit_code)
    finally:
        session.forget()
    words = "; ".join(fault.sentence if fault.fails else f"remark: {fault.sentence}" for fault in found)
    seconds = round(time.perf_counter() - started, 3)
    return replace(nothing, reason=words, checked=True, seconds=seconds, runs=1, cache=found)


def faults(stage: Slotted, reference: Rehearsing, features: Float32, *, is_whole: bool) -> tuple[CacheFault, ...]:
    """What is wrong with a stage's cache, the first thing first; remarks behind it.

    Args:
        stage: its session.
        reference: the root's.
        features: input_features float32 [1, n_mels, n_frames] of a clip.
        is_whole: whether the cache is filled up to its limit, too.

    Raises:
        ParityError: the stage failed.
    """
    played = _play(stage, reference, features, is_whole=is_whole)
    is_suspect = played.worst() < SOUND or not _takes_all(played.stage)
    slip, near = _slip(reference, played) if is_suspect else (None, math.inf)
    if slip is None and played.stage.error:
        raise played.stage.error
    dead = tuple(_dead(stage, played.material)) if np.isfinite(played.stage.rows["first"]).all() else ()
    needed = [name for name in dead if name.partition(".")[0] in NEEDED and played.worst() < EQUAL]
    fault = _fault(played, slip, near) or next((_unread(name, fails=True) for name in needed), None)
    beside = () if fault else _beside(played)
    unread = (_unread(name, fails=False) for name in dead if fault is None or name not in fault.sentence.split())
    return tuple(filter(None, (fault, *beside, *_remarks(played), *unread)))


def snr(expected: Float32, obtained: Float32) -> float:
    """SNR in dB; infinite for equal arrays, minus infinite where other numbers are finite."""
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(obtained)):
        return -math.inf
    one, other = expected[finite].astype(np.float64), obtained[finite].astype(np.float64)
    noise = float(np.square(one - other).sum())
    signal = float(np.square(one).sum())
    return math.inf if noise == 0 else -math.inf if signal == 0 else 10 * math.log10(signal / noise)


def _play(stage: Slotted, reference: Rehearsing, features: Float32, *, is_whole: bool) -> Played:
    """The sound itself is encoded last: a file that gives keys and values of cross attention is then fed its own."""
    backwards = stage.encode(np.ascontiguousarray(features[:, :, ::-1]))
    sound = stage.encode(features)
    slots = stage.n_slots if is_whole else 0
    steps = reference.stepped(None)
    tokens, other = cache_script.likely(steps, sound, max(STEPS, slots))
    largest = max(float(np.abs(row).max()) for row in steps.written().values())
    material = Material(tokens, other, sound, backwards, cache_script.POISON * largest)
    observed = cache_script.observe(stage, material, slots)
    return Played(observed, cache_script.observe(reference.stepped(None), material, slots), material, slots)


def _slip(reference: Rehearsing, played: Played) -> tuple[Slip | None, float]:
    """The slip whose rows are the stage's, by `PROOF` at least, and their SNR in dB; of equals the first.

    Where the stage ends otherwise than the sound reference, one that ends alike and has no worse rows will do.
    """
    best, nearest = None, played.worst() + (PROOF if _takes_all(played.stage) else -1)
    for slip in reference.slips():
        if _goes_elsewhere(reference.stepped(slip), played, nearest):
            continue
        observed = cache_script.observe(reference.stepped(slip), played.material, played.slots)
        near = _nearness(played, observed)
        if near > nearest:
            best, nearest = slip, near
    return best, nearest


def _goes_elsewhere(steps: Slotted, played: Played, limit: float) -> bool:
    """Whether a part loses so much on its way that all of it is below the limit; the rest is not computed then."""
    own = played.stage.rows
    allowed = {part: _energy(part_rows) * 10 ** -((limit - SLACK) / 10) for part, part_rows in own.items()}
    lost = dict.fromkeys(own, 0.0)
    for part, step, row in cache_script.rows(steps, played.material):
        if part not in own or not np.array_equal(np.isfinite(row), np.isfinite(own[part][step])):
            return True
        with np.errstate(invalid="ignore"):  # infinities of both
            lost[part] += _energy(row - own[part][step])
        if lost[part] > allowed[part]:
            return True
    return False


def _energy(rows: Float32) -> float:
    return float(np.square(rows[np.isfinite(rows)].astype(np.float64)).sum())


def _takes_all(observed: Observed) -> bool:
    """Whether it took every token that it has room for, and no more."""
    return observed.refused is not False and observed.error is None


def _nearness(played: Played, observed: Observed) -> float:
    """SNR in dB of the furthest part under a slip that ends as the stage does; minus infinity for one that does not."""
    ends_alike = (observed.refused, observed.rows.keys()) == (played.stage.refused, played.stage.rows.keys())
    return replace(played, reference=observed).worst() if ends_alike else -math.inf


def _fault(played: Played, slip: Slip | None, near: float) -> CacheFault | None:
    """The first thing that is wrong; None where nothing is."""
    part, step, ground = _ground(played)
    if slip is None and not ground:
        return None
    if slip is not None:
        part, step = _first_bad(played, min(EQUAL, near - PROOF / 2)) or (part, step)
    tensor, layer, slot = _place(played, slip)
    cause = f"{_named(slip)}: doing the same to the reference gives its rows" if slip else ""
    place = f"{part}, step {step}" + (f", first in {tensor} of layer {layer}, slot {slot}" if tensor else "")
    words = "; ".join(filter(None, (cause, ground)))
    is_remark = slip is not None and slip.is_precision and not ground
    return CacheFault(slip.kind if slip else "", f"{words} ({place})", layer, slot, step, part, fails=not is_remark)


def _named(slip: Slip) -> str:
    number = f" ({slip.number})" if slip.number else "" if slip.source is None else f" (layer {slip.source}'s)"
    return f"{slip.kind}{number}" + ("" if slip.layer is None else f", in layer {slip.layer}")


def _ground(played: Played) -> tuple[str, int, str]:
    """(part, step, words) of what needs no cause to be wrong; empty words where nothing is."""
    rows = played.stage.rows
    for part, words in TESTS.items():
        before = rows.get("limit", rows["first"][:0]) if part == "last slots" else rows["first"]
        before = before[STEPS - BACK :] if part == "rewind" else before
        for step, (expected, obtained) in enumerate(zip(before, rows.get(part, before))):
            if (ratio := snr(expected, obtained)) < EQUAL:
                return part, step, f"{words}: {_decibels(ratio)} where {EQUAL:g} are expected"
    if played.stage.refused is False:
        return "limit", played.slots, f"a token more than the {played.slots} slots of the cache is taken"
    return _behind(played)


def _behind(played: Played) -> tuple[str, int, str]:
    """Rows that go bad behind a first one that is not: there the cache is empty.

    The first rows of both sounds count, unless the first ones are exact: cross attention may be worse on one of them.
    """
    ratios = list(_ratios(played))
    first = [ratio for part, _, ratio in ratios if part == "first"][:RIGHT]
    empty = [ratio for part, step, ratio in ratios if step == 0 and part in ("first", "another clip")]
    is_exact = min(first) >= EQUAL
    limit = EQUAL - BAD if is_exact else min(BAD, min(empty) - BAD)
    words = f"the first {RIGHT} that are the reference's" if is_exact else "a first one that is not"
    bad = ((part, step, ratio) for part, step, ratio in ratios if ratio < limit)
    part, step, ratio = next(bad, ("", 0, 0.0))
    return part, step, part and f"rows go bad behind {words}: {_decibels(ratio)}"


def _decibels(ratio: float) -> str:
    return f"{ratio:.0f} dB SNR" if math.isfinite(ratio) else "not finite, or nothing in common"


def _first_bad(played: Played, limit: float) -> tuple[str, int] | None:
    """Part and step of the first row that is further from the reference's; None where both gave no such row."""
    places = ((part, step) for part, step, ratio in _ratios(played) if ratio < limit or ratio == -math.inf)
    return next(places, None)


def _ratios(played: Played) -> Iterator[tuple[str, int, float]]:
    """(part, step, SNR in dB) of every row against the reference's."""
    for part, expected in played.reference.rows.items():
        for step, (one, other) in enumerate(zip(expected, played.stage.rows.get(part, expected))):
            yield part, step, snr(one, other)


def _place(played: Played, slip: Slip | None) -> tuple[str, int | None, int | None]:
    """Tensor, layer and slot of the first row of the cache that is not the reference's, in the first part."""
    limit = min(EQUAL, played.worst() + 2 * PROOF)
    for slot, (expected, obtained) in enumerate(zip(played.reference.written, played.stage.written)):
        for name, row in expected.items():
            if name in obtained and snr(row, obtained[name]) < limit:
                tensor, _, layer = name.partition(".")
                return tensor, int(layer), slot
    return "", slip.layer if slip else None, None


def _unread(name: str, *, fails: bool) -> CacheFault:
    """An input that moves nothing; it fails where every decoder needs it and rows are not the reference's."""
    words = f"input {name} is dead: changed, it moves no row" + (", and rows are not the reference's" if fails else "")
    return CacheFault("dead input", words, None, None, BACK - 1, "dead inputs", fails=fails)


def _beside(played: Played) -> Iterator[CacheFault]:
    """A first row that is bad, where nothing else is known: the cache is empty there, and it is not what is wrong."""
    start = snr(played.reference.rows["first"][0], played.stage.rows["first"][0])
    if start < BAD:
        words = f"rows are not the reference's from the first one on, where the cache is empty: {_decibels(start)}"
        yield CacheFault("not the cache", words, None, None, 0, "first", fails=False)


def _remarks(played: Played) -> Iterator[CacheFault]:
    """Keys and values of cross attention that are not the reference's, where rows are: another form, or not read."""
    if played.worst() < EQUAL:
        return
    for name, expected in played.reference.cross.items():
        obtained = played.stage.cross.get(name)
        if obtained is not None and snr(expected, obtained) < EQUAL:
            tensor, _, layer = name.partition(".")
            words = f"cross {tensor}s of layer {layer} are not those of the encoder's output, and no row depends on it"
            yield CacheFault("cross keys and values in another form", words, int(layer), None, 0, "first", fails=False)
            return


def _dead(stage: Slotted, material: Material) -> Iterator[str]:
    """Inputs that move nothing when they are changed from the first token on: some are read at that one alone.

    The token itself is left out: two ids may have one embedding, and a decoder that does not read it has no row right.
    """
    expected = _row(stage, material)
    for name in (name for name in stage.inputs() if name != "token"):
        with stage.replaced(name, np.full(1, 1.0, np.float32)):
            row = _row(stage, material)
        if np.array_equal(row, expected, equal_nan=True):
            yield name


def _row(stage: Slotted, material: Material) -> Float32:
    stage.begin(material.sound)
    return [stage.feed(token) for token in material.tokens[:BACK]][-1]

"""What a decoder with a KV cache is made to do, the same for a stage and for the reference: parts of a script.

The two sounds are a clip's features and the same ones backwards in time: nothing that a cache can get wrong depends on
what is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from whisper_parity.backend.contract import Float32
from whisper_parity.backend.facets import Slotted
from whisper_parity.errors import ParityError

STEPS = 12
BACK = 4
POISON = 1.0
"""Times the largest number of the reference's first keys and values, in every channel: far from any real row, and still
no match for a mask of -100, which closes a slot well enough for all that a cache can hold."""


@dataclass(frozen=True, slots=True)
class Material:
    """What is fed."""

    tokens: tuple[int, ...]
    """`STEPS`, or as many as the cache has slots; none twice."""
    other: int
    """A token that is not the one it stands for."""
    sound: Float32
    """encoder_output float32 [1, n_audio_ctx, n_audio_state]."""
    backwards: Float32
    poison: float


@dataclass(frozen=True, slots=True)
class Observed:
    """What a decoder gave."""

    rows: Mapping[str, Float32]
    """By part: logits float32 [n_fed, n_vocab]."""
    written: tuple[Mapping[str, Float32], ...]
    """Of each step of the first part, see `Slotted.written`."""
    cross: Mapping[str, Float32]
    refused: bool | None
    """Whether one token more than there are slots was refused; None where that was not tried."""
    error: ParityError | None
    """What ended a part behind the first one, whose rows are then missing; None for a decoder that took all."""


def likely(stepper: Slotted, sound: Float32, count: int) -> tuple[tuple[int, ...], int]:
    """So many tokens, and another one: the likeliest that was not fed yet, step by step from token 0's row on.

    Ids that a vocabulary does not use have one embedding for all: drawn ones could not be told apart.
    """
    stepper.begin(sound)
    row = stepper.feed(0)
    stepper.begin(sound)
    ids: list[int] = []
    for _ in range(count):
        ids.append(_next(row, ids))
        row = stepper.feed(ids[-1])
    return tuple(ids), _next(row, ids)


def _next(row: Float32, taken: list[int]) -> int:
    free = row.copy()
    free[taken] = -np.inf
    return int(free.argmax())


def observe(stepper: Slotted, material: Material, slots: int = 0) -> Observed:
    """Play the script.

    Args:
        stepper: the decoder.
        material: what is fed.
        slots: how many tokens fill the cache, which is then filled, too; 0 where that is left out.

    Raises:
        ParityError: the decoder failed.
    """
    written: list[Mapping[str, Float32]] = []
    rows = {"first": np.stack(list(_first(stepper, material, written)))}
    cross = dict(stepper.cross())
    refused, error = None, None
    try:
        for name, part in PARTS.items():
            rows[name] = np.stack(list(part(stepper, material)))
        if slots:
            stepper.begin(material.sound)
            rows["limit"] = np.stack([stepper.feed(token) for token in material.tokens[:slots]][-BACK:])
            rows["last slots"] = np.stack(list(_last_slots(stepper, material, slots)))
            refused = _refuses(stepper, material.other)
    except ParityError as ended:
        error = ended
    return Observed(rows, tuple(written), cross, refused, error)


def rows(stepper: Slotted, material: Material) -> Iterator[tuple[str, int, Float32]]:
    """(part, step, row [n_vocab]) as the script goes on, to its end or to the decoder's; its limit is not tried."""
    with suppress(ParityError):
        for name, part in {"first": first, **PARTS}.items():
            for step, row in enumerate(part(stepper, material)):
                yield name, step, row


def first(stepper: Slotted, material: Material) -> Iterator[Float32]:
    """The rows of the first part, [n_vocab] each."""
    return _first(stepper, material, [])


def _first(stepper: Slotted, material: Material, written: list[Mapping[str, Float32]]) -> Iterator[Float32]:
    stepper.begin(material.sound)
    for token in material.tokens[:STEPS]:
        yield stepper.feed(token)
        written.append(dict(stepper.written()))


def _rewind(stepper: Slotted, material: Material) -> Iterator[Float32]:
    """Another token in place of some, and these again: they follow the first part."""
    stepper.rewind(BACK)
    stepper.feed(material.other)
    stepper.rewind(1)
    for token in material.tokens[STEPS - BACK : STEPS]:
        yield stepper.feed(token)


def _between(stepper: Slotted, material: Material) -> Iterator[Float32]:
    """Another sound with another sequence, from another first token on."""
    stepper.begin(material.backwards)
    for token in material.tokens[STEPS // 2 : STEPS]:
        yield stepper.feed(token)


def _again(stepper: Slotted, material: Material) -> Iterator[Float32]:
    stepper.begin(material.sound)
    for token in material.tokens[:STEPS]:
        yield stepper.feed(token)


def _poison(stepper: Slotted, material: Material) -> Iterator[Float32]:
    """Large numbers in every slot but those that were written: the bounds of the mask from step 0 on."""
    stepper.begin(material.sound)
    stepper.fill(material.poison)
    for token in material.tokens[:STEPS]:
        yield stepper.feed(token)


def _last_slots(stepper: Slotted, material: Material, slots: int) -> Iterator[Float32]:
    """The same at the other end: a full cache, of which some are taken back, filled, and fed again."""
    stepper.rewind(BACK)
    stepper.fill(material.poison)
    for token in material.tokens[slots - BACK : slots]:
        yield stepper.feed(token)


PARTS: dict[str, Callable[[Slotted, Material], Iterator[Float32]]] = {
    "rewind": _rewind, "another clip": _between, "A B A": _again, "poison": _poison,
}  # fmt: skip


def _refuses(stepper: Slotted, token: int) -> bool:
    try:
        stepper.feed(token)
    except ParityError:
        return True
    return False

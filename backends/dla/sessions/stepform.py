"""A fitted decoder with a KV cache as the runner is told of it: roles, types, and where our numbers lie in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import AXES, CROSSES, CURRENTS, TOKENS, UPDATES, Bound, Fitted
from whisper_parity.backends.dla.sessions.stepwise import LayOut, PortForm

ROLES = (
    "token", "encoder_output", "position", "slot", "mask", "past_keys", "past_values", "cross_keys", "cross_values",
    "cross", "logits", "new_keys", "new_values", "keys", "values", "features",
)  # fmt: skip
KINDS = ("float32", "float16", "int32", "int64", "int16", "int8", "uint8")
POSITIONS = ("none", "row", "index", "one-hot")
"""Each by its number in the protocol."""
NONE = 0xFFFFFFFF


def of(fitted: Fitted) -> LayOut:
    """The description that travels to the runner."""
    layout, mask = fitted.layout, fitted.layout.mask
    words = (
        TOKENS.index(layout.token), POSITIONS.index(layout.position), UPDATES.index(layout.update),
        CROSSES.index(layout.cross), 1 + CURRENTS.index(mask.current) if mask else 0,
    )  # fmt: skip
    sides = (
        (_features(fitted),),
        *(
            tuple(_port(fitted, side, bound) for bound in getattr(fitted, side))
            for side in ("encoder_outputs", "inputs", "outputs")
        ),
    )
    values = fitted.values
    opened, closed = (mask.open, mask.closed) if mask else (0.0, 0.0)
    return LayOut(words, opened, closed, values["T"], values["V"], values["L"], sides)  # type: ignore[arg-type]


def count(fitted: Fitted, side: str, bound: Bound) -> int:
    """Numbers that a tensor holds."""
    return math.prod(size for size, _ in _port(fitted, side, bound).axes)


def n_encoded(fitted: Fitted) -> int:
    """Numbers that the encoder gives."""
    return sum(count(fitted, "encoder_outputs", bound) for bound in fitted.encoder_outputs)


def _features(fitted: Fitted) -> PortForm:
    port = fitted.features
    assert port is not None  # noqa: S101 - it was read with its encoder
    rows, columns = port.sizes
    strides = (1, rows) if port.transposed else (columns, 1)
    return _form(port, "features", None, NONE, list(zip((rows, columns), strides)))


def _port(fitted: Fitted, side: str, bound: Bound) -> PortForm:
    """The axes of a tensor in the order of `layout.AXES`, those of one left out, with their strides in its memory."""
    symbols, sizes = fitted.sizes(side, bound.role)
    if "V" in symbols:  # a file may fill the vocabulary up
        sizes = _filled(sizes, bound.port)
    strides = _strides(sizes)
    known = [place for axis in AXES for place, symbol in enumerate(symbols) if symbol == axis]
    order = [*known, *(place for place in range(len(symbols)) if place not in known)]
    kept = [place for place in order if sizes[place] > 1]
    is_cache = bound.role in ("past_keys", "past_values")
    slot = next((at for at, place in enumerate(kept) if symbols[place] == "T"), NONE) if is_cache else NONE
    return _form(bound.port, bound.role, bound.layer, slot, [(sizes[place], strides[place]) for place in kept])


def _filled(sizes: Sequence[int], port: Port) -> tuple[int, ...]:
    """Sizes as the file has them, axes of one where the layout has them."""
    wide = max(port.shape, default=1)
    return tuple(size if size == 1 else wide for size in sizes)


def _strides(sizes: Sequence[int]) -> list[int]:
    strides, step = [], 1
    for size in reversed(sizes):
        strides.append(step)
        step *= size
    return strides[::-1]


def _form(port: Port, role: str, layer: int | None, slot: int, axes: Sequence[tuple[int, int]]) -> PortForm:
    return PortForm(
        port.index, ROLES.index(role), NONE if layer is None else layer, KINDS.index(port.dtype), port.scale,
        port.zero_point, slot, tuple(axes),
    )  # fmt: skip

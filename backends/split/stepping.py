"""A decoder with a KV cache in any layout, one token a call: cache, mask and position are kept here.

`Core` lives where the file is loaded, in this process or in a confined child, so that the cache never travels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.contract import Float32
from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import AXES, Bound, Fitted
from whisper_parity.errors import ArtifactError, BackendError


class Run(Protocol):
    """**Protocol:** runs a file."""

    def __call__(
        self, arrays: Sequence[NDArray[Any]], changed: Collection[int] | None = None
    ) -> Sequence[NDArray[Any]]:
        """All inputs in its order -> all outputs in its order, which may be views of memory that is used again.

        Where `changed` is given, the inputs at other places are what they were at the last run: 38 MB of Whisper base.
        """


Encode = Callable[[Float32], Mapping[str, Float32]]
"""input_features -> what the encoder's file gives, see `encoded`."""
PAST = {"past_keys": ("new_keys", "keys"), "past_values": ("new_values", "values")}
"""By input of a cache: the outputs of its new rows, and of the whole cache."""


class Steps(Protocol):
    """**Protocol:** the decoder of a fitted file, here or in another process."""

    @property
    def position(self) -> int:
        """Tokens that were fed."""

    def begin(self, arrays: Mapping[str, Float32]) -> None:
        """Start on "encoder_output" [1, A, d], or on "cross_keys" and "cross_values" [L, A, d]; forget what was."""

    def feed(self, token: int, rows: Mapping[str, Float32]) -> Float32:
        """Append a token, with the rows [d] that are looked up outside: "token", "position". Logits [n_vocab]."""

    def rewind(self, count: int) -> None:
        """Take tokens back."""

    def written(self) -> dict[str, Float32]:
        """What the last step wrote: "key.0", "value.0", ... [d]."""

    def cross(self) -> dict[str, Float32]:
        """Keys and values of cross attention as the file gave them, or takes them: "key.0", ... [A, d]."""

    def fill(self, value: float) -> None:
        """Overwrite every slot that is not in use."""

    def replace(self, name: str, array: NDArray[Any] | None) -> None:
        """Feed another array for one input from now on, one number everywhere where it has one; None: the right one."""


class Core:
    """`Steps` over what runs the file."""

    def __init__(self, fitted: Fitted, run: Run) -> None:
        self._fitted, self._run = fitted, run
        self._bound = {bound.key: bound for bound in fitted.inputs}
        self._order = [bound.key for bound in sorted(fitted.inputs, key=lambda bound: bound.port.index)]
        self._inputs = {key: np.zeros(bound.port.shape, bound.port.dtype) for key, bound in self._bound.items()}
        self._replaced: dict[str, NDArray[Any]] = {}
        self._changed: set[str] = set(self._order)
        self._outputs: Sequence[NDArray[Any]] = ()
        self._written: dict[str, Float32] = {}
        self.position = 0

    def begin(self, arrays: Mapping[str, Float32]) -> None:
        """See `Steps`."""
        self.position, self._written = 0, {}
        for key, bound in self._bound.items():
            self._clear(key, bound)
        if "encoder_output" in self._bound:
            self._set("encoder_output", arrays["encoder_output"])
        if self._fitted.layout.cross == "encoder":
            self._set_cross(arrays["cross_keys"], arrays["cross_values"])

    def feed(self, token: int, rows: Mapping[str, Float32]) -> Float32:
        """See `Steps`.

        Raises:
            ArtifactError: the file gives something else than it did.
        """
        self._set_token(token, rows.get("token"))
        self._set_position(rows.get("position"))
        if "mask" in self._bound:
            self._set("mask", self._mask())
        self._outputs = ()  # an interpreter does not run while its memory is referred to
        arrays = [self._replaced.get(key, self._inputs[key]) for key in self._order]
        changed, self._changed = self._changed, set()
        self._outputs = self._run(arrays, [place for place, key in enumerate(self._order) if key in changed])
        try:
            self._keep()
            logits = self._output("logits").reshape(-1)[: self._fitted.values["V"]]
        except (ValueError, IndexError) as error:
            raise ArtifactError(f"decoder: its outputs are not what they were: {error}") from error
        self.position += 1
        return logits.copy()

    def rewind(self, count: int) -> None:
        """See `Steps`."""
        if not 0 <= count <= self.position:
            raise BackendError(f"{count} tokens to take back where {self.position} were fed")
        self.position -= count
        if self._fitted.layout.update == "shift" and count:
            for bound in self._of_cache():
                view = self._view(bound)
                view[...] = np.roll(view, count, self._slot_axis(bound))
        if self._fitted.layout.cross == "cached" and self.position == 0:
            for key, bound in self._bound.items():
                if bound.role in ("cross_keys", "cross_values"):
                    self._clear(key, bound)

    def written(self) -> dict[str, Float32]:
        """See `Steps`."""
        return dict(self._written)

    def cross(self) -> dict[str, Float32]:
        """See `Steps`; nothing where the file neither gives nor takes them."""
        side, arrays = ("outputs", self._given()) if self._gives_cross() else ("inputs", self._inputs)
        if side == "inputs" and self._fitted.layout.cross != "encoder":
            return {}
        bounds = getattr(self._fitted, side)
        return dict(by_layer(self._fitted, side, [(bound, arrays[bound.key]) for bound in bounds]))

    def fill(self, value: float) -> None:
        """See `Steps`."""
        slots = self._fitted.n_text_ctx
        free = slice(0, slots - self.position) if self._fitted.layout.update == "shift" else slice(self.position, slots)
        for bound in self._of_cache():
            view = np.moveaxis(self._view(bound), self._slot_axis(bound), 0)
            view[free] = in_type(np.full(1, value, np.float32), bound.port)

    def replace(self, name: str, array: NDArray[Any] | None) -> None:
        """See `Steps`.

        Raises:
            BackendError: the file has no such input.
        """
        if name not in self._bound:
            raise BackendError(f"no input {name!r:.60}: it has {', '.join(self._order[:20])}")
        self._changed.add(name)
        if array is None:
            self._replaced.pop(name, None)
        else:
            port = self._bound[name].port
            values = np.asarray(array)
            whole = np.full(port.shape, values.reshape(()), values.dtype) if values.size == 1 else values
            self._replaced[name] = np.ascontiguousarray(in_type(whole, port).reshape(port.shape))

    def _set(self, key: str, values: NDArray[Any]) -> None:
        """Our numbers, in the order of the file's axes, into one of its inputs."""
        port = self._bound[key].port
        self._inputs[key][...] = in_type(values, port).reshape(port.shape)
        self._changed.add(key)

    def _clear(self, key: str, bound: Bound) -> None:
        self._inputs[key].fill(bound.port.zero_point if bound.port.scale else 0)
        self._changed.add(key)

    def _set_token(self, token: int, row: Float32 | None) -> None:
        kind = self._fitted.layout.token
        if kind == "embedding":
            assert row is not None  # noqa: S101 - who holds the table looks it up
            self._set("token", row)
        else:
            self._set_place("token", token, kind)

    def _set_position(self, row: Float32 | None) -> None:
        kind = self._fitted.layout.position
        if kind == "row":
            assert row is not None  # noqa: S101 - who holds the table looks it up
            self._set("position", row)
        elif kind != "none":
            self._set_place("position", self.position, kind)
        if "slot" in self._bound:
            form = "one-hot" if self._inputs["slot"].size > 1 else "index"
            self._set_place("slot", self.position, form)

    def _set_place(self, key: str, place: int, kind: str) -> None:
        """A number as itself, or as one among zeros."""
        size = self._inputs[key].size
        self._set(
            key, np.eye(1, size, place, dtype=np.float32) if kind == "one-hot" else np.full(size, place, np.int64)
        )

    def _mask(self) -> Float32:
        mask, slots, count = self._fitted.layout.mask, self._fitted.n_text_ctx, self.position
        assert mask is not None  # noqa: S101 - it has a mask
        values = np.full(self._inputs["mask"].size, mask.closed, np.float32)
        if self._fitted.layout.update == "shift":
            values[len(values) - count - (mask.current != "outside") :] = mask.open
            return values
        values[: count + (mask.current == "slot")] = mask.open
        if mask.current == "last":
            values[slots] = mask.open
        return values

    def _keep(self) -> None:
        """Take over what a step gives: rows or caches, and at the first one the keys and values of cross attention."""
        self._written = {}
        for bound in self._of_cache():
            new, whole = (role + bound.key.removeprefix(bound.role) for role in PAST[bound.role])
            if self._fitted.layout.update == "outside":
                row = self._rows(new)
                self._slot(bound, self.position)[...] = in_type(row, bound.port).reshape(
                    self._slot(bound, self.position).shape
                )
            else:
                self._set(bound.key, self._output(whole))
                row = None
            self._note(bound, row)
        if self._fitted.layout.cross == "cached" and self.position == 0:
            for bound in self._fitted.outputs:
                if bound.role in ("cross_keys", "cross_values"):
                    self._set(bound.key, self._output(bound.key))

    def _note(self, bound: Bound, row: Float32 | None) -> None:
        """Remember what was written, [d] of each layer."""
        if row is None:
            at = self._fitted.n_text_ctx - 1 if self._fitted.layout.update == "shift" else self.position
            row = _decoded(self._slot(bound, at), bound.port)
        name = "key" if bound.role == "past_keys" else "value"
        rows = row.reshape(1 if bound.layer is not None else self._fitted.values["L"], -1)
        first = bound.layer or 0
        self._written |= {f"{name}.{first + place}": np.array(one) for place, one in enumerate(rows)}

    def _rows(self, key: str) -> Float32:
        """New rows [layers, d] of one output."""
        bound = next(bound for bound in self._fitted.outputs if bound.key == key)
        view = canonical(self._fitted, "outputs", bound, _decoded(self._outputs[bound.port.index], bound.port))
        return np.ascontiguousarray(view)

    def _output(self, key: str) -> Float32:
        bound = next(bound for bound in self._fitted.outputs if bound.key == key)
        return _decoded(self._outputs[bound.port.index], bound.port)

    def _given(self) -> dict[str, NDArray[Any]]:
        return {bound.key: self._outputs[bound.port.index] for bound in self._fitted.outputs} if self._outputs else {}

    def _gives_cross(self) -> bool:
        return bool(self._outputs) and any(bound.role == "cross_keys" for bound in self._fitted.outputs)

    def _set_cross(self, keys: Float32, values: Float32) -> None:
        """[L, A, d] of the encoder into the inputs that take them."""
        for bound in self._fitted.inputs:
            if bound.role not in ("cross", "cross_keys", "cross_values"):
                continue
            both = {"cross": np.concatenate([keys, values]), "cross_keys": keys, "cross_values": values}[bound.role]
            layers = both if bound.layer is None else both[bound.layer]
            view = self._view(bound)
            view[...] = in_type(layers, bound.port).reshape(view.shape)

    def _of_cache(self) -> list[Bound]:
        return [bound for bound in self._fitted.inputs if bound.role in PAST]

    def _view(self, bound: Bound) -> NDArray[Any]:
        """An input's own memory, its axes in our order: to be written to."""
        self._changed.add(bound.key)
        return canonical(self._fitted, "inputs", bound, self._inputs[bound.key])

    def _slot_axis(self, bound: Bound) -> int:
        return int(bound.layer is None)

    def _slot(self, bound: Bound, place: int) -> NDArray[Any]:
        """One slot of a cache, its own memory: [d], or [L, d] of a stacked one, by heads where the file has them."""
        slot: NDArray[Any] = np.moveaxis(self._view(bound), self._slot_axis(bound), 0)[place]
        return slot


def canonical(fitted: Fitted, side: str, bound: Bound, array: NDArray[Any]) -> NDArray[Any]:
    """An array of the file with its axes in the order of `layout.AXES`, those of one left out: a view of its memory."""
    symbols, sizes = fitted.sizes(side, bound.role)
    order = [place for axis in AXES for place, symbol in enumerate(symbols) if symbol == axis]
    rest = [place for place in range(len(symbols)) if place not in order]
    view = array.reshape(sizes).transpose([*order, *rest])
    return view.reshape(view.shape[: len(order)]) if all(sizes[place] == 1 for place in rest) else view


def by_layer(fitted: Fitted, side: str, pairs: Sequence[tuple[Bound, NDArray[Any]]]) -> Iterator[tuple[str, Float32]]:
    """Keys and values of cross attention, [A, d] of each layer."""
    layers, rows = fitted.values["L"], fitted.n_audio_ctx
    for bound, array in pairs:
        if bound.role not in ("cross", "cross_keys", "cross_values"):
            continue
        whole = canonical(fitted, side, bound, _decoded(array, bound.port)).reshape(-1, rows, fitted.values["d"])
        if bound.role == "cross":
            yield from ((f"key.{layer}", whole[layer].copy()) for layer in range(layers))
            yield from ((f"value.{layer}", whole[layers + layer].copy()) for layer in range(layers))
        else:
            name = "key" if bound.role == "cross_keys" else "value"
            yield from ((f"{name}.{(bound.layer or 0) + place}", one.copy()) for place, one in enumerate(whole))


def encoded(fitted: Fitted, outputs: Sequence[NDArray[Any]]) -> dict[str, Float32]:
    """What the encoder's file gave: "encoder_output" [1, A, d], "cross_keys" and "cross_values" [L, A, d]."""
    pairs = [(bound, outputs[bound.port.index]) for bound in fitted.encoder_outputs]
    found = {
        bound.role: canonical(fitted, "encoder_outputs", bound, _decoded(array, bound.port))[None].copy()
        for bound, array in pairs
        if bound.role == "encoder_output"
    }
    layers = dict(by_layer(fitted, "encoder_outputs", pairs))
    for role, name in (("cross_keys", "key"), ("cross_values", "value")) if layers else ():
        found[role] = np.stack([layers[f"{name}.{layer}"] for layer in range(fitted.values["L"])])
    return found


def in_type(values: NDArray[Any], port: Port) -> NDArray[Any]:
    """Numbers in the file's type; a value beyond the type's range is its infinity, as in the file."""
    kind = np.dtype(port.dtype)
    if kind.kind in "iu" and port.scale:
        limits = np.iinfo(kind)
        values = np.clip(np.rint(np.asarray(values, np.float64) / port.scale) + port.zero_point, limits.min, limits.max)
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(kind)


def _decoded(array: NDArray[Any], port: Port) -> Float32:
    if array.dtype.kind in "iu" and port.scale:
        return (array.astype(np.float32) - port.zero_point) * np.float32(port.scale)
    return np.asarray(array, np.float32)


@contextmanager
def replaced(steps: Steps, name: str, array: NDArray[Any]) -> Iterator[None]:
    """Feed another array for one input, until the context is left."""
    steps.replace(name, array)
    try:
        yield
    finally:
        steps.replace(name, None)


def same(one: Mapping[str, Float32], other: Mapping[str, Float32]) -> bool:
    """Whether all arrays of `other` are among those of `one`, bit for bit."""
    return other.keys() <= one.keys() and all(np.array_equal(one[name], other[name], equal_nan=True) for name in other)

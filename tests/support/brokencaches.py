"""Decoders with a KV cache broken in their graph, in any layout of `cachedports`: what is kept, read, opened, fed.

A fault changes one thing on the way of a token through the blocks, or what goes into the file and comes out of it; none
of them knows how the checks find it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.support import cachedports
from tests.support.cachedports import scaled
from whisper_parity.backend.contract import Facts
from whisper_parity.backend.interface import Port as FilePort
from whisper_parity.backends.split import fitting, layouts
from whisper_parity.backends.split.stepping import Core, replaced
from whisper_parity.errors import BackendError
from whisper_parity.model.dims import Dims

Pair = tuple[Tensor, Tensor]
CLOSED = -1e9
OUTSIDE = ("stacked", "cross-cached", "cross-encoder")
"""Layouts whose rows are written outside of the file."""


def same(_port: Any, _layer: int, *tensors: Tensor) -> Any:
    return tensors if len(tensors) > 1 else tensors[0]


@dataclass(frozen=True)
class Fault:
    """What is done wrongly, by the layer that it is in; None: in all."""

    cause: str
    kept: Callable[..., Pair] = same
    """(port, layer, key, value) of the current token -> what is handed to the cache."""
    mask: Callable[..., Tensor] = same
    cross: Callable[..., Pair] = same
    source: Callable[[int, int], int] = lambda layer, _: layer
    """(layer, layers) -> the layer whose cross attention is taken."""
    place: Callable[[np.ndarray], np.ndarray] = lambda table: table
    """Of the table of positions, beside the file or inside."""
    layer: int | None = None
    only: tuple[str, ...] = cachedports.LAYOUTS

    def of(self, change: Callable[..., Any], layer: int) -> Callable[..., Any]:
        """The change, where the fault is in this layer."""
        return change if self.layer in (None, layer) else same


class Walk:
    """In front of a port: the blocks on one token, with a fault."""

    fault = Fault("")

    def walk(self: Any, hidden: Tensor, join: Callable[..., Any], cross: Sequence[Pair], mask: Tensor) -> Any:
        kept, fault = [], self.fault
        for layer, block in enumerate(self.decoder.blocks):
            normed = block.attn_ln(hidden)
            row = block.attn.key(normed), block.attn.value(normed)
            keys, values, given = join(layer, *row)
            other = fault.of(fault.kept, layer)(self, layer, *row)
            kept.append(join(layer, *other)[2] if other is not row else given)
            query, opened = block.attn.query(normed), fault.of(fault.mask, layer)(self, layer, mask)
            hidden = hidden + block.attn.out(scaled(query, keys, values, self.heads, opened))
            source = fault.source(layer, len(cross)) if fault.layer in (None, layer) else layer
            pair = fault.of(fault.cross, layer)(self, layer, *cross[source])
            query = block.cross_attn.query(block.cross_attn_ln(hidden))
            hidden = hidden + block.cross_attn.out(scaled(query, *pair, self.heads, None))
            hidden = hidden + block.mlp(block.mlp_ln(hidden))
        return self.logits(hidden), kept


def layout_of(port: Any) -> str:
    """The layout of a port, by its class."""
    names = {"Stacked": "stacked", "CrossCached": "cross-cached", "CrossEncoder": "cross-encoder",
             "OneHot": "one-hot", "Sliding": "sliding"}  # fmt: skip
    return next(names[one.__name__] for one in type(port).__mro__ if one.__name__ in names)


def one_more(port: Any, _layer: int, mask: Tensor) -> Tensor:
    """The next slot opened too."""
    if layout_of(port) == "one-hot":
        return torch.maximum(mask, torch.cat([mask[..., :1], mask[..., :-1]], -1))
    if layout_of(port) == "sliding":
        return torch.maximum(mask, torch.cat([mask[..., 1:], mask[..., -1:]], -1))
    past = mask[..., :-1]
    behind = torch.cat([torch.zeros_like(past[..., :1]), past[..., :-1]], -1)
    return torch.cat([torch.maximum(past, behind), mask[..., -1:]], -1)


def newest_closed(port: Any, _layer: int, mask: Tensor) -> Tensor:
    """The slot in front of the current token's."""
    if layout_of(port) == "sliding":
        return torch.cat([mask[..., :-2], torch.full_like(mask[..., :1], CLOSED), mask[..., -1:]], -1)
    shut = torch.full_like(mask[..., :2], CLOSED)
    if layout_of(port) == "one-hot":
        next_one, second = (torch.cat([mask[..., n:], shut[..., :n]], -1) for n in (1, 2))
        return torch.where((next_one > -1) & (second < -1), torch.full_like(mask, CLOSED), mask)
    past = mask[..., :-1]
    next_one = torch.cat([past[..., 1:], shut[..., :1]], -1)
    return torch.cat([torch.where(next_one < -1, torch.full_like(past, CLOSED), past), mask[..., -1:]], -1)


def rolled(port: Any, rows: Tensor) -> Tensor:
    return rows.roll(rows.shape[-1] // port.heads, -1)


def exchanged(port: Any, rows: Tensor) -> Tensor:
    return rows.view(1, 1, port.heads, -1).transpose(2, 3).reshape(rows.shape)


FAULTS = {
    "keys for values, in layer 1": Fault("keys and values swapped", lambda _p, _l, k, v: (v, k), layer=1),
    "heads rolled": Fault("heads permuted", lambda p, _, k, v: (rolled(p, k), rolled(p, v))),
    "heads inside out": Fault("heads and their state exchanged", lambda p, _, k, v: (exchanged(p, k), exchanged(p, v))),
    "keys scaled twice": Fault(
        "kept keys scaled once more", lambda p, _, k, v: (k * (k.shape[-1] // p.heads) ** -0.25, v)
    ),
    "one slot too many": Fault("a mask that opens one slot too many", mask=one_more),
    "slot before closed": Fault("a mask that closes the slot before", mask=newest_closed),
    "no mask": Fault("a mask that closes nothing", mask=lambda _p, _l, mask: torch.zeros_like(mask)),
    "cross attention of the layer behind": Fault(
        "cross attention of another layer", source=lambda layer, count: (layer + 1) % count, layer=1
    ),
    "cross keys for values": Fault("cross keys and values swapped", cross=lambda _p, _l, k, v: (v, k)),
    "cross heads rolled": Fault(
        "heads of cross attention permuted", cross=lambda p, _, k, v: (rolled(p, k), rolled(p, v))
    ),
    "position two late": Fault("a position that is off by several", place=lambda table: np.roll(table, -2, 0)),
    "position again behind the prompt": Fault(
        "a position that begins again behind the prompt", place=lambda table: np.concatenate([table[:4], table[:-4]])
    ),
    # What no slip of the reference does: caught, and no cause is named.
    "values lost": Fault("", lambda _p, _l, k, v: (k, v * 0)),
    "keys negated": Fault("", lambda _p, _l, k, v: (-k, v)),
    "heads of the keys rolled alone": Fault("", lambda p, _, k, v: (rolled(p, k), v)),
}


class BrokenFile:
    """`Slotted` over a traced decoder of a layout with a fault, run in this process; its encoder is the model's."""

    def __init__(self, layout: str, session: Any, fault: Fault) -> None:
        model = self._model = copy.deepcopy(session._model)
        dims = Dims(**vars(model.dims))
        written = cachedports.port(layout, model)
        table = fault.place(model.decoder.positional_embedding.numpy())
        if layout in ("cross-encoder", "one-hot"):  # theirs is inside
            model.decoder.positional_embedding = nn.Parameter(torch.from_numpy(table), requires_grad=False)
        decoder: nn.Module = type("Broken", (Walk, type(written.decoder)), {"fault": fault})(model).eval()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            self._script = torch.jit.trace(decoder, written.inputs, check_trace=False)
            outputs = self._script(*written.inputs)
        ports = [[_port(*one) for one in enumerate(side)] for side in (written.inputs, outputs)]
        self.fitted = fitting.fit("decoder", layouts.shipped(), *ports, dims)
        self._held = [one.numpy().copy() for one in written.inputs]
        self._table, self._words = table, model.decoder.token_embedding.weight.numpy()
        self._core = Core(self.fitted, self._run)
        self.n_slots, self.facts, self.usage = self.fitted.n_text_ctx, Facts("file"), lambda: None
        self.encode = session.encode
        self.rewind, self.written, self.cross, self.fill = (
            self._core.rewind, self._core.written, self._core.cross, self._core.fill,
        )  # fmt: skip

    @property
    def position(self) -> int:
        return self._core.position

    def begin(self, encoder_output: np.ndarray) -> None:
        hidden = torch.from_numpy(encoder_output)[0]
        blocks = [block.cross_attn for block in self._model.decoder.blocks]
        with torch.no_grad():
            cross = {f"cross_{name}s": np.stack([getattr(one, name)(hidden).numpy() for one in blocks])
                     for name in ("key", "value")}  # fmt: skip
        self._core.begin({"encoder_output": encoder_output, **cross})

    def feed(self, token: int) -> np.ndarray:
        if self.position >= self.n_slots:
            raise BackendError("the cache is full")
        return self._core.feed(token, {"token": self._words[token], "position": self._table[self.position]})

    def inputs(self) -> tuple[str, ...]:
        return tuple(bound.key for bound in self.fitted.inputs)

    @contextmanager
    def replaced(self, name: str, array: np.ndarray) -> Iterator[None]:
        with replaced(self._core, name, array):
            yield

    def _run(self, arrays: Sequence[np.ndarray], changed: Collection[int] | None = None) -> list[np.ndarray]:
        for place in range(len(arrays)) if changed is None else changed:
            self._held[place] = np.array(arrays[place])
        with torch.no_grad():
            return [one.numpy().copy() for one in self._script(*map(torch.from_numpy, self._held))]


def _port(place: int, tensor: Tensor) -> FilePort:
    return FilePort("", place, tuple(tensor.shape), (0, 0), str(tensor.numpy().dtype))

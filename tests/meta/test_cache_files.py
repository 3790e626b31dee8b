"""Decoders with a KV cache as TorchScript, each broken in its graph or in the tables beside it: all are caught."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.meta.test_cache_faults import reference, remembering
from tests.support import cachedports
from whisper_parity.backend.contract import Facts
from whisper_parity.backend.interface import Port
from whisper_parity.backends.split import fitting, layouts
from whisper_parity.backends.split.stepping import Core, replaced
from whisper_parity.errors import BackendError
from whisper_parity.model.dims import Dims
from whisper_parity.run import cache_checks

Change = Callable[..., Any]
SLOTS = 64
"""Of the reference."""
TOKEN, SOUND, KEYS, VALUES, PLACE, MASK = range(6)


def changed_input(at: int, change: Change) -> Change:
    """The graph with one of its inputs changed."""
    return lambda run, inputs: run(*inputs[:at], change(inputs[at]), *inputs[at + 1 :])


def changed_rows(change: Change) -> Change:
    """The graph with other new keys and values, [L, 1, 1, d] each."""

    def graph(run: Change, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        logits, keys, values, *cross = run(*inputs)
        return (logits, *change(keys, values), *cross)

    return graph


def both(change: Change) -> Change:
    return changed_rows(lambda keys, values: (change(keys), change(values)))


def caches(change: Change) -> Change:
    """The graph with both caches, [L, 1, T, d], changed before they are read."""
    return lambda run, inputs: run(*inputs[:KEYS], change(inputs[KEYS]), change(inputs[VALUES]), *inputs[PLACE:])


def first_layer(change: Change) -> Change:
    return lambda rows: torch.cat([change(rows[:1]), rows[1:]])


def in_8_bits(rows: Tensor) -> Tensor:
    scale = rows.abs().amax(-1, keepdim=True) / 127
    return (rows / scale).round() * scale


def closed_at(at: int, mask: Tensor) -> Tensor:
    closed = np.zeros((1, 1, 1, SLOTS + 1), np.float32)
    closed[..., at] = -1e9
    return mask + torch.from_numpy(closed)


def one_more(mask: Tensor) -> Tensor:
    return torch.maximum(mask, torch.cat([torch.zeros(1, 1, 1, 1), mask[..., :-1]], -1))


def one_fewer(mask: Tensor) -> Tensor:
    shifted = torch.cat([mask[..., 1:-1], torch.full((1, 1, 1, 1), -1e9), mask[..., -1:]], -1)
    return torch.minimum(mask, shifted)


GRAPHS: dict[str, tuple[Change, str]] = {
    "keys for values": (changed_rows(lambda keys, values: (values, keys)), "keys and values swapped"),
    "heads rolled": (both(lambda rows: rows.roll(8, -1)), "heads permuted"),
    "layers rolled": (both(lambda rows: rows.roll(1, 0)), "rows written to the layer behind"),
    "cache in 8 bits": (both(in_8_bits), "a cache in 8 bits"),
    "cache in half precision": (both(lambda rows: rows.half().float()), "a cache in half precision"),
    "heads rolled in one layer": (both(first_layer(lambda rows: rows.roll(8, -1))), "heads permuted"),
    "cache in 8 bits in one layer": (both(first_layer(in_8_bits)), "a cache in 8 bits"),
    "mask opens all": (changed_input(MASK, lambda mask: mask * 1e-9), "a mask that closes nothing"),
    "mask is not finite": (changed_input(MASK, lambda mask: mask * np.inf), "a mask that overflows half precision"),
    "oldest slot closed": (changed_input(MASK, lambda mask: closed_at(0, mask)), "a mask that closes the oldest slot"),
    "current token closed": (changed_input(MASK, lambda mask: closed_at(-1, mask)), "the current token masked"),
    "slot before closed": (changed_input(MASK, one_fewer), "a mask that closes the slot before"),
    "one slot too many": (changed_input(MASK, one_more), "a mask that opens one slot too many"),
    "no past": (changed_input(MASK, lambda mask: mask + ALONE), "no past attended"),
    "no position": (changed_input(PLACE, lambda row: row * 0), "no position row"),
    "layers read rolled": (caches(lambda cache: cache.roll(1, 0)), "rows written to the layer behind"),
    "heads read rolled": (caches(lambda cache: cache.roll(8, -1)), "heads permuted"),
    # What no slip of the reference does: caught, and no cause is named.
    "keys twice as large": (changed_rows(lambda keys, values: (keys * 2, values)), ""),
    "values lost": (changed_rows(lambda keys, values: (keys, values * 0)), ""),
    "keys turned round": (changed_rows(lambda keys, values: (keys.flip(-1), values)), ""),
}
TABLES: dict[str, tuple[Change, str]] = {
    "late": (lambda table: np.roll(table, -1, 0), "a position that is off by one"),
    "frozen": (lambda table: table[np.minimum(np.arange(len(table)), 5)], "a position that stands still"),
    "first row": (lambda table: table[np.zeros(len(table), int)], "a position that stands still"),
    "zero": (lambda table: table * 0, "no position row"),
    "another": (lambda table: sinusoids(table), "position rows of the encoder's table"),
}
ALONE = torch.cat([torch.full((1, 1, 1, SLOTS), -1e9), torch.zeros(1, 1, 1, 1)], -1)


def sinusoids(table: np.ndarray) -> np.ndarray:
    rows = reference()._model.encoder.positional_embedding.numpy()
    return np.concatenate([rows, table[len(rows) :]])


class Graph(torch.nn.Module):
    """A decoder of layout "stacked" with a fault in front of it or behind it."""

    def __init__(self, decoder: torch.nn.Module, change: Change) -> None:
        super().__init__()
        self.decoder, self.change = decoder, change

    def forward(
        self, token_embeddings, encoder_output, past_self_keys, past_self_values, position_embed, self_attn_mask,
        cached_cross_keys, cached_cross_values,
    ):  # fmt: skip
        past = past_self_keys, past_self_values
        cross = cached_cross_keys, cached_cross_values
        inputs = (token_embeddings, encoder_output, *past, position_embed, self_attn_mask, *cross)
        return self.change(self.decoder, inputs)


class FileStepper:
    """`Slotted` over a traced file of layout "stacked", run in this process."""

    def __init__(self, change: Change, position: Change = lambda table: table) -> None:
        port = cachedports.port("stacked", reference()._model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            self._script = torch.jit.trace(Graph(port.decoder, change), port.inputs, check_trace=False)
        outputs = self._script(*port.inputs)
        ports = [[_port(place, one) for place, one in enumerate(side)] for side in (port.inputs, outputs)]
        self.fitted = fitting.fit("decoder", layouts.shipped(), *ports, Dims(**vars(reference()._model.dims)))
        self._held = [one.numpy().copy() for one in port.inputs]
        self._core = Core(self.fitted, self._run)
        self._table = position(reference()._model.decoder.positional_embedding.numpy())
        self.n_slots, self.facts, self.usage = self.fitted.n_text_ctx, Facts("file"), lambda: None
        self.encode = reference().encode
        self.rewind, self.written, self.cross, self.fill = (
            self._core.rewind, self._core.written, self._core.cross, self._core.fill,
        )  # fmt: skip

    @property
    def position(self) -> int:
        return self._core.position

    def begin(self, encoder_output):
        self._core.begin({"encoder_output": encoder_output})

    def feed(self, token):
        if self.position >= self.n_slots:
            raise BackendError("the cache is full")
        words = reference()._model.decoder.token_embedding.weight.numpy()
        return self._core.feed(token, {"token": words[token], "position": self._table[self.position]})

    def inputs(self):
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


def _port(place: int, tensor: Tensor) -> Port:
    return Port("", place, tuple(tensor.shape), (0, 0), str(tensor.numpy().dtype))


@cache
def features() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, 8, 48)).astype(np.float32)


def checked(stepper: FileStepper, *, is_whole: bool = False) -> list[tuple[str, bool]]:
    found = cache_checks.faults(stepper, remembering(), features(), is_whole=is_whole)
    return [(fault.kind, fault.fails) for fault in found]


def test_a_sound_file_raises_no_alarm():
    """Its two dead inputs are said."""
    assert checked(FileStepper(lambda run, inputs: run(*inputs))) == [("dead input", False)] * 2


def test_slots_that_are_not_read_are_found_where_the_cache_is_filled():
    """The last eight of 64: no short clip shows it; `--state` does."""
    lost = torch.cat([torch.ones(1, 1, SLOTS - 8, 1), torch.zeros(1, 1, 8, 1)], 2)
    stepper = FileStepper(caches(lambda cache: cache * lost))
    assert checked(stepper)[0] == ("dead input", False)
    assert checked(stepper, is_whole=True)[0] == ("", True)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_fault_in_the_graph_is_caught(name: str):
    change, kind = GRAPHS[name]
    precise = kind in ("a cache in 8 bits", "a cache in half precision")
    assert checked(FileStepper(change))[0] == (kind, not precise)


@pytest.mark.parametrize("name", TABLES)
def test_a_fault_in_the_table_of_positions_is_caught(name: str):
    change, kind = TABLES[name]
    assert checked(FileStepper(lambda run, inputs: run(*inputs), change))[0] == (kind, True)

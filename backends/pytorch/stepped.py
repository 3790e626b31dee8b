"""The reference decoder one token at a time, with a cache that can be kept wrongly: a port's is held against it.

Written out from openai-whisper's `ResidualAttentionBlock` with the checkpoint's own modules; it gives the rows of its
`TextDecoder`, which a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from whisper.model import Whisper

from whisper_parity.backend.contract import Facts, Float32
from whisper_parity.backend.facets import Slip
from whisper_parity.errors import BackendError

CLOSED = -1e9
WEAK = -1.0
"""A mask that closes nothing: what is left of -1e9 behind a scale, say."""
NOT_RESET, STALE_ROWS, NO_REWIND, SHORT_REWIND = (
    "a cache that is not reset between clips", "rows of the clip before attended", "a rewind that does not go back",
    "a rewind that goes back one token too few",
)  # fmt: skip
SLOT_LATE, SKIPPED, ONE_SLOT, LAYER_OFF, TWICE, SHARED, ADDED, LAGGING = (
    "rows written one slot too far", "a slot that is not written", "every row written to the first slot",
    "rows written to the layer behind", "rows written to the layer in front too",
    "all layers on the first one's cache", "rows added to what their slot held", "rows of the step before written",
)  # fmt: skip
SWAPPED, HEADS, INSIDE_OUT, SCALED, LATE_VALUES, FP16, INT8 = (
    "keys and values swapped", "heads permuted", "heads and their state exchanged", "kept keys scaled once more",
    "values written one slot too far", "a cache in half precision", "a cache in 8 bits",
)  # fmt: skip
FROZEN, POSITION, FAR_OFF, RESTART, NO_POSITION, TWO_POSITIONS, TABLE = (
    "a position that stands still", "a position that is off by one", "a position that is off by several",
    "a position that begins again behind the prompt", "no position row", "the position's row added twice",
    "position rows of the encoder's table",
)  # fmt: skip
MANY, OLDEST, NEWEST, CURRENT, NAN, LEAK, ALONE = (
    "a mask that opens one slot too many", "a mask that closes the oldest slot", "a mask that closes the slot before",
    "the current token masked", "a mask that overflows half precision", "a mask that closes nothing",
    "no past attended",
)  # fmt: skip
STALE_CROSS, CROSS_LAYER, CROSS_ONE, CROSS_SWAPPED, CROSS_HEADS = (
    "cross attention on the clip before", "cross attention of another layer", "cross attention of one layer in all",
    "cross keys and values swapped", "heads of cross attention permuted",
)  # fmt: skip
TWICE_FED, PADDED, RING = (
    "the first token fed twice", "padding in front of the prompt attended", "slots overwritten at the limit of context",
)  # fmt: skip
WHOLE = (
    NOT_RESET, STALE_ROWS, NO_REWIND, SHORT_REWIND, NO_POSITION, TWO_POSITIONS, TABLE, NAN, TWICE_FED, RING,
    STALE_CROSS, SHARED, ADDED, LAGGING,
)  # fmt: skip
OF_LAYERS = (
    SLOT_LATE, ONE_SLOT, LAYER_OFF, TWICE, SWAPPED, HEADS, INSIDE_OUT, LATE_VALUES, FP16, INT8, MANY, OLDEST, NEWEST,
    CURRENT, LEAK, ALONE, CROSS_LAYER, CROSS_SWAPPED, CROSS_HEADS,
)  # fmt: skip
FORMATS = (FP16, INT8)
BEHIND = (
    SLOT_LATE, SKIPPED, ONE_SLOT, LAYER_OFF, TWICE, SHARED, ADDED, LAGGING, SWAPPED, HEADS, INSIDE_OUT, SCALED,
    LATE_VALUES, *FORMATS, MANY,
)  # fmt: skip
"""Of what is kept: a decoder that appends the current token's row to its cache sees that one as it should be.

Where such a decoder opens a slot too many, it is the one that the current row will be written to.
"""
NUMBERED = {
    SKIPPED: range(12), FROZEN: range(12), POSITION: (1, -1), FAR_OFF: (2, -2, 3, -3, 4, -4), RESTART: (3, 4),
    PADDED: (1, 2, 3, 4), SCALED: (4, 2), LAYER_OFF: (-1,), CROSS_LAYER: (-1,),
    MANY: (-1,),
}  # fmt: skip
"""Of what is scaled: which root of a head's state the keys are divided by. Of layers: where not to the one behind. Of a
mask: the slot in front of the oldest, in a cache that slides; nothing was ever written there.
"""
FEW_LAYERS = 8
"""Up to which every layer's cross attention is tried in each; of more, its neighbours'."""


def slips(layers: int) -> tuple[Slip, ...]:
    """Everything that can be made, in all layers first, then in each."""
    numbered = [Slip(kind, None, number) for kind, numbers in NUMBERED.items() for number in numbers]
    everywhere = [Slip(kind, is_precision=kind in FORMATS) for kind in (*WHOLE, *OF_LAYERS)]
    each = [Slip(kind, layer, is_precision=kind in FORMATS) for kind in OF_LAYERS for layer in range(layers)]
    each += [Slip(MANY, layer, -1) for layer in range(layers)]
    sound_now = (*everywhere, *numbered, *((*each, *_across(layers)) if layers > 1 else ()))
    return (
        *sound_now,
        *(replace(slip, is_behind=True) for slip in sound_now if slip.kind in BEHIND and slip.number >= 0),
    )


def _across(layers: int) -> Iterator[Slip]:
    """Cross attention of one layer in another, and in all of them; the layer behind is among `OF_LAYERS`."""
    for layer, source in product(range(layers), repeat=2):
        if source not in (layer, (layer + 1) % layers) and (layers <= FEW_LAYERS or source == layer - 1):
            yield Slip(CROSS_LAYER, layer, source=source)
    yield from (Slip(CROSS_ONE, source=source) for source in range(layers) if layers > 2)  # of two it is one layer's


class Projected:
    """Keys and values of cross attention, [n_audio_ctx, n_text_state] each of every layer, of the last two sounds."""

    def __init__(self, decoder: Any) -> None:
        self._blocks = decoder.blocks
        self._kept: list[tuple[Float32, list[tuple[Tensor, Tensor]]]] = []

    def of(self, encoder_output: Float32) -> list[tuple[Tensor, Tensor]]:
        """Of float32 [1, n_audio_ctx, n_audio_state]; every slip is tried on the same ones."""
        pairs = next((pairs for sound, pairs in self._kept if np.array_equal(sound, encoder_output)), None)
        if pairs is None:
            with torch.no_grad():
                hidden = torch.from_numpy(encoder_output)[0]
                pairs = [(block.cross_attn.key(hidden), block.cross_attn.value(hidden)) for block in self._blocks]
            self._kept = [*self._kept[-1:], (encoder_output.copy(), pairs)]
        return pairs


class Stepped:
    """Implement `whisper_parity.backend.facets.Slotted` over the checkpoint's modules."""

    def __init__(self, model: Whisper, slip: Slip | None, label: str, projected: Projected | None = None) -> None:
        self._model, self._decoder, self._slip = model, model.decoder, slip
        self._projected = projected or Projected(model.decoder)
        self._layers, self._state = len(model.decoder.blocks), model.dims.n_text_state
        self.n_slots = model.dims.n_text_ctx
        shape = (2, self._layers, self.n_slots + 1, self._state)
        self._rows = torch.zeros(shape)  # one slot more than there are: what is written too far lies there
        self._cross: list[tuple[Tensor, Tensor]] = []
        self._written: dict[str, Float32] = {}
        self._before: dict[int, Tensor] = {}
        self._used = 0
        self.position = 0
        self.facts = Facts(f"{label}, stepped")

    def usage(self) -> None:
        """It runs on this machine."""

    def encode(self, input_features: Float32) -> Float32:
        """See `Stepper`."""
        with torch.no_grad():
            return np.asarray(self._model.encoder(torch.from_numpy(input_features)).numpy())

    def begin(self, encoder_output: Float32) -> None:
        """See `Stepper`."""
        self._used = self.position
        if not self._is(NOT_RESET):
            self.position = 0
            if not self._is(STALE_ROWS):
                self._rows.zero_()
        if not (self._cross and self._is(STALE_CROSS)):
            self._cross = self._projected.of(encoder_output)

    def feed(self, token: int) -> Float32:
        """See `Stepper`.

        Raises:
            BackendError: the cache is full.
        """
        if self.position == 0 and self._is(TWICE_FED):
            self._step(token)
        if self.position == 0 and self._is(PADDED):
            for _ in range(self._number):
                self._step(0)
        return self._step(token)

    def rewind(self, count: int) -> None:
        """See `Stepper`."""
        if not self._is(NO_REWIND):
            self.position -= max(count - self._is(SHORT_REWIND), 0)

    def written(self) -> dict[str, Float32]:
        """See `Slotted`."""
        return dict(self._written)

    def cross(self) -> dict[str, Float32]:
        """See `Slotted`."""
        pairs = [self._cross_of(layer) for layer in range(self._layers)]
        return {
            f"{name}.{i}": pair[j].numpy() for i, pair in enumerate(pairs) for j, name in enumerate(("key", "value"))
        }

    def fill(self, value: float) -> None:
        """See `Slotted`."""
        self._rows[:, :, self.position : self.n_slots] = value

    def inputs(self) -> tuple[str, ...]:
        """It is no file."""
        return ()

    @contextmanager
    def replaced(self, name: str, array: NDArray[Any]) -> Iterator[None]:
        """See `Slotted`.

        Raises:
            BackendError: it is no file.
        """
        raise BackendError(f"no input {name!r:.60}")
        yield

    @property
    def _number(self) -> int:
        return self._slip.number if self._slip else 0

    def _is(self, kind: str, layer: int | None = None) -> bool:
        slip = self._slip
        return slip is not None and slip.kind == kind and (slip.layer is None or slip.layer == layer)

    def _step(self, token: int) -> Float32:
        if self.position >= self.n_slots:
            if not self._is(RING):
                raise BackendError(f"the cache is full: it has room for {self.n_slots} tokens")
            self.position = 0
        with torch.no_grad():
            hidden = self._decoder.token_embedding.weight[token] + self._place()
            for layer in range(self._layers):
                hidden = self._block(layer, hidden)
            logits = self._decoder.ln(hidden) @ self._decoder.token_embedding.weight.T
        self.position += 1
        return np.asarray(logits.numpy())

    def _place(self) -> Tensor:
        place, table = self.position, self._decoder.positional_embedding
        if self._is(FROZEN):
            place = min(place, self._number)
        if self._is(POSITION) or self._is(FAR_OFF):
            place += self._number
        if self._is(RESTART) and place >= self._number:
            place -= self._number
        if self._is(TABLE) and self._model.dims.n_audio_state == self._state:
            table = self._model.encoder.positional_embedding  # type: ignore[assignment]
        row: Tensor = table[min(max(place, 0), len(table) - 1)]
        return row * (0 if self._is(NO_POSITION) else 1 + self._is(TWO_POSITIONS))

    def _block(self, layer: int, hidden: Tensor) -> Tensor:
        block: Any = self._decoder.blocks[layer]
        normed = block.attn_ln(hidden)
        row = torch.stack([block.attn.key(normed), block.attn.value(normed)])
        self._written |= {f"key.{layer}": row[0].numpy(), f"value.{layer}": row[1].numpy()}
        is_behind = self._slip is not None and self._slip.is_behind
        if not is_behind:
            self._store(layer, self._kept(layer, row))
        rows = self._rows[:, 0 if self._is(SHARED) else layer].clone()
        if is_behind:
            rows[:, self.n_slots] = rows[:, self.position]  # what lies where the current row will be written
            rows[:, self.position] = row
            self._store(layer, self._kept(layer, row))
        self._before[layer] = row
        keys, values = rows
        hidden = hidden + block.attn.out(self._attend(block.attn.query(normed), keys, values, self._mask(layer)))
        query = block.cross_attn.query(block.cross_attn_ln(hidden))
        hidden = hidden + block.cross_attn.out(self._attend(query, *self._cross_of(layer), None))
        moved: Tensor = hidden + block.mlp(block.mlp_ln(hidden))
        return moved

    def _kept(self, layer: int, row: Tensor) -> Tensor:
        """Keys and values [2, d] in the form in which they are kept."""
        if self._is(SWAPPED, layer):
            row = row.flip(0)
        if self._is(HEADS, layer):
            row = row.roll(self._state // self._model.dims.n_text_head, 1)
        if self._is(INSIDE_OUT, layer):
            row = row.view(2, self._model.dims.n_text_head, -1).transpose(1, 2).reshape(2, -1)
        if self._is(SCALED):
            row = torch.stack([row[0] * (self._state // self._model.dims.n_text_head) ** (-1 / self._number), row[1]])
        if self._is(LAGGING):
            row = self._before.get(layer, torch.zeros_like(row))
        if self._is(FP16, layer):
            row = row.half().float()
        if self._is(INT8, layer):
            scale = row.abs().amax(1, keepdim=True) / 127
            row = (row / scale).round() * scale
        return row

    def _store(self, layer: int, row: Tensor) -> None:
        slot = 0 if self._is(ONE_SLOT, layer) else self.position + self._is(SLOT_LATE, layer)
        if self._is(SKIPPED) and slot == self._number:
            return
        at = (layer + (self._number or 1)) % self._layers if self._is(LAYER_OFF, layer) else layer
        if self._is(ADDED):
            row = row + self._rows[:, at, slot]
        self._rows[0, at, slot] = row[0]
        self._rows[1, at, slot + self._is(LATE_VALUES, layer)] = row[1]
        if self._is(TWICE, layer) and layer:
            self._rows[:, layer - 1, slot] = row

    def _mask(self, layer: int) -> Tensor:
        now = self.position
        mask = torch.full((self.n_slots + 1,), WEAK if self._is(LEAK, layer) else CLOSED)
        mask[: max(now, self._used if self._is(STALE_ROWS) else 0) + 1] = 0
        if self._is(OLDEST, layer) and now:
            mask[0] = CLOSED
        if self._is(NEWEST, layer) and now:
            mask[now - 1] = CLOSED
        if self._is(CURRENT, layer):
            mask[now] = CLOSED
        if self._is(ALONE, layer):
            mask[:now] = CLOSED
        mask[self.n_slots] = -torch.inf  # no slot
        if self._is(MANY, layer):
            mask[self._surplus()] = 0
        return mask * torch.nan if self._is(NAN) else mask

    def _surplus(self) -> int:
        """The slot that is one too many."""
        if self._number < 0:
            return int(self.n_slots) - 1
        return int(self.n_slots) if self._slip and self._slip.is_behind else self.position + 1

    def _cross_of(self, layer: int) -> tuple[Tensor, Tensor]:
        source = layer
        if self._is(CROSS_LAYER, layer) or self._is(CROSS_ONE):
            given = self._slip.source if self._slip else None
            source = (layer + (self._number or 1)) % self._layers if given is None else given
        keys, values = self._cross[source]
        if self._is(CROSS_HEADS, layer):
            keys, values = (one.roll(self._state // self._model.dims.n_text_head, 1) for one in (keys, values))
        return (values, keys) if self._is(CROSS_SWAPPED, layer) else (keys, values)

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """[d] on [n, d], by heads, as the checkpoint's attention scales it."""
        heads = self._model.dims.n_text_head
        q, k, v = (one.view(-1, heads, self._state // heads).transpose(0, 1) for one in (query, keys, values))
        scores = q @ k.transpose(1, 2) * (self._state // heads) ** -0.5
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        mixed: Tensor = weights @ v
        return mixed.transpose(0, 1).reshape(-1)

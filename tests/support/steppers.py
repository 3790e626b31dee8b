"""A small Whisper decoder with a KV cache in memory, in numpy, and every way of keeping the cache wrongly by a word.

Written apart from the reference's (`backends/pytorch/stepped.py`): rows are appended to lists, and there is no mask but
the choice of rows that a step attends to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from scipy.special import erf

from whisper_parity.backend.contract import Facts
from whisper_parity.backend.facets import Slip
from whisper_parity.errors import BackendError, ParityError

FAULTS = {
    "not reset": "a cache that is not reset between clips",
    "stale rows": "rows of the clip before attended",
    "slot late": "rows written one slot too far",
    "slot skipped": "a slot that is not written",
    "one slot": "every row written to the first slot",
    "layer off": "rows written to the layer behind",
    "written twice": "rows written to the layer in front too",
    "swapped": "keys and values swapped",
    "heads": "heads permuted",
    "values late": "values written one slot too far",
    "fp16": "a cache in half precision",
    "int8": "a cache in 8 bits",
    "frozen": "a position that stands still",
    "position zero": "a position that stands still",
    "position late": "a position that is off by one",
    "position early": "a position that is off by one",
    "no position": "no position row",
    "table": "position rows of the encoder's table",
    "one too many": "a mask that opens one slot too many",
    "oldest closed": "a mask that closes the oldest slot",
    "newest closed": "a mask that closes the slot before",
    "current masked": "the current token masked",
    "overflow": "a mask that overflows half precision",
    "leak": "a mask that closes nothing",
    "alone": "no past attended",
    "stale cross": "cross attention on the clip before",
    "cross layer": "cross attention of another layer",
    "cross swapped": "cross keys and values swapped",
    "fed twice": "the first token fed twice",
    "padded": "padding in front of the prompt attended",
    "no rewind": "a rewind that does not go back",
    "short rewind": "a rewind that goes back one token too few",
    "ring": "slots overwritten at the limit of context",
    "shared": "all layers on the first one's cache",
    "added": "rows added to what their slot held",
    "lagging": "rows of the step before written",
    "inside out": "heads and their state exchanged",
    "scaled": "kept keys scaled once more",
    "position two late": "a position that is off by several",
    "position restarts": "a position that begins again behind the prompt",
    "position twice": "the position's row added twice",
    "cross heads": "heads of cross attention permuted",
}
"""By seeded fault, the cause that is to be named."""
OPENS_AT = {"opens at step 0": 0, "opens at step 1": 1, "opens at the last step": -1}
"""Steps at which alone the slot behind the current one is open, too: no known slip."""
IN_A_LAYER = (
    "slot late", "one slot", "layer off", "swapped", "heads", "values late", "one too many", "oldest closed",
    "newest closed", "current masked", "leak", "alone", "cross layer", "cross swapped",
)  # fmt: skip


class MemoryStepper:
    """`Slotted` over a model's weights; `noise` rounds every row of logits to that share of its largest number."""

    def __init__(self, model: Any, fault: str = "", layer: int | None = None, noise: float = 0.0) -> None:
        self.dims, self.fault, self.layer, self.noise = model.dims, fault, layer, noise
        self.model = model
        self.weights = {name: tensor.numpy() for name, tensor in model.decoder.state_dict().items()}
        self.n_slots, self.position = model.dims.n_text_ctx, 0
        self.n = len(model.decoder.blocks)
        shape = (2, self.n, self.n_slots + 2, model.dims.n_text_state)
        self.cache = np.zeros(shape, np.float32)
        self.sound: np.ndarray | None = None
        self.now: dict[str, np.ndarray] = {}
        self.before, self.instead = 0, None
        self.lag: dict[int, list[np.ndarray]] = {}
        self.facts = Facts("in memory")

    def usage(self) -> None:
        return None

    @property
    def state(self) -> int:
        """Of a head."""
        return self.dims.n_text_state // self.dims.n_text_head

    def has(self, fault: str, layer: int | None = None) -> bool:
        return self.fault == fault and (self.layer is None or layer is None or self.layer == layer)

    def encode(self, features):
        import torch

        with torch.no_grad():
            return self.model.encoder(torch.from_numpy(features)).numpy()

    def begin(self, encoder_output):
        self.before = self.position
        if not self.has("not reset"):
            self.position = 0
        if not self.has("not reset") and not self.has("stale rows"):
            self.cache[:] = 0
        if self.sound is None or not self.has("stale cross"):
            self.sound = encoder_output[0].copy()
            if self.instead is not None:
                self.sound[:] = self.instead

    def feed(self, token):
        if self.position == 0 and self.has("fed twice"):
            self.step(token)
        if self.position == 0 and self.has("padded"):
            self.step(0)
            self.step(0)
        return self.step(token)

    def rewind(self, count):
        if self.has("no rewind"):
            return
        self.position -= max(0, count - (1 if self.has("short rewind") else 0))

    def written(self):
        return dict(self.now)

    def cross(self):
        return {
            f"{n}.{i}": self.project(i, f"cross_attn.{n}", self.sound) for i in range(self.n) for n in ("key", "value")
        }

    def fill(self, value):
        self.cache[:, :, self.position : self.n_slots] = value

    def inputs(self):
        return ("sound", "unused")

    @contextmanager
    def replaced(self, name: str, array: np.ndarray) -> Iterator[None]:
        self.instead = array.reshape(-1)[0] if name == "sound" else None
        yield
        self.instead = None

    def project(self, layer, name, array):
        weight = self.weights[f"blocks.{layer}.{name}.weight"]
        bias = self.weights.get(f"blocks.{layer}.{name}.bias")
        return array @ weight.T + (0 if bias is None else bias)

    def norm(self, name, array):
        centred = array - array.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def place(self):
        place, table = self.position, self.weights["positional_embedding"]
        if self.has("frozen"):
            place = min(place, 3)
        if self.has("position zero"):
            place = 0
        if self.has("position restarts") and place >= 4:
            place -= 4
        place += self.has("position late") - self.has("position early") + 2 * self.has("position two late")
        if self.has("table"):
            table = self.model.encoder.positional_embedding.numpy()
        times = 0 if self.has("no position") else 1 + self.has("position twice")
        return table[max(0, min(place, len(table) - 1))] * times

    def step(self, token):
        if self.position >= self.n_slots:
            if not self.has("ring"):
                raise BackendError("the cache is full")
            self.position = 0
        hidden = self.weights["token_embedding.weight"][token] + self.place()
        for layer in range(self.n):
            hidden = self.block(layer, hidden)
        logits = self.norm("ln", hidden) @ self.weights["token_embedding.weight"].T
        self.position += 1
        if self.has("overflow"):
            logits = logits * np.nan
        if self.noise:
            grain = np.abs(logits).max() * self.noise
            logits = np.round(logits / grain) * grain
        return logits.astype(np.float32)

    def block(self, layer, hidden):
        at = f"blocks.{layer}"
        normed = self.norm(f"{at}.attn_ln", hidden)
        pair = [self.project(layer, f"attn.{name}", normed) for name in ("key", "value")]
        self.now |= {f"key.{layer}": pair[0].copy(), f"value.{layer}": pair[1].copy()}
        self.store(layer, pair)
        slots = self.open(layer)
        keys, values = self.cache[:, 0 if self.has("shared") else layer, slots or range(self.n_slots)]
        query = self.project(layer, "attn.query", normed) * bool(slots)  # beside -1e9 everywhere no score is left
        mixed = self.attend(query, keys, values)
        hidden = hidden + self.project(layer, "attn.out", mixed)
        source = (layer + 1) % self.n if self.has("cross layer", layer) else layer
        keys, values = (self.project(source, f"cross_attn.{name}", self.sound) for name in ("key", "value"))
        if self.has("cross heads"):
            keys, values = (np.roll(one, self.state, -1) for one in (keys, values))
        if self.has("cross swapped", layer):
            keys, values = values, keys
        query = self.project(layer, "cross_attn.query", self.norm(f"{at}.cross_attn_ln", hidden))
        hidden = hidden + self.project(layer, "cross_attn.out", self.attend(query, keys, values))
        wide = self.project(layer, "mlp.0", self.norm(f"{at}.mlp_ln", hidden))
        return hidden + self.project(layer, "mlp.2", wide * 0.5 * (1 + erf(wide / np.sqrt(2))))

    def store(self, layer, pair):
        key, value = pair
        if self.has("swapped", layer):
            key, value = value, key
        if self.has("heads", layer):
            key, value = (np.roll(one, len(one) // self.dims.n_text_head) for one in (key, value))
        if self.has("inside out"):
            key, value = (one.reshape(self.dims.n_text_head, -1).T.reshape(-1) for one in (key, value))
        if self.has("scaled"):
            key = key * self.state**-0.25
        if self.has("lagging"):
            (key, value), self.lag[layer] = self.lag.get(layer, [key * 0, value * 0]), [key, value]
        if self.has("fp16", layer):
            key, value = key.astype(np.float16), value.astype(np.float16)
        if self.has("int8", layer):
            key, value = (np.rint(one * (127 / np.abs(one).max())) * (np.abs(one).max() / 127) for one in (key, value))
        slot = 0 if self.has("one slot", layer) else self.position + self.has("slot late", layer)
        if self.has("slot skipped") and slot == 5:
            return
        to = (layer + 1) % self.n if self.has("layer off", layer) else layer
        if self.has("added"):
            key, value = key + self.cache[0, to, slot], value + self.cache[1, to, slot]
        self.cache[0, to, slot] = key
        self.cache[1, to, slot + self.has("values late", layer)] = value
        if self.has("written twice", layer) and layer:
            self.cache[:, layer - 1, slot] = key, value

    def open(self, layer):
        """Slots that a step attends to."""
        now = self.position
        slots = list(range(now + 1))
        only_at = OPENS_AT.get(self.fault)
        if self.has("one too many", layer) or (only_at is not None and now == only_at % (self.n_slots - 1)):
            slots.append(now + 1)
        if self.has("oldest closed", layer) and now:
            slots.remove(0)
        if self.has("newest closed", layer) and now:
            slots.remove(now - 1)
        if self.has("current masked", layer):
            slots.remove(now)
        if self.has("alone", layer):
            slots = [now]
        if self.has("stale rows"):
            slots = list(range(max(now, self.before) + 1))
        if self.has("leak", layer):
            return list(range(self.n_slots))
        return slots

    def attend(self, query, keys, values):
        heads = self.dims.n_text_head
        q, k, v = (one.reshape(-1, heads, query.shape[-1] // heads).transpose(1, 0, 2) for one in (query, keys, values))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        return (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(-1)


class Remembering:
    """`Rehearsing` that computes what a slip gives once, however many decoders are held against it."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._given: dict[Slip | None, dict[tuple, Any]] = {}
        self.encode, self.decode, self.facts, self.usage = (
            session.encode, session.decode, session.facts, session.usage,
        )  # fmt: skip

    def slips(self) -> Sequence[Slip]:
        return self._session.slips()

    def stepped(self, slip: Slip | None) -> RememberedStepper:
        return RememberedStepper(lambda: self._session.stepped(slip), self._given.setdefault(slip, {}))


class RememberedStepper:
    """A stepper that answers by what was asked of it so far; it is run only where that was never asked before."""

    def __init__(self, make: Any, given: dict[tuple, Any]) -> None:
        self._make, self._given = make, given
        self._asked: tuple[tuple[str, Any], ...] = ()
        self._arguments: list[tuple[str, Any]] = []
        self._real: Any = None
        self._done = 0

    def begin(self, encoder_output):
        self._ask("begin", encoder_output, (encoder_output.shape, hash(encoder_output.tobytes())))

    def feed(self, token):
        return self._ask("feed", token, token)

    def rewind(self, count):
        self._ask("rewind", count, count)

    def fill(self, value):
        self._ask("fill", value, value)

    def written(self):
        return self._ask("written", None, None)

    def cross(self):
        return self._ask("cross", None, None)

    def _ask(self, name: str, argument: Any, key: Any) -> Any:
        self._asked = (*self._asked, (name, key))
        self._arguments.append((name, argument))
        if self._asked not in self._given:
            self._given[self._asked] = self._answer()
        answer = self._given[self._asked]
        if isinstance(answer, ParityError):
            raise answer
        return answer

    def _answer(self) -> Any:
        """What the stepper says, which is brought to where it was before."""
        self._real = self._real or self._make()
        *before, last = self._arguments[self._done :]
        for name, argument in before:
            with suppress(ParityError):
                self._call(name, argument)
        self._done = len(self._arguments)
        try:
            return self._call(*last)
        except ParityError as error:
            return error

    def _call(self, name: str, argument: Any) -> Any:
        return getattr(self._real, name)(*(() if argument is None else (argument,)))

"""The checkpoint's tensors, as they are looked for in a file: whole, in parts, scaled, with a norm folded in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.constants import Float32
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims
from whisper_parity.model.formats import canonical

TABLE = "decoder.token_embedding.weight"
"""Token embedding, and where a checkpoint has no other one the output projection."""
PROJECTION = "decoder.projection.weight"
"""What an output projection of its own is called here; openai-whisper has none."""
SCALED = re.compile(r"\.(query|key)\.(weight|bias)$")
"""Tensors that converters multiply with a share of 1 / sqrt(width of a head)."""
NORMS = {
    "attn_ln": ("attn.query", "attn.key", "attn.value"),
    "cross_attn_ln": ("cross_attn.query",),
    "mlp_ln": ("mlp.0",),
}
"""Linear layers behind each norm of a block: its gain and shift can be folded into them."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an array along one axis."""

    axis: int
    start: int
    stop: int

    def of(self, values: Any) -> Any:
        """The part, a view."""
        return values[(slice(None),) * self.axis + (slice(self.start, self.stop),)]

    def __str__(self) -> str:
        return f"{'columns' if self.axis else 'rows'} {self.start} to {self.stop - 1}"


@dataclass(frozen=True, slots=True)
class Target:
    """What is looked for: a tensor of the checkpoint, or what a converter makes of it."""

    tensor: str
    span: Span | None = None
    """The part of it; None for all of it."""
    power: float = 0.0
    """It is multiplied with (width of a head) ** power: 0, -0.25 or -0.5."""
    norm: str = ""
    """The norm whose gain and shift are folded in: "encoder.blocks.0.attn_ln"."""

    def __str__(self) -> str:
        """In words, behind the tensor's name."""
        parts = [str(self.span)] if self.span else []
        parts += [f"times head width ** {self.power:g}"] if self.power else []
        return ", ".join([*parts, *([f"{self.norm} folded in"] if self.norm else [])])


class Weights:
    """The tensors of a checkpoint, mapped from its file."""

    def __init__(self, tensors: Mapping[str, Any], dims: Dims) -> None:
        """Take torch tensors by name."""
        self._tensors = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
        self.dims = dims

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the checkpoint's order."""
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        return tuple(self._tensors[name].shape)

    def values(self, name: str) -> Float32:
        """A tensor as float32."""
        array: Float32 = self._tensors[name].detach().float().contiguous().numpy()
        return array

    def target(self, wanted: Target) -> Float32:
        """What is looked for, float32; sums of folding are taken in float64."""
        values = self._folded(wanted) if wanted.norm else self.values(wanted.tensor)
        if wanted.power:
            values = values * np.float32(self.head_width(wanted.tensor) ** wanted.power)
        return np.asarray(wanted.span.of(values) if wanted.span else values, np.float32)

    def sample(self, wanted: Target, positions: NDArray[np.int64]) -> Float32:
        """Elements of what is looked for, whole, at places of the flat array; of a layer with a norm folded in, too."""
        if wanted.norm and wanted.tensor.endswith("bias"):
            return self.target(wanted).reshape(-1)[positions]
        sample: Float32 = self._tensors[wanted.tensor].detach().reshape(-1)[positions].float().numpy()
        if wanted.norm:
            sample = sample * self.values(f"{wanted.norm}.weight")[positions % self.shape(wanted.tensor)[1]]
        return sample * np.float32(self.head_width(wanted.tensor) ** wanted.power) if wanted.power else sample

    def first_rows(self, name: str, count: int) -> Float32:
        """The first rows of a tensor, float32."""
        rows: Float32 = self._tensors[name][:count].detach().float().numpy()
        return rows

    def head_width(self, name: str) -> float:
        """Width of an attention head of the component that a tensor belongs to."""
        dims = self.dims
        is_encoder = name.startswith("encoder.")
        return dims.n_audio_state / dims.n_audio_head if is_encoder else dims.n_text_state / dims.n_text_head

    def variants(self, name: str) -> Iterator[Target]:
        """A tensor whole and, for queries and keys, with a share of the scores' scale in it."""
        yield Target(name)
        if SCALED.search(name):
            yield from (Target(name, power=power) for power in (-0.25, -0.5))

    @property
    def projection(self) -> str:
        """The tensor that the decoder's last layer is."""
        return PROJECTION if PROJECTION in self._tensors else TABLE

    def folded(self) -> Iterator[Target]:
        """Every linear layer with the norm before it folded in: its weight, and the bias that comes of it."""
        for norm, linear in self.norms():
            for name in (f"{linear}.weight", f"{linear}.bias"):
                for power in (0.0, *((-0.25, -0.5) if SCALED.search(name) else ())):
                    yield Target(name, power=power, norm=norm)

    def norms(self) -> Iterator[tuple[str, str]]:
        """(norm, linear layer behind it) of every block, and the decoder's last norm with the projection."""
        for name in self.names:
            if match := re.fullmatch(r"((?:en|de)coder\.blocks\.\d+)\.(\w+_ln)\.weight", name):
                yield from ((f"{match[1]}.{match[2]}", f"{match[1]}.{linear}") for linear in NORMS.get(match[2], ()))
        if "decoder.ln.weight" in self._tensors:
            yield "decoder.ln", self.projection.removesuffix(".weight")

    def _folded(self, wanted: Target) -> Float32:
        """W' = W * gain, b' = b + W shift: what the layer is on the norm's input without gain and shift."""
        layer, _, kind = wanted.tensor.rpartition(".")
        weight = self.values(f"{layer}.weight")
        if kind == "weight":
            return np.asarray(weight * self.values(f"{wanted.norm}.weight"), np.float32)
        bias = self.values(wanted.tensor) if wanted.tensor in self._tensors else np.float32(0)
        shift = self.values(f"{wanted.norm}.bias")
        return np.asarray(np.einsum("ij,j->i", weight, shift, dtype=np.float64, casting="safe") + bias, np.float32)


def load(checkpoint: Checkpoint) -> Weights:
    """The tensors of a checkpoint.

    Raises:
        CheckpointError: it cannot be read any more.
    """
    saved = checkpoints.read(checkpoint.path)
    extras = canonical.extras(saved)
    own = {} if extras is None or extras.projection is None else {PROJECTION: extras.projection}
    return Weights({**saved["model_state_dict"], **own}, checkpoint.dims)


def unit(name: str, *, is_table: bool = False) -> str:
    """The unit (`backend.taps`) that a tensor belongs to: "encoder.conv", "decoder.blocks.1"; "" for none.

    Args:
        name: of the tensor.
        is_table: whether the token embedding is meant as the table of the lookup, not as the projection.
    """
    if name == TABLE:
        return "decoder.positions" if is_table else "decoder.logits"
    if name == PROJECTION:
        return "decoder.logits"
    if match := re.match(r"(?:en|de)coder\.blocks\.\d+(?=\.)", name):
        return match[0]
    component, _, rest = name.partition(".")
    units = {"conv1": "conv", "conv2": "conv", "positional_embedding": "positions", "ln_post": "ln_post", "ln": "ln"}
    part = units.get(rest.partition(".")[0], "")
    return f"{component}.{part}" if part else ""

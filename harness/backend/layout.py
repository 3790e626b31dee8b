"""How a decoder with a KV cache takes and gives its numbers: a layout is data, not code.

Shapes are in symbols: L layers, d text state, H heads, D state of a head, V vocabulary (which a file may fill up), P
text positions of the checkpoint, A positions of the encoder's output, T slots of the cache; "2L", "T+1", or a number.
Axes of one are of no meaning: a file may have more or fewer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from whisper_parity.backend.interface import Port
from whisper_parity.errors import ConfigError

TOKENS = ("embedding", "id", "one-hot")
POSITIONS = ("row", "index", "one-hot", "none")
UPDATES = ("outside", "inside", "shift")
CROSSES = ("recomputed", "cached", "encoder")
CURRENTS = ("last", "slot", "outside")
ORDERS = ("by kind", "by layer")
INPUTS = (
    "token", "encoder_output", "position", "slot", "mask", "past_keys", "past_values", "cross_keys", "cross_values",
    "cross",
)  # fmt: skip
OUTPUTS = ("logits", "new_keys", "new_values", "keys", "values", "cross_keys", "cross_values")
ENCODER_OUTPUTS = ("encoder_output", "cross_keys", "cross_values", "cross")
DTYPES = ("number", "integer", "float32", "float16", "int32", "int64", "int8", "uint8", "int16")
SYMBOL = re.compile(r"[0-9]{0,5}[LdHDVPAT]?(\+[0-9]{1,3})?")
AXES = ("L", "2L", "T", "A", "H", "D", "d")
"""The order of axes in which everybody else has a cache: [layers, slots, state]."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output, or one of each layer."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    role: str
    shape: tuple[str, ...]
    dtypes: tuple[str, ...] = ("number",)
    """"number" is float32, float16, or integers with a scale; "integer" is int32 or int64; or a type's name."""
    each: bool = False
    """One of each layer, in the order of the layers."""
    optional: bool = False
    """A file may lack it: an input that nothing reads is folded away by some converters."""

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Tensor:
        """A tensor as JSON has it."""
        return cls(**{**fields, "shape": tuple(fields["shape"]), "dtypes": tuple(fields["dtypes"])})

    def sizes(self, values: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape in numbers, given those of the symbols."""
        return tuple(size(symbol, values) for symbol in self.shape)


@dataclass(frozen=True, slots=True)
class Mask:
    """What is added to the scores of self attention, or says which slots are closed."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    current: str
    """Where the token that is fed sits: "last" (behind all slots: the mask has T+1), "slot" (in its own slot, which is
    open), or "outside" (the file sees it without the mask)."""
    open: float = 0.0
    closed: float = -1e9


@dataclass(frozen=True, slots=True)
class Layout:
    """The inputs and outputs of a decoder with a KV cache, in the order of the file, and who does what."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    token: str
    """"embedding" (a row of token_embedding.npy), "id", or "one-hot"."""
    position: str
    """"row" (of position_embedding.npy), "index", "one-hot", or "none"."""
    update: str
    """Who writes the cache: "outside" (the file gives the new rows), "inside" (the file gives the whole cache), or
    "shift" (so too, and the newest row is always the last one)."""
    cross: str
    """Who owns the keys and values of cross attention: "recomputed" (the file, anew at each step), "cached" (it gives
    them at the first step and takes them from then on), or "encoder" (the encoder's file gives them)."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    mask: Mask | None = None
    encoder_outputs: tuple[Tensor, ...] = (Tensor("encoder_output", ("1", "A", "d")),)
    order: str = "by kind"
    """Of neighbouring tensors of each layer: all keys, then all values ("by kind"), or keys and values of one layer
    after another ("by layer")."""
    about: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be a decoder.

        Raises:
            ConfigError: a word, role or shape that is none, a role given twice, or one that is missing.
        """
        for problem in _problems(self):
            raise ConfigError(f"layout {self.name or self.about or 'of a decoder'}: {problem}")

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Layout:
        """A layout as JSON has it."""
        sides = {side: tuple(map(Tensor.parse, fields[side])) for side in ("inputs", "outputs", "encoder_outputs")}
        mask = fields["mask"] and Mask(**fields["mask"])
        return cls(**{**fields, **sides, "mask": mask})

    def tensor(self, side: str, role: str) -> Tensor | None:
        """The tensor of a role among "inputs", "outputs" or "encoder_outputs"."""
        return next((tensor for tensor in getattr(self, side) if tensor.role == role), None)


@dataclass(frozen=True, slots=True)
class Bound:
    """One input or output of a file, and what it is."""

    role: str
    layer: int | None
    port: Port

    @property
    def key(self) -> str:
        """How it is called everywhere: "mask", "past_keys", "past_keys.3"."""
        return self.role if self.layer is None else f"{self.role}.{self.layer}"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A decoder's file in a layout, with its encoder."""

    layout: Layout
    values: Mapping[str, int]
    """Of the symbols."""
    inputs: tuple[Bound, ...]
    outputs: tuple[Bound, ...]
    features: Port | None = None
    """The encoder's input."""
    encoder_outputs: tuple[Bound, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[str, ...]:
        """Roles of the files beside the halves from which rows are looked up."""
        token = ("token_embedding",) if self.layout.token == "embedding" else ()
        return (*token, *(("position_embedding",) if self.layout.position == "row" else ()))

    @property
    def n_text_ctx(self) -> int:
        """Tokens that the cache has room for."""
        return self.values["T"]

    @property
    def n_audio_ctx(self) -> int:
        """Positions of the encoder's output."""
        return self.values["A"]

    def sizes(self, side: str, role: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Symbols and sizes of a tensor of the layout."""
        tensor = self.layout.tensor(side, role)
        assert tensor is not None  # noqa: S101 - it was bound
        return tensor.shape, tensor.sizes(self.values)


def size(symbol: str, values: Mapping[str, int]) -> int:
    """A symbol as a number: "2L" is twice the layers, "T+1" one more than the slots."""
    product, _, more = symbol.partition("+")
    letter = product.lstrip("0123456789")
    factor = int(product[: len(product) - len(letter)] or 1)
    return factor * (values[letter] if letter else 1) + int(more or 0)


def expanded(tensors: tuple[Tensor, ...], layers: int, order: str) -> tuple[tuple[Tensor, int | None], ...]:
    """(tensor, layer) of each single input or output in the order of the file; the layer is None where it has all."""
    listed: list[tuple[Tensor, int | None]] = []
    run: list[Tensor] = []
    for tensor in (*tensors, None):
        if tensor is not None and tensor.each and (not run or order == "by kind" or len(run) % 2):
            run.append(tensor)
            continue
        listed += _of_layers(run, layers, order)
        run = [tensor] if tensor is not None and tensor.each else []
        if tensor is not None and not tensor.each:
            listed.append((tensor, None))
    return tuple(listed)


def _of_layers(run: list[Tensor], layers: int, order: str) -> Iterator[tuple[Tensor, int | None]]:
    if order == "by layer":
        yield from ((tensor, layer) for layer in range(layers) for tensor in run)
    else:
        yield from ((tensor, layer) for tensor in run for layer in range(layers))


def _problems(layout: Layout) -> Iterator[str]:
    words: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("token", layout.token, TOKENS), ("position", layout.position, POSITIONS), ("update", layout.update, UPDATES),
        ("cross", layout.cross, CROSSES), ("order", layout.order, ORDERS),
        ("mask.current", layout.mask.current if layout.mask else CURRENTS[0], CURRENTS),
    )  # fmt: skip
    for key, word, choice in words:
        if word not in choice:
            yield f"{key} {word!r:.40}: expected one of {', '.join(choice)}"
    if layout.mask and not layout.mask.open > layout.mask.closed and not layout.mask.open < layout.mask.closed:
        yield f"mask: open {layout.mask.open} and closed {layout.mask.closed}: expected two numbers"
    for side, roles in (("inputs", INPUTS), ("outputs", OUTPUTS), ("encoder_outputs", ENCODER_OUTPUTS)):
        yield from _of_side(side, getattr(layout, side), roles)
    for side, role in _needed(layout):
        if layout.tensor(side, role) is None:
            yield f"{side} lack {role}"


def _of_side(side: str, tensors: tuple[Tensor, ...], known: tuple[str, ...]) -> Iterator[str]:
    for tensor in tensors:
        if tensor.role not in known:
            yield f"{side}: role {tensor.role!r:.40}: expected one of {', '.join(known)}"
        if len(tensor.shape) > 6 or not all(symbol and SYMBOL.fullmatch(symbol) for symbol in tensor.shape):
            shape = f"shape of {tensor.role}"
            yield f"{side}: {shape}: expected numbers and L, d, H, D, V, P, A, T, not {tensor.shape!r:.60}"
        if not tensor.dtypes or not set(tensor.dtypes) <= set(DTYPES):
            yield f"{side}: dtypes of {tensor.role}: expected some of {', '.join(DTYPES)}"
    roles = [tensor.role for tensor in tensors]
    for role in roles:
        if roles.count(role) > 1:
            yield f"{side}: {role} is there twice"


def _needed(layout: Layout) -> Iterator[tuple[str, str]]:
    """(side, role) of what a decoder of this kind has at least."""
    yield from (("inputs", role) for role in ("token", "past_keys", "past_values"))
    yield "outputs", "logits"
    given = ("new_keys", "new_values") if layout.update == "outside" else ("keys", "values")
    yield from (("outputs", role) for role in given)
    if layout.position != "none":
        yield "inputs", "position"
    if layout.mask:
        yield "inputs", "mask"
    if layout.cross != "encoder":
        yield from (("inputs", "encoder_output"), ("encoder_outputs", "encoder_output"))
    if layout.cross == "cached":
        yield from ((side, role) for side in ("inputs", "outputs") for role in ("cross_keys", "cross_values"))
    if layout.cross == "encoder":
        joined = layout.tensor("inputs", "cross") is not None
        for role in ("cross",) if joined else ("cross_keys", "cross_values"):
            yield from (("inputs", role), ("encoder_outputs", role))

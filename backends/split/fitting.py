"""Which layout a decoder's inputs and outputs fit, and which is which: by shapes and types, never by file names.

Tensors of one shape and type are told apart by what the file calls them, where that says it of all of them, else by
their order. The symbols of a layout are those of the checkpoint; the slots of the cache (T) and the positions of the
encoder's output (A) may be fewer, and are read from the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import Bound, Fitted, Layout, Tensor, expanded
from whisper_parity.backends.split import interface as split
from whisper_parity.errors import ArtifactError
from whisper_parity.model.dims import Dims

FEWEST_SLOTS = 4
PLAIN_INPUTS = 2
"""Of a decoder without a cache."""
KEYS, VALUES = re.compile(r"(?<![a-z])k(ey)?s?(?![a-z])", re.I), re.compile(r"(?<![a-z])v(al|alue)?s?(?![a-z])", re.I)
CROSS, POSITION = re.compile(r"cross|memory|xa(?![a-z])", re.I), re.compile(r"pos|offset", re.I)
NUMBER = re.compile(r"[0-9]{1,4}")
OWNERS = {
    "recomputed": "recomputed at each step", "cached": "kept from the first step",
    "encoder": "given by the encoder",
}  # fmt: skip
UNTYPED, UNSHAPED = "shape of ", "bytes of "
"""In front of a port's type, where its shape alone is known, or its size in bytes (`Port.sizes`); the types that it may
have follow, with a "/" between them."""
WIDTHS = {"int8": 1, "uint8": 1, "int16": 2, "float16": 2, "float32": 4, "int32": 4, "int64": 8}
READINGS = 40
"""Readings of one layout that are tried for the message of a file that fits none."""
SEVERAL = "Keep one of them in parity.toml, or give its tensors the shapes of one alone"
HINT = "Describe it as a layout of your own: docs/kv-cache.md shows how"


def values(dims: Dims, slots: int = 0, n_audio_ctx: int = 0) -> dict[str, int]:
    """The symbols in numbers."""
    heads, state = dims.n_text_head, dims.n_text_state
    return {
        "L": dims.n_text_layer, "d": state, "H": heads, "D": state // heads, "V": dims.n_vocab, "P": dims.n_text_ctx,
        "T": slots or dims.n_text_ctx, "A": n_audio_ctx or dims.n_audio_ctx,
    }  # fmt: skip


def usual(layout: Layout, dims: Dims, slots: int = 0, n_audio_ctx: int = 0) -> Fitted:
    """A file that has all tensors of a layout in its order, in their first types: as we build it."""
    symbols = values(dims, slots, n_audio_ctx)

    def side(tensors: tuple[Tensor, ...]) -> tuple[Bound, ...]:
        listed = enumerate(expanded(tensors, symbols["L"], layout.order))
        return tuple(
            Bound(tensor.role, layer, Port(tensor.role, place, tensor.sizes(symbols), (0, 0), _first(tensor)))
            for place, (tensor, layer) in listed
        )

    features = Port("input_features", 0, (1, dims.n_mels, 2 * symbols["A"]), (dims.n_mels, 2 * symbols["A"]))
    encoder = side(layout.encoder_outputs)
    return Fitted(layout, symbols, side(layout.inputs), side(layout.outputs), features, encoder)


def _first(tensor: Tensor) -> str:
    kind = tensor.dtypes[0]
    return {"number": "float32", "integer": "int32"}.get(kind, kind)


def fit(
    where: str, layouts: Sequence[Layout], inputs: Sequence[Port], outputs: Sequence[Port], dims: Dims,
    n_audio_ctx: int | None = None,
) -> Fitted:  # fmt: skip
    """The one layout that a decoder's inputs and outputs fit.

    Args:
        where: the file, for messages.
        layouts: that are known.
        inputs: of the file, with shapes.
        outputs: the same.
        dims: of the checkpoint.
        n_audio_ctx: rows of the encoder's output; None where it is not known yet.

    Raises:
        ArtifactError: it fits none, or several.
    """
    fitting = {fitted.layout.name: fitted for fitted in _fitting(layouts, inputs, outputs, dims, n_audio_ctx)}
    if len(fitting) > 1:
        raise ArtifactError(
            f"{where}: its inputs and outputs fit several layouts: {', '.join(sorted(fitting))}",
            hint=SEVERAL,
        )
    if fitting:
        return next(iter(fitting.values()))
    raise ArtifactError(f"{where}: {_nearest(layouts, inputs, outputs, dims, n_audio_ctx)}", hint=HINT)


def is_stepped(
    layouts: Sequence[Layout], inputs: Sequence[Port], outputs: Sequence[Port], dims: Dims,
    n_audio_ctx: int | None = None,
) -> bool:  # fmt: skip
    """Whether a decoder's inputs and outputs fit any layout; arguments as of `fit`."""
    return any(_fitting(layouts, inputs, outputs, dims, n_audio_ctx))


def role(layouts: Sequence[Layout], inputs: Sequence[Port], outputs: Sequence[Port], dims: Dims) -> str | None:
    """The half of a port with a KV cache that inputs and outputs belong to; None for neither."""
    if is_stepped(layouts, inputs, outputs, dims):
        return "decoder"
    if len(inputs) != 1 or (rows := split.frames(inputs[0], dims) // 2) < 1:
        return None
    sides = [expanded(layout.encoder_outputs, dims.n_text_layer, layout.order) for layout in layouts]
    is_encoder = any(len(bind(slots, outputs, values(dims, 0, rows))) == len(slots) for slots in sides)
    return "encoder" if is_encoder else None


def _fitting(
    layouts: Sequence[Layout], inputs: Sequence[Port], outputs: Sequence[Port], dims: Dims, n_audio_ctx: int | None
) -> Iterator[Fitted]:
    """Every reading of a file; one for each layout is enough, the longest cache first."""
    for layout in layouts:
        for symbols in _symbols(inputs, outputs, dims, n_audio_ctx):
            taken = whole(layout.inputs, inputs, symbols, layout.order)
            given = whole(layout.outputs, outputs, symbols, layout.order) if taken else ()
            if given:
                yield Fitted(layout, symbols, taken, given)
                break


Slots = Sequence[tuple[Tensor, int | None]]


def _symbols(
    inputs: Sequence[Port], outputs: Sequence[Port], dims: Dims, n_audio_ctx: int | None
) -> Iterator[dict[str, int]]:
    """The symbols for each number of slots and positions that a file may have, the longest first."""
    sizes = sorted({size for port in (*inputs, *outputs) for size in _lengths(port, dims)}, reverse=True)
    many = [size for size in sizes if FEWEST_SLOTS <= size <= dims.n_text_ctx] or [dims.n_text_ctx]
    rows = [n_audio_ctx] if n_audio_ctx else [size for size in sizes if 2 <= size <= dims.n_audio_ctx]
    yield from (values(dims, *sizes) for sizes in product(many, rows or [dims.n_audio_ctx]))


def _lengths(port: Port, dims: Dims) -> Iterator[int]:
    """Axes that may count slots or positions; of a port without a shape all that go into its bytes."""
    yield from port.shape
    if port.dtype.startswith(UNSHAPED):
        for width, layers in product(sorted({WIDTHS[kind] for kind in _kinds(port)}), (1, dims.n_text_layer)):
            count, rest = divmod(port.sizes[0], width * layers * dims.n_text_state)
            if rest == 0:
                yield count


def _kinds(port: Port) -> list[str]:
    """The types that a port may have whose type is not known."""
    return port.dtype.removeprefix(UNTYPED).removeprefix(UNSHAPED).split("/")


def subsets(tensors: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """All tensors, and all without the optional ones."""
    needed = tuple(tensor for tensor in tensors if not tensor.optional)
    return [tensors] if len(needed) == len(tensors) else [tensors, needed]


def bind(
    slots: Sequence[tuple[Tensor, int | None]], ports: Sequence[Port], symbols: Mapping[str, int]
) -> tuple[Bound, ...]:
    """The ports that have a place among the slots of a layout, in the order of the file."""
    fitting = {
        place: frozenset(port.index for port in ports if _is(tensor, port, symbols))
        for place, (tensor, _) in enumerate(slots)
    }
    by_index = {port.index: port for port in ports}
    bound: list[Bound] = []
    for candidates in dict.fromkeys(fitting.values()):
        places = [place for place, indices in fitting.items() if indices == candidates]
        among = _ordered([by_index[index] for index in candidates])
        if len(among) > len(places):
            continue
        group = [slots[place] for place in places]
        for (tensor, layer), port in zip(*_told_apart(group, among)):
            bound.append(Bound(tensor.role, layer, typed(tensor, port, symbols) or port))
    return tuple(sorted(bound, key=lambda one: one.port.index))


def _told_apart(
    slots: list[tuple[Tensor, int | None]], ports: list[Port]
) -> tuple[list[tuple[Tensor, int | None]], list[Port]]:
    """Slots and their ports: by names where they tell all, else in order."""
    named = [[port for port in ports if _says(port.name, tensor.role, layer)] for tensor, layer in slots]
    if all(len(hits) == 1 for hits in named) and len({hits[0].index for hits in named}) == len(slots):
        return slots, [hits[0] for hits in named]
    return slots, ports


def by_names(slots: Sequence[tuple[Tensor, int | None]], names: Sequence[str]) -> tuple[Bound, ...]:
    """Ports of unknown shape, named in the order of the file: by their names where these tell all, else in order."""
    ports = [Port(name, place, (), (0, 0)) for place, name in enumerate(names)]
    pairs = zip(*_told_apart(list(slots), ports))
    return tuple(
        sorted((Bound(tensor.role, layer, port) for (tensor, layer), port in pairs), key=lambda one: one.port.index)
    )


def _ordered(ports: list[Port]) -> list[Port]:
    """In the order of the file; names that differ in one last number alone say it better: "output_10" sorts early."""
    stems = {re.sub(r"[0-9]+$", "", port.name) for port in ports}
    ends = [re.search(r"[0-9]{1,6}$", port.name) for port in ports]
    if len(stems) == 1 and all(ends):
        return sorted(ports, key=lambda port: int(port.name[len(next(iter(stems))) :] or 0))
    return sorted(ports, key=lambda port: port.index)


def _says(name: str, role: str, layer: int | None) -> bool:
    """Whether a name can mean a role of a layer."""
    spaced = name.replace("_", " ").replace(".", " ")
    numbers = NUMBER.findall(spaced)
    if layer is not None and (not numbers or int(numbers[-1]) != layer):
        return False
    is_key, is_value, is_cross = bool(KEYS.search(spaced)), bool(VALUES.search(spaced)), bool(CROSS.search(spaced))
    if role in ("past_keys", "new_keys", "keys", "cross_keys"):
        return is_key and not is_value and is_cross == role.startswith("cross")
    if role in ("past_values", "new_values", "values", "cross_values"):
        return is_value and not is_key and is_cross == role.startswith("cross")
    if is_key or is_value:
        return False
    words = {
        "token": r"tok|ids|input embed|one ?hot", "position": r"pos|offset", "mask": r"mask", "slot": r"slot|writ",
        "encoder_output": r"encod|audio|hidden|xa", "logits": r"logit|scores", "cross": r"cross",
    }[role]  # fmt: skip
    if role == "token" and POSITION.search(spaced):
        return False
    return bool(re.search(words, spaced, re.I))


def _is(tensor: Tensor, port: Port, symbols: Mapping[str, int]) -> bool:
    """Whether a port has a tensor's type and shape, axes of one aside."""
    return typed(tensor, port, symbols) is not None


def typed(tensor: Tensor, port: Port, symbols: Mapping[str, int]) -> Port | None:
    """A port as a tensor, its type and shape filled in where they are not known; None where it cannot be one."""
    widths = split.padded(symbols["V"]) if "V" in tensor.shape else (symbols["V"],)
    shapes = (tensor.sizes({**symbols, "V": width}) for width in widths)
    if not port.dtype.startswith((UNTYPED, UNSHAPED)):
        if not any(_is_type(kind, port) for kind in tensor.dtypes):
            return None
        return port if any(_plain(shape) == _plain(port.shape) for shape in shapes) else None
    kinds = [kind for kind in _kinds(port) if any(_is_type(one, replace(port, dtype=kind)) for one in tensor.dtypes)]
    for shape, kind in product(shapes, kinds):
        by_shape = port.dtype.startswith(UNTYPED)
        if _plain(shape) == _plain(port.shape) if by_shape else port.sizes[0] == math.prod(shape) * WIDTHS[kind]:
            return replace(port, shape=shape, dtype=kind, sizes=(0, 0))
    return None


def _plain(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _is_type(kind: str, port: Port) -> bool:
    if kind == "number":
        return port.dtype in split.NUMBERS or bool(port.scale)
    if kind == "integer":
        return port.dtype in ("int32", "int64") and not port.scale
    return port.dtype == kind


SHOWN = 12
"""Tensors of a side that a message lists."""


def _nearest(
    layouts: Sequence[Layout], inputs: Sequence[Port], outputs: Sequence[Port], dims: Dims, n_audio_ctx: int | None
) -> str:
    """Both sides of the layout of which most tensors have a place, role by role."""
    best, score = "", -len(inputs) - len(outputs) - 1_000_000
    for layout in layouts:
        for symbols in islice(_symbols(inputs, outputs, dims, n_audio_ctx), READINGS):
            sides = [expanded(tensors, symbols["L"], layout.order) for tensors in (layout.inputs, layout.outputs)]
            bound = [bind(slots, ports, symbols) for slots, ports in zip(sides, (inputs, outputs))]
            reached = 2 * sum(map(len, bound)) - sum(map(len, sides))
            if reached > score:
                texts = [
                    f"{name}: {_compared(slots, ports, fitting, symbols)}"
                    for name, slots, ports, fitting in zip(("inputs", "outputs"), sides, (inputs, outputs), bound)
                ]
                best, score = f"nearest is {layout.name}: {'; '.join(texts)}", reached
    return f"no layout of a decoder with a KV cache fits; {best}"


def _compared(slots: Slots, ports: Sequence[Port], bound: Sequence[Bound], symbols: Mapping[str, int]) -> str:
    """One side, role by role."""
    files, taken = {one.key: one.port for one in bound}, {one.port.index for one in bound}
    words = []
    for tensor, layer in slots:
        key = tensor.role if layer is None else f"{tensor.role}.{layer}"
        words.append(f"{key} {list(tensor.sizes(symbols))} = {files.get(key, 'none')}")
    surplus = [str(port) for port in ports if port.index not in taken]
    return _cut(words) + (f"; beside them {_cut(surplus)}" if surplus else "")


def _cut(words: Sequence[str]) -> str:
    return ", ".join(words[:SHOWN]) + (f", and {len(words) - SHOWN} more" if len(words) > SHOWN else "")


def whole(
    tensors: tuple[Tensor, ...], ports: Sequence[Port], symbols: Mapping[str, int], order: str
) -> tuple[Bound, ...]:
    """All ports of a side bound, with the optional tensors or without; () where they do not fit."""
    for taken in subsets(tensors):
        slots = expanded(taken, symbols["L"], order)
        if len(slots) == len(ports) and len(bound := bind(slots, ports, symbols)) == len(ports):
            return bound
    return ()


def fitting_of(where: str, fitted: Fitted, features: Port, outputs: Sequence[Port], dims: Dims) -> Fitted:
    """The same with its encoder's file.

    Raises:
        ArtifactError: what the encoder gives is not what the layout's encoder gives.
    """
    layout, symbols = fitted.layout, fitted.values
    bound = bind(expanded(layout.encoder_outputs, symbols["L"], layout.order), outputs, symbols)
    if len(bound) != len(expanded(layout.encoder_outputs, symbols["L"], layout.order)):
        slots = expanded(layout.encoder_outputs, symbols["L"], layout.order)
        raise ArtifactError(
            f"{where}: no encoder of layout {layout.name}: outputs: {_compared(slots, outputs, bound, symbols)}",
            hint=HINT,
        )
    whole_file = replace(fitted, features=features, encoder_outputs=bound)
    return replace(whole_file, notes=notes_of(whole_file, dims))


def notes_of(fitted: Fitted, dims: Dims) -> tuple[str, ...]:
    """What a reader of the report must know of such files."""
    layout = fitted.layout
    counts = f"{len(fitted.inputs)} inputs, {len(fitted.outputs)} outputs; cross attention {OWNERS[layout.cross]}"
    notes = [f"decoder with a KV cache of {fitted.n_text_ctx} slots, layout {layout.name}: {counts}"]
    kinds = sorted({bound.port.dtype for bound in (*fitted.inputs, *fitted.outputs)} - {"float32", "int32", "int64"})
    if kinds:
        notes.append(f"inputs and outputs in {', '.join(kinds)}")
    if fitted.n_audio_ctx != dims.n_audio_ctx:
        notes.append(f"the encoder takes windows of {2 * fitted.n_audio_ctx / split.FRAMES_PER_SECOND:g} s")
    return tuple(notes)


def stated(fitted: Fitted) -> dict[str, Any]:
    """As JSON, short: a file of 32 layers has 260 tensors."""

    def port(one: Port) -> list[Any]:
        return [one.name[:60], one.index, one.shape, one.sizes, one.dtype, one.transposed, one.scale, one.zero_point]

    def side(bounds: tuple[Bound, ...]) -> list[Any]:
        return [[bound.role, bound.layer, port(replace(bound.port, name=""))] for bound in bounds]

    features = None if fitted.features is None else port(fitted.features)
    return {
        "layout": fitted.layout.name, "values": dict(fitted.values), "inputs": side(fitted.inputs),
        "outputs": side(fitted.outputs), "features": features, "encoder_outputs": side(fitted.encoder_outputs),
    }  # fmt: skip


def parsed(fields: Mapping[str, Any], layouts: Sequence[Layout]) -> Fitted:
    """Back from JSON.

    Raises:
        ValueError, KeyError, TypeError: not of that form.
    """

    def port(one: Sequence[Any]) -> Port:
        name, index, shape, (rows, columns), dtype, transposed, scale, zero_point = one
        sizes, scales = (int(rows), int(columns)), (float(scale), int(zero_point))
        return Port(str(name), int(index), tuple(map(int, shape)), sizes, str(dtype), bool(transposed), *scales)

    def side(bounds: Sequence[Any]) -> tuple[Bound, ...]:
        return tuple(Bound(str(role), None if layer is None else int(layer), port(one)) for role, layer, one in bounds)

    layout = next((layout for layout in layouts if layout.name == fields["layout"]), None)
    if layout is None:
        raise ValueError(f"no layout {fields['layout']!r:.40}")
    symbols = {str(key): int(value) for key, value in fields["values"].items()}
    features = None if fields["features"] is None else port(fields["features"])
    return Fitted(
        layout, symbols, side(fields["inputs"]), side(fields["outputs"]), features, side(fields["encoder_outputs"])
    )


def require_sound(fitted: Fitted, dims: Dims) -> None:
    """Refuse a statement of another process that cannot be true.

    Raises:
        ValueError: symbols, tensors or sizes that the layout does not have.
    """
    symbols, layout = fitted.values, fitted.layout
    positions = symbols["P"]  # a checkpoint that was cut to the cache's slots has fewer
    if dict(symbols) != {**values(dims, symbols["T"], symbols["A"]), "P": positions} or positions < dims.n_text_ctx:
        raise ValueError("symbols of another checkpoint")
    if not 0 < symbols["T"] <= dims.n_text_ctx or not 0 < symbols["A"] <= dims.n_audio_ctx:
        raise ValueError("more slots or positions than the checkpoint has")
    sides = ((layout.inputs, fitted.inputs), (layout.outputs, fitted.outputs))
    for tensors, bound in (*sides, (layout.encoder_outputs, fitted.encoder_outputs)):
        if {one.key for one in whole(tensors, [one.port for one in bound], symbols, layout.order)} != {
            one.key for one in bound
        } or not bound:
            raise ValueError("tensors that the layout does not have")
    features = fitted.features
    if (
        features is None
        or features.sizes != (dims.n_mels, 2 * symbols["A"])
        or math.prod(features.shape) != math.prod(features.sizes)
    ):
        raise ValueError("no encoder of this checkpoint")

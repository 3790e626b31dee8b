"""What the tensors of compiled files are: from their sizes in bytes, or their shapes, and what was recorded of them.

A DLA file keeps no names, and no types that a runtime shows. Handle i is taken to be the i-th input or output of the
TFLite file that was compiled; `probe_order = "reversed"` counts from the last one. Where that file was recorded, or its
layout is one that we know, sizes decide, and a file that fits nothing is refused with both sides.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product

from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import Bound, Fitted, Layout
from whisper_parity.backends.split import fitting
from whisper_parity.backends.split import interface as split
from whisper_parity.backends.split.fitting import UNSHAPED, UNTYPED, WIDTHS
from whisper_parity.backends.split.interface import Choices
from whisper_parity.errors import ArtifactError
from whisper_parity.model.dims import Dims

WHOLE = "int32/int64"
"""Types of whole numbers, which are never compiled into others."""
FLOATS = ("float32", "float16")


@dataclass(frozen=True, slots=True)
class Found:
    """What a runtime says of one file, by handle."""

    inputs: tuple[Port, ...]
    """With `dtype` as `fitting` has it for what is not known."""
    outputs: tuple[Port, ...]


def of_sizes(inputs: Sequence[int], outputs: Sequence[int]) -> Found:
    """A file of which the sizes in bytes are known."""
    return Found(tuple(map(_of_size, range(len(inputs)), inputs)), tuple(map(_of_size, range(len(outputs)), outputs)))


def of_shapes(inputs: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]]) -> Found:
    """A file of which the shapes are known."""
    return Found(
        tuple(Port("", handle, shape, (0, 0), UNTYPED) for handle, shape in enumerate(inputs)),
        tuple(Port("", handle, shape, (0, 0), UNTYPED) for handle, shape in enumerate(outputs)),
    )


def _of_size(handle: int, size: int) -> Port:
    return Port(f"{size} bytes", handle, (), (size, 0), UNSHAPED)


def reversed_(found: Found) -> Found:
    """A file whose handles count from the last tensor, as if they counted from the first one."""
    inputs, outputs = (
        tuple(replace(port, index=place) for place, port in enumerate(side[::-1]))
        for side in (found.inputs, found.outputs)
    )
    return Found(inputs, outputs)


def turned(fitted: Fitted) -> Fitted:
    """What was fitted to a `reversed_` file, with the file's own handles."""

    def side(bounds: tuple[Bound, ...]) -> tuple[Bound, ...]:
        last = len(bounds) - 1
        return tuple(replace(one, port=replace(one.port, index=last - one.port.index)) for one in bounds)

    inputs, outputs, given = side(fitted.inputs), side(fitted.outputs), side(fitted.encoder_outputs)
    return replace(fitted, inputs=inputs, outputs=outputs, encoder_outputs=given)


def fit(
    where: str, layouts: Sequence[Layout], encoder: Found, decoder: Found, dims: Dims, floats: Sequence[str]
) -> Fitted:
    """The one layout that both files fit.

    Args:
        where: the files, for messages.
        layouts: that are known.
        encoder: what the runtime says of it.
        decoder: the same.
        dims: of the checkpoint.
        floats: types of numbers that the files may have, the likely one first.

    Raises:
        ArtifactError: they fit none, or several.
    """
    if len(decoder.inputs) == fitting.PLAIN_INPUTS:
        raise ArtifactError(f"{where}: this decoder has no KV cache: it has 2 inputs", hint="Name the stage dla")
    readings = [
        (_typed(encoder, of_encoder), _typed(decoder, of_decoder))
        for of_encoder, of_decoder in product(floats, [*floats, "/".join(floats)])
    ]
    fits = [fitted for files in readings if (fitted := _attempt(where, layouts, *files, dims))]
    usual = [fitted for fitted in fits if fitted.n_audio_ctx == dims.n_audio_ctx]
    if fits:
        return [*usual, *fits][0]  # float16 of 30 s has the bytes of float32 of 15 s
    return _fitted(where, layouts, *readings[0], dims)


def _attempt(where: str, layouts: Sequence[Layout], encoder: Found, decoder: Found, dims: Dims) -> Fitted | None:
    """One reading; None where it fits nothing, of which no message is made."""
    try:
        rows = _features(where, encoder.inputs, dims).sizes[1] // 2
        is_one = fitting.is_stepped(layouts, decoder.inputs, decoder.outputs, dims, rows)
        return _fitted(where, layouts, encoder, decoder, dims) if is_one else None
    except ArtifactError:
        return None


def of_ports(where: str, layouts: Sequence[Layout], encoder: Found, decoder: Found, dims: Dims) -> Fitted:
    """As `fit`, of files whose types are known, too."""
    if len(decoder.inputs) == fitting.PLAIN_INPUTS:
        raise ArtifactError(f"{where}: this decoder has no KV cache: it has 2 inputs", hint="Name the stage dla")
    features = split.features(where, encoder.inputs, dims, Choices())
    fitted = fitting.fit(where, layouts, decoder.inputs, decoder.outputs, dims, features.sizes[1] // 2)
    return fitting.fitting_of(where, fitted, features, encoder.outputs, dims)


def _typed(found: Found, floats: str) -> Found:
    inputs, outputs = (
        tuple(replace(port, dtype=f"{port.dtype}{floats}/{WHOLE}") for port in side)
        for side in (found.inputs, found.outputs)
    )
    return Found(inputs, outputs)


def _fitted(where: str, layouts: Sequence[Layout], encoder: Found, decoder: Found, dims: Dims) -> Fitted:
    features = _features(where, encoder.inputs, dims)
    fitted = fitting.fit(where, layouts, decoder.inputs, decoder.outputs, dims, features.sizes[1] // 2)
    return fitting.fitting_of(where, fitted, features, encoder.outputs, dims)


def _features(where: str, inputs: Sequence[Port], dims: Dims) -> Port:
    """The encoder's one input, in our order of rows and columns."""
    for port in inputs if len(inputs) == 1 else ():
        kind = port.dtype.removeprefix(UNTYPED).removeprefix(UNSHAPED).partition("/")[0]
        frames, rest = divmod(math.prod(port.shape) if port.shape else port.sizes[0] // WIDTHS[kind], dims.n_mels)
        if rest == 0 and frames % 2 == 0 and 0 < frames <= dims.n_frames:
            sizes = (dims.n_mels, frames)
            is_transposed = [size for size in port.shape if size > 1] == [frames, dims.n_mels] and frames != dims.n_mels
            return replace(
                port, name="", shape=port.shape or (1, *sizes), sizes=sizes, dtype=kind, transposed=is_transposed
            )
    found = ", ".join(map(str, inputs))
    raise ArtifactError(
        f"{where}: no encoder: expected one input [1, {dims.n_mels}, {dims.n_frames}], found {found}", hint=split.FITS
    )


def require_same(
    where: str, fitted: Fitted, encoder: Found, decoder: Found, native: Collection[str] = ()
) -> Fitted:  # fmt: skip
    """What was recorded of the compiled files, held against what the runtime says, in the types that they have there.

    Args:
        where: the files, for messages.
        fitted: as recorded.
        encoder: what the runtime says of it.
        decoder: the same.
        native: sides ("encoder input", "decoder output") in float16, where the runtime tells shapes alone.

    Raises:
        ArtifactError: other tensors, or of other sizes.
    """
    assert fitted.features is not None  # noqa: S101 - it was recorded with its encoder
    (features,) = _same(where, "encoder input", [fitted.features], encoder.inputs, native)

    def side(what: str, bound: Sequence[Bound], found: Sequence[Port]) -> tuple[Bound, ...]:
        ports = _same(where, what, [one.port for one in bound], found, native)
        return tuple(replace(one, port=port) for one, port in zip(bound, ports))

    return replace(
        fitted, features=features, encoder_outputs=side("encoder output", fitted.encoder_outputs, encoder.outputs),
        inputs=side("decoder input", fitted.inputs, decoder.inputs),
        outputs=side("decoder output", fitted.outputs, decoder.outputs),
    )  # fmt: skip


def _same(
    where: str, what: str, recorded: Sequence[Port], found: Sequence[Port], native: Collection[str]
) -> list[Port]:  # fmt: skip
    """Recorded ports in the types that the file has: float32 may have been compiled into float16."""
    by_index = {port.index: port for port in recorded}
    if by_index.keys() != set(range(len(found))):
        raise ArtifactError(
            f"{where}: {what}s: {len(recorded)} were recorded, the file has {len(found)}", hint=split.FITS
        )
    ports = [_as(by_index[place], port, what in native) for place, port in enumerate(found)]
    for place, port in enumerate(ports):
        if port is None:
            raise ArtifactError(
                f"{where}: {what} {place}: recorded is {by_index[place]}, the file has {found[place]}", hint=split.FITS
            )
    order = [port.index for port in recorded]
    return [replace(port, index=found[place].index) for place in order if (port := ports[place]) is not None]


def _as(recorded: Port, found: Port, is_native: bool) -> Port | None:
    if found.shape:
        is_same = [n for n in found.shape if n > 1] == [n for n in recorded.shape if n > 1]
        kind = "float16" if is_native and recorded.dtype in FLOATS else recorded.dtype
        return replace(recorded, dtype=kind) if is_same else None
    for kind in FLOATS if recorded.dtype in FLOATS else (recorded.dtype,):
        if found.sizes[0] == math.prod(recorded.shape) * WIDTHS[kind]:
            return replace(recorded, dtype=kind)
    return None

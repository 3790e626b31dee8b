"""What a compiled decoder with a KV cache takes and gives: by sizes in bytes, by shapes, by what was recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.unit.test_layouts import BASE
from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import Bound, Fitted
from whisper_parity.backends.dla.sessions import iomap
from whisper_parity.backends.dla.sessions.iomap import Found
from whisper_parity.backends.split import fitting, layouts
from whisper_parity.backends.split.fitting import WIDTHS
from whisper_parity.errors import ArtifactError

NAMES = [layout.name for layout in layouts.shipped()]


def fitted_of(name: str, slots: int = 448, n_audio_ctx: int = 1500) -> Fitted:
    layout = next(layout for layout in layouts.shipped() if layout.name == name)
    return fitting.usual(layout, BASE, slots, n_audio_ctx)


def sizes(bounds: Sequence[Bound], kind: str = "float32") -> list[int]:
    """Bytes by handle, with numbers compiled into a type."""
    kinds = [kind if one.port.dtype == "float32" else one.port.dtype for one in bounds]
    return [math.prod(one.port.shape) * WIDTHS[own] for one, own in zip(bounds, kinds)]


def by_bytes(fitted: Fitted, kind: str = "float32") -> tuple[Found, Found]:
    assert fitted.features is not None
    features = Bound("features", None, fitted.features)
    return (
        iomap.of_sizes(sizes([features], kind), sizes(fitted.encoder_outputs, kind)),
        iomap.of_sizes(sizes(fitted.inputs, kind), sizes(fitted.outputs, kind)),
    )


def by_shapes(fitted: Fitted) -> tuple[Found, Found]:
    assert fitted.features is not None

    def shapes(bounds: Sequence[Bound]) -> list[tuple[int, ...]]:
        return [one.port.shape for one in bounds]

    return (
        iomap.of_shapes([fitted.features.shape], shapes(fitted.encoder_outputs)),
        iomap.of_shapes(shapes(fitted.inputs), shapes(fitted.outputs)),
    )


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("slots", [448, 200])
@pytest.mark.parametrize("name", NAMES)
def test_bytes_tell_the_layout(name: str, slots: int, kind: str):
    """Of base, in single precision or as the NPU has it."""
    fitted = iomap.fit("files", layouts.shipped(), *by_bytes(fitted_of(name, slots), kind), BASE, iomap.FLOATS)
    assert (fitted.layout.name, fitted.n_text_ctx, fitted.n_audio_ctx) == (name, slots, 1500)
    assert [one.key for one in fitted.inputs] == [one.key for one in fitted_of(name).inputs]
    assert {one.port.dtype for one in fitted.inputs if one.role == "past_keys"} == {kind}


@pytest.mark.parametrize("name", NAMES)
def test_shapes_tell_the_layout(name: str):
    """As neuronrt prints them, without types."""
    fitted = iomap.fit("files", layouts.shipped(), *by_shapes(fitted_of(name)), BASE, iomap.FLOATS)
    assert [(one.key, one.port.shape) for one in fitted.inputs] == [
        (one.key, one.port.shape) for one in fitted_of(name).inputs
    ]


def test_a_shorter_window_is_read():
    """10 s: half the bytes of a window of 20 s, and no float16 of it."""
    fitted = iomap.fit("files", layouts.shipped(), *by_bytes(fitted_of("stacked", 448, 500)), BASE, iomap.FLOATS)
    assert (fitted.n_audio_ctx, fitted.features.dtype if fitted.features else "") == (500, "float32")


def test_a_file_that_fits_nothing_is_refused_with_both_sides():
    """A cache of twice the slots, and a mask of the old length."""
    encoder, decoder = by_bytes(fitted_of("stacked"))
    wrong = replace(
        decoder, inputs=(*decoder.inputs[:2], iomap.of_sizes([1, 1, 99], []).inputs[2], *decoder.inputs[3:])
    )
    with pytest.raises(
        ArtifactError, match=r"nearest is stacked.*past_values \[6, 1, 448, 512\] = none.*beside them 99 bytes"
    ):
        iomap.fit("files", layouts.shipped(), encoder, wrong, BASE, iomap.FLOATS)


def test_a_decoder_without_a_cache_is_another_stage():
    plain = iomap.of_sizes([448 * 512 * 4, 1500 * 512 * 4], [448 * 51865 * 4])
    encoder, _ = by_bytes(fitted_of("stacked"))
    with pytest.raises(ArtifactError, match=r"this decoder has no KV cache: it has 2 inputs\. Name the stage dla$"):
        iomap.fit("files", layouts.shipped(), encoder, plain, BASE, iomap.FLOATS)


def test_an_encoder_that_is_none_is_refused():
    _, decoder = by_bytes(fitted_of("stacked"))
    with pytest.raises(ArtifactError, match=r"no encoder: expected one input \[1, 80, 3000\], found 1234 bytes"):
        iomap.fit("files", layouts.shipped(), iomap.of_sizes([1234], [4]), decoder, BASE, iomap.FLOATS)


def quantised(fitted: Fitted) -> Fitted:
    """With its cache in 8 bits, which no size tells."""

    def int8(one: Bound) -> Bound:
        own = one.role in ("past_keys", "past_values", "new_keys", "new_values")
        return replace(one, port=replace(one.port, dtype="int8", scale=0.1)) if own else one

    return replace(fitted, inputs=tuple(map(int8, fitted.inputs)), outputs=tuple(map(int8, fitted.outputs)))


def test_what_was_recorded_decides_where_the_bytes_agree():
    """Types and scales come from the record; what was compiled into float16 is float16."""
    fitted = quantised(fitted_of("stacked"))
    same = iomap.require_same("files", fitted, *by_bytes(fitted, "float16"))
    kinds = {one.key: (one.port.dtype, one.port.scale) for one in same.inputs}
    assert (kinds["past_keys"], kinds["mask"]) == (("int8", 0.1), ("float16", 0.0))
    assert iomap.require_same("files", fitted, *by_shapes(fitted)).inputs == fitted.inputs
    native = iomap.require_same("files", fitted, *by_shapes(fitted), ["decoder output"])
    assert [one.port.dtype for one in native.outputs][:2] == ["float16", "int8"]


def test_a_record_of_another_file_is_refused():
    fitted = fitted_of("stacked")
    encoder, decoder = by_bytes(fitted_of("stacked", 200))
    with pytest.raises(ArtifactError, match=r"decoder input 2: recorded is .*, the file has 2457600 bytes"):
        iomap.require_same("files", fitted, encoder, decoder)
    encoder, decoder = by_bytes(fitted_of("one-hot"))
    with pytest.raises(ArtifactError, match="decoder inputs: 8 were recorded, the file has 17"):
        iomap.require_same("files", fitted, encoder, decoder)


def test_handles_may_count_from_the_last_one():
    """A compiler that turns the order around: the record still says which is which, by its own handles."""
    fitted = fitted_of("stacked")
    encoder, decoder = by_bytes(fitted)
    turned = iomap.of_sizes(
        [port.sizes[0] for port in decoder.inputs[::-1]], [port.sizes[0] for port in decoder.outputs[::-1]]
    )
    files = iomap.reversed_(encoder), iomap.reversed_(turned)
    for same in (
        iomap.require_same("files", fitted, *files),
        iomap.fit("files", layouts.shipped(), *files, BASE, iomap.FLOATS),
    ):
        handles = {one.key: one.port.index for one in iomap.turned(same).inputs}
        assert (handles["token"], handles["past_keys"], handles["cross_values"]) == (7, 5, 0)


def test_a_type_that_is_known_is_not_guessed():
    """`Port`s of other files stay as they are."""
    port = Port("x", 0, (1, 1, 512), (0, 0))
    tensor = layouts.ours().inputs[0]
    assert fitting.typed(tensor, port, fitting.values(BASE)) is port
    assert fitting.typed(tensor, replace(port, dtype="int32"), fitting.values(BASE)) is None

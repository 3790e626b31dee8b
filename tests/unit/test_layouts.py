"""Layouts of decoders with a KV cache: which one inputs and outputs fit, and what is said where they fit none."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from whisper_parity.backend import settings as reading
from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import Layout, Mask, Tensor, expanded
from whisper_parity.backends.split import fitting, layouts
from whisper_parity.backends.tflite.settings import Settings as TFLiteSettings
from whisper_parity.backends.torchscript.settings import Settings
from whisper_parity.errors import ArtifactError, ConfigError
from whisper_parity.model.dims import Dims

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BASE = Dims(80, 1500, 512, 8, 6, 51865, 448, 512, 8, 6)
TINY_EN = Dims(80, 1500, 384, 6, 4, 51864, 448, 384, 6, 4)


def ports(*sides: tuple[str, tuple[int, ...], str]) -> list[Port]:
    return [Port(name, place, shape, (0, 0), kind) for place, (name, shape, kind) in enumerate(sides)]


def of(layout: Layout, dims: Dims = BASE, slots: int = 0) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs of a file in a layout, without names."""
    fitted = fitting.usual(layout, dims, slots)
    return [replace(one.port, name="") for one in fitted.inputs], [replace(one.port, name="") for one in fitted.outputs]


def test_five_layouts_are_shipped():
    """As data, called by what they are."""
    names = [layout.name for layout in layouts.shipped()]
    assert names == ["cross-cached", "cross-encoder", "one-hot", "sliding", "stacked"]


@pytest.mark.parametrize("name", [layout.name for layout in layouts.shipped()])
@pytest.mark.parametrize("slots", [448, 200])
def test_a_file_is_told_by_its_inputs_and_outputs(name: str, slots: int):
    """Shapes and types are enough, whatever number of slots the cache has."""
    layout = next(layout for layout in layouts.shipped() if layout.name == name)
    fitted = fitting.fit("decoder", layouts.shipped(), *of(layout, slots=slots), BASE)
    assert (fitted.layout.name, fitted.n_text_ctx, fitted.n_audio_ctx) == (name, slots, 1500)
    usual = fitting.usual(layout, BASE, slots)
    assert [one.key for one in fitted.inputs] == [one.key for one in usual.inputs]
    assert [one.key for one in fitted.outputs] == [one.key for one in usual.outputs]


@pytest.mark.parametrize("layout", layouts.shipped(), ids=lambda layout: layout.name)
def test_what_a_child_states_comes_back(layout: Layout):
    """Through JSON, with everything that a session needs."""
    fitted = replace(fitting.usual(layout, BASE), notes=())
    again = fitting.parsed(fitting.stated(fitted), layouts.shipped())
    fitting.require_sound(again, BASE)
    assert [(one.key, one.port.shape) for one in again.inputs] == [(one.key, one.port.shape) for one in fitted.inputs]
    assert Layout.parse(asdict(layout)) == layout


def test_a_published_decoder_is_read():
    """Names and shapes of tiny.en as its port prints them: keys and values of each layer side by side."""
    inputs = [("tokens", (1, 1), "int32")]
    for kind, rows in (("self", 448), ("cross", 1500)):
        for layer in range(4):
            inputs += [(f"{kind}_{letter}_{layer}", (1, rows, 384), "float32") for letter in "kv"]
    inputs += [("offset", (1,), "int64"), ("mask", (448,), "float32")]
    outputs = [("logits", (1, 1, 51864), "float32")]
    outputs += [(f"this_self_{letter}_{layer}", (1, 1, 384), "float32") for layer in range(4) for letter in "kv"]
    fitted = fitting.fit("decoder", layouts.shipped(), ports(*inputs), ports(*outputs), TINY_EN)
    assert fitted.layout.name == "cross-encoder"
    roles = {one.port.name: one.key for one in fitted.inputs}
    assert (roles["self_v_2"], roles["cross_k_3"]) == ("past_values.2", "cross_keys.3")
    assert {one.port.name: one.key for one in fitted.outputs}["this_self_v_1"] == "new_values.1"


def test_names_that_tell_all_outweigh_the_order():
    """Keys and values swapped in the file, each called by what it is."""
    stacked = layouts.ours()
    names = {"past_keys": "cache_v", "past_values": "cache_k"}
    inputs = [replace(one.port, name=names.get(one.role, one.role)) for one in fitting.usual(stacked, BASE).inputs]
    fitted = fitting.fit("decoder", layouts.shipped(), inputs, of(stacked)[1], BASE)
    places = {one.role: one.port.index for one in fitted.inputs}
    assert (places["past_keys"], places["past_values"]) == (3, 2)


def test_outputs_that_are_numbered_are_taken_by_their_numbers():
    """An exporter that sorts names has output_10 before output_2."""
    layout = next(layout for layout in layouts.shipped() if layout.name == "cross-encoder")
    outputs = [replace(port, name=f"output_{port.index}") for port in of(layout)[1]]
    shuffled = [replace(port, index=place) for place, port in enumerate(sorted(outputs, key=lambda port: port.name))]
    fitted = fitting.fit("decoder", layouts.shipped(), of(layout)[0], shuffled, BASE)
    assert {one.key: one.port.name for one in fitted.outputs}["new_values.5"] == "output_12"


def test_inputs_that_nothing_reads_may_be_folded_away():
    """A converter drops them without a word."""
    inputs, outputs = of(layouts.ours())
    assert len(fitting.fit("decoder", layouts.shipped(), inputs[:6], outputs, BASE).inputs) == 6


def test_a_file_that_fits_none_is_held_against_the_nearest():
    """Both sides, role by role, in one line."""
    inputs, outputs = of(layouts.ours())
    inputs[5] = replace(inputs[5], name="mask", shape=(1, 1, 1, 448))
    with pytest.raises(ArtifactError) as caught:
        fitting.fit("decoder.tflite", layouts.shipped(), inputs, outputs, BASE)
    text = str(caught.value)
    assert "no layout of a decoder with a KV cache fits; nearest is stacked" in text
    assert "mask [1, 1, 1, 449] = none" in text
    assert "beside them mask float32 [1, 1, 1, 448]" in text
    assert "\n" not in text


def test_a_file_that_fits_two_is_refused():
    """They are listed, and none is taken."""
    twin = replace(layouts.ours(), name="another", mask=Mask("last", 0.0, -100.0))
    with pytest.raises(ArtifactError, match=r"fit several layouts: another, stacked\. Keep one"):
        fitting.fit("decoder", (*layouts.shipped(), twin), *of(layouts.ours()), BASE)


def test_a_project_s_own_layout_stands_in_place_of_a_shipped_one():
    """By its name."""
    own = {"stacked": replace(layouts.ours(), mask=Mask("last", 0.0, -100.0)), "mine": layouts.ours()}
    known = {layout.name: layout for layout in layouts.known(own)}
    assert known["stacked"].mask == Mask("last", 0.0, -100.0)
    assert len(known) == 6


def test_layouts_are_read_from_parity_toml():
    """[backends.torchscript.layouts.NAME]; a run is bound to them."""
    fields = asdict(layouts.ours()) | {"name": ""}
    settings = reading.read(Settings, "torchscript", {"layouts": {"mine": fields}})
    assert settings.layouts["mine"] == replace(layouts.ours(), name="")
    assert reading.that_decide(settings)["layouts"]["mine"]["token"] == "embedding"


def test_the_layout_of_the_documentation_is_one():
    """docs/kv-cache.md shows a foreign layout from file to verdict: what it says is read, and fits such a file."""
    text = Path("docs/kv-cache.md").read_text("utf-8").split("```toml")[1].split("```")[0]
    table = tomllib.loads(text)["backends"]["tflite"]["layouts"]
    own = reading.read(TFLiteSettings, "tflite", {"layouts": table}).layouts
    known = layouts.known(own)
    fitted = fitting.fit("step.tflite", known, *of(known[-1], slots=200), BASE)
    assert (fitted.layout.name, fitted.n_text_ctx, fitted.tables) == ("ours", 200, ())


BAD = {
    "a word": ({"token": "words"}, "token 'words': expected one of embedding, id, one-hot"),
    "an order": ({"order": "at random"}, "order 'at random': expected one of by kind, by layer"),
    "a mask that closes nothing": (
        {"mask": Mask("last", 0.0, float("nan"))},
        "mask: open 0.0 and closed nan: expected",
    ),
    "a role": ({"outputs": (Tensor("probabilities", ("V",)),)}, "outputs: role 'probabilities'"),
    "a shape": ({"inputs": (Tensor("token", ("1", "x*2")),)}, "inputs: shape of token: expected numbers and L, d"),
    "a type": ({"inputs": (Tensor("token", ("1",), ("text",)),)}, "inputs: dtypes of token: expected some of number"),
    "a role twice": (
        {"outputs": (*layouts.ours().outputs, Tensor("logits", ("V",)))},
        "outputs: logits is there twice",
    ),
    "what is missing": ({"outputs": (Tensor("logits", ("V",)),)}, "outputs lack new_keys"),
    "an encoder without keys": ({"cross": "encoder"}, "encoder_outputs lack cross_keys"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_layout_that_is_none_is_refused(case: str):
    """What is wrong, and what was expected."""
    change, said = BAD[case]
    with pytest.raises(ConfigError) as caught:
        replace(layouts.ours(), **change)
    assert said in str(caught.value)


def test_tensors_of_each_layer_have_an_order():
    """All keys and then all values, or side by side."""
    pair = (Tensor("past_keys", ("T",), each=True), Tensor("past_values", ("T",), each=True))
    by_kind = [(tensor.role, layer) for tensor, layer in expanded(pair, 2, "by kind")]
    by_layer = [(tensor.role, layer) for tensor, layer in expanded(pair, 2, "by layer")]
    assert by_kind == [("past_keys", 0), ("past_keys", 1), ("past_values", 0), ("past_values", 1)]
    assert by_layer == [("past_keys", 0), ("past_values", 0), ("past_keys", 1), ("past_values", 1)]


def test_every_shipped_layout_is_explained():
    """One line that says what it is."""
    assert all(layout.about for layout in layouts.shipped())
    assert len(list(Path(layouts.__file__).parent.glob("*.toml"))) == len(layouts.shipped())

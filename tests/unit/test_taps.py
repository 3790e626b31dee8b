"""Names and order of units, and the build option that asks for them."""

from __future__ import annotations

import numpy as np
import pytest

from whisper_parity.backend import taps
from whisper_parity.backend.taps import Taps
from whisper_parity.errors import UsageError
from whisper_parity.model.dims import Dims

DIMS = Dims(80, 1500, 128, 2, 3, 51865, 448, 96, 2, 2)


def test_units_in_the_order_of_the_graph():
    """Both components, without sublayers and with them."""
    assert taps.units(DIMS, "encoder") == (
        "encoder.conv", "encoder.positions", "encoder.blocks.0", "encoder.blocks.1", "encoder.blocks.2",
        "encoder.ln_post",
    )  # fmt: skip
    assert taps.units(DIMS, "decoder", detail=True) == (
        "decoder.positions", "decoder.blocks.0.attn", "decoder.blocks.0.cross_attn", "decoder.blocks.0",
        "decoder.blocks.1.attn", "decoder.blocks.1.cross_attn", "decoder.blocks.1", "decoder.ln", "decoder.logits",
    )  # fmt: skip
    assert "encoder.blocks.2.cross_attn" not in taps.units(DIMS, "encoder", detail=True)


@pytest.mark.parametrize("component", taps.COMPONENTS)
def test_the_last_unit_is_the_component_s_own_output(component):
    """What faithfulness is checked by."""
    assert taps.units(DIMS, component)[-1] == taps.FINAL[component]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("entire:encoder.conv,encoder.blocks.1", "entire:encoder.conv,encoder.blocks.1"),
        ("single:encoder.blocks.1,encoder.conv,encoder.conv", "single:encoder.conv,encoder.blocks.1"),
        ("entire:decoder.ln,encoder.ln_post", "entire:encoder.ln_post,decoder.ln"),
        ("single:decoder.blocks.1,decoder.blocks.1.attn", "single:decoder.blocks.1.attn,decoder.blocks.1"),
    ],
)
def test_one_question_has_one_spelling(text, same):
    """In the order of the graph, each unit once: or the cache would hold the same probe twice."""
    assert str(taps.parse(text, DIMS)) == same
    assert taps.parse(same, DIMS) == taps.parse(text, DIMS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("entire:encoder.blocks.3", "no unit 'encoder.blocks.3' in this model. It has encoder.conv, "),
        ("single:decoder.block.0", "no unit 'decoder.block.0'"),
        ("entire:encoder.blocks.0.cross_attn", "no unit 'encoder.blocks.0.cross_attn'"),
        ("whole:encoder.conv", "taps 'whole': expected entire or single"),
        ("encoder.conv", "taps 'encoder.conv': expected entire or single"),
        ("entire:", "taps entire: names no unit"),
        ("single", "taps single: names no unit"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(text, message):
    """One line that says what there is."""
    with pytest.raises(UsageError) as raised:
        taps.parse(text, DIMS)
    assert str(raised.value).startswith(message)


def test_ordinary_artifacts_have_no_taps():
    """No options, options without taps, an empty option."""
    assert [taps.of_options(options, DIMS) for options in (None, {}, {"mask_value": "-inf"}, {"taps": ""})] == [
        None
    ] * 4
    assert taps.of_options({"taps": "single:decoder.ln"}, DIMS) == Taps("single", ("decoder.ln",))


def test_an_entire_probe_always_gives_the_final_output():
    """Once, at the end, asked for or not."""
    found = taps.ports(taps.parse("entire:decoder.blocks.0", DIMS), "decoder", DIMS)
    assert found.inputs == {"token_embeddings": (1, 448, 96), "encoder_output": (1, 1500, 128)}
    assert found.outputs == {"decoder.blocks.0": (1, 448, 96), "decoder.logits": (1, 448, 51865)}
    last = taps.ports(taps.parse("entire:encoder.ln_post", DIMS), "encoder", DIMS)
    assert last.outputs == {"encoder.ln_post": (1, 1500, 128)}


def test_a_single_probe_has_an_input_for_each_unit():
    """And the encoder output only where one attends to it."""
    both = taps.ports(taps.parse("single:decoder.positions,decoder.blocks.1,decoder.logits", DIMS), "decoder", DIMS)
    assert list(both.inputs) == [
        "token_embeddings", "decoder.blocks.1.input", "decoder.logits.input", "encoder_output",
    ]  # fmt: skip
    assert list(both.outputs) == ["decoder.positions", "decoder.blocks.1", "decoder.logits"]
    alone = taps.ports(taps.parse("single:decoder.blocks.0.attn,decoder.ln", DIMS), "decoder", DIMS)
    assert "encoder_output" not in alone.inputs
    assert list(taps.ports(taps.parse("single:encoder.conv", DIMS), "encoder", DIMS).inputs) == ["input_features"]


def test_what_a_unit_is_fed_depends_on_its_own_sublayers_only():
    """A block begins behind the block before it; behind its last sublayer where one is asked for."""
    assert taps.previous(DIMS, "decoder", ["decoder.blocks.1", "decoder.positions"]) == {
        "decoder.positions": "", "decoder.blocks.1": "decoder.blocks.0",
    }  # fmt: skip
    asked = ["decoder.blocks.1.attn", "decoder.blocks.1", "decoder.ln"]
    assert taps.previous(DIMS, "decoder", asked) == {
        "decoder.blocks.1.attn": "decoder.blocks.0", "decoder.blocks.1": "decoder.blocks.1.cross_attn",
        "decoder.ln": "decoder.blocks.1",
    }  # fmt: skip


def test_files_of_probes_are_marked():
    """Nobody ships one by mistake; a half without taps has no file."""
    names = {
        "encoder": "encoder_base_80x3000_MT8371.dla", "decoder": "decoder_base_448_MT8371.dla",
        "token_embedding": "token_embedding.npy", "compilation": "compilation_base.json", "metadata": "other.json",
    }  # fmt: skip
    assert taps.file_names(names, taps.parse("entire:encoder.conv", DIMS)) == {
        "encoder": "encoder_base_80x3000_MT8371_probe.dla", "compilation": "compilation_base_probe.json",
    }  # fmt: skip
    assert taps.file_names(names, taps.parse("single:decoder.ln", DIMS)) == {
        "decoder": "decoder_base_448_MT8371_probe.dla", "token_embedding": "token_embedding.npy",
        "compilation": "compilation_base_probe.json",
    }  # fmt: skip


def lookup(tokens):
    found = np.zeros((1, 448, 96), np.float32)
    found[0, : len(tokens)] = np.array(tokens)[:, None]
    return found


def test_hidden_states_are_filled_up_and_tokens_looked_up():
    """Rows behind the tokens are zero, as the embeddings there are."""
    ports = taps.ports(taps.parse("single:decoder.positions,decoder.ln", DIMS), "decoder", DIMS)
    inputs = {"tokens": np.array([3, 5]), "decoder.ln.input": np.ones((1, 2, 96), np.float32)}
    found = taps.fed(ports, inputs, lookup)
    assert found["token_embeddings"][0, :3, 0].tolist() == [3, 5, 0]
    assert found["decoder.ln.input"].shape == (1, 448, 96)
    assert found["decoder.ln.input"].sum() == 2 * 96
    assert taps.rows("decoder", DIMS, inputs) == 2
    assert taps.rows("decoder", DIMS, {"decoder.ln.input": inputs["decoder.ln.input"]}) == 2
    assert taps.rows("encoder", DIMS, {}) == 1500


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "a probe was fed ; it takes decoder.ln.input"),
        (
            {"decoder.ln.input": np.ones((1, 2, 96)), "encoder_output": np.ones(1)},
            "a probe was fed decoder.ln.input, e",
        ),
        ({"decoder.ln.input": np.ones((1, 449, 96))}, "a probe's decoder.ln.input: expected float32"),
        ({"decoder.ln.input": np.ones((1, 2, 95))}, "a probe's decoder.ln.input: expected float32"),
        ({"decoder.ln.input": np.ones((2, 96))}, "a probe's decoder.ln.input: expected float32"),
    ],
)
def test_what_a_probe_is_not_made_for_is_refused(inputs, message):
    """Nothing missing, left over, cut or transposed."""
    ports = taps.ports(taps.parse("single:decoder.ln", DIMS), "decoder", DIMS)
    with pytest.raises(UsageError) as raised:
        taps.fed(ports, inputs, lookup)
    assert str(raised.value).startswith(message)

"""Tensors are recognised in the layouts, precisions and parts that converters write, and in no others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from whisper_parity.backend.constants import Constant, Scales
from whisper_parity.fixtures import scripted
from whisper_parity.model.dims import Dims
from whisper_parity.weights import fit, lookup
from whisper_parity.weights.finding import Finder, units
from whisper_parity.weights.reference import TABLE, Weights

BLOCK = "encoder.blocks.0"
HEADS, WIDTH = 2, 64


@pytest.fixture(scope="module")
def finder() -> Finder:
    """Of a small model with random weights."""
    dims = scripted.dimensions(n_layer=2)
    torch.manual_seed(3)
    state = scripted.model(dims, steps=6).state_dict()
    named = {name: torch.randn_like(value) * 0.1 if value.ndim == 1 else value for name, value in state.items()}
    return Finder(Weights(named, Dims(**vars(dims))))


def constants(*arrays: np.ndarray) -> list[Constant]:
    return [Constant(f"buffer {n}", str(array.dtype), array) for n, array in enumerate(arrays)]


def recognised(finder: Finder, held: Sequence[Constant]) -> dict[str, str]:
    """Grade by tensor."""
    return {match.target.tensor: match.fit.grade.name for match in finder.matches(held, "")}


def weight(finder: Finder, name: str) -> np.ndarray:
    return finder.weights.values(f"{BLOCK}.{name}")


def test_layouts_of_one_tensor(finder):
    """Transposed, with axes of one, by heads, a kernel last or first."""
    query, conv = weight(finder, "attn.query.weight"), finder.weights.values("encoder.conv1.weight")
    for array in (query, query.T, query[None, None], query.reshape(HEADS, -1, WIDTH), query.T.reshape(WIDTH, HEADS, -1),
                  query.reshape(HEADS, -1, WIDTH).transpose(0, 2, 1)):  # fmt: skip
        assert recognised(finder, constants(array)) == {f"{BLOCK}.attn.query.weight": "EXACT"}
    for array in (conv, conv.transpose(0, 2, 1)[:, None], conv.transpose(2, 1, 0)[None]):
        assert recognised(finder, constants(array)) == {"encoder.conv1.weight": "EXACT"}


def test_stacked_and_split_projections(finder):
    """Queries, keys and values in one array, along either axis; a head in each array; stacked biases."""
    names = [f"attn.{name}.weight" for name in ("query", "key", "value")]
    parts = [weight(finder, name) for name in names]
    exact = {f"{BLOCK}.{name}": "EXACT" for name in names}
    assert recognised(finder, constants(np.concatenate(parts))) == exact
    assert recognised(finder, constants(np.concatenate(parts, axis=1))) == exact
    assert recognised(finder, constants(*np.split(parts[2], HEADS))) == {f"{BLOCK}.attn.value.weight": "EXACT"}
    out = weight(finder, "attn.out.weight")
    assert recognised(finder, constants(*np.split(out, HEADS, axis=1))) == {f"{BLOCK}.attn.out.weight": "EXACT"}
    biases = np.concatenate([weight(finder, "attn.query.bias"), np.zeros(WIDTH, np.float32)])
    assert recognised(finder, constants(biases)) == {f"{BLOCK}.attn.query.bias": "EXACT"}


@pytest.mark.parametrize("power", [-0.25, -0.5])
def test_the_scale_of_the_scores_in_queries_and_keys(finder, power):
    """In weights and biases, in float32 and in float16; in no other tensor."""
    factor = np.float32((WIDTH / HEADS) ** power)
    for name in ("attn.query.weight", "attn.key.weight", "attn.query.bias"):
        scaled = weight(finder, name) * factor
        assert recognised(finder, constants(scaled)) == {f"{BLOCK}.{name}": "EXACT"}
        assert recognised(finder, constants(scaled.astype(np.float16))) == {f"{BLOCK}.{name}": "FLOAT16"}
    value = weight(finder, "attn.value.weight") * factor
    assert "EXACT" not in recognised(finder, constants(value)).values()


def test_precisions(finder):
    """What is rounded is said to be rounded, and to what."""
    values = weight(finder, "mlp.0.weight")
    name = f"{BLOCK}.mlp.0.weight"
    assert recognised(finder, constants(values.astype(np.float64))) == {name: "EXACT"}
    assert recognised(finder, constants(values.astype(np.float16))) == {name: "FLOAT16"}
    assert recognised(finder, constants(fit.flushed(values))) == {name: "FLOAT16"}
    assert recognised(finder, constants(fit.brain(values))) == {name: "BFLOAT16"}
    upper = (fit.brain(values).view(np.uint32) >> 16).astype(np.uint16)
    assert recognised(finder, [Constant("buffer 0", "bfloat16", upper)]) == {name: "BFLOAT16"}


def quantised(values: np.ndarray, bits: int, axis: int | None, block: int = 0) -> Constant:
    """Symmetric steps for the whole, for each slice, or for each block along the last axis."""
    largest = 2 ** (bits - 1) - 1
    if block:
        blocks = values.reshape(-1, block)
        scale = (np.abs(blocks).max(1) / largest).astype(np.float32)
        stored = np.rint(blocks / scale[:, None]).astype(np.int8).reshape(values.shape)
        return Constant("buffer 0", "int4", stored, Scales(scale, np.zeros(1, np.int64), None, block))
    others = tuple(a for a in range(values.ndim) if a != axis) if axis is not None else None
    scale = (np.abs(values).max(others, keepdims=True) / largest).astype(np.float32)
    stored = np.rint(values / scale).astype(np.int8)
    return Constant("buffer 0", f"int{bits}", stored, Scales(scale.reshape(-1), np.zeros(1, np.int64), axis))


def test_whole_numbers_with_scales(finder):
    """One scale, one for each row or column, one for each block; 8 and 4 bits; and not what is a step too far."""
    values, name = weight(finder, "mlp.2.weight"), f"{BLOCK}.mlp.2.weight"
    for bits in (8, 4):
        for axis in (None, 0, 1):
            assert recognised(finder, [quantised(values, bits, axis)]) == {name: "QUANTISED"}
    assert recognised(finder, [quantised(values, 4, None, block=32)]) == {name: "QUANTISED"}
    wrong = quantised(values, 8, 0)
    assert wrong.scales is not None
    wrong.stored[3, 5] += 2
    assert recognised(finder, [wrong]) == {name: "DIFFERS"}


def test_norms_folded_into_the_next_layer(finder):
    """W' = W * gain and b' = b + W shift, in one layer or in all behind a norm; then the norm is not missed."""
    gain, shift = weight(finder, "mlp_ln.weight"), weight(finder, "mlp_ln.bias")
    layer, bias = weight(finder, "mlp.0.weight"), weight(finder, "mlp.0.bias")
    folded = [
        Constant("w", "float32", layer * gain, beside=("b",)),
        Constant("b", "float32", bias + layer @ shift, beside=("w",)),
    ]
    grades = recognised(finder, folded)
    assert set(grades) == {f"{BLOCK}.mlp.0.weight", f"{BLOCK}.mlp.0.bias"}
    assert set(grades.values()) <= {"EXACT", "ARITHMETIC"}
    looked = lookup.of_file(finder, folded, "encoder", "file")
    missing = {difference.tensor for difference in looked.differences}
    assert f"{BLOCK}.mlp_ln.weight" not in missing
    assert f"{BLOCK}.mlp_ln.bias" not in missing
    without_shift = [folded[0], Constant("b", "float32", bias, beside=("w",))]
    lost = {item.tensor: item for item in lookup.of_file(finder, without_shift, "encoder", "file").differences}
    assert lost[f"{BLOCK}.mlp_ln.bias"].grade == "missing"


def test_tables_of_another_length(finder):
    """A shorter context and a padded vocabulary are the checkpoint's; a shorter vocabulary is not whole."""
    positions, table = finder.weights.values("encoder.positional_embedding"), finder.weights.values(TABLE)
    padded = np.concatenate([table, np.zeros((7, WIDTH), np.float32)])
    looked = lookup.of_file(finder, constants(positions[:500], padded), "", "file")
    assert (looked.differences, looked.surplus) == ((), ())
    assert "encoder.positional_embedding: rows 0 to 499 of 1500" in looked.remarks
    cut = lookup.of_file(finder, constants(table[:51000]), "token_embedding", "file")
    assert [difference.grade for difference in cut.differences] == ["missing"]
    assert cut.differences[0].what == "is there in part only: rows 0 to 50999"


def test_a_matrix_times_any_number_is_recognised(finder):
    """Without a name, and however large the number; another matrix is not."""
    name = "mlp.0.weight"
    for factor in (0.01, 11.3, -2.0):
        held = constants(weight(finder, name) * np.float32(factor))
        assert list(recognised(finder, held)) == [f"{BLOCK}.{name}"]
    assert not recognised(finder, constants(np.random.default_rng(0).standard_normal(weight(finder, name).shape)))


def test_what_is_no_weight_is_not_counted(finder):
    """A mask is no surplus; random numbers are."""
    mask = np.triu(np.full((448, 448), -np.inf, np.float32), 1)
    strange = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    looked = lookup.of_file(finder, constants(mask, strange), "encoder", "file")
    assert [(entry.constant, entry.shape) for entry in looked.surplus] == [("buffer 1", (WIDTH, WIDTH))]


def test_units_of_constants(finder):
    """By key, as taps are named."""
    held = constants(finder.weights.values("encoder.conv2.bias"), weight(finder, "mlp.0.weight"))
    assert units(finder.matches(held, "")) == {"buffer 0": ("encoder.conv",), "buffer 1": (BLOCK,)}


def test_names_of_hugging_face(finder):
    """A file's own names place what its numbers do not."""
    strange = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    held = [Constant("0", "float32", strange, names=("wrapped.model.decoder.layers.1.encoder_attn.v_proj.weight",))]
    (match,) = finder.matches(held, "decoder")
    assert match.target.tensor == "decoder.blocks.1.cross_attn.value.weight"
    assert match.fit.grade.name == "DIFFERS"

"""Options of MTKEXT ops as a generic flexbuffer map, and what is assumed of the ops."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers
from hypothesis import given, settings
from hypothesis import strategies as st

from whisper_parity.backends.tflite.mtkext import ops as mtkext
from whisper_parity.backends.tflite.mtkext.ops import Assumptions, Op
from whisper_parity.backends.tflite.mtkext.recipes import RECIPES


def op(name: str, **options: Any) -> Op:
    return Op(name, 0, (0,), (1,), options)


@pytest.mark.parametrize("raw", [None, b"", np.empty(0, np.uint8)])
def test_no_bytes_are_no_options(raw):
    """Ops without options may leave them out."""
    assert mtkext.options(raw) == {}


def test_every_plain_type_is_read():
    """Ints, floats, truth values, text and flat vectors, whatever their keys."""
    written = {"a": 1, "b": -2.5, "c": True, "d": "tanh", "e": [1, 2, 3], "f": None, "g": [1, "x"], "h": 2**40}
    read = mtkext.options(bytes(flexbuffers.Dumps(written)))
    assert read == {**written, "e": (1, 2, 3), "g": (1, "x")}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ([1, 2], "the root is no map"),
        (7, "the root is no map"),
        ({"a": {"b": 1}}, "a nested value"),
        ({"a": [[1], ["x"]]}, "a nested value"),
        ({f"k{number}": 1 for number in range(70)}, "70 keys and 70 values"),
        ({"a": list(range(2000))}, "a vector of 2000 elements"),
        ({"a key": 1}, "its keys are not sorted names"),
    ],
)
def test_what_no_op_needs_is_refused(written, said):
    """In one line that says why."""
    with pytest.raises(ValueError, match=said):
        mtkext.options(bytes(flexbuffers.Dumps(written)))


def test_options_of_any_length_are_not_copied():
    """A megabyte is no op's options."""
    with pytest.raises(ValueError, match="more than 65536 bytes"):
        mtkext.options(np.zeros(2**20, np.uint8))


def test_truncated_options_are_refused():
    """Cut at either end, at every byte."""
    whole = bytes(flexbuffers.Dumps({"epsilon": 1e-5, "stride_w": 2, "fused_activation_function": 1}))
    for cut in range(1, len(whole)):
        with pytest.raises(ValueError, match="not a flexbuffer map"):
            mtkext.options(whole[:-cut])
    with pytest.raises(ValueError, match="not a flexbuffer map"):
        mtkext.options(whole[20:])


@settings(max_examples=500)
@given(st.binary(min_size=1, max_size=200))
def test_hostile_options_raise_nothing_else(raw):
    """Random bytes: options, or a ValueError."""
    try:
        found = mtkext.options(raw)
    except ValueError:
        return
    assert len(found) <= mtkext.KEYS_LIMIT


@settings(max_examples=500)
@given(st.integers(0, 60), st.integers(0, 255))
def test_mutated_options_raise_nothing_else(place, byte):
    """One byte of a good map."""
    raw = bytearray(flexbuffers.Dumps({"epsilon": 1e-5, "stride_w": 2, "kind": "tanh", "list": [1, 2, 3]}))
    raw[place % len(raw)] = byte
    said = ""
    try:
        mtkext.options(bytes(raw))
    except ValueError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


def test_a_vector_that_holds_itself_is_refused():
    """Reading it whole would not end."""
    raw = struct.pack("<BBB", 1, 1, 0) + bytes([(9 << 2) | 0, 1, (9 << 2) | 0, 1])
    with pytest.raises(ValueError, match="not a flexbuffer map"):
        mtkext.options(raw)


def test_every_op_of_the_list_is_documented_and_lowered():
    """The names that are public, no more and no fewer."""
    names = "CONV_2D FULLY_CONNECTED GELU LAYER_NORMALIZATION RMS_NORMALIZATION RSQRT SILU SQUARED_DIFFERENCE TILE"
    assert set(mtkext.OPTIONS) == set(RECIPES) == {f"MTKEXT_{name}" for name in names.split()}


def test_every_assumption_says_where_it_comes_from():
    """None may be added without."""
    assert set(mtkext.KNOWN_FROM) == {field.name for field in dataclasses.fields(Assumptions)}


def test_unknown_options_are_found():
    """What is documented, or assumed of GELU, is not among them."""
    found = mtkext.unknown(op("MTKEXT_LAYER_NORMALIZATION", epsilon=1e-5, fast=True), Assumptions())
    assert found == {"fast": True}
    assert mtkext.unknown(op("MTKEXT_GELU", approximate=1), Assumptions()) == {}
    assert mtkext.unknown(op("MTKEXT_GELU", approximate=1), Assumptions(gelu_option="")) == {"approximate": 1}


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("MTKEXT_CONV_2D", "stride_w", 1.5, "option stride_w: expected int, found 1.5"),
        ("MTKEXT_CONV_2D", "stride_w", True, "option stride_w: expected int, found True"),
        ("MTKEXT_FULLY_CONNECTED", "keep_num_dims", 2, "option keep_num_dims: expected bool, found 2"),
        ("MTKEXT_RMS_NORMALIZATION", "epsilon", "small", "option epsilon: expected float, found 'small'"),
        ("MTKEXT_RMS_NORMALIZATION", "epsilon", float("nan"), "option epsilon: expected float, found nan"),
    ],
)
def test_options_of_another_type_are_refused(name, key, value, said):
    """With what was expected and what was found."""
    with pytest.raises(ValueError, match=said):
        mtkext.documented(op(name, **{key: value}), key)


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        ([], 1),
        ([op("MTKEXT_SILU")], 1),
        ([op("MTKEXT_GELU")], 2),
        ([op("MTKEXT_GELU", approximate=True)], 3),
        ([op("MTKEXT_GELU", approximate=True), op("MTKEXT_GELU")], 4),
        ([op("MTKEXT_GELU"), op("MTKEXT_LAYER_NORMALIZATION")], 6),
    ],
)
def test_readings_that_differ(ops, expected):
    """The default first, none twice."""
    found = mtkext.readings(ops)
    assert len(set(found)) == len(found) == expected
    assert found[0] == Assumptions()


def test_the_real_file_has_the_documented_options(shared_folder: Path):
    """Its keys and their types are those of the table; the values are read, not guessed."""
    from whisper_parity.backends.tflite.mtkext import flatfile

    path = shared_folder / "mtkext" / "MTKEXT_CONV_2D.tflite"
    if not path.is_file():
        pytest.skip("shared/mtkext/MTKEXT_CONV_2D.tflite is not here")
    (found,) = mtkext.custom_ops(flatfile.read(path))
    assert set(found.options) == set(mtkext.OPTIONS["MTKEXT_CONV_2D"])
    assert found.options["stride_w"] == 2
    assert found.options["dilation_w_factor"] == 3

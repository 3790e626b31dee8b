"""Ops that cannot be lowered, because they are unknown or their operands do not fit, are refused in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.lowered import LAST, one, refusal
from tests.support.mtkfiles import Given, normal
from whisper_parity.backends.tflite.mtkext import flatfile


def test_an_unknown_op_is_refused(tmp_path):
    """The line has its name, index, inputs and option keys."""
    said = refusal(one(tmp_path, "MTKEXT_WARP", {"x": Given((2, 3))}, {"angle": 1.0, "mode": 2}))
    assert "operator 0 MTKEXT_WARP: not a custom op that can be lowered; known: MTKEXT_CONV_2D" in said
    assert "inputs: x float32 [2, 3]; options: angle, mode" in said


X = Given((2, 8))
MISFITS: dict[str, tuple[str, dict[str, Any], Any, Any, str]] = {
    "too few inputs": ("MTKEXT_LAYER_NORMALIZATION", {"x": X}, None, None, "expected 2 to 4 inputs and one output"),
    "gamma alone": (
        "MTKEXT_LAYER_NORMALIZATION",
        {"x": X, "axis": LAST, "gamma": normal(8)},
        None,
        None,
        "the last two both or neither",
    ),
    "gamma of another size": (
        "MTKEXT_RMS_NORMALIZATION",
        {"x": X, "axis": LAST, "gamma": normal(7), "beta": normal(8)},
        None,
        None,
        "gamma: expected [8], found [7]",
    ),
    "axis out of range": (
        "MTKEXT_RMS_NORMALIZATION",
        {"x": X, "axis": np.array([2], np.int32)},
        None,
        None,
        "expected one int32 within rank 2",
    ),
    "axis not constant": (
        "MTKEXT_RMS_NORMALIZATION",
        {"x": X, "axis": Given((1,), "int32")},
        None,
        None,
        "axis: expected a constant",
    ),
    "epsilon negative": (
        "MTKEXT_RMS_NORMALIZATION",
        {"x": X, "axis": LAST},
        {"epsilon": -1.0},
        None,
        "epsilon -1.0: expected a number from 0 to 1",
    ),
    "epsilon of text": (
        "MTKEXT_RMS_NORMALIZATION",
        {"x": X, "axis": LAST},
        {"epsilon": "no"},
        None,
        "option epsilon: expected float, found 'no'",
    ),
    "another output": ("MTKEXT_GELU", {"x": X}, None, Given((2, 9)), "output: expected [2, 8], found [2, 9]"),
    "integers": ("MTKEXT_GELU", {"x": Given((2, 8), "int64")}, None, None, "x int64 [2, 8]: expected float32"),
    "integers out": ("MTKEXT_SILU", {"x": X}, None, Given((2, 8), "int8"), "output y int8 [2, 8]: expected float32"),
    "unknown kind of GELU": ("MTKEXT_GELU", {"x": X}, {"approximate": 7}, None, "option approximate: expected true"),
    "options truncated": ("MTKEXT_GELU", {"x": X}, b"approximate\x00\x01", None, "not a flexbuffer map"),
    "no broadcast": ("MTKEXT_SQUARED_DIFFERENCE", {"x": X, "o": normal(3)}, None, None, "inputs do not broadcast"),
    "multiples of another rank": (
        "MTKEXT_TILE",
        {"x": X, "multiples": np.array([2], np.int32)},
        None,
        None,
        "multiples: expected 2 positive integers",
    ),
    "filter of other channels": (
        "MTKEXT_CONV_2D",
        {"x": Given((1, 4, 4, 3)), "filter": normal(2, 2, 2, 4)},
        None,
        None,
        "filter [2, 2, 2, 4] does not fit x [1, 4, 4, 3]",
    ),
    "stride of zero": (
        "MTKEXT_CONV_2D",
        {"x": Given((1, 4, 4, 3)), "filter": normal(2, 2, 2, 3)},
        {"stride_w": 0},
        None,
        "option stride_w: expected 1 to 4096, found 0",
    ),
    "activation without a kernel": (
        "MTKEXT_CONV_2D",
        {"x": Given((1, 4, 4, 3)), "filter": normal(2, 2, 2, 3)},
        {"fused_activation_function": 5},
        None,
        "option fused_activation_function: expected 0 to 3, found 5",
    ),
    "filter larger than x": (
        "MTKEXT_CONV_2D",
        {"x": Given((1, 4, 4, 3)), "filter": normal(2, 5, 2, 3)},
        {"padding": 1},
        None,
        "filter [2, 5, 2, 3] is larger than x [1, 4, 4, 3]",
    ),
    "weight of another width": (
        "MTKEXT_FULLY_CONNECTED",
        {"x": X, "weight": normal(4, 7)},
        None,
        None,
        "weight [4, 7] does not fit x [2, 8]",
    ),
    "bias of another size": (
        "MTKEXT_FULLY_CONNECTED",
        {"x": X, "weight": normal(4, 8), "bias": normal(5)},
        None,
        Given((2, 4)),
        "bias: expected [4], found [5]",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_operands_that_do_not_fit_are_refused(tmp_path, case):
    """In one line with the op, its index, its inputs and option keys; nothing is written."""
    name, held, options, out, said = MISFITS[case]
    message = refusal(one(tmp_path, name, held, options, out))
    assert f"operator 0 {name}: " in message
    assert "; inputs: x " in message
    assert said in message


def test_a_constant_shorter_than_its_shape_is_refused(tmp_path):
    """Its bytes are counted before they are read."""
    path = one(tmp_path, "MTKEXT_RMS_NORMALIZATION", {"x": X, "axis": LAST})
    model = flatfile.read(path)
    model.buffers[1].data = model.buffers[1].data[:2]
    flatfile.write(model, tmp_path / "short.tflite")
    assert "needs 4 bytes and has 2" in refusal(tmp_path / "short.tflite")

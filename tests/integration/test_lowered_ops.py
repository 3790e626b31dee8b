"""Each MTKEXT op, lowered and run by LiteRT, computes what torch computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.support import mtkfiles
from tests.support.lowered import LAST, norm_operands, one
from tests.support.mtkfiles import Given, normal
from whisper_parity.backends.tflite.mtkext import flatfile, ops, tensors
from whisper_parity.backends.tflite.mtkext.lowering import Lowered, lower
from whisper_parity.backends.tflite.mtkext.ops import Assumptions
from whisper_parity.errors import ArtifactError

CLOSE = 1e-5


def lowered(path: Path, *arrays: Any, assumptions: Assumptions | None = None) -> tuple[np.ndarray, Lowered]:
    target = path.with_name("lowered.tflite")
    done = lower(path, target, assumptions or Assumptions())
    return mtkfiles.run(target, *arrays), done


def require_close(found: np.ndarray, expected: torch.Tensor | np.ndarray) -> None:
    np.testing.assert_allclose(found, np.asarray(expected), rtol=CLOSE, atol=CLOSE)


def test_layer_normalization(tmp_path):
    """Over the last axis, with gamma and beta, as torch has it."""
    x, operands = normal(1, 7, 64) * 3 + 1, norm_operands(64)
    path = one(tmp_path, "MTKEXT_LAYER_NORMALIZATION", {"x": Given(x.shape), **operands}, {"epsilon": 1e-3})
    found, done = lowered(path, x)
    gamma, beta = torch.from_numpy(operands["gamma"]), torch.from_numpy(operands["beta"])
    require_close(found, F.layer_norm(torch.from_numpy(x), (64,), gamma, beta, 1e-3))
    assert done.replaced == {"MTKEXT_LAYER_NORMALIZATION": 1}
    assert [used.name for used in done.assumptions] == ["layer_norm_order"]
    assert done.assumptions[0].known_from.startswith("inferred")


@pytest.mark.parametrize("axis", [1, -2])
def test_layer_normalization_over_another_axis(tmp_path, axis):
    """Gamma and beta follow the axis."""
    x, operands = normal(2, 6, 5), norm_operands(6, axis)
    found, _ = lowered(one(tmp_path, "MTKEXT_LAYER_NORMALIZATION", {"x": Given(x.shape), **operands}), x)
    moved = torch.from_numpy(x).movedim(1, -1)
    expected = F.layer_norm(moved, (6,), *(torch.from_numpy(operands[name]) for name in ("gamma", "beta")))
    require_close(found, expected.movedim(-1, 1))


def test_layer_normalization_without_gamma_beta_and_epsilon(tmp_path):
    """Both may be absent; a missing epsilon takes the default, and the result says so."""
    x = normal(3, 8) * 1e-3
    found, done = lowered(one(tmp_path, "MTKEXT_LAYER_NORMALIZATION", {"x": Given(x.shape), "axis": LAST}), x)
    require_close(found, F.layer_norm(torch.from_numpy(x), (8,), eps=1e-5))
    assert {used.name: used.value for used in done.assumptions} == {
        "layer_norm_order": "x_axis_gamma_beta",
        "layer_norm_epsilon": 1e-5,
    }


def test_layer_normalization_in_another_order(tmp_path):
    """Accepted when the settings say so; under the default order it does not fit."""
    x, operands = normal(3, 8), norm_operands(8)
    held = {"x": Given(x.shape), **{name: operands[name] for name in ("gamma", "beta", "axis")}}
    path = one(tmp_path, "MTKEXT_LAYER_NORMALIZATION", held)
    with pytest.raises(ArtifactError, match="operator 0 MTKEXT_LAYER_NORMALIZATION: axis gamma float32"):
        lowered(path, x)
    found, _ = lowered(path, x, assumptions=Assumptions(layer_norm_order="x_gamma_beta_axis"))
    gamma, beta = torch.from_numpy(operands["gamma"]), torch.from_numpy(operands["beta"])
    require_close(found, F.layer_norm(torch.from_numpy(x), (8,), gamma, beta))


@pytest.mark.parametrize("epsilon", [1e-6, None])
def test_rms_normalization(tmp_path, epsilon):
    """As torch has it, its default epsilon included."""
    x, operands = normal(2, 5, 32), norm_operands(32)
    options = None if epsilon is None else {"epsilon": epsilon}
    found, _ = lowered(one(tmp_path, "MTKEXT_RMS_NORMALIZATION", {"x": Given(x.shape), **operands}, options), x)
    expected = F.rms_norm(torch.from_numpy(x), (32,), torch.from_numpy(operands["gamma"]), epsilon)
    require_close(found, expected.numpy() + operands["beta"])


@pytest.mark.parametrize(
    ("options", "assumptions", "kind"),
    [
        (None, Assumptions(), "none"),
        (None, Assumptions(gelu="tanh"), "tanh"),
        ({"approximate": True}, Assumptions(), "tanh"),
        ({"approximate": 1}, Assumptions(), "tanh"),
        ({"approximate": "tanh"}, Assumptions(), "tanh"),
        ({"approximate": False}, Assumptions(gelu="tanh"), "none"),
        ({"approximate": True}, Assumptions(gelu_option=""), "none"),
        ({"mode": 1}, Assumptions(gelu_option="mode"), "tanh"),
    ],
)
def test_gelu(tmp_path, options, assumptions, kind):
    """Exact or tanh, as its option or an assumption says; the assumptions are listed."""
    x = np.linspace(-6, 6, 4001, dtype=np.float32)
    found, done = lowered(one(tmp_path, "MTKEXT_GELU", {"x": Given(x.shape)}, options), x, assumptions=assumptions)
    require_close(found, F.gelu(torch.from_numpy(x), approximate=kind))
    assert [used.name for used in done.assumptions] == ["gelu", "gelu_option"]


def test_silu(tmp_path):
    """As torch has it, without any assumption."""
    x = np.linspace(-20, 20, 999, dtype=np.float32)
    found, done = lowered(one(tmp_path, "MTKEXT_SILU", {"x": Given(x.shape)}), x)
    require_close(found, F.silu(torch.from_numpy(x)))
    assert done.assumptions == ()


def test_rsqrt(tmp_path):
    """One over the square root."""
    x = np.linspace(0.01, 9, 500, dtype=np.float32)
    found, _ = lowered(one(tmp_path, "MTKEXT_RSQRT", {"x": Given(x.shape)}), x)
    require_close(found, 1 / np.sqrt(x))


@pytest.mark.parametrize("other", [(2, 3, 4), (4,), (3, 1)])
def test_squared_difference(tmp_path, other):
    """With broadcasting, too."""
    x, y = normal(2, 3, 4), normal(*other, seed=1)
    found, _ = lowered(one(tmp_path, "MTKEXT_SQUARED_DIFFERENCE", {"x": Given(x.shape), "other": y}), x)
    require_close(found, (x - y) ** 2)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_tile(tmp_path, dtype):
    """Of any type that LiteRT repeats."""
    x = (normal(2, 3) * 100).astype(dtype)
    held = {"x": Given(x.shape, dtype), "multiples": np.array([2, 3], np.int32)}
    found, _ = lowered(one(tmp_path, "MTKEXT_TILE", held, out=Given((4, 9), dtype)), x)
    np.testing.assert_array_equal(found, np.tile(x, (2, 3)))


CONVOLUTIONS = [
    ({}, (1, 9, 8, 6), {"stride": 1, "padding": "same"}),
    ({"padding": 1}, (1, 7, 6, 6), {"stride": 1, "padding": 0}),
    ({"padding": 1, "stride_h": 2, "stride_w": 3}, (1, 4, 2, 6), {"stride": (2, 3), "padding": 0}),
    ({"padding": 1, "dilation_h_factor": 3, "dilation_w_factor": 2}, (1, 3, 4, 6), {"dilation": (3, 2)}),
]


@pytest.mark.parametrize(("options", "shape", "torch_options"), CONVOLUTIONS)
@pytest.mark.parametrize("activation", [0, 1, 3])
def test_conv_2d(tmp_path, options, shape, torch_options, activation):
    """NHWC by OHWI, as torch computes it in NCHW; missing options take their defaults, which are listed."""
    x, filters, bias = normal(1, 9, 8, 5), normal(6, 3, 3, 5, seed=1), normal(6, seed=2)
    held = {"x": Given(x.shape), "filter": filters, "bias": bias}
    given = {**options, "fused_activation_function": activation}
    found, done = lowered(one(tmp_path, "MTKEXT_CONV_2D", held, given, Given(shape)), x)
    moved = [torch.from_numpy(np.moveaxis(each, 3, 1).copy()) for each in (x, filters)]
    expected = F.conv2d(*moved, torch.from_numpy(bias), **torch_options).movedim(1, 3)
    clipped = {0: expected, 1: expected.relu(), 3: F.relu6(expected)}[activation]
    require_close(found, clipped)
    missing = {f"MTKEXT_CONV_2D.{key}" for key in ops.OPTIONS["MTKEXT_CONV_2D"]} - {
        f"MTKEXT_CONV_2D.{key}" for key in given
    }
    assert {used.name for used in done.assumptions} == missing


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_fully_connected(tmp_path, keep, with_bias):
    """With and without its bias, its leading axes kept or joined."""
    x, weight, bias = normal(2, 3, 8), normal(5, 8, seed=1), normal(5, seed=2) if with_bias else None
    held = {"x": Given(x.shape), "weight": weight, **({"bias": bias} if with_bias else {})}
    shape = (2, 3, 5) if keep else (6, 5)
    options = {"keep_num_dims": keep, "fused_activation_function": 1}
    found, _ = lowered(one(tmp_path, "MTKEXT_FULLY_CONNECTED", held, options, Given(shape)), x)
    linear = F.linear(torch.from_numpy(x), torch.from_numpy(weight), None if bias is None else torch.from_numpy(bias))
    require_close(found, linear.relu().reshape(shape))


def test_half_precision_weights_are_widened(tmp_path):
    """float16 constants of a float32 op."""
    x, weight = normal(4, 8), normal(5, 8, seed=1).astype(np.float16)
    held = {"x": Given(x.shape), "weight": weight}
    found, _ = lowered(one(tmp_path, "MTKEXT_FULLY_CONNECTED", held, {"keep_num_dims": True}, Given((4, 5))), x)
    require_close(found, x @ weight.astype(np.float32).T)


def test_the_real_file(shared_folder, tmp_path):
    """Quantised to 16 bits, dilated, RELU: what torch computes from its options, to one step of its output."""
    path = shared_folder / "mtkext" / "MTKEXT_CONV_2D.tflite"
    if not path.is_file():
        pytest.skip("shared/mtkext/MTKEXT_CONV_2D.tflite is not here")
    model = flatfile.read(path)
    (op,) = ops.custom_ops(model)
    held = [model.subgraphs[0].tensors[index] for index in (*op.inputs, *op.outputs)]
    scales = [float(each.quantization.scale[0]) for each in held]
    x = np.random.default_rng(0).integers(-1000, 1000, tensors.shape(held[0]), np.int16)
    done = lower(path, tmp_path / "lowered.tflite")
    found = mtkfiles.run(tmp_path / "lowered.tflite", x)

    filters, bias = (tensors.constant(model, each).astype(np.float64) for each in held[1:3])
    stride = op.options["stride_h"], op.options["stride_w"]
    dilation = op.options["dilation_h_factor"], op.options["dilation_w_factor"]
    assert (op.options["padding"], op.options["fused_activation_function"]) == (1, 1)  # VALID, RELU
    moved = [torch.from_numpy(np.moveaxis(each, 3, 1).copy()) for each in (x * scales[0], filters * scales[1])]
    real = F.conv2d(*moved, torch.from_numpy(bias * scales[2]), stride=stride, dilation=dilation).relu().movedim(1, 3)
    expected = np.clip(np.round(real.numpy() / scales[3]), -32768, 32767)
    assert found.dtype == np.int16
    assert 0 < np.count_nonzero(expected) < expected.size  # RELU did something, and not everything
    assert np.abs(found - expected).max() <= 1
    assert done.replaced == {"MTKEXT_CONV_2D": 1}
    assert (done.assumptions, done.unknown_options) == ((), {})
    assert done.notes == ("MTKEXT_CONV_2D: quantised tensors are computed in float32",)

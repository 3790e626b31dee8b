"""How each MTKEXT op is built from built-in ops. Invalid operands are refused, never guessed at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from whisper_parity.backends.tflite.mtkext import tensors
from whisper_parity.backends.tflite.mtkext.rewriting import MisfitError, Rewriter, Shape, elements

MEAN = ("ReducerOptions", {"keepDims": True})
SAME, VALID = 0, 1
ACTIVATIONS = 3
"""Last of the schema's NONE, RELU, RELU_N1_TO_1, RELU6; the two after them have no kernel."""
STRIDES = 4096


def layer_normalization(rewriter: Rewriter) -> None:
    """Computes (x - mean) / sqrt(variance + epsilon) * gamma + beta over one axis."""
    x, axis, gamma, beta = _norm_operands(rewriter, "layer_norm_order")
    shape, reduced = rewriter.shape(x), _reduced(rewriter, x, axis)
    add = _Pointwise(rewriter)
    mean = rewriter.emit("MEAN", [x, axis], rewriter.temporary("mean", reduced), MEAN)
    squares = add("SQUARED_DIFFERENCE", "squares", shape, x, mean)
    variance = rewriter.emit("MEAN", [squares, axis], rewriter.temporary("variance", reduced), MEAN)
    scale = _inverse_root(rewriter, variance, reduced, "layer_norm_epsilon")
    centred = add("SUB", "centred", shape, x, mean)
    _scaled(rewriter, x, (centred, scale), gamma, beta)


def rms_normalization(rewriter: Rewriter) -> None:
    """Computes x / sqrt(mean(x^2) + epsilon) * gamma + beta over one axis."""
    x, axis, gamma, beta = _norm_operands(rewriter, "rms_norm_order")
    reduced = _reduced(rewriter, x, axis)
    squares = _Pointwise(rewriter)("MUL", "squares", rewriter.shape(x), x, x)
    mean = rewriter.emit("MEAN", [squares, axis], rewriter.temporary("mean", reduced), MEAN)
    scale = _inverse_root(rewriter, mean, reduced, "rms_norm_epsilon")
    _scaled(rewriter, x, (x, scale), gamma, beta)


def gelu(rewriter: Rewriter) -> None:
    """Computes x Phi(x), or its tanh approximation."""
    (x,) = _same_shape(rewriter, 1)
    kind, key = rewriter.ledger.assume("gelu"), rewriter.ledger.assume("gelu_option")
    value = rewriter.op.options.get(key) if key else None
    if value is not None and value not in (0, 1, "none", "tanh"):
        raise MisfitError(f"option {key}: expected true, false, none or tanh, found {value!r:.60}")
    approximate = kind == "tanh" if value is None else value in (1, "tanh")
    result = rewriter.result()
    rewriter.finish(rewriter.emit("GELU", [x], result, ("GeluOptions", {"approximate": approximate})))


def silu(rewriter: Rewriter) -> None:
    """Computes x / (1 + exp(-x))."""
    (x,) = _same_shape(rewriter, 1)
    sigmoid = rewriter.emit("LOGISTIC", [x], rewriter.temporary("sigmoid", rewriter.shape(x)))
    rewriter.finish(rewriter.emit("MUL", [x, sigmoid], rewriter.result(), ("MulOptions", {})))


def rsqrt(rewriter: Rewriter) -> None:
    """Computes 1 / sqrt(x)."""
    (x,) = _same_shape(rewriter, 1)
    rewriter.finish(rewriter.emit("RSQRT", [x], rewriter.result()))


def squared_difference(rewriter: Rewriter) -> None:
    """Computes (x - y)^2, broadcast."""
    x, y = _require_all(rewriter.operands(2, 2))
    try:
        expected = np.broadcast_shapes(rewriter.shape(x), rewriter.shape(y))
    except ValueError as error:
        raise MisfitError("its inputs do not broadcast") from error
    rewriter.require_shape("output", rewriter.op.outputs[0], expected)
    operands = [rewriter.real(x), rewriter.real(y)]
    options: tuple[str, dict[str, Any]] = ("SquaredDifferenceOptions", {})
    rewriter.finish(rewriter.emit("SQUARED_DIFFERENCE", operands, rewriter.result(), options))


def tile(rewriter: Rewriter) -> None:
    """Repeats x, of any type, along each axis."""
    x, multiples = _require_all(rewriter.operands(2, 2))
    (output,) = rewriter.op.outputs
    shape, counts = rewriter.shape(x), rewriter.values("multiples", multiples)
    if counts.dtype.name not in ("int32", "int64") or counts.shape != (len(shape),) or (counts < 1).any():
        raise MisfitError(f"multiples: expected {len(shape)} positive integers, one for each axis of x")
    rewriter.require_shape("output", output, tuple(size * int(count) for size, count in zip(shape, counts)))
    if rewriter.tensor(output).type != rewriter.tensor(x).type:
        raise MisfitError("its output has another type than x")
    rewriter.emit("TILE", [x, multiples], output, ("TileOptions", {}))


def conv_2d(rewriter: Rewriter) -> None:
    """Cross-correlation of x NHWC with filter OHWI, plus bias."""
    x, filters, bias = rewriter.operands(2, 3)
    x, filters = _require_all([x, filters])
    strides = [rewriter.integer(f"stride_{side}", 1, STRIDES) for side in "hw"]
    dilations = [rewriter.integer(f"dilation_{side}_factor", 1, STRIDES) for side in "hw"]
    padding, activation = (
        rewriter.integer("padding", SAME, VALID),
        rewriter.integer("fused_activation_function", 0, ACTIVATIONS),
    )
    expected = _conv_shape(rewriter.shape(x), rewriter.shape(filters), strides, dilations, padding)
    rewriter.require_shape("output", rewriter.op.outputs[0], expected)
    options = {
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "padding": padding,
        "fusedActivationFunction": activation,
    }
    operands = [rewriter.real(x), rewriter.real(filters), _bias(rewriter, bias, expected[-1])]
    rewriter.finish(rewriter.emit("CONV_2D", operands, rewriter.result(), ("Conv2DOptions", options), version=2))


def fully_connected(rewriter: Rewriter) -> None:
    """Multiplies x [..., inputs] by weight [outputs, inputs] transposed, and adds the bias."""
    x, weight, bias = rewriter.operands(2, 3)
    x, weight = _require_all([x, weight])
    activation, keep = (
        rewriter.integer("fused_activation_function", 0, ACTIVATIONS),
        bool(rewriter.option("keep_num_dims")),
    )
    shape, size = rewriter.shape(x), rewriter.shape(weight)
    if len(size) != 2 or not size[1] or not shape or (shape[-1] if keep else elements(shape)) % size[1]:
        raise MisfitError(f"weight {list(size)} does not fit x {list(shape)}")
    if keep and shape[-1] != size[1]:
        raise MisfitError(f"weight {list(size)} does not fit x {list(shape)}")
    expected = (*shape[:-1], size[0]) if keep else (elements(shape) // size[1], size[0])
    rewriter.require_shape("output", rewriter.op.outputs[0], expected)
    options = ("FullyConnectedOptions", {"fusedActivationFunction": activation, "keepNumDims": keep})
    operands = [rewriter.real(x), rewriter.real(weight), _bias(rewriter, bias, size[0])]
    version = 6 if bias is None else 5 if keep else 1  # the first versions with an optional bias, and with keepNumDims
    rewriter.finish(rewriter.emit("FULLY_CONNECTED", operands, rewriter.result(), options, version))


RECIPES: dict[str, Callable[[Rewriter], None]] = {
    "MTKEXT_CONV_2D": conv_2d,
    "MTKEXT_FULLY_CONNECTED": fully_connected,
    "MTKEXT_GELU": gelu,
    "MTKEXT_LAYER_NORMALIZATION": layer_normalization,
    "MTKEXT_RMS_NORMALIZATION": rms_normalization,
    "MTKEXT_RSQRT": rsqrt,
    "MTKEXT_SILU": silu,
    "MTKEXT_SQUARED_DIFFERENCE": squared_difference,
    "MTKEXT_TILE": tile,
}


class _Pointwise:
    """Emits ops of two operands into a new tensor or a given one."""

    OPTIONS: ClassVar[dict[str, str]] = {
        "ADD": "AddOptions",
        "SUB": "SubOptions",
        "MUL": "MulOptions",
        "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
    }

    def __init__(self, rewriter: Rewriter) -> None:
        self._rewriter = rewriter

    def __call__(self, name: str, label: str, shape: Shape, left: int, right: int, output: int | None = None) -> int:
        target = self._rewriter.temporary(label, shape) if output is None else output
        return self._rewriter.emit(name, [left, right], target, (self.OPTIONS[name], {}))


def _require_all(operands: list[int | None]) -> list[int]:
    if None in operands:
        raise MisfitError("an input is left out")
    return [operand for operand in operands if operand is not None]


def _same_shape(rewriter: Rewriter, count: int) -> list[int]:
    operands = _require_all(rewriter.operands(count, count))
    rewriter.require_shape("output", rewriter.op.outputs[0], rewriter.shape(operands[0]))
    return [rewriter.real(operand) for operand in operands]


def _norm_operands(rewriter: Rewriter, assumption: str) -> tuple[int, int, int | None, int | None]:
    """Return x, axis, and both or neither of gamma and beta, all but axis as float32 that broadcasts."""
    names = str(rewriter.ledger.assume(assumption)).split("_")
    inputs = dict(zip(names, rewriter.operands(2, 4)))
    x, axis, gamma, beta = (inputs[name] for name in ("x", "axis", "gamma", "beta"))
    if x is None or axis is None or (gamma is None) != (beta is None):
        raise MisfitError(f"expected {', '.join(names)}, the last two both or neither")
    rewriter.require_shape("output", rewriter.op.outputs[0], rewriter.shape(x))
    axis_index = _axis(rewriter, axis, len(rewriter.shape(x)))
    operands = [
        operand if operand is None else _channels(rewriter, name, operand, x, axis_index)
        for name, operand in (("gamma", gamma), ("beta", beta))
    ]
    return rewriter.real(x), axis, operands[0], operands[1]


def _axis(rewriter: Rewriter, index: int, rank: int) -> int:
    values = rewriter.values("axis", index)
    if values.dtype.name != "int32" or values.size != 1 or not -rank <= int(values.reshape(())) < rank:
        raise MisfitError(f"axis {tensors.describe(rewriter.tensor(index))}: expected one int32 within rank {rank}")
    return int(values.reshape(())) % rank


def _reduced(rewriter: Rewriter, x: int, axis: int) -> Shape:
    shape = rewriter.shape(x)
    axis_index = _axis(rewriter, axis, len(shape))
    return tuple(1 if number == axis_index else size for number, size in enumerate(shape))


def _channels(rewriter: Rewriter, name: str, index: int, x: int, axis: int) -> int:
    """Gamma or beta, float32 [channels], reshaped if the axis is not the last."""
    shape = rewriter.shape(x)
    rewriter.require_shape(name, index, (shape[axis],))
    real = rewriter.real(index)
    if axis == len(shape) - 1:
        return real
    broadcast = (shape[axis], *[1] * (len(shape) - 1 - axis))
    target = rewriter.constant(f"{name}_shape", np.array(broadcast, np.int32))
    options = ("ReshapeOptions", {"newShape": np.array(broadcast, np.int32)})
    return rewriter.emit("RESHAPE", [real, target], rewriter.temporary(name, broadcast), options)


def _inverse_root(rewriter: Rewriter, variance: int, shape: Shape, assumption: str) -> int:
    option = rewriter.option("epsilon")
    epsilon = rewriter.ledger.assume(assumption) if option is None else option
    if not isinstance(epsilon, float) or not 0 <= epsilon <= 1:
        raise MisfitError(f"epsilon {epsilon!r}: expected a number from 0 to 1")
    constant = rewriter.constant("epsilon", np.array(epsilon, np.float32))
    shifted = _Pointwise(rewriter)("ADD", "shifted", shape, variance, constant)
    return rewriter.emit("RSQRT", [shifted], rewriter.temporary("scale", shape))


def _scaled(rewriter: Rewriter, x: int, factors: tuple[int, int], gamma: int | None, beta: int | None) -> None:
    """Emit the product of two factors, times gamma, plus beta."""
    shape, result, pointwise = rewriter.shape(x), rewriter.result(), _Pointwise(rewriter)
    if gamma is None or beta is None:
        rewriter.finish(pointwise("MUL", "", shape, *factors, output=result))
        return
    normal = pointwise("MUL", "normal", shape, *factors)
    weighted = pointwise("MUL", "weighted", shape, normal, gamma)
    rewriter.finish(pointwise("ADD", "", shape, weighted, beta, output=result))


def _conv_shape(x: Shape, filters: Shape, strides: list[int], dilations: list[int], padding: int) -> Shape:
    if len(x) != 4 or len(filters) != 4 or x[3] != filters[3] or not all(filters):
        raise MisfitError(f"filter {list(filters)} does not fit x {list(x)}")
    sides = []
    for size, kernel, stride, dilation in zip(x[1:3], filters[1:3], strides, dilations):
        border = 0 if padding == SAME else (kernel - 1) * dilation
        if size <= border:
            raise MisfitError(f"filter {list(filters)} is larger than x {list(x)}")
        sides.append((size - border + stride - 1) // stride)
    return (x[0], *sides, filters[0])


def _bias(rewriter: Rewriter, index: int | None, channels: int) -> int:
    if index is None:
        return -1
    rewriter.require_shape("bias", index, (channels,))
    return rewriter.real(index)

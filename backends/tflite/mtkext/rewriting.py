"""Replace one custom op: read its operands, and emit built-in ops in its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backends.tflite.mtkext import flatfile, ops, tensors
from whisper_parity.backends.tflite.mtkext.ops import Assumptions, Op, Used, Value

DEQUANTISED_LIMIT = 2**24
"""Most elements of a quantised constant that is written as float32, at four times its size or more."""
VERSIONS = {"int8": 2, "int16": 3, "float16": 3}
"""First version of DEQUANTIZE that takes a type."""

Shape = tuple[int, ...]


class MisfitError(ValueError):
    """Invalid operands or options; the caller adds the op and the file."""


@dataclass
class Ledger:
    """Decisions made while lowering one file."""

    assumptions: Assumptions
    used: dict[str, Used] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    """An ordered set."""
    codes: dict[tuple[str, int], int] = field(default_factory=dict)
    """Operator codes of built-in ops by name and version."""

    def assume(self, name: str) -> Any:
        """The value of a field of `Assumptions`; records its use."""
        value = getattr(self.assumptions, name)
        self.used[name] = Used(name, value, ops.KNOWN_FROM[name])
        return value


@dataclass
class Rewriter:
    """The graph around one op, and its replacement so far."""

    model: Any
    graph: Any
    op: Op
    ledger: Ledger
    operators: list[Any] = field(default_factory=list)

    def option(self, key: str) -> Value:
        """A documented option, or its documented default.

        Raises:
            MisfitError: a value of another type.
        """
        try:
            value = ops.documented(self.op, key)
        except ValueError as error:
            raise MisfitError(str(error)) from error
        documented = ops.OPTIONS[self.op.name][key]
        if value is None and documented.default is not None:
            name = f"{self.op.name}.{key}"
            self.ledger.used[name] = Used(name, documented.default, documented.known_from)
            return documented.default
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """An integer option within limits.

        Raises:
            MisfitError: another type, or out of range.
        """
        value = self.option(key)
        if type(value) is not int or not low <= value <= high:
            raise MisfitError(f"option {key}: expected {low} to {high}, found {value!r}")
        return value

    def operands(self, least: int, most: int) -> list[int | None]:
        """The inputs, padded to `most` with None, which stands for an omitted one.

        Raises:
            MisfitError: fewer or more inputs, or not one output.
        """
        inputs = [index if index >= 0 else None for index in self.op.inputs]
        if not least <= len(inputs) <= most or None in inputs[:least] or len(self.op.outputs) != 1:
            expected = str(least) if least == most else f"{least} to {most}"
            raise MisfitError(
                f"expected {expected} inputs and one output, found {len(inputs)} and {len(self.op.outputs)}"
            )
        return inputs + [None] * (most - len(inputs))

    def tensor(self, index: int) -> Any:
        """A TensorT of the graph."""
        return self.graph.tensors[index]

    def shape(self, index: int) -> Shape:
        """A tensor's shape."""
        return tensors.shape(self.tensor(index))

    def require_shape(self, what: str, index: int, expected: Shape) -> None:
        """Raise MisfitError if a tensor has another shape."""
        if self.shape(index) != expected:
            raise MisfitError(f"{what}: expected {list(expected)}, found {list(self.shape(index))}")

    def values(self, what: str, index: int) -> NDArray[Any]:
        """A constant operand's values.

        Raises:
            MisfitError: not a constant, or its size does not match its shape.
        """
        try:
            values = tensors.constant(self.model, self.tensor(index))
        except ValueError as error:
            raise MisfitError(f"{what}: {error}") from error
        if values is None:
            raise MisfitError(f"{what}: expected a constant")
        return values

    def real(self, index: int) -> int:
        """An operand as float32: itself, or dequantised.

        Raises:
            MisfitError: a type that does not represent real numbers.
        """
        tensor, dtype = self.tensor(index), tensors.type_name(self.tensor(index).type)
        if dtype == "float32":
            return index
        if dtype == "float16":
            return self._convert("DEQUANTIZE", index, "float32", VERSIONS[dtype])
        if not _is_quantised(tensor):
            raise MisfitError(f"input {tensors.describe(tensor)}: expected float32, or a quantised type with its scale")
        self.ledger.notes[f"{self.op.name}: quantised tensors are computed in float32"] = None
        if tensors.is_constant(self.model, tensor):
            return self.constant(f"{tensors.text(tensor.name)}/float32", self._dequantise(index))
        self._require_kernel(tensor)
        return self._convert("DEQUANTIZE", index, "float32", VERSIONS.get(dtype, 1))

    def result(self) -> int:
        """The float32 tensor for the last op: the output, or a temporary that `finish` quantises into it.

        Raises:
            MisfitError: the output's type cannot be quantised to.
        """
        (output,) = self.op.outputs
        tensor = self.tensor(output)
        if tensors.type_name(tensor.type) == "float32":
            return output
        if not _is_quantised(tensor):
            raise MisfitError(
                f"output {tensors.describe(tensor)}: expected float32, or a quantised type with its scale"
            )
        self._require_kernel(tensor)
        return self.temporary("float32", self.shape(output))

    def finish(self, result: int) -> None:
        """Quantise `result` into the output, unless it is the output."""
        (output,) = self.op.outputs
        if result != output:
            self.emit("QUANTIZE", [result], output, version=2)

    def temporary(self, name: str, shape: Shape, dtype: str = "float32") -> int:
        """A new tensor without values."""
        return self._add(name, shape, dtype, 0)

    def constant(self, name: str, array: NDArray[Any]) -> int:
        """A new tensor with values, in its own little-endian buffer."""
        content = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        buffer = flatfile.schema().BufferT()
        buffer.data = content.reshape(-1).view(np.uint8)
        self.model.buffers.append(buffer)
        return self._add(name, array.shape, array.dtype.name, len(self.model.buffers) - 1)

    def emit(
        self,
        name: str,
        inputs: Sequence[int],
        output: int,
        options: tuple[str, dict[str, Any]] | None = None,
        version: int = 1,
    ) -> int:
        """Append a built-in op.

        Args:
            name: of the schema: "CONV_2D".
            inputs: tensors, -1 for an omitted one.
            output: the output tensor.
            options: the schema's name of its options ("Conv2DOptions") and their fields.
            version: the required version of the op.

        Returns:
            The output.
        """
        classes = flatfile.schema()
        operator = classes.OperatorT()
        operator.opcodeIndex = self._opcode(name, version)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if options is not None:
            operator.builtinOptionsType = getattr(classes.BuiltinOptions, options[0])
            operator.builtinOptions = getattr(classes, f"{options[0]}T")()
            vars(operator.builtinOptions).update(options[1])
        self.operators.append(operator)
        return output

    def _opcode(self, name: str, version: int) -> int:
        """The index of a built-in operator's code, added once per version."""
        if (name, version) not in self.ledger.codes:
            code, classes = flatfile.schema().OperatorCodeT(), flatfile.schema()
            code.builtinCode = int(getattr(classes.BuiltinOperator, name))
            code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
            self.model.operatorCodes.append(code)
            self.ledger.codes[name, version] = len(self.model.operatorCodes) - 1
        return self.ledger.codes[name, version]

    def _convert(self, name: str, index: int, dtype: str, version: int) -> int:
        return self.emit(name, [index], self.temporary(dtype, self.shape(index), dtype), version=version)

    def _require_kernel(self, tensor: Any) -> None:
        """Require what LiteRT can convert: 8 or 16 bits with one scale, 16 bits with zero point 0."""
        quantised, dtype = tensor.quantization, tensors.type_name(tensor.type)
        zero = quantised.zeroPoint
        if dtype not in ("int8", "uint8", "int16") or len(quantised.scale) != 1:
            raise MisfitError(f"{tensors.describe(tensor)}: expected int8, uint8 or int16 with one scale")
        if dtype == "int16" and zero is not None and np.any(zero):
            raise MisfitError(f"{tensors.describe(tensor)}: expected zero point 0")

    def _dequantise(self, index: int) -> NDArray[np.float32]:
        tensor = self.tensor(index)
        values, quantised = self.values("input", index), tensor.quantization
        if values.size > DEQUANTISED_LIMIT:
            raise MisfitError(f"{tensors.describe(tensor)}: more than {DEQUANTISED_LIMIT} quantised elements")
        scale = _broadcastable(np.asarray(quantised.scale, np.float64), values.shape, quantised.quantizedDimension)
        zeros = np.zeros(1) if quantised.zeroPoint is None else np.asarray(quantised.zeroPoint, np.float64)
        zero = _broadcastable(zeros, values.shape, quantised.quantizedDimension)
        with np.errstate(over="ignore"):  # a scale may be arbitrarily large
            return ((values.astype(np.float64) - zero) * scale).astype(np.float32)

    def _add(self, name: str, shape: Shape, dtype: str, buffer: int) -> int:
        tensor = flatfile.schema().TensorT()
        tensor.shape = np.array(shape, np.int32)
        tensor.type, tensor.buffer = tensors.type_number(dtype), buffer
        output = tensors.text(self.tensor(self.op.outputs[0]).name) if self.op.outputs else ""
        tensor.name = f"{output}/{self.op.name}/{name}"
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1


def _is_quantised(tensor: Any) -> bool:
    """Whether a tensor has usable quantisation scales."""
    scale = tensor.quantization.scale if tensor.quantization is not None else None
    return scale is not None and scale.size > 0 and bool((np.isfinite(scale) & (scale > 0)).all())


def _broadcastable(values: NDArray[np.float64], shape: Shape, axis: int) -> NDArray[np.float64]:
    """Reshape per-channel values so that they broadcast along an axis.

    Raises:
        MisfitError: their number is not that of the axis's channels.
    """
    if values.size == 1:
        return values.reshape(())
    if not 0 <= axis < len(shape) or shape[axis] != values.size:
        raise MisfitError(f"{values.size} scales for shape {list(shape)}")
    return values.reshape([values.size if number == axis else 1 for number in range(len(shape))])


def elements(shape: Shape) -> int:
    """Number of elements of a shape."""
    return math.prod(shape)

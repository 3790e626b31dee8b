"""TFLite decoders that take any number of tokens, as converters with free axes write them.

LiteRT's converter writes none of a Whisper. So one of fixed length is rewritten: constants as long as the context are
cut to the number of tokens while it runs, shapes leave that axis open, and the last row is counted from the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from whisper_parity.backends.tflite.mtkext import flatfile, tensors

FREE = -1


def free(path: Path, n_text_ctx: int) -> None:
    """Let a decoder of n_text_ctx tokens, in its first input, take any number of them."""
    model = flatfile.read(path)
    rewriting = _Rewriting(model, n_text_ctx)
    rewriting.run()
    flatfile.write(model, path)


class _Rewriting:
    def __init__(self, model: Any, count: int) -> None:
        self.model, self.graph, self.count = model, model.subgraphs[0], count
        self.classes = flatfile.schema()
        self.first: list[Any] = []

    def run(self) -> None:
        """Rewrite the graph."""
        tokens = int(self.graph.inputs[0])
        length = self._length(tokens)
        for operator in self.graph.operators:
            name = tensors.op_name(self.model.operatorCodes[operator.opcodeIndex])
            if name == "RESHAPE":
                self._open_shape(operator, length)
            if name == "SLICE" and self._holds(operator.inputs[1], self.count - 1):
                self._count_from_the_end(operator)
            if name == "ADD":
                self._cut_constant(operator, length)
        self.graph.operators = [*self.first, *self.graph.operators]
        for tensor in self.graph.tensors:
            if tensor.buffer == 0 or self.model.buffers[tensor.buffer].data is None:
                self._forget_length(tensor)

    def _length(self, tokens: int) -> int:
        """A tensor [1] that holds the number of tokens."""
        shape = self._made([len(self.graph.tensors[tokens].shape)])
        self._op("SHAPE", [tokens], shape, outType=tensors.type_number("int32"))
        length = self._made([1])
        bounds = [self._constant([value]) for value in (1, 2, 1)]
        self._op("STRIDED_SLICE", [shape, *bounds], length)
        return length

    def _open_shape(self, operator: Any, length: int) -> None:
        shape = self._values(operator.inputs[1])
        if self.count in shape:
            if shape.count(self.count) == 1:
                free = self._constant([FREE if size == self.count else size for size in shape])
            else:
                free = self._made([len(shape)])
                sizes = [length if size == self.count else self._constant([size]) for size in shape]
                self._op("CONCATENATION", sizes, free)
            operator.inputs = np.array([operator.inputs[0], free], np.int32)
            operator.builtinOptions = None
            operator.builtinOptionsType = 0

    def _count_from_the_end(self, operator: Any) -> None:
        begin = [FREE if value == self.count - 1 else 0 for value in self._values(operator.inputs[1])]
        others = sum(1 << axis for axis, value in enumerate(begin) if value == 0)
        ends = [0] * len(begin), [1] * len(begin)
        operator.inputs = np.array([operator.inputs[0], *map(self._constant, (begin, *ends))], np.int32)
        operator.opcodeIndex = self._code("STRIDED_SLICE")
        self._options(operator, "STRIDED_SLICE", beginMask=others, endMask=(1 << len(begin)) - 1)

    def _cut_constant(self, operator: Any, length: int) -> None:
        index = int(operator.inputs[1])
        tensor = self.graph.tensors[index]
        if self.count in tensor.shape and tensors.is_constant(self.model, tensor):
            rank = len(tensor.shape)
            end, cut = self._made([rank]), self._made([int(size) for size in tensor.shape], "float32")
            self._op("CONCATENATION", [length] * rank, end)
            zeros, ones = self._constant([0] * rank), self._constant([1] * rank)
            whole = sum(1 << axis for axis, size in enumerate(tensor.shape) if size != self.count)
            self._op("STRIDED_SLICE", [index, zeros, end, ones], cut, endMask=whole)
            operator.inputs = np.array([operator.inputs[0], cut], np.int32)

    def _forget_length(self, tensor: Any) -> None:
        if self.count in tensor.shape:
            tensor.shapeSignature = np.where(tensor.shape == self.count, FREE, tensor.shape).astype(np.int32)
            tensor.shape = np.where(tensor.shape == self.count, 1, tensor.shape).astype(np.int32)

    def _values(self, index: int) -> list[int]:
        return [int(value) for value in tensors.constant(self.model, self.graph.tensors[index])]

    def _holds(self, index: int, value: int) -> bool:
        return value in self._values(index)

    def _op(self, name: str, taken: list[int], made: int, **options: int) -> None:
        operator = self.classes.OperatorT()
        operator.opcodeIndex = self._code(name)
        operator.inputs, operator.outputs = np.array(taken, np.int32), np.array([made], np.int32)
        self._options(operator, name, **options)
        self.first.append(operator)

    def _options(self, operator: Any, name: str, **options: int) -> None:
        kind = f"{name.title().replace('_', '')}Options"
        operator.builtinOptionsType = getattr(self.classes.BuiltinOptions, kind)
        operator.builtinOptions = getattr(self.classes, f"{kind}T")()
        for key, value in options.items():
            setattr(operator.builtinOptions, key, value)

    def _code(self, name: str) -> int:
        code = self.classes.OperatorCodeT()
        code.builtinCode, code.version = getattr(self.classes.BuiltinOperator, name), 1
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def _made(self, shape: list[int], dtype: str = "int32", buffer: int = 0) -> int:
        tensor = self.classes.TensorT()
        tensor.name, tensor.shape, tensor.buffer = f"free/{len(self.graph.tensors)}", np.array(shape, np.int32), buffer
        tensor.type = tensors.type_number(dtype)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _constant(self, values: list[int]) -> int:
        buffer = self.classes.BufferT()
        buffer.data = np.array(values, np.int32).view(np.uint8)
        self.model.buffers.append(buffer)
        return self._made([len(values)], buffer=len(self.model.buffers) - 1)

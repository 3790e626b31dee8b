"""GELU and LayerNorm of a LiteRT file as MTKEXT custom ops, with their options as flexbuffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from mtk_converter.meaning import reading
from mtk_converter.version import DESCRIPTION
from whisper_parity.backends.tflite.mtkext import flatfile, tensors


@dataclass
class Graph:
    """A subgraph while it is changed."""

    model: Any
    graph: Any

    def name(self, operator: Any) -> str:
        return tensors.op_name(self.model.operatorCodes[operator.opcodeIndex])

    def maker(self, tensor: int) -> Any:
        """The operator that gives a tensor; None for an input or a constant."""
        return next((each for each in self.graph.operators if tensor in each.outputs), None)

    def takers(self, tensor: int) -> list[Any]:
        return [each for each in self.graph.operators if tensor in each.inputs]

    def held(self, tensor: int) -> Any:
        """The values of a constant; None for others."""
        return tensors.constant(self.model, self.graph.tensors[tensor]) if tensor >= 0 else None

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tensors.shape(self.graph.tensors[tensor])

    def constant(self, name: str, values: Any) -> int:
        """A new constant's tensor."""
        schema = flatfile.schema()
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self.model.buffers.append(buffer)
        tensor.name, tensor.shape = name, np.array(values.shape, np.int32)
        tensor.type, tensor.buffer = tensors.type_number(values.dtype.name), len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def custom(self, name: str, inputs: list[int], output: int, options: Mapping[str, Any]) -> Any:
        """A new custom operator."""
        schema = flatfile.schema()
        operator, code = schema.OperatorT(), schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode, code.version = name.encode(), 1
        known = [number for number, each in enumerate(self.model.operatorCodes) if each.customCode == code.customCode]
        if not known:
            self.model.operatorCodes.append(code)
        operator.opcodeIndex = known[0] if known else len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        operator.customOptions = np.frombuffer(bytes(flexbuffers.Dumps(dict(options))), np.uint8)
        return operator

    def put(self, old: Any, new: Any) -> None:
        """One operator in another's place."""
        operators = self.graph.operators
        operators[next(place for place, each in enumerate(operators) if each is old)] = new


def rewrite(source: Path, target: Path, names: list[str]) -> None:
    """Write a file as MediaTek's converter would, as far as that is public."""
    model = flatfile.read(source)
    model.description, model.signatureDefs = DESCRIPTION, []
    for tensor, name in zip(model.subgraphs[0].inputs, names):
        model.subgraphs[0].tensors[tensor].name = name
    for each in model.subgraphs:
        graph = Graph(model, each)
        for operator in list(each.operators):
            if graph.name(operator) == "GELU":
                key = reading().gelu_option  # without one, `gelu` of the reading decides alone
                options = {key: bool(operator.builtinOptions.approximate)} if key else {}
                graph.put(operator, graph.custom("MTKEXT_GELU", list(operator.inputs), operator.outputs[0], options))
            elif graph.name(operator) == "RSQRT":
                _layer_norm(graph, operator)
        _sweep(graph)
    flatfile.write(model, target)


def _layer_norm(graph: Graph, rsqrt: Any) -> None:
    """x*r + (0 - r*mean), r = rsqrt(variance + epsilon), then gamma and beta: as litert-torch writes it."""
    added = graph.maker(rsqrt.inputs[0])
    epsilon = float(graph.held(added.inputs[1]))
    squares = graph.maker(graph.maker(added.inputs[0]).inputs[0])
    assert graph.name(squares) == "SQUARED_DIFFERENCE", graph.name(squares)
    x = int(squares.inputs[0])
    size = graph.shape(x)[-1]
    (spread,) = [each for each in graph.takers(rsqrt.outputs[0]) if graph.name(each) == "RESHAPE"]
    (scaled,) = graph.takers(spread.outputs[0])
    (final,) = graph.takers(scaled.outputs[0])
    final, gamma = _scaled(graph, final, "MUL", np.ones(size, np.float32))
    final, beta = _scaled(graph, final, "ADD", np.zeros(size, np.float32))
    axis = graph.constant("axis", np.array([len(graph.shape(x)) - 1], np.int32))
    operands = {"x": x, "axis": axis, "gamma": graph.constant("gamma", gamma), "beta": graph.constant("beta", beta)}
    inputs = [operands[name] for name in reading().layer_norm_order.split("_")]
    output = int(final.outputs[0])
    graph.put(final, graph.custom("MTKEXT_LAYER_NORMALIZATION", inputs, output, {"epsilon": epsilon}))


def _scaled(graph: Graph, before: Any, name: str, default: Any) -> tuple[Any, Any]:
    """The operator behind one that multiplies or adds a constant per channel, and that constant."""
    takers = graph.takers(before.outputs[0])
    if len(takers) == 1 and graph.name(takers[0]) == name:
        held = [values for each in takers[0].inputs if (values := graph.held(int(each))) is not None]
        if held and held[0].size == default.size and held[0].shape[-1] == default.size:
            return takers[0], np.asarray(held[0], np.float32).reshape(-1)
    return before, default


def _sweep(graph: Graph) -> None:
    """Drop operators whose outputs nobody takes."""
    while True:
        taken = {int(each) for operator in graph.graph.operators for each in operator.inputs}
        taken |= {int(each) for each in graph.graph.outputs}
        kept = [each for each in graph.graph.operators if taken & {int(output) for output in each.outputs}]
        if len(kept) == len(graph.graph.operators):
            return
        graph.graph.operators = kept

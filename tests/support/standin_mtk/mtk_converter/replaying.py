"""A TorchScript graph as a plain module that torch.export can trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class Replayed(torch.nn.Module):
    """Calls a frozen graph's operators one after the other; what only depends on shapes becomes a constant."""

    def __init__(self, script: Any, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self._graph = torch.jit.freeze(script.eval()).graph
        self._names = [each.debugName() for each in self._graph.inputs()][1:]
        self._known: dict[str, Any] = {}
        self._known = self._constants(inputs)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The graph's outputs: a tensor, or a tuple of them."""
        values = self._values(inputs)
        found = tuple(values[each.debugName()] for each in self._graph.outputs())
        return found[0] if len(found) == 1 else found

    def _values(self, inputs: Sequence[torch.Tensor]) -> dict[str, Any]:
        values = {**self._known, **dict(zip(self._names, inputs))}
        for node in self._graph.nodes():
            name = node.output().debugName()
            if name not in values:
                values[name] = _call(node, [values[each.debugName()] for each in node.inputs()])
        return values

    def _constants(self, inputs: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Values that no input decides: weights, and numbers computed from shapes."""
        with torch.no_grad():
            values = self._values(inputs)
        fed = set(self._names)
        for node in self._graph.nodes():
            if node.kind() != "aten::size" and any(each.debugName() in fed for each in node.inputs()):
                fed.add(node.output().debugName())
        return {name: value for name, value in values.items() if name not in fed}


def _call(node: Any, arguments: list[Any]) -> Any:
    kind, _, name = node.kind().partition("::")
    if node.kind() == "prim::Constant":
        return node.output().toIValue()
    if node.kind() in ("prim::ListConstruct", "prim::TupleConstruct"):
        return arguments if name == "ListConstruct" else tuple(arguments)
    if node.kind() == "prim::NumToTensor":
        return torch.tensor(arguments[0])
    if node.kind() in ("aten::Int", "aten::ScalarImplicit", "aten::IntImplicit"):
        return arguments[0].item() if isinstance(arguments[0], torch.Tensor) else arguments[0]
    if kind != "aten":
        raise NotImplementedError(f"{node.kind()} is not converted")
    if name == "_convolution":  # as tracing writes it: with switches of the CUDA library at its end
        return torch.ops.aten.convolution(*arguments[:9])
    wanted = torch._C.parse_schema(node.schema()).arguments
    plain = [value for value, each in zip(arguments, wanted) if not each.kwarg_only]
    named = {each.name: value for value, each in zip(arguments, wanted) if each.kwarg_only}
    return getattr(torch.ops.aten, name)(*plain, **named)

"""A computation as named values: one can be made otherwise, and only what depends on it is computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Function = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class Node:
    """How a value is made of others."""

    make: Function
    inputs: tuple[str, ...] = ()
    """Names of the values that `make` takes, in order."""

    def then(self, change: Callable[[Tensor], Tensor]) -> Node:
        """The same, its result changed."""
        return Node(lambda *inputs: change(self.make(*inputs)), self.inputs)

    @property
    def is_weight(self) -> bool:
        """Whether it is made of nothing: a tensor of the checkpoint, or an input."""
        return not self.inputs


Changes = Mapping[str, Node]
"""Nodes in place of those of the same names; they may take any other value that does not depend on them."""


def constant(value: Tensor) -> Node:
    """A value that is there."""
    return Node(lambda: value)


class Graph:
    """Named values without a circle; what was computed of the unchanged ones is kept."""

    def __init__(self, nodes: Mapping[str, Node], output: str) -> None:
        """Take the nodes, and the name of the one that is asked for."""
        self.nodes, self.target = dict(nodes), output
        self._kept: dict[str, Tensor] = {}

    def value(self, name: str) -> Tensor:
        """A value of the unchanged graph."""
        if name not in self._kept:
            node = self.nodes[name]
            self._kept[name] = node.make(*map(self.value, node.inputs))
        return self._kept[name]

    def output(self, changes: Changes) -> Tensor:
        """The output under changes; what they do not touch is not computed again."""
        return _Changed(self, changes).value(self.target)


class _Changed:
    """One computation under changes."""

    def __init__(self, graph: Graph, changes: Changes) -> None:
        self._graph, self._changes = graph, changes
        self._touched: dict[str, bool] = {}
        self._values: dict[str, Tensor] = {}

    def value(self, name: str) -> Tensor:
        if not self._is_touched(name):
            return self._graph.value(name)
        if name not in self._values:
            node = self._node(name)
            self._values[name] = node.make(*map(self.value, node.inputs))
        return self._values[name]

    def _node(self, name: str) -> Node:
        return self._changes.get(name) or self._graph.nodes[name]

    def _is_touched(self, name: str) -> bool:
        if name not in self._touched:
            self._touched[name] = name in self._changes or any(map(self._is_touched, self._node(name).inputs))
        return self._touched[name]

"""What a loaded TorchScript program may call: arithmetic, wherever in the program it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from whisper_parity.errors import ArtifactError

NAMESPACES = frozenset(
    {"aten", "prim", "quantized", "_quantized", "onednn", "mkldnn", "mkldnn_prepacked", "mkl", "sparse"}
)
"""Operators that compute. Others send, profile, or belong to libraries."""
FORBIDDEN = frozenset(
    {
        "aten::from_file", "aten::save", "prim::PythonOp", "prim::IgnoredPythonOp", "prim::AddStatValue",
        "prim::rpc_async", "prim::rpc_sync", "prim::rpc_remote",
    }
)  # fmt: skip
"""Among them: those that touch files, call Python or other machines."""


def require_arithmetic(path: Path, graphs: Iterable[Any]) -> None:
    """Refuse a program that calls anything but arithmetic.

    Args:
        path: the file, for messages.
        graphs: those of all its functions and methods.

    Raises:
        ArtifactError: it does; the operators are named.
    """
    kinds = {kind for graph in graphs for kind in operators(graph)}
    if foreign := sorted(kind for kind in kinds if kind in FORBIDDEN or kind.partition("::")[0] not in NAMESPACES):
        raise ArtifactError(f"{path}: holds {', '.join(foreign)}, which a Whisper does not need", hint="Trace it again")


def operators(graph: Any) -> Iterator[str]:
    """Kinds of all nodes of a graph, those in blocks and in graphs that nodes carry (fork, closures) included."""
    waiting = [graph]
    while waiting:
        for node in waiting.pop().nodes():
            yield node.kind()
            waiting += node.blocks()
            for name in node.attributeNames():
                kind = node.kindOf(name)
                if kind == "g":
                    waiting.append(node.g(name))
                elif kind == "gs":
                    waiting += node.gs(name)

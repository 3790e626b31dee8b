"""Where a loaded TFLite file runs: which of its nodes a delegate took.

The Python interpreter does not say it in so many words. Its list of ops (`_get_ops_details`, the same in LiteRT and in
tflite-runtime) holds, once tensors are allocated, the nodes of the file and behind them one node DELEGATE for each
part that a delegate took, with the tensors that go in and come out. What was taken is what lies between these. (The
runtime has a log line of its own, "Replacing N out of M node(s) with delegate"; its Python packages do not print it.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from whisper_parity.backend.contract import Placement

DELEGATE = "DELEGATE"
DEFAULT_DELEGATE = "XNNPACK"
"""We ask for no delegate; both interpreters then apply XNNPACK, which runs on the CPU, and nothing else."""
KNOWN_BY = "counted in the interpreter's list of ops; the only delegate that it applies unasked is XNNPACK"

Node = Mapping[str, Any]


def placement(component: str, interpreter: Any) -> Placement:
    """Where the first subgraph of an interpreter with allocated tensors runs; a Whisper has no other."""
    try:
        ops = interpreter._get_ops_details()
    except (AttributeError, ValueError, RuntimeError) as error:
        return Placement(component, "", None, None, f"this interpreter lists no ops ({type(error).__name__})")
    taken, total = delegated(ops)
    return Placement(component, DEFAULT_DELEGATE, total, len(taken), _note(ops, taken))


def delegated(ops: Sequence[Node]) -> tuple[frozenset[int], int]:
    """Indices of the nodes that delegates took, and how many nodes the file has."""
    nodes = [op for op in ops if op["op_name"] != DELEGATE]
    makers = {int(tensor): node for node in nodes for tensor in node["outputs"]}
    taken: set[int] = set()
    for op in ops:
        if op["op_name"] == DELEGATE:
            taken |= _between(op, makers)
    return frozenset(taken), len(nodes)


def _between(delegate: Node, makers: Mapping[int, Node]) -> set[int]:
    """Walk from what a delegate gives back to what it was given."""
    given = _tensors(delegate["inputs"])
    indices: set[int] = set()
    waiting = _tensors(delegate["outputs"])
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and int(maker["index"]) not in indices:
            indices.add(int(maker["index"]))
            waiting |= _tensors(maker["inputs"]) - given
    return indices


def _tensors(indices: Iterable[Any]) -> set[int]:
    return {int(index) for index in indices if int(index) >= 0}


def _note(ops: Sequence[Node], taken: frozenset[int]) -> str:
    left = [op["op_name"] for op in ops if op["op_name"] != DELEGATE and int(op["index"]) not in taken]
    names = ", ".join(f"{name} x {left.count(name)}" for name in dict.fromkeys(left))
    return f"{KNOWN_BY}; left to the built-in kernels: {names}" if left else KNOWN_BY

"""What the confined child does with TFLite files: `answer` of whisper_parity.system.confined.

Requests: {"do": "load", "key", "path", "name", "module", "threads", "inputs", "outputs"}, {"do": "run", "key",
"inputs", "rows"}, {"do": "run_all", "key", "inputs"}.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_parity.backend.interface import Port
from whisper_parity.backends.tflite.graph import Graph, Ports, Shapes
from whisper_parity.system.frames import ANSWERED, Float32, Message

_graphs: dict[str, Graph] = {}


def answer(request: Mapping[str, Any], arrays: tuple[Float32, ...]) -> Message:
    """Answer one request.

    Raises:
        ArtifactError, BackendError: see `Graph`.
    """
    if request["do"] == "load":
        return Message(ANSWERED, _load(request))
    graph, named = _graphs[request["key"]], dict(zip(request["inputs"], arrays))
    if request["do"] == "run":
        return Message(ANSWERED, "", (graph.run(named, request["rows"]),))
    return Message(ANSWERED, "", tuple(graph.run_all(named).values()))


def _load(request: Mapping[str, Any]) -> str:
    """Load a file, run it once, and say where it runs."""
    module = importlib.import_module(request["module"])
    sides = _side(request["inputs"]), _side(request["outputs"])
    graph = Graph(module, Path(request["path"]), request["threads"], *sides, name=request["name"])
    graph.attempt()
    _graphs[request["key"]] = graph
    placed = graph.placement("")
    return json.dumps([placed.nodes, placed.delegated, placed.target, placed.note])


def _side(side: Mapping[str, Any]) -> Shapes | Ports:
    """Shapes, or ports that were read from the file."""
    if any(isinstance(port, dict) for port in side.values()):
        return {name: Port.parse(port) for name, port in side.items()}
    return {name: tuple(shape) for name, shape in side.items()}

"""What the confined child does with TFLite files: `answer` of whisper_parity.system.confined.

Requests: {"do": "load", "key", "path", "name", "module", "threads", "inputs", "outputs"}, {"do": "run", "key",
"inputs", "rows"}, {"do": "run_all", "key", "inputs"}, and those of `split.remote`, "steps" with "graphs": keys by
component.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_parity.backend.interface import Port
from whisper_parity.backends.split import remote
from whisper_parity.backends.tflite.graph import Graph, Side
from whisper_parity.system.frames import ANSWERED, Float32, Message

_graphs: dict[str, Graph] = {}
_stepped: dict[str, str] = {}
"""Keys of the graphs of a decoder with a KV cache, by component."""
_answering = remote.Answering(lambda component: _graphs[_stepped[component]].step)


def answer(request: Mapping[str, Any], arrays: tuple[Float32, ...]) -> Message:
    """Answer one request.

    Raises:
        ArtifactError, BackendError: see `Graph`.
    """
    if request["do"] in remote.REQUESTS:
        _stepped.update(request.get("graphs", {}))
        return _answering.answer(request, arrays)
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


def _side(side: Mapping[str, Any]) -> Side:
    """Shapes, and ports that were read from the file."""
    return {name: Port.parse(port) if isinstance(port, dict) else tuple(port) for name, port in side.items()}

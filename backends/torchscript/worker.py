"""What the confined child does with TorchScript files: `answer` of whisper_parity.system.confined.

Requests: {"do": "load", "component", "path", "shape", "threads"}, {"do": "rows", "component", "rows", "n_ctx"},
{"do": "outputs", "component"}, {"do": "inputs", "component"}, {"do": "inspect", "path", "shapes"}, {"do": "interface",
"files", "dims", "choices"}, {"do": "read", "component", "rows", "half"}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from whisper_parity.backend.interface import Half
from whisper_parity.backends.split.interface import Choices
from whisper_parity.backends.torchscript import scripts, trials
from whisper_parity.backends.torchscript.scripts import LoadedScripts
from whisper_parity.model.dims import Dims
from whisper_parity.system.frames import ANSWERED, Float32, Message

INPUTS = {1: "encoder", 2: "decoder"}
"""Number of inputs of each half, of files that name no weights."""

_loaded = LoadedScripts(foreign=True)


def answer(request: Mapping[str, Any], arrays: tuple[Float32, ...]) -> Message:
    """Answer one request.

    Raises:
        ArtifactError, BackendError: see `scripts.LoadedScripts`.
    """
    component = str(request.get("component"))
    if request["do"] == "load":
        torch.set_num_threads(request["threads"])
        shape = request["shape"]
        _loaded.load(component, Path(request["path"]), None if shape is None else tuple(shape))
        return Message(ANSWERED, "")
    if request["do"] == "rows":
        return Message(ANSWERED, "", (_loaded.rows(component, arrays, request["rows"], request["n_ctx"]),))
    if request["do"] == "read":
        half = Half.parse(request["half"])
        return Message(ANSWERED, "", (_loaded.read(component, half, arrays, request["rows"]),))
    if request["do"] == "interface":
        choices = Choices(tuple(request["choices"]["transposed"]), request["choices"]["setting"])
        interface = _loaded.interface(request["files"], Dims(**request["dims"]), choices)
        return Message(ANSWERED, json.dumps(asdict(interface)))
    if request["do"] == "outputs":
        return Message(ANSWERED, "", _loaded.outputs(component, arrays))
    if request["do"] == "inputs":
        return Message(ANSWERED, "\n".join(_loaded.inputs(component)))
    return Message(ANSWERED, _role(Path(request["path"]), request["shapes"]))


def _role(path: Path, shapes: Mapping[str, list[int]]) -> str:
    """The half that a file can only be, by its inputs and, where it shows them, its weights; "" for neither."""
    module = scripts.read_foreign(path)
    component = INPUTS.get(len(trials.arguments(module)), "")
    if not module.state_dict():
        return component
    held = [half for half in shapes if scripts.holds(module, tuple(shapes[half]))]
    return held[0] if len(held) == 1 else ""

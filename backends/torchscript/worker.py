"""What the confined child does with TorchScript files: `answer` of whisper_parity.system.confined.

Requests: {"do": "load", "component", "path", "shape", "threads"}, {"do": "rows", "component", "rows", "n_ctx"},
{"do": "outputs", "component"}, {"do": "inputs", "component"}, {"do": "inspect", "path", "shapes", "decoders",
"others"}, {"do": "interface", "files", "dims", "choices"}, {"do": "read", "component", "rows", "half"}, {"do":
"tapped", "component", "kind", "units", "fed", "dims", "half"} with the file's inputs and the hidden states of the units
that are fed, {"do": "fit", "files", "dims", "layouts"}, and those of `split.remote`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from whisper_parity.backend.interface import Half
from whisper_parity.backend.layout import Layout
from whisper_parity.backends.split import remote
from whisper_parity.backends.split.fitting import stated
from whisper_parity.backends.split.interface import Choices
from whisper_parity.backends.torchscript import scripts, trials
from whisper_parity.backends.torchscript.scripts import LoadedScripts, TapRequest
from whisper_parity.model.dims import Dims
from whisper_parity.system.frames import ANSWERED, Float32, Message

_loaded = LoadedScripts(foreign=True)
_answering = remote.Answering(_loaded.run)


def answer(request: Mapping[str, Any], arrays: tuple[Float32, ...]) -> Message:
    """Answer one request.

    Raises:
        ArtifactError, BackendError: see `scripts.LoadedScripts`.
    """
    component = str(request.get("component"))
    if request["do"] in remote.REQUESTS:
        return _answering.answer(request, arrays)
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
    if request["do"] == "fit":
        layouts = [Layout.parse(layout) for layout in request["layouts"]]
        return Message(ANSWERED, json.dumps(stated(_loaded.fitted(request["files"], layouts, Dims(**request["dims"])))))
    if request["do"] == "outputs":
        return Message(ANSWERED, "", _loaded.outputs(component, arrays))
    if request["do"] == "inputs":
        return Message(ANSWERED, "\n".join(_loaded.inputs(component)))
    if request["do"] == "tapped":
        return _tapped(request, arrays)
    return Message(ANSWERED, _role(Path(request["path"]), request))


def _tapped(request: Mapping[str, Any], arrays: tuple[Float32, ...]) -> Message:
    """The names of the units that there are, and their outputs."""
    fed = tuple(request["fed"])
    count = len(arrays) - len(fed)
    half, dims = request["half"] and Half.parse(request["half"]), Dims(**request["dims"])
    asked = TapRequest(request["component"], request["kind"], tuple(request["units"]), fed, dims, half)
    outputs = _loaded.tapped(asked, arrays[:count], arrays[count:])
    return Message(ANSWERED, json.dumps(list(outputs)), tuple(outputs.values()))


def _role(path: Path, request: Mapping[str, Any]) -> str:
    """The half that a file can only be, by its inputs and, where it shows them, its weights; "" for neither."""
    module, shapes = scripts.read_foreign(path), request["shapes"]
    count = len(trials.arguments(module))
    component = "encoder" if count == 1 else "decoder" if count in request["decoders"] else ""
    held = [half for half in shapes if scripts.holds(module, tuple(shapes[half]))]
    if module.state_dict():
        component = held[0] if len(held) == 1 else ""
    return "" if component == "decoder" and count in request["others"] else component

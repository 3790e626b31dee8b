"""The TFLite artifact by MediaTek's converter, from the TorchScript files, held against their inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Halves
from whisper_parity.backends.split.embedding import adopt_token_embedding
from whisper_parity.backends.tflite import session
from whisper_parity.backends.tflite.mediatek import mtk
from whisper_parity.backends.tflite.mediatek.mtk import Converted
from whisper_parity.backends.tflite.mtkext.inspection import Inspection
from whisper_parity.backends.tflite.session import INPUTS, OUTPUTS, ROLES, Shapes
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import ArtifactError, BuildError
from whisper_parity.system.threads import side_by_side

LOOKUPS = ("GATHER", "GATHER_ND")
"""A token lookup: what splitting the decoder is there to avoid."""

Sides = tuple[Shapes, Shapes]


def build_files(settings: Settings, parent: Artifact, out: Path, names: Mapping[str, str]) -> None:
    """Write encoder, decoder, token embedding and the record of the conversion into `out`.

    Raises:
        ArtifactError: the TorchScript files do not fit the checkpoint.
        UnavailableError: MediaTek's converter is not there.
        BuildError: it failed, or wrote what the NPU cannot run or what the TorchScript files are not.
    """
    sides = script_sides(parent)

    def convert(role: str) -> Converted:
        shapes = list(sides[role][INPUTS].values())
        done = mtk.convert(settings, parent.path(role), out / names[role], shapes)
        require(out / names[role], done.inspection, sides[role])
        return done

    done = dict(zip(ROLES, list(side_by_side(convert, ROLES))))  # each in a process of its own
    adopt_token_embedding(parent, out)
    record = {role: _recorded(each) for role, each in done.items()}
    (out / names["conversion"]).write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def script_sides(parent: Artifact) -> dict[str, Sides]:
    """Inputs and outputs of the TorchScript files by role: names as traced, shapes as they take and give them.

    Raises:
        ArtifactError: they do not take what the checkpoint's dimensions say, or give no float32.
    """
    import torch

    from whisper_parity.backends.torchscript import TorchScriptBackend

    sides = session.shapes(parent.checkpoint.dims)
    features, encoded = (np.zeros(shape, np.float32) for side in sides["encoder"] for shape in side.values())
    with TorchScriptBackend().open(parent, torch.get_num_threads()) as opened:
        assert isinstance(opened, Halves)  # noqa: S101 - an ordinary artifact gives no probe
        gives = {"encoder": opened.encode(features).shape}
        logits = opened.decode([0], encoded, [0])
    gives["decoder"] = (1, parent.checkpoint.dims.n_text_ctx, logits.shape[-1])
    return {role: _named(parent, role, sides[role], gives[role]) for role in ROLES}


def _named(parent: Artifact, role: str, sides: Sides, gives: tuple[int, ...]) -> Sides:
    import torch

    module = torch.jit.load(str(parent.path(role)), map_location="cpu")  # type: ignore[no-untyped-call]
    names = [argument.name for argument in module.forward.schema.arguments[1:]]
    if len(names) != len(sides[INPUTS]):
        raise ArtifactError(f"{parent.path(role)}: expected {len(sides[INPUTS])} inputs, found {', '.join(names)}")
    return dict(zip(names, sides[INPUTS].values())), dict.fromkeys(sides[OUTPUTS], gives)


def require(path: Path, found: Inspection, sides: Sides) -> None:
    """Hold a converted file against the TorchScript file's inputs and outputs, and against what an NPU can run.

    Raises:
        BuildError: a token input, a lookup, or other inputs and outputs.
    """
    tokens = [port for port in found.inputs if port.dtype in ("int32", "int64")]
    if tokens:
        raise BuildError(
            f"{path.name}: input {tokens[0].name} is {tokens[0].dtype} {list(tokens[0].shape)}: the NPU cannot run a "
            "token lookup",
            hint="Split it out: the decoder takes token_embeddings float32",
        )
    if lookups := [name for name in LOOKUPS if name in found.ops]:
        raise BuildError(f"{path.name}: holds {lookups[0]}, which the NPU cannot run", hint="Split the lookup out")
    try:
        session.matched(path, INPUTS, sides[INPUTS], found.inputs)
        session.matched(path, OUTPUTS, sides[OUTPUTS], found.outputs)
    except ArtifactError as error:
        raise BuildError(f"mtk_converter wrote another model than the TorchScript file: {error}") from error


def _recorded(done: Converted) -> dict[str, Any]:
    """What the record says of one file."""
    found = done.inspection
    return {
        "mtk_converter": done.version,
        "options": mtk.QUANTIZE,
        "seconds": round(done.seconds, 3),
        "description": found.description,
        "inputs": [asdict(port) for port in found.inputs],
        "outputs": [asdict(port) for port in found.outputs],
        "ops": dict(found.ops),
        "custom_options": {op.name: {key: str(value) for key, value in op.options.items()} for op in found.custom_ops},
        "npu_findings": list(found.npu_findings),
    }

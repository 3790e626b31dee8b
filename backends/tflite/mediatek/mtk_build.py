"""The TFLite artifact of MediaTek's converter, from TorchScript files, whose inputs and outputs it must keep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from whisper_parity.backend.artifact import GIVEN, Artifact
from whisper_parity.backends.split.embedding import link_or_copy_token_embedding
from whisper_parity.backends.tflite import session
from whisper_parity.backends.tflite.graph import Shapes
from whisper_parity.backends.tflite.mediatek import mtk
from whisper_parity.backends.tflite.mediatek.mtk import Converted
from whisper_parity.backends.tflite.mtkext.inspection import Inspection
from whisper_parity.backends.tflite.session import INPUTS, OUTPUTS, ROLES
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import ArtifactError, BuildError
from whisper_parity.system.threads import side_by_side

LOOKUPS = ("GATHER", "GATHER_ND")
"""Token lookups, which splitting the decoder should have removed."""

Sides = tuple[Shapes, Shapes]


def build_files(settings: Settings, parent: Artifact, out: Path, names: Mapping[str, str]) -> None:
    """Write encoder, decoder, token embedding and the record of the conversion into `out`.

    Raises:
        ArtifactError: the TorchScript files do not match the checkpoint.
        UnavailableError: MediaTek's converter is not set up.
        BuildError: it failed, or its files cannot run on the NPU or do not match the TorchScript files.
    """
    sides = script_sides(parent)

    def convert(role: str) -> Converted:
        shapes = list(sides[role][INPUTS].values())
        converted = mtk.convert(settings, parent.path(role), out / names[role], shapes, foreign=parent.origin == GIVEN)
        require(out / names[role], converted.inspection, sides[role])
        return converted

    conversions = dict(zip(ROLES, list(side_by_side(convert, ROLES))))  # each in its own process
    link_or_copy_token_embedding(parent, out)
    record = {role: _record(conversion) for role, conversion in conversions.items()}
    (out / names["conversion"]).write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def script_sides(parent: Artifact) -> dict[str, Sides]:
    """Inputs and outputs of the TorchScript files by role: traced input names, real shapes.

    Raises:
        ArtifactError: their inputs do not match the checkpoint's dimensions, or an output is not float32.
    """
    import torch

    from whisper_parity.backends.torchscript import TorchScriptBackend, TorchScriptSession

    sides = session.shapes(parent.checkpoint.dims)
    features, encoded = (np.zeros(shape, np.float32) for side in sides["encoder"] for shape in side.values())
    with TorchScriptBackend().open(parent, torch.get_num_threads()) as scripts:
        assert isinstance(scripts, TorchScriptSession)  # noqa: S101 - an ordinary artifact opens as no probe
        output_shapes = {"encoder": scripts.encode(features).shape}
        logits = scripts.decode([0], encoded, [0])
        names = {role: scripts.inputs(role) for role in ROLES}
    output_shapes["decoder"] = (1, parent.checkpoint.dims.n_text_ctx, logits.shape[-1])
    return {role: _named(parent.path(role), names[role], sides[role], output_shapes[role]) for role in ROLES}


def _named(path: Path, names: Sequence[str], sides: Sides, output_shape: tuple[int, ...]) -> Sides:
    if len(names) != len(sides[INPUTS]):
        raise ArtifactError(f"{path}: expected {len(sides[INPUTS])} inputs, found {', '.join(names)}")
    return dict(zip(names, sides[INPUTS].values())), dict.fromkeys(sides[OUTPUTS], output_shape)


def require(path: Path, inspection: Inspection, sides: Sides) -> None:
    """Check that a converted file can run on an NPU and has the TorchScript file's inputs and outputs.

    Raises:
        BuildError: a token input, a token lookup, or different inputs or outputs.
    """
    tokens = [port for port in inspection.inputs if port.dtype in ("int32", "int64")]
    if tokens:
        raise BuildError(
            f"{path.name}: input {tokens[0].name} is {tokens[0].dtype} {list(tokens[0].shape)}: the NPU cannot run a "
            "token lookup",
            hint="Split it out: the decoder takes token_embeddings float32",
        )
    if lookups := [name for name in LOOKUPS if name in inspection.ops]:
        raise BuildError(f"{path.name}: holds {lookups[0]}, which the NPU cannot run", hint="Split the lookup out")
    try:
        session.matched(path, INPUTS, sides[INPUTS], inspection.inputs)
        session.matched(path, OUTPUTS, sides[OUTPUTS], inspection.outputs)
    except ArtifactError as error:
        raise BuildError(f"mtk_converter wrote another model than the TorchScript file: {error}") from error


def _record(conversion: Converted) -> dict[str, Any]:
    """The record of one conversion."""
    inspection = conversion.inspection
    return {
        "mtk_converter": conversion.version,
        "options": mtk.QUANTIZE,
        "seconds": round(conversion.seconds, 3),
        "description": inspection.description,
        "inputs": [asdict(port) for port in inspection.inputs],
        "outputs": [asdict(port) for port in inspection.outputs],
        "ops": dict(inspection.ops),
        "custom_options": {
            op.name: {key: str(value) for key, value in op.options.items()} for op in inspection.custom_ops
        },
        "npu_findings": list(inspection.npu_findings),
    }

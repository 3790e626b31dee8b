"""What a TFLite file is without its usual name."""

from __future__ import annotations

from pathlib import Path

from whisper_parity.backends.tflite.graph import Shapes
from whisper_parity.backends.tflite.mtkext import inspection
from whisper_parity.backends.tflite.mtkext.inspection import Port
from whisper_parity.backends.tflite.session import INPUTS, OUTPUTS, shapes
from whisper_parity.errors import ArtifactError, UnavailableError
from whisper_parity.model.dims import Dims

WEIGHTS = {"int8": "int8", "fp16": "float16"}
"""Type that the weights of a quantised variant have, by variant; those of the others have neither."""


def role(path: Path, dims: Dims, variant: str) -> str | None:
    """The half ("encoder" or "decoder") by a file's inputs, outputs and weights; None where they are neither half's.

    Args:
        path: the file; it is read, not run.
        dims: of the checkpoint.
        variant: of the stage.
    """
    try:
        outline = inspection.outline(path)
    except (ArtifactError, UnavailableError):
        return None
    quantised = {variant for variant, kind in WEIGHTS.items() if kind in outline.weights}
    if quantised != ({variant} if variant in WEIGHTS else set()):
        return None
    for name, sides in shapes(dims).items():
        if _fit(outline.inputs, sides[INPUTS]) and _fit(outline.outputs, sides[OUTPUTS]):
            return name
    return None


def _fit(ports: tuple[Port, ...], expected: Shapes) -> bool:
    return sorted((port.dtype, port.shape) for port in ports) == sorted(
        ("float32", shape) for shape in expected.values()
    )

"""What a TFLite file is without its usual name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whisper_parity.backend.layout import Layout
from whisper_parity.backends.split import fitting, interface
from whisper_parity.backends.split.names import KV
from whisper_parity.backends.tflite import ports
from whisper_parity.backends.tflite.mtkext import flatfile, inspection
from whisper_parity.errors import ArtifactError, UnavailableError
from whisper_parity.model.dims import Dims

WEIGHTS = {"int8": "int8", "fp16": "float16"}
"""Type that the weights of a quantised variant have, by variant; those of the others have neither."""


def role(path: Path, dims: Dims, variant: str, layouts: Sequence[Layout]) -> str | None:
    """The half ("encoder" or "decoder") by a file's inputs, outputs and weights; None where they are neither half's.

    Args:
        path: the file; it is read, not run.
        dims: of the checkpoint.
        variant: of the stage.
        layouts: of decoders with a KV cache.
    """
    try:
        model = flatfile.read(path)
        inputs, outputs = ports.ports(path, model)
    except (ArtifactError, UnavailableError):
        return None
    if variant == KV or fitting.is_stepped(layouts, inputs, outputs, dims):
        return fitting.role(layouts, inputs, outputs, dims) if variant == KV else None
    weights = inspection.weight_types(model)
    quantised = {variant for variant, kind in WEIGHTS.items() if kind in weights}
    if quantised != ({variant} if variant in WEIGHTS else set()):
        return None
    return interface.role(inputs, outputs, dims)

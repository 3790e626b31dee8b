"""The inputs and outputs of TFLite files as the files state them, read without running anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whisper_parity.backend.interface import Interface, Port
from whisper_parity.backend.layout import Fitted, Layout
from whisper_parity.backends.split import fitting
from whisper_parity.backends.split import interface as split
from whisper_parity.backends.split.fitting import PLAIN_INPUTS
from whisper_parity.backends.split.interface import Choices
from whisper_parity.backends.tflite.mtkext import flatfile, tensors
from whisper_parity.errors import ArtifactError, UnavailableError
from whisper_parity.model.dims import Dims

QUANTISED = ("int8", "uint8", "int16", "int32")
"""Types of inputs and outputs that may stand for other numbers."""


def interface(files: Mapping[str, Path], layouts: Sequence[Layout], dims: Dims, choices: Choices) -> Interface | None:
    """What both files take and give; None where one cannot be read: who loads it says why.

    Args:
        files: by role: "encoder", "decoder".
        layouts: of decoders with a KV cache, which is another stage.
        dims: of the checkpoint.
        choices: of the user.

    Raises:
        ArtifactError: they are no halves of this checkpoint, or can be read in two ways.
    """
    if (sides := _sides(files)) is None:
        return None
    if fitting.is_stepped(layouts, *sides["decoder"], dims):
        raise ArtifactError(f"{files['decoder']}: this decoder has a KV cache", hint="Name the stage tflite:kv")
    encoder = split.encoder(str(files["encoder"]), *sides["encoder"], dims, choices)
    where, n_audio_ctx = str(files["decoder"]), encoder.output.sizes[0]
    decoder, takes_ids, last_row = split.decoder(where, *sides["decoder"], dims, n_audio_ctx, choices)
    return split.whole(encoder, decoder, takes_ids, last_row, dims)


def stepped(files: Mapping[str, Path], layouts: Sequence[Layout], dims: Dims, choices: Choices) -> Fitted | None:
    """The layout of a decoder with a KV cache and its encoder; arguments and result as of `interface`.

    Raises:
        ArtifactError: they fit no layout, or several.
    """
    if (sides := _sides(files)) is None:
        return None
    where, (inputs, outputs) = str(files["decoder"]), sides["decoder"]
    if len(inputs) == PLAIN_INPUTS:
        raise ArtifactError(f"{where}: this decoder has no KV cache: it has 2 inputs", hint="Name the stage tflite")
    features = split.features(str(files["encoder"]), sides["encoder"][0], dims, choices)
    fitted = fitting.fit(where, layouts, inputs, outputs, dims, features.sizes[1] // 2)
    return fitting.fitting_of(str(files["encoder"]), fitted, features, sides["encoder"][1], dims)


def _sides(files: Mapping[str, Path]) -> dict[str, tuple[Sequence[Port], Sequence[Port]]] | None:
    """Inputs and outputs by role; None where a file cannot be read."""
    try:
        models = {role: flatfile.shared(path) for role, path in files.items()}
    except (ArtifactError, UnavailableError):
        return None
    return {role: ports(files[role], model) for role, model in models.items()}


def ports(path: Path, model: Any) -> tuple[Sequence[Port], Sequence[Port]]:
    """Inputs and outputs of the first subgraph of a `ModelT`; which is rows and which columns is not known yet.

    Raises:
        ArtifactError: one has several scales.
    """
    return _side(path, model, "inputs"), _side(path, model, "outputs")


def _side(path: Path, model: Any, side: str) -> list[Port]:
    graph = model.subgraphs[0]
    signatures = [signature for signature in model.signatureDefs if signature.subgraphIndex == 0]
    named = {}
    if len(signatures) == 1:
        named = {entry.tensorIndex: tensors.text(entry.name) for entry in getattr(signatures[0], side) or []}
    places = enumerate(getattr(graph, side))
    return [_port(path, place, graph.tensors[index], named.get(index, "")) for place, index in places]


def _port(path: Path, place: int, tensor: Any, name: str) -> Port:
    scale, zero_point = _quantisation(path, tensor)
    fixed, signature = tensors.shape(tensor), tensor.shapeSignature
    free = signature is not None and len(signature) == len(fixed)
    shape = tuple(int(size) for size in signature) if free else fixed
    kind = tensors.type_name(tensor.type)
    return Port(name or tensors.text(tensor.name), place, shape, (0, 0), kind, scale=scale, zero_point=zero_point)


def _quantisation(path: Path, tensor: Any) -> tuple[float, int]:
    """Scale and zero point; (0, 0) for numbers that stand for themselves."""
    stated = tensor.quantization
    if stated is None or stated.scale is None or len(stated.scale) == 0:
        return 0.0, 0
    scale, points = float(stated.scale[0]), stated.zeroPoint
    if len(stated.scale) > 1 or tensors.type_name(tensor.type) not in QUANTISED or not 0 < scale < float("inf"):
        raise ArtifactError(
            f"{path}: {tensors.describe(tensor)} is quantised by {[float(one) for one in stated.scale[:3]]}",
            hint="An input or output has one scale, more than 0",
        )
    return scale, int(points[0]) if points is not None and len(points) else 0

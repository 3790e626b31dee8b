"""A checkpoint under a shorter window or context: the same weights, fewer positions.

Whisper's encoder adds a table of positions to what its convolutions give, one row for 20 ms; its decoder adds one row
for each token. A port for a shorter window takes the first rows (so does every public one), and nothing else changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from whisper_parity.errors import ArtifactError, OutputError
from whisper_parity.model.checkpoint import Checkpoint, read
from whisper_parity.model.dims import STATED, Dims
from whisper_parity.system.files import locked, replacing

POSITIONS = {"encoder.positional_embedding": "n_audio_ctx", "decoder.positional_embedding": "n_text_ctx"}
"""Tables that are cut, and the dimension that is the number of their rows."""


def reduced(whole: Checkpoint, cache: Path, n_audio_ctx: int, n_text_ctx: int) -> Checkpoint:
    """The checkpoint with so many positions, described and not yet written; itself where it has no more.

    Args:
        whole: the checkpoint.
        cache: folder where `write` puts it.
        n_audio_ctx: positions of the encoder, half the frames of a window.
        n_text_ctx: positions of the decoder.

    Raises:
        ArtifactError: the checkpoint has fewer.
    """
    dims = replace(whole.dims, n_audio_ctx=n_audio_ctx, n_text_ctx=n_text_ctx)
    if dims == whole.dims:
        return whole
    if n_audio_ctx > whole.dims.n_audio_ctx or n_text_ctx > whole.dims.n_text_ctx:
        raise ArtifactError(
            f"{n_audio_ctx} positions of audio and {n_text_ctx} tokens are asked for, and {whole.path.name} has "
            f"{whole.dims.n_audio_ctx} and {whole.dims.n_text_ctx}",
            hint="Is the file from the given checkpoint?",
        )
    sha256 = hashlib.sha256(f"{whole.sha256} {n_audio_ctx} {n_text_ctx}".encode()).hexdigest()
    path = cache / "reduced" / f"{whole.name}-{n_audio_ctx}-{n_text_ctx}-{sha256[:16]}.pt"
    return replace(whole, path=path.absolute(), sha256=sha256, dims=dims)


def write(checkpoint: Checkpoint, whole: Checkpoint) -> None:
    """Write a reduced checkpoint where it says that it lies, once.

    Raises:
        OutputError: the cache cannot be written.
    """
    path = checkpoint.path
    with locked(path.with_name(f".{path.name}.lock")):
        if not path.is_file():
            _write(whole, checkpoint.dims, path)


def _write(whole: Checkpoint, dims: Dims, path: Path) -> None:
    import torch

    saved = read(whole.path)
    weights = dict(saved["model_state_dict"])
    for name, dimension in POSITIONS.items():
        weights[name] = weights[name][: getattr(dims, dimension)].clone()
    stated = {name: getattr(dims, name) for name in STATED}
    try:
        with replacing(path) as partial:
            torch.save({**saved, "dims": stated, "model_state_dict": weights}, partial)
    except (OSError, RuntimeError) as error:  # torch's own writer says so when the disk is full
        raise OutputError(f"{path}: cannot be written", hint="Choose another --cache") from error

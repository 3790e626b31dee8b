"""LiteRT's conversion and quantisation, in worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.backends.split.embedding import link_or_copy_token_embedding, write_of_cached, write_of_checkpoint
from whisper_parity.backends.split.names import KV
from whisper_parity.backends.torchscript import mask_value
from whisper_parity.system.workers import Job, workers


def build_files(
    parent: Artifact, out: Path, names: Mapping[str, str], variant: str, options: BuildOptions, *, cached_cross: bool
) -> None:
    """Write encoder, decoder and the tables beside them into `out`.

    Args:
        parent: what is converted: the checkpoint, or for a quantised variant the float32 files.
        out: folder.
        names: of the files by role.
        variant: of the stage.
        options: of the build.
        cached_cross: whether a decoder with a KV cache has the two inputs that nothing reads.

    Raises:
        BuildError: a converter failed, crashed or exceeded the time limit.
    """
    quantised = variant in ("fp16", "int8")
    jobs = []
    for role in ("encoder", "decoder"):
        source, target = parent.path(role) if quantised else parent.checkpoint.path, out / names[role]
        kind, mask = variant if quantised else "convert", str(mask_value(options))
        half = role
        if variant == KV and role == "decoder":
            half = "kv" if cached_cross else "kv without cached_cross"
        paths = [str(source.absolute()), str(target.absolute())]  # workers run in the project's folder
        jobs.append(
            Job(
                f"{variant or 'fp32'} {role}",
                target,
                ["whisper_parity.backends.tflite.litert.convert", kind, half, *paths, mask, parent.origin],
            )
        )
    with workers() as pool, pool.doing(jobs):
        if variant == KV:
            write_of_cached(parent.checkpoint, out)
        else:
            write_embedding(parent, out, quantised)


def write_embedding(parent: Artifact, out: Path, quantised: bool) -> None:
    """Write the token embedding into `out`: from the checkpoint, or for a quantised variant its parent's file."""
    if quantised:
        link_or_copy_token_embedding(parent, out)
    else:
        write_of_checkpoint(parent.checkpoint, out)

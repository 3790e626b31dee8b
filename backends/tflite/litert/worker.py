"""LiteRT's conversion and quantisation in worker processes, and the first run of foreign files in one of its own.

The interpreter verifies a file against the flatbuffer schema, so truncated and foreign files are refused. A valid one
can still crash or hang the process: an operator that lacks a required input, a tensor of 2**31 elements. Files that we
converted are recognised by their hash and need no such run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.backends.split.embedding import link_or_copy_token_embedding, write_of_checkpoint
from whisper_parity.backends.tflite.litert import trial
from whisper_parity.backends.torchscript import mask_value
from whisper_parity.system.workers import Job, workers


def build_files(parent: Artifact, out: Path, names: Mapping[str, str], variant: str, options: BuildOptions) -> None:
    """Write encoder, decoder and token embedding into `out`.

    Raises:
        BuildError: a converter failed, crashed or exceeded the time limit.
    """
    quantised = variant in ("fp16", "int8")
    jobs = []
    for role in ("encoder", "decoder"):
        source, target = parent.path(role) if quantised else parent.checkpoint.path, out / names[role]
        kind, mask = variant if quantised else "convert", str(mask_value(options))
        paths = [str(source.absolute()), str(target.absolute())]  # workers run in the project's folder
        jobs.append(
            Job(
                f"{variant or 'fp32'} {role}",
                target,
                ["whisper_parity.backends.tflite.litert.convert", kind, role, *paths, mask],
            )
        )
    with workers() as pool, pool.doing(jobs):
        write_embedding(parent, out, quantised)


def failure(path: Path, module: str, threads: int) -> str:
    """Try to load and run a file in a separate process; the reason if that fails, else ""."""
    return trial.failure("whisper_parity.backends.tflite.litert.attempt", [str(path.absolute()), module, str(threads)])


def write_embedding(parent: Artifact, out: Path, quantised: bool) -> None:
    """Write the token embedding into `out`: from the checkpoint, or for a quantised variant its parent's file."""
    if quantised:
        link_or_copy_token_embedding(parent, out)
    else:
        write_of_checkpoint(parent.checkpoint, out)

"""Conversion, quantisation and the first try of foreign files in processes of their own.

The converters print to stdout, log from C++, keep gigabytes, and can die without an exception: none of that may reach
the harness. Encoder and decoder are converted side by side.

The interpreter holds a file against the flatbuffer schema before it loads it, so truncated and foreign files are
refused. One that keeps the schema can still kill the process or never end: an operator without an input that it needs,
a tensor of 2**31 elements. Files that we converted are known by their hash and are not tried.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from backends import files
from backends.tflite import trial
from backends.torchscript import mask_value
from harness.artifact import Artifact, Options
from harness.errors import BuildError
from harness.fixture import PROJECT

TIME_LIMIT_S = 1800.0


def build_files(parent: Artifact, out: Path, names: Mapping[str, str], variant: str, options: Options) -> None:
    """Write encoder, decoder and token embedding into `out`.

    Raises:
        BuildError: a converter failed, died or ran past TIME_LIMIT_S.
    """
    quantised = variant in ("fp16", "int8")
    workers = {}
    for role in ("encoder", "decoder"):
        source = parent.path(role) if quantised else parent.checkpoint.path
        paths = [str(source.absolute()), str((out / names[role]).absolute())]  # workers run in the project's folder
        task = [variant if quantised else "convert", role, *paths, str(mask_value(options))]
        workers[role] = start("backends.tflite.convert", task)
    try:
        if quantised:
            files.adopt_token_embedding(parent, out)
        else:
            write_embedding(parent, out)
        for role, worker in workers.items():
            finish(f"{variant or 'fp32'} {role}", worker, out / names[role])
    finally:
        for worker in workers.values():
            worker.kill()


def failure(path: Path, module: str, threads: int) -> str:
    """Why a file cannot be loaded and run once, tried in a process of its own; "" when it can."""
    return trial.failure("backends.tflite.attempt", [str(path.absolute()), module, str(threads)])


def start(module: str, task: list[str]) -> subprocess.Popen[str]:
    """Start `python -m module task` as a worker."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *task],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=PROJECT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # conversion is one thread's work; idle ones only spin
    )


def finish(what: str, worker: subprocess.Popen[str], path: Path) -> None:
    """Wait for a worker that writes `path`.

    Raises:
        BuildError: it failed, died or ran past TIME_LIMIT_S.
    """
    started = time.monotonic()
    try:
        output, _ = worker.communicate(timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        spent = time.monotonic() - started
        raise BuildError(f"converting the {what} took more than {spent:.0f} s", hint="Is the machine busy?") from error
    if worker.returncode != 0 or not path.is_file():
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        reason = lines[-1][:300] if lines else "it printed nothing"
        raise BuildError(f"converting the {what} failed (exit code {worker.returncode}): {reason}")


def write_embedding(parent: Artifact, out: Path) -> None:
    """Write the token embedding of the parent's checkpoint into `out`."""
    from harness.checkpoint import read

    table = read(parent.checkpoint.path)["model_state_dict"]["decoder.token_embedding.weight"]
    files.write_token_embedding(table.float().numpy(), out)

"""Trace TorchScript files: the task `[this module, SOURCE, FOLDER, NAMES, MASK_VALUE, CACHED]` of forkserver.py."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from whisper_parity.backends.split import cached_modules as cached
from whisper_parity.backends.split import modules as split
from whisper_parity.backends.split.cached_modules import KINDS
from whisper_parity.model.dims import Dims
from whisper_parity.system import cores


def write(model: Any, dims: Dims, out: Path, names: Mapping[str, str], mask_value: float) -> None:
    """Trace both halves of a model, without torch's check: the harness is the check.

    Args:
        model: the checkpoint, loaded.
        dims: of it.
        out: folder.
        names: file names by role.
        mask_value: of the causal mask.
    """
    modules = split.split(model, mask_value)
    for role, module, inputs in zip(("encoder", "decoder"), modules, split.example_inputs(dims)):
        trace(module, inputs, out / names[role])


def write_cached(model: Any, dims: Dims, out: Path, names: Mapping[str, str], *, cached_cross: bool) -> None:
    """Trace the encoder and the decoder with a KV cache; arguments as of `write`."""
    encoder, _ = split.split(model)
    (features,), _ = split.example_inputs(dims)
    trace(encoder, (features,), out / names["encoder"])
    inputs = cached.example_inputs(dims, cached_cross=cached_cross)
    trace(cached.decoder(model, cached_cross=cached_cross), tuple(inputs.values()), out / names["decoder"])


def trace(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    """Trace a module at the shapes of its inputs and save it.

    torch's own writer of files aborts the process when the disk is full; Python's raises an error that says so.
    """
    with split.explicit_attention(), warnings.catch_warnings():
        # Shapes are fixed, so they are meant to become constants.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        traced = torch.jit.trace(module, inputs, check_trace=False)  # type: ignore[no-untyped-call]
    with path.open("wb") as file:
        file.write(traced.save_to_buffer())


def prepare(*_: str) -> None:
    """Nothing more: to import this module is to import what a task needs."""


def main(source: str, folder: str, names: str, mask_value: str, kind: str = "") -> None:
    """Trace both files of a checkpoint; of `KINDS`, with a KV cache."""
    torch.set_num_threads(cores.available())
    model = split.load_model(Path(source))
    dims, out, files = Dims(**vars(model.dims)), Path(folder), json.loads(names)
    if kind in KINDS:
        write_cached(model, dims, out, files, cached_cross=KINDS[kind])
    else:
        write(model, dims, out, files, float(mask_value))

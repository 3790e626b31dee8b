"""Trace TorchScript files: the task `[this module, SOURCE, FOLDER, NAMES, MASK_VALUE, TAPS]` of forkserver.py."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from whisper_parity.backend import taps
from whisper_parity.backend.taps import Taps
from whisper_parity.backends.split import modules as split
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


def write_probe(
    model: Any, dims: Dims, out: Path, names: Mapping[str, str], mask_value: float, selection: Taps
) -> None:
    """Trace the halves that have taps; other arguments as in `write`."""
    from whisper_parity.backends.split import probes

    for role, half in zip(("encoder", "decoder"), split.split(model, mask_value)):
        if role in selection.components:
            module = probes.probe(selection, role, half, dims)
            trace(module, tuple(probes.example_inputs(selection, role, dims).values()), out / names[role])


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


def main(source: str, folder: str, names: str, mask_value: str, text: str) -> None:
    """Trace both files of a checkpoint, or those of a probe."""
    torch.set_num_threads(cores.available())
    model = split.load_model(Path(source))
    dims, out, files = Dims(**vars(model.dims)), Path(folder), json.loads(names)
    if text:
        write_probe(model, dims, out, files, float(mask_value), taps.parse(text, dims))
    else:
        write(model, dims, out, files, float(mask_value))

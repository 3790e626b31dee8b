"""Trace TorchScript files: their content depends on this module, not on how they are run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from whisper_parity.backend.taps import Taps
from whisper_parity.backends.split import modules as split
from whisper_parity.backends.split.embedding import write_metadata, write_token_embedding
from whisper_parity.model.checkpoint import Checkpoint


def write(model: Any, checkpoint: Checkpoint, out: Path, names: Mapping[str, str], mask_value: float) -> None:
    """Trace both halves of a model, without torch's check: the harness is the check.

    Args:
        model: the checkpoint, loaded.
        checkpoint: its name and dimensions.
        out: folder.
        names: file names by role.
        mask_value: of the causal mask.
    """
    modules = split.split(model, mask_value)
    for role, module, inputs in zip(("encoder", "decoder"), modules, split.example_inputs(checkpoint.dims)):
        trace(module, inputs, out / names[role])
    write_token_embedding(model.decoder.token_embedding.weight.detach().numpy(), out)
    write_metadata(checkpoint, out)


def write_probe(
    model: Any, checkpoint: Checkpoint, out: Path, names: Mapping[str, str], mask_value: float, selection: Taps
) -> None:
    """Trace the halves that have taps; other arguments as in `write`."""
    from whisper_parity.backends.split import probes

    for role, half in zip(("encoder", "decoder"), split.split(model, mask_value)):
        if role in selection.components:
            module = probes.probe(selection, role, half, checkpoint.dims)
            trace(module, tuple(probes.example_inputs(selection, role, checkpoint.dims).values()), out / names[role])
    if "token_embedding" in names:
        write_token_embedding(model.decoder.token_embedding.weight.detach().numpy(), out)


def trace(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    """Trace a module at the shapes of its inputs and save it."""
    with split.explicit_attention(), warnings.catch_warnings():
        # Shapes are fixed, so they are meant to become constants.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        torch.jit.trace(module, inputs, check_trace=False).save(str(path))  # type: ignore[no-untyped-call]

"""Files as other people's scripts write them: under the usual names, and without a word of what they were made of."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from whisper_parity.backends.split import modules
from whisper_parity.backends.split.embedding import write_token_embedding
from whisper_parity.backends.split.names import TOKEN_EMBEDDING, tflite_names, torchscript_names
from whisper_parity.fixtures import breakages, ports
from whisper_parity.fixtures.breakages import Port
from whisper_parity.fixtures.sound import VARIANTS, Variant
from whisper_parity.model.checkpoint import Checkpoint

KINDS = ("torchscript", "tflite")
PLAIN, FROZEN = VARIANTS["traced"], VARIANTS["frozen"]

Inputs = tuple[torch.Tensor, ...]


def write(port: Port, folder: Path, checkpoint: Checkpoint, kind: str, variant: Variant = PLAIN) -> None:
    """Write a port as files of a representation.

    Args:
        port: perhaps broken; it is used up.
        folder: new.
        checkpoint: what the files are called after.
        kind: "torchscript" or "tflite".
        variant: the form that they are written in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = torchscript_names(checkpoint) if kind == "torchscript" else tflite_names(checkpoint, "")
    inputs = dict(zip(("encoder", "decoder"), modules.example_inputs(checkpoint.dims)))
    if variant.ids:
        inputs["decoder"] = (torch.zeros(1, checkpoint.dims.n_text_ctx, dtype=torch.int32), inputs["decoder"][1])
    save = _script if variant.scripted else _trace if kind == "torchscript" else _convert
    with torch.no_grad(), modules.explicit_attention(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for role, half in variant.halves(port).items():
            save(half, inputs[role], folder / names[role], variant)
    write_token_embedding(port.table, folder)
    if variant.table is not np.float32:
        np.save(folder / TOKEN_EMBEDDING, port.table.astype(variant.table))


def _script(half: torch.nn.Module, _inputs: Inputs, path: Path, _variant: Variant) -> None:
    torch.jit.script(half).save(str(path))  # type: ignore[no-untyped-call]


def _trace(half: torch.nn.Module, inputs: Inputs, path: Path, variant: Variant) -> None:
    traced = torch.jit.trace(half, inputs, check_trace=False)  # type: ignore[no-untyped-call]
    variant.finish(traced).save(str(path))


def _convert(half: torch.nn.Module, inputs: Inputs, path: Path, _variant: Variant) -> None:
    import litert_torch

    litert_torch.config.show_progress = False
    litert_torch.convert(half, inputs).export(str(path))


def ported(checkpoint: Checkpoint, name: str = "") -> Port:
    """A port with a fault, by name; without a name a faithful one."""
    port = breakages.ported(modules.load_model(checkpoint.path))
    with torch.no_grad():
        if fault := ports.breakage(name):
            fault.apply(port)
    return port


def is_in_files(port: Port) -> bool:
    """Whether a port's fault is in its files, and not in the program that calls them."""
    return not port.keeps_encoder_output and port.fed is list

"""Probes as TFLite files: the task `[this module, ROLE, SOURCE, TARGET, MASK_VALUE, TAPS]` of forkserver.py.

Ordinary files are left to worker.py and convert.py: their source is part of the cache key of converted files.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.taps import Taps
from whisper_parity.backends.tflite.litert import worker
from whisper_parity.model.dims import Dims
from whisper_parity.system.files import replacing
from whisper_parity.system.workers import Job, workers


def build_probe(
    parent: Artifact, out: Path, names: Mapping[str, str], variant: str, mask_value: float, selection: Taps
) -> None:
    """Write the files of a probe; a quantised variant quantises its parent's probe.

    Args:
        parent: the checkpoint, or the float32 probe with the same taps.
        out: folder.
        names: file names by role.
        variant: "", "fp32", "fp16" or "int8".
        mask_value: of the causal mask.
        selection: the taps.

    Raises:
        BuildError: a converter failed, crashed or timed out.
    """
    quantised = variant in ("fp16", "int8")
    jobs = []
    for role in selection.components:
        source, target = parent.path(role) if quantised else parent.checkpoint.path, out / names[role]
        arguments = [role, str(source.absolute()), str(target.absolute()), str(mask_value)]
        task = (
            ["whisper_parity.backends.tflite.litert.convert", variant, *arguments, parent.origin]
            if quantised
            else [__name__, *arguments, str(selection)]
        )
        jobs.append(Job(f"{variant or 'fp32'} {role} probe", target, task))
    with workers() as pool, pool.doing(jobs):
        if "token_embedding" in names:
            worker.write_embedding(parent, out, quantised)


def port_order(path: Path) -> tuple[list[str], list[str]]:
    """Names of a file's inputs and outputs, in file order.

    A compiler numbers its handles in this order and keeps no names.
    """
    from whisper_parity.backends.tflite.graph import signature, without_chatter
    from whisper_parity.backends.tflite.session import interpreter_module

    module, _ = interpreter_module()
    with without_chatter():
        interpreter = module.Interpreter(model_path=str(path))
    sides = zip(signature(interpreter), (interpreter.get_input_details(), interpreter.get_output_details()))
    inputs, outputs = ([_signature_name(names, int(detail["index"])) for detail in details] for names, details in sides)
    return inputs, outputs


def convert(role: str, checkpoint: Path, target: Path, mask_value: float, selection: Taps) -> None:
    """Convert one half of a probe with litert-torch, float32, inputs and outputs named after `taps.ports`."""
    import litert_torch
    import torch

    from whisper_parity.backends.split import modules, probes

    class Named(torch.nn.Module):
        """Names inputs and outputs; the file's signature keeps the names."""

        def __init__(self, module: torch.nn.Module, outputs: tuple[str, ...]) -> None:
            super().__init__()
            self.module, self.outputs = module, outputs

        def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            return dict(zip(self.outputs, self.module(*inputs.values())))

    litert_torch.config.show_progress = False
    model = modules.load_model(checkpoint)
    dims = Dims(**vars(model.dims))
    half = dict(zip(taps.COMPONENTS, modules.split(model, mask_value)))[role]
    outputs = tuple(taps.file_port(unit) for unit in taps.ports(selection, role, dims).outputs)
    inputs = {taps.file_port(name): array for name, array in probes.example_inputs(selection, role, dims).items()}
    with modules.explicit_attention():
        named: Any = Named(probes.probe(selection, role, half, dims), outputs).eval()
        litert_torch.convert(named, sample_kwargs=inputs).export(str(target))


def prepare(*_: str) -> None:
    """Import what a conversion needs."""
    for name in ("litert_torch", "whisper_parity.backends.split.probes"):
        import_module(name)


def main(role: str, source: str, target: str, mask_value: str, text: str) -> None:
    """Convert one file; the target is written atomically."""
    from whisper_parity.model import checkpoint

    selection = taps.parse(text, checkpoint.describe(Path(source)).dims)
    with replacing(Path(target)) as partial:
        convert(role, Path(source), partial, float(mask_value), selection)


def _signature_name(names: Mapping[str, int], index: int) -> str:
    """A tensor's name in the signature; "" if it has none."""
    return next((name for name, tensor_index in names.items() if tensor_index == index), "")

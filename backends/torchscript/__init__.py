"""Encoder and split-embedding decoder as TorchScript, traced at fixed shapes."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from backends import files, versions
from backends.files import TokenEmbedding
from harness.artifact import Artifact, Options
from harness.backend import Availability, Float32, Placement
from harness.checkpoint import Checkpoint, Dims
from harness.errors import ArtifactError, BackendError, first_line

FORBIDDEN_OPS = frozenset({"prim::Loop", "prim::PythonOp", "aten::from_file", "aten::save", "aten::tofile"})
"""A traced Whisper has none of these: they loop without bound, call Python, or touch files."""


CPU_ONLY = "loaded with map_location cpu: nothing else was asked for"


class TorchScriptBackend:
    """`torch.jit.trace` of the split modules, run by the TorchScript interpreter."""

    name = "torchscript"
    after: str | None = "pytorch"
    variants: tuple[str, ...] = ()

    def probe(self) -> Availability:
        """Needs torch, and openai-whisper to build."""
        return versions.require("torch", "openai-whisper")

    def source(self, variant: str) -> str | None:
        """Traced from the checkpoint's modules."""
        return "pytorch"

    def tools(self) -> dict[str, str]:
        """What decides the traced graph."""
        return versions.of("torch", "openai-whisper") | versions.of_code(
            "split.py", "files.py", "torchscript/__init__.py"
        )

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """encoder_base_3000.pt, decoder_base_448.pt, ..."""
        return files.torchscript_names(checkpoint)

    def build(self, parent: Artifact, out: Path, variant: str, options: Options) -> None:
        """Trace both halves; no second check run, since the harness itself is the check."""
        import torch

        from backends import split

        model = split.load_model(parent.path("checkpoint"))
        names = self.file_names(parent.checkpoint, variant)
        modules = split.split(model, mask_value(options))
        for role, module, inputs in zip(("encoder", "decoder"), modules, split.example_inputs(parent.checkpoint.dims)):
            with split.explicit_attention(), warnings.catch_warnings():
                # Shapes are fixed: that they become constants is what we want.
                warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
                torch.jit.trace(module, inputs, check_trace=False).save(str(out / names[role]))  # type: ignore[no-untyped-call]
        files.write_token_embedding(model.decoder.token_embedding.weight.detach().numpy(), out)
        files.write_metadata(parent.checkpoint, out)

    @contextmanager
    def open(self, artifact: Artifact, threads: int) -> Iterator[TorchScriptSession]:
        """Load both files and the token embedding, and hold their weights against the checkpoint's dimensions."""
        import torch

        torch.set_num_threads(threads)
        dims = artifact.checkpoint.dims
        encoder = _load(artifact.path("encoder"), (dims.n_audio_state, dims.n_mels, 3), "first convolution")
        decoder = _load(artifact.path("decoder"), (dims.n_vocab, dims.n_text_state), "output projection")
        yield TorchScriptSession(encoder, decoder, TokenEmbedding(artifact.path("token_embedding"), dims), dims)


class TorchScriptSession:
    """Two loaded modules and the lookup between them."""

    def __init__(self, encoder: Any, decoder: Any, embedding: TokenEmbedding, dims: Dims) -> None:
        import torch

        self._encoder, self._decoder, self._embedding, self._dims = encoder, decoder, embedding, dims
        self.label = f"torchscript (torch {torch.__version__})"

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> float32 [1, n_audio_ctx, n_audio_state]."""
        return np.asarray(_run("encoder", self._encoder, input_features).numpy())

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab] of the asked positions."""
        logits = _run("decoder", self._decoder, self._embedding.lookup(tokens), encoder_output)
        if logits.ndim != 3 or logits.shape[:2] != (1, self._dims.n_text_ctx):
            raise ArtifactError(
                f"torchscript decoder: expected logits [1, {self._dims.n_text_ctx}, n_vocab], "
                f"found {list(logits.shape)}",
                hint="Trace it at the full context",
            )
        return np.asarray(logits[0, list(rows)].numpy())

    def placement(self) -> tuple[Placement, ...]:
        """Both files were loaded for the CPU."""
        return tuple(Placement(role, "CPU", None, None, CPU_ONLY) for role in ("encoder", "decoder"))


def mask_value(options: Options) -> float:
    """The causal mask's value: -inf as in openai-whisper, or a finite one for NPUs."""
    return float(options.get("mask_value") or -math.inf)


def _run(component: str, module: Any, *arrays: Float32) -> Any:
    import torch

    try:
        with torch.no_grad():
            output = module(*map(torch.from_numpy, arrays))
    except RuntimeError as error:
        shapes = ", ".join(str(list(array.shape)) for array in arrays)
        lines = [line for line in str(error).splitlines() if "Error" in line]
        message = (
            f"torchscript {component}: failed on inputs {shapes} ({(lines or [first_line(error)])[-1].strip():.200})"
        )
        if "allocate memory" in message:
            raise BackendError(message, hint="Free memory, or run fewer things at once") from error
        raise ArtifactError(message, hint="Do encoder and decoder belong to the given checkpoint?") from error
    found = output.dtype if isinstance(output, torch.Tensor) else type(output).__name__
    if found != torch.float32:
        raise ArtifactError(
            f"torchscript {component}: expected one float32 tensor as output, found {found}", hint="Trace it again"
        )
    return output


def _load(path: Path, weight_shape: tuple[int, ...], weight: str) -> Any:
    import torch

    from backends.split import state_shapes

    try:
        _refuse_code_at_load(path)
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        graph = module.inlined_graph
    except ArtifactError:
        raise
    except Exception as error:  # zipfile and torch.jit.load raise dozens of types on foreign bytes
        raise ArtifactError(
            f"{path}: not a TorchScript file ({first_line(error)})", hint="Build or copy it again"
        ) from error
    if found := sorted(op for op in FORBIDDEN_OPS if graph.findAllNodes(op, recurse=True)):
        raise ArtifactError(f"{path}: holds {', '.join(found)}, which a traced Whisper does not", hint="Trace it again")
    shapes = state_shapes(module)
    if shapes and weight_shape not in shapes:
        raise ArtifactError(
            f"{path}: no weight of shape {list(weight_shape)} ({weight})", hint="Is it from the given checkpoint?"
        )
    return module


def _refuse_code_at_load(path: Path) -> None:
    """TorchScript runs a module's __setstate__ while it loads; a traced Whisper has none."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".py") and b"__setstate__" in archive.read(name):
                raise ArtifactError(
                    f"{path}: runs code of its own when loaded (__setstate__ in {name})", hint="Trace it again"
                )

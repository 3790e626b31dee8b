"""Encoder and split-embedding decoder as TorchScript, traced at fixed shapes."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.backend.contract import Availability, Facts, Float32, Placement
from whisper_parity.backend.taps import Taps
from whisper_parity.backends import provenance
from whisper_parity.backends.split import probe_session
from whisper_parity.backends.split.embedding import TokenEmbedding
from whisper_parity.backends.split.names import torchscript_names
from whisper_parity.backends.split.probe_session import HostProbe
from whisper_parity.errors import ArtifactError, BackendError, first_line
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims

FORBIDDEN_OPS = frozenset({"prim::Loop", "prim::PythonOp", "aten::from_file", "aten::save", "aten::tofile"})
"""A traced Whisper has none of these: they loop without bound, call Python, or touch files."""


CPU_ONLY = "loaded with map_location cpu: nothing else was asked for"


class TorchScriptBackend:
    """`torch.jit.trace` of the split modules, run by the TorchScript interpreter."""

    name = "torchscript"
    after: str | None = "pytorch"
    variants: tuple[str, ...] = ()
    is_root = False
    default_stages: tuple[str, ...] = ("torchscript",)
    packages: tuple[str, ...] = ("torch",)

    def availability(self) -> Availability:
        """Needs torch, and openai-whisper to build."""
        return provenance.require("torch", "openai-whisper")

    def source(self, variant: str) -> str | None:
        """Traced from the checkpoint's modules."""
        return "pytorch"

    def tools(self) -> dict[str, str]:
        """What decides the traced graph."""
        return provenance.of("torch", "openai-whisper") | provenance.of_code(
            "backends.split.modules", "backends.split.embedding", "backends.split.names", "backends.torchscript.tracing"
        )

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """encoder_base_3000.pt, decoder_base_448.pt, ..."""
        return torchscript_names(checkpoint)

    def recognise(self, path: Path, checkpoint: Checkpoint, variant: str) -> str | None:
        """The encoder takes one input, the decoder two; where a file holds weights, theirs are among them."""
        if path.suffix != ".pt":
            return None
        try:
            module = _read(path)
        except ArtifactError:
            return None
        inputs = len(list(module.inlined_graph.inputs())) - 1  # the module itself is the first
        role = {1: "encoder", 2: "decoder"}.get(inputs)
        return role if role and _holds(module, _weight_shape(role, checkpoint.dims)) else None

    def probe_names(self, checkpoint: Checkpoint, variant: str, wanted: Taps) -> dict[str, str]:
        """encoder_base_3000_probe.pt, ..."""
        return taps.file_names(self.file_names(checkpoint, variant), wanted)

    def probe_tools(self) -> dict[str, str]:
        """Our modules around Whisper's."""
        return probe_session.tools()

    def build(self, parent: Artifact, out: Path, variant: str, options: BuildOptions) -> None:
        """Trace both halves, or those of a probe."""
        from whisper_parity.backends.split import modules as split
        from whisper_parity.backends.torchscript import tracing

        model, checkpoint = split.load_model(parent.path("checkpoint")), parent.checkpoint
        if wanted := taps.of_options(options, checkpoint.dims):
            names = self.probe_names(checkpoint, variant, wanted)
            tracing.write_probe(model, checkpoint, out, names, mask_value(options), wanted)
        else:
            tracing.write(model, checkpoint, out, self.file_names(checkpoint, variant), mask_value(options))

    @contextmanager
    def open(self, artifact: Artifact, threads: int) -> Iterator[TorchScriptSession | HostProbe]:
        """Load both files and the token embedding, and hold their weights against the checkpoint's dimensions."""
        import torch

        torch.set_num_threads(threads)
        dims = artifact.checkpoint.dims
        if wanted := taps.of_options(artifact.options, dims):
            yield _probe(artifact, wanted)
            return
        encoder = _load(artifact.path("encoder"), _weight_shape("encoder", dims), "first convolution")
        decoder = _load(artifact.path("decoder"), _weight_shape("decoder", dims), "output projection")
        yield TorchScriptSession(encoder, decoder, TokenEmbedding(artifact.path("token_embedding"), dims), dims)


class TorchScriptSession:
    """Two loaded modules and the lookup between them."""

    def __init__(self, encoder: Any, decoder: Any, embedding: TokenEmbedding, dims: Dims) -> None:
        import torch

        self._encoder, self._decoder, self._embedding, self._dims = encoder, decoder, embedding, dims
        cpu = tuple(Placement(role, "CPU", None, None, CPU_ONLY) for role in ("encoder", "decoder"))
        self.facts = Facts(_label(torch.__version__), placement=cpu)

    def usage(self) -> None:
        """It runs on this machine."""

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


def _probe(artifact: Artifact, wanted: Taps) -> HostProbe:
    import torch

    dims = artifact.checkpoint.dims
    modules = {component: _read(artifact.path(component)) for component in wanted.components}
    table = TokenEmbedding(artifact.path("token_embedding"), dims) if "decoder" in modules else None

    def run(component: str, arrays: Mapping[str, Float32]) -> dict[str, Float32]:
        outputs = _call(component, modules[component], *arrays.values())
        return dict(zip(taps.ports(wanted, component, dims).outputs, (output.numpy() for output in outputs)))

    def lookup(tokens: Sequence[int]) -> Float32:
        if table is None:
            raise BackendError("a probe of the encoder was asked for the decoder")
        return table.lookup(tokens)

    return HostProbe(f"{_label(torch.__version__)}, probe", wanted, dims, run, lookup)


def _label(version: str) -> str:
    return f"torchscript (torch {version})"


def mask_value(options: BuildOptions) -> float:
    """The causal mask's value: -inf as in openai-whisper, or a finite one for NPUs."""
    return float(options.get("mask_value") or -math.inf)


def _run(component: str, module: Any, *arrays: Float32) -> Any:
    import torch

    output = _call(component, module, *arrays)
    dtype = output.dtype if isinstance(output, torch.Tensor) else type(output).__name__
    if dtype != torch.float32:
        raise ArtifactError(
            f"torchscript {component}: expected one float32 tensor as output, found {dtype}", hint="Trace it again"
        )
    return output


def _call(component: str, module: Any, *arrays: Float32) -> Any:
    import torch

    try:
        with torch.no_grad():
            return module(*map(torch.from_numpy, arrays))
    except RuntimeError as error:
        shapes = ", ".join(str(list(array.shape)) for array in arrays)
        lines = [line for line in str(error).splitlines() if "Error" in line]
        message = (
            f"torchscript {component}: failed on inputs {shapes} ({(lines or [first_line(error)])[-1].strip():.200})"
        )
        if "allocate memory" in message:
            raise BackendError(message, hint="Free memory, or run fewer things at once") from error
        raise ArtifactError(message, hint="Do encoder and decoder belong to the given checkpoint?") from error


def _load(path: Path, weight_shape: tuple[int, ...], weight: str) -> Any:
    module = _read(path)
    if not _holds(module, weight_shape):
        raise ArtifactError(
            f"{path}: no weight of shape {list(weight_shape)} ({weight})", hint="Is it from the given checkpoint?"
        )
    return module


def _weight_shape(role: str, dims: Dims) -> tuple[int, ...]:
    """Shape of a weight that tells a half of this checkpoint from one of another size."""
    return (dims.n_audio_state, dims.n_mels, 3) if role == "encoder" else (dims.n_vocab, dims.n_text_state)


def _holds(module: Any, shape: tuple[int, ...]) -> bool:
    """Whether a weight of this shape is among a module's; a frozen module names none, and may hold it."""
    from whisper_parity.backends.split.modules import state_shapes

    shapes = state_shapes(module)
    return not shapes or shape in shapes


def _read(path: Path) -> Any:
    import torch

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
    if forbidden := sorted(op for op in FORBIDDEN_OPS if graph.findAllNodes(op, recurse=True)):
        raise ArtifactError(
            f"{path}: holds {', '.join(forbidden)}, which a traced Whisper does not", hint="Trace it again"
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

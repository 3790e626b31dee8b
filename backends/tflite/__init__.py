"""The split modules as TFLite files, run by LiteRT (or tflite-runtime) with XNNPACK."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from backends import files, versions
from backends.files import TokenEmbedding
from backends.tflite import placing
from backends.tflite.worker import build_files, failure
from harness.artifact import Artifact, Options
from harness.backend import Availability, Float32, Placement
from harness.checkpoint import Checkpoint, Dims
from harness.errors import ArtifactError, BackendError, UnavailableError, first_line

INTERPRETERS = {
    "ai-edge-litert": ("ai_edge_litert.interpreter", "LiteRT"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}
"""Packages that offer `Interpreter`: import path and the name that reports use. The first one installed is taken."""

Shapes = Mapping[str, tuple[int, ...]]


class TFLiteBackend:
    """litert-torch's conversion of the split modules; `fp16` and `int8` are its quantised variants."""

    name = "tflite"
    after: str | None = "torchscript"
    variants: tuple[str, ...] = ("fp32", "fp16", "int8")

    def probe(self) -> Availability:
        """Needs one of the two interpreters; the converters only when something is to be built."""
        if not (found := versions.of(*INTERPRETERS)):
            return Availability(False, "no TFLite interpreter is installed: run `pip install ai-edge-litert`")
        converters = versions.of("litert-torch", "ai-edge-quantizer")
        return Availability(True, ", ".join(f"{name} {version}" for name, version in {**found, **converters}.items()))

    def source(self, variant: str) -> str | None:
        """Converted from the checkpoint's modules (litert-torch takes no TorchScript); variants from the fp32 file."""
        return "tflite" if variant in ("fp16", "int8") else "pytorch"

    def tools(self) -> dict[str, str]:
        """What decides the converted files."""
        packages = versions.of("litert-torch", "litert-converter", "ai-edge-quantizer", "torch", "openai-whisper")
        return packages | versions.of_code("split.py", "files.py", "tflite/convert.py", "tflite/worker.py")

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """encoder_base_80x3000.tflite, decoder_base_448.tflite, ..."""
        return files.tflite_names(checkpoint, "" if variant == "fp32" else variant)

    def build(self, parent: Artifact, out: Path, variant: str, options: Options) -> None:
        """Convert, or quantise, both files in worker processes side by side."""
        build_files(parent, out, self.file_names(parent.checkpoint, variant), variant, options)

    @contextmanager
    def open(self, artifact: Artifact, threads: int) -> Iterator[TFLiteSession]:
        """Load both files, matching their inputs and outputs by name, shape and dtype, and the token embedding."""
        yield TFLiteSession(artifact, threads)


class TFLiteSession:
    """Two interpreters and the lookup between them."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        dims = artifact.checkpoint.dims
        module, runtime = _interpreter_module()
        encoder_output = (1, dims.n_audio_ctx, dims.n_audio_state)
        self.label = f"{artifact.stage} ({runtime})"
        self._embedding = TokenEmbedding(artifact.path("token_embedding"), dims)
        if artifact.origin == "external":
            for path in (artifact.path("encoder"), artifact.path("decoder")):
                if reason := failure(path, module.__name__, threads):
                    raise _not_loaded(path, reason)
        self._encoder = Graph(
            module,
            artifact.path("encoder"),
            threads,
            {"input_features": (1, dims.n_mels, dims.n_frames)},
            {"encoder_output": encoder_output},
        )
        self._decoder = Graph(module, artifact.path("decoder"), threads, *_decoder_shapes(dims, encoder_output))

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> float32 [1, n_audio_ctx, n_audio_state]."""
        return np.array(self._encoder.run({"input_features": input_features}))

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab] of the asked positions; only these rows leave the interpreter."""
        embeddings = self._embedding.lookup(tokens)
        logits = self._decoder.run({"token_embeddings": embeddings, "encoder_output": encoder_output})
        return np.array(logits[0, list(rows)])

    def placement(self) -> tuple[Placement, ...]:
        """Which of their nodes the delegate took."""
        return (self._encoder.placement("encoder"), self._decoder.placement("decoder"))


class Graph:
    """One TFLite file with one output, its tensors known by our names."""

    def __init__(self, module: Any, path: Path, threads: int, inputs: Shapes, outputs: Shapes) -> None:
        """Load a file.

        Args:
            module: the package that offers Interpreter.
            path: the .tflite file.
            threads: XNNPACK threads.
            inputs: expected shape of each input, by name; all float32.
            outputs: the same of the output.

        Raises:
            ArtifactError: not a TFLite file, an op that this interpreter lacks, or inputs and outputs that do not fit.
        """
        self.path = path
        try:
            with _without_chatter():
                self._interpreter = module.Interpreter(model_path=str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
            named_inputs, named_outputs = _signature(self._interpreter)
            details = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (ValueError, RuntimeError, OSError) as error:
            raise _not_loaded(path, _reason(error)) from error
        self._inputs = match(path, "input", inputs, details[0], named_inputs)
        found = match(path, "output", outputs, details[1], named_outputs)
        self._output = next(iter(found.values()))

    def run(self, arrays: Mapping[str, Float32]) -> Any:
        """The output as a view into the interpreter's memory: copy what must outlive the next call."""
        try:
            for name, array in arrays.items():
                self._interpreter.set_tensor(self._inputs[name], array)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"{self.path}: failed while it ran ({_reason(error)})") from error
        return self._interpreter.tensor(self._output)()

    def placement(self, component: str) -> Placement:
        """Which of its nodes the delegate took."""
        return placing.placement(component, self._interpreter)


def match(
    path: Path, kind: str, expected: Shapes, details: Sequence[Mapping[str, Any]], names: Mapping[str, int]
) -> dict[str, int]:
    """Index of each expected tensor: by signature name where the file has it, else the only one of shape and dtype.

    Args:
        path: the file, for messages.
        kind: "input" or "output", for messages.
        expected: shape by name; all float32.
        details: the interpreter's description of its tensors.
        names: tensor index by name in the file's signature; may be empty.

    Raises:
        ArtifactError: a tensor on either side has no partner, or more than one.
    """
    by_index = {int(detail["index"]): detail for detail in details}
    found: dict[str, int] = {}
    for name, shape in expected.items():
        fits = [index for index, detail in by_index.items() if _fits(detail, shape)]
        fits = [names[name]] if names.get(name) in fits else fits
        if len(fits) == 1:
            found[name] = fits[0]
    if len(found) < len(expected) or set(found.values()) != set(by_index):
        ours = ", ".join(f"{name} float32 {list(shape)}" for name, shape in expected.items())
        theirs = ", ".join(_describe(detail) for detail in details) or "none"
        raise ArtifactError(
            f"{path}: {kind}s do not fit: expected {ours}; the file has {theirs}",
            hint="Convert it from this checkpoint, token lookup split out",
        )
    return found


def _decoder_shapes(dims: Dims, encoder_output: tuple[int, ...]) -> tuple[Shapes, Shapes]:
    inputs = {"token_embeddings": (1, dims.n_text_ctx, dims.n_text_state), "encoder_output": encoder_output}
    return inputs, {"logits": (1, dims.n_text_ctx, dims.n_vocab)}


def _fits(detail: Mapping[str, Any], shape: tuple[int, ...]) -> bool:
    return tuple(int(size) for size in detail["shape"]) == shape and detail["dtype"] == np.float32


def _describe(detail: Mapping[str, Any]) -> str:
    return f"{detail['name']} {np.dtype(detail['dtype']).name} {[int(size) for size in detail['shape']]}"


def _signature(interpreter: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Tensor index by name for inputs and outputs of the file's only signature; empty when it has none."""
    if len(interpreter.get_signature_list()) != 1:
        return {}, {}
    runner = interpreter.get_signature_runner()
    sides = (runner.get_input_details(), runner.get_output_details())
    return tuple({name: int(detail["index"]) for name, detail in side.items()} for side in sides)  # type: ignore[return-value]


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep what the C++ runtime prints about itself (which delegate it made) from the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def _interpreter_module() -> tuple[Any, str]:
    for package, (module, name) in INTERPRETERS.items():
        if version := versions.of(package):
            try:
                return importlib.import_module(module), f"{name} {version[package]}"
            except ImportError as error:
                raise UnavailableError(f"{package} {version[package]} does not import ({first_line(error)})") from error
    raise UnavailableError("no TFLite interpreter is installed", hint="Run `pip install ai-edge-litert`")


def _not_loaded(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{path}: cannot be loaded as TFLite ({reason})",
        hint="Is it complete, and of built-in ops only? MTKEXT ops need MediaTek's interpreter",
    )


def _reason(error: BaseException) -> str:
    """The line of an interpreter's message that names the cause, its source location cut off."""
    return first_line(error).rpartition("] ")[2]

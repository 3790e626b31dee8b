"""Opened TFLite files: by LiteRT (or tflite-runtime) with XNNPACK, or by MediaTek's interpreter."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Facts, Float32, Placement
from whisper_parity.backend.taps import Taps
from whisper_parity.backends import provenance
from whisper_parity.backends.split.embedding import TokenEmbedding
from whisper_parity.backends.split.probe_session import HostProbe
from whisper_parity.backends.tflite import placement as placing
from whisper_parity.backends.tflite.litert.worker import failure
from whisper_parity.backends.tflite.mtkext import lowered
from whisper_parity.backends.tflite.mtkext.tensors import ARRAY_TYPES
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import ArtifactError, BackendError, UnavailableError, first_line
from whisper_parity.model.dims import Dims

if TYPE_CHECKING:
    from whisper_parity.backends.tflite.mediatek.mtk import Executor
    from whisper_parity.backends.tflite.mtkext.inspection import Port

ROLES = ("encoder", "decoder")
INPUTS, OUTPUTS = 0, 1

Shapes = Mapping[str, tuple[int, ...]]


@contextmanager
def opened(settings: Settings, artifact: Artifact, threads: int) -> Iterator[TFLiteSession | MTKSession]:
    """Both files in the interpreter that fits them.

    Raises:
        ArtifactError: a file that cannot be loaded, lowered, or does not fit the checkpoint.
        UnavailableError: the interpreter is not there.
    """
    paths = {role: artifact.path(role) for role in ROLES}
    if _by_mtk(settings, paths):
        from whisper_parity.backends.tflite.mediatek import mtk

        with mtk.executor(settings, paths) as executor:
            yield MTKSession(artifact, executor)
    else:
        yield TFLiteSession(artifact, threads, settings)


def _by_mtk(settings: Settings, paths: Mapping[str, Path]) -> bool:
    if settings.interpreter != "auto":
        return settings.interpreter == "mtk"
    return settings.mtk_python is not None and any(lowered.is_mtk(path) for path in paths.values())


def shapes(dims: Dims) -> dict[str, tuple[Shapes, Shapes]]:
    """Inputs and outputs of encoder and decoder by name, float32 all."""
    encoder_output = (1, dims.n_audio_ctx, dims.n_audio_state)
    return {
        "encoder": ({"input_features": (1, dims.n_mels, dims.n_frames)}, {"encoder_output": encoder_output}),
        "decoder": (
            {"token_embeddings": (1, dims.n_text_ctx, dims.n_text_state), "encoder_output": encoder_output},
            {"logits": (1, dims.n_text_ctx, dims.n_vocab)},
        ),
    }


def matched(path: Path, side: int, expected: Shapes, ports: Sequence[Port]) -> list[str]:
    """Our name of each input or output of a file, in graph order.

    Raises:
        ArtifactError: see `match`.
    """
    details = [
        {"index": place, "name": port.name, "shape": port.shape, "dtype": ARRAY_TYPES.get(port.dtype, np.void)}
        for place, port in enumerate(ports)
    ]
    names = {port.name: place for place, port in enumerate(ports)}
    indices = match(path, "output" if side else "input", expected, details, names)
    return sorted(indices, key=lambda name: indices[name])


class MTKSession:
    """MediaTek's interpreter and the lookup between its two files; only asked rows leave its process."""

    def __init__(self, artifact: Artifact, executor: Executor) -> None:
        self.facts = Facts(f"{artifact.stage} (mtk {executor.version})")
        self._executor = executor
        self._embedding = TokenEmbedding(artifact.path("token_embedding"), artifact.checkpoint.dims)
        self._order: dict[str, list[str]] = {}
        for role, sides in shapes(artifact.checkpoint.dims).items():
            file = executor.files[role]
            self._order[role] = matched(artifact.path(role), INPUTS, sides[INPUTS], file.inputs)
            matched(artifact.path(role), OUTPUTS, sides[OUTPUTS], file.outputs)

    def usage(self) -> None:
        """It runs on this machine."""

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> float32 [1, n_audio_ctx, n_audio_state]."""
        return self._run("encoder", {"input_features": input_features}, None)

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab] of the asked positions."""
        embeddings = self._embedding.lookup(tokens)
        return self._run("decoder", {"token_embeddings": embeddings, "encoder_output": encoder_output}, rows)

    def _run(self, role: str, arrays: Mapping[str, Float32], rows: Sequence[int] | None) -> Float32:
        (output,) = self._executor.run(role, [arrays[name] for name in self._order[role]], rows)
        return np.asarray(output, np.float32)


class TFLiteSession:
    """Two interpreters and the lookup between them."""

    def __init__(self, artifact: Artifact, threads: int, settings: Settings) -> None:
        dims = artifact.checkpoint.dims
        module, runtime = _interpreter_module()
        self._embedding = TokenEmbedding(artifact.path("token_embedding"), dims)
        runnable = _runnable(artifact, settings)
        lowered = [role for role in ROLES if runnable[role].lowered]
        if artifact.is_foreign or lowered:
            for role in ROLES:
                if reason := failure(runnable[role].path, module.__name__, threads):
                    where = f"; lowered as {runnable[role].path}" if role in lowered else ""
                    raise _not_loaded(artifact.path(role), reason + where)
        sides = shapes(dims)
        self._encoder, self._decoder = (Graph(module, runnable[role].path, threads, *sides[role]) for role in ROLES)
        self.facts = Facts(
            f"{artifact.stage} ({runtime}{', MTKEXT lowered' if lowered else ''})",
            _notes({role: runnable[role].note for role in lowered}),
            (self._encoder.placement("encoder"), self._decoder.placement("decoder")),
        )

    def usage(self) -> None:
        """It runs on this machine."""

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> float32 [1, n_audio_ctx, n_audio_state]."""
        return np.array(self._encoder.run({"input_features": input_features}))

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab] of the asked positions; only these rows leave the interpreter."""
        embeddings = self._embedding.lookup(tokens)
        logits = self._decoder.run({"token_embeddings": embeddings, "encoder_output": encoder_output})
        return np.array(logits[0, list(rows)])


class Graph:
    """One TFLite file, its tensors known by our names."""

    def __init__(self, module: Any, path: Path, threads: int, inputs: Shapes, outputs: Shapes) -> None:
        """Load a file.

        Args:
            module: the package that offers Interpreter.
            path: the .tflite file.
            threads: XNNPACK threads.
            inputs: expected shape of each input, by name; all float32.
            outputs: the same of the outputs.

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
        self._outputs = match(path, "output", outputs, details[1], named_outputs)

    def run(self, arrays: Mapping[str, Float32]) -> Any:
        """The first output as a view into the interpreter's memory: copy what must outlive the next call."""
        return next(iter(self.run_all(arrays).values()))

    def run_all(self, arrays: Mapping[str, Float32]) -> dict[str, Any]:
        """All outputs by name, as views into the interpreter's memory."""
        try:
            for name, array in arrays.items():
                self._interpreter.set_tensor(self._inputs[name], array)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"{self.path}: failed while it ran ({_reason(error)})") from error
        return {name: self._interpreter.tensor(index)() for name, index in self._outputs.items()}

    def placement(self, component: str) -> Placement:
        """Which of its nodes the delegate took."""
        return placing.placement(component, self._interpreter)


def tapped(artifact: Artifact, wanted: Taps, threads: int) -> HostProbe:
    """A probe's files in LiteRT, and the lookup in front of them."""
    dims = artifact.checkpoint.dims
    module, runtime = _interpreter_module()
    ports = {component: taps.ports(wanted, component, dims) for component in wanted.components}
    graphs = {
        name: Graph(module, artifact.path(name), threads, _in_file(sides.inputs), _in_file(sides.outputs))
        for name, sides in ports.items()
    }
    table = TokenEmbedding(artifact.path("token_embedding"), dims) if "decoder" in graphs else None

    def run(component: str, arrays: Mapping[str, Float32]) -> dict[str, Float32]:
        outputs = graphs[component].run_all({taps.file_port(name): array for name, array in arrays.items()})
        return {unit: outputs[taps.file_port(unit)] for unit in ports[component].outputs}

    def lookup(tokens: Sequence[int]) -> Float32:
        if table is None:
            raise BackendError("a probe of the encoder was asked for the decoder")
        return table.lookup(tokens)

    return HostProbe(f"{artifact.stage} ({runtime}), probe", wanted, dims, run, lookup)


def _in_file(shapes: Shapes) -> Shapes:
    """Ports by the names that files have for them."""
    return {taps.file_port(name): shape for name, shape in shapes.items()}


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
    indices: dict[str, int] = {}
    for name, shape in expected.items():
        fits = [index for index, detail in by_index.items() if _fits(detail, shape)]
        fits = [names[name]] if names.get(name) in fits else fits
        if len(fits) == 1:
            indices[name] = fits[0]
    if len(indices) < len(expected) or set(indices.values()) != set(by_index):
        ours = ", ".join(f"{name} float32 {list(shape)}" for name, shape in expected.items())
        theirs = ", ".join(_describe(detail) for detail in details) or "none"
        raise ArtifactError(
            f"{path}: {kind}s do not fit: expected {ours}; the file has {theirs}",
            hint="Convert it from this checkpoint, token lookup split out",
        )
    return indices


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


def _runnable(artifact: Artifact, settings: Settings) -> dict[str, lowered.Runnable]:
    """Files that the interpreter can load, by role."""
    hashes = {role: artifact.files[role].sha256 for role in ROLES}
    return {
        role: lowered.runnable(artifact.path(role), hashes[role], settings.assumptions, _not_loaded) for role in ROLES
    }


def _notes(notes: Mapping[str, str]) -> tuple[str, ...]:
    """What lowering had to assume of MTKEXT ops, once where it is the same for both files."""
    roles: dict[str, list[str]] = {}
    for role, note in notes.items():
        roles.setdefault(note, []).append(role)
    return tuple(f"MTKEXT ops of the {' and '.join(halves)}: {note}" for note, halves in roles.items() if note)


def _interpreter_module() -> tuple[Any, str]:
    from whisper_parity.backends.tflite import INTERPRETERS

    for package, (module, name) in INTERPRETERS.items():
        if version := provenance.of(package):
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

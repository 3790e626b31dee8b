"""Opened TFLite files: by LiteRT (or tflite-runtime) with XNNPACK, or by MediaTek's interpreter."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import GIVEN, Artifact
from whisper_parity.backend.contract import Facts, Float32
from whisper_parity.backend.interface import Interface
from whisper_parity.backend.layout import Fitted
from whisper_parity.backends import provenance
from whisper_parity.backends.split.embedding import TokenEmbedding, filled
from whisper_parity.backends.split.last_row import LastRow
from whisper_parity.backends.tflite import given
from whisper_parity.backends.tflite.given import GivenGraph
from whisper_parity.backends.tflite.graph import Graph, Ports, Shapes, Side, match, not_loaded
from whisper_parity.backends.tflite.mtkext import lowered
from whisper_parity.backends.tflite.mtkext.tensors import ARRAY_TYPES
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import UnavailableError, first_line
from whisper_parity.model.dims import Dims

if TYPE_CHECKING:
    from whisper_parity.backends.tflite.mediatek.mtk import Executor
    from whisper_parity.backends.tflite.mtkext.inspection import Port

ROLES = ("encoder", "decoder")
INPUTS, OUTPUTS = 0, 1
TOKENS = "token_embeddings"
"""The decoder's first input; a given file may take ids there."""
Sides = Mapping[str, tuple[Shapes | Ports, Shapes | Ports]]
"""Inputs and outputs by name, by role."""


@contextmanager
def opened(settings: Settings, artifact: Artifact, threads: int) -> Iterator[TFLiteSession | LastRow | MTKSession]:
    """Both files in the interpreter that fits them.

    Raises:
        ArtifactError: a file that cannot be loaded, lowered, or does not fit the checkpoint.
        UnavailableError: the interpreter is not there.
    """
    paths = {role: artifact.path(role) for role in ROLES}
    if _by_mtk(settings, paths):
        from whisper_parity.backends.tflite.mediatek import mtk

        with mtk.executor(settings, paths, foreign=artifact.origin == GIVEN) as executor:
            yield MTKSession(artifact, executor)
    else:
        with _by_litert(settings, artifact, threads) as session:
            yield session


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


def read_ports(interface: Interface) -> dict[str, tuple[Ports, Ports]]:
    """Inputs and outputs of both halves as they were read from their files."""
    encoder, decoder = interface.encoder, interface.decoder
    tokens, encoding = decoder.inputs
    return {
        "encoder": ({"input_features": encoder.inputs[0]}, {"encoder_output": encoder.output}),
        "decoder": ({TOKENS: tokens, "encoder_output": encoding}, {"logits": decoder.output}),
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
    """Two loaded files and the lookup between them."""

    def __init__(
        self, graphs: Mapping[str, Graph | GivenGraph], table: TokenEmbedding | None, facts: Facts, dims: Dims
    ) -> None:
        """Take both files, the table of a decoder that takes embeddings, what is said of them, and their dimensions."""
        self._graphs, self._table, self._dims = graphs, table, dims
        self.facts = facts

    def usage(self) -> None:
        """It runs on this machine."""

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> float32 [1, n_audio_ctx, n_audio_state]."""
        return self._graphs["encoder"].run({"input_features": input_features})

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab] of the asked positions; only these rows leave the interpreter."""
        fed = filled(tokens, self._table, self._dims.n_text_ctx)
        return self._decoded(fed, encoder_output, rows)

    def row(self, tokens: Sequence[int], encoder_output: Float32) -> Float32:
        """Logits float32 [n_vocab] of what follows the tokens, of a decoder that gives the last row alone."""
        (logits,) = self._decoded(filled(tokens, self._table, len(tokens)), encoder_output, [0])
        return np.asarray(logits)

    def _decoded(self, fed: Float32, encoder_output: Float32, rows: Sequence[int]) -> Float32:
        logits = self._graphs["decoder"].run({TOKENS: fed, "encoder_output": encoder_output}, rows)
        cut: Float32 = logits[:, : self._dims.n_vocab]
        return cut


@contextmanager
def _by_litert(settings: Settings, artifact: Artifact, threads: int) -> Iterator[TFLiteSession | LastRow]:
    """Both files, lowered where they need it: given and lowered ones in a confined child process."""
    module, runtime = interpreter_module()
    interface = plain_interface(artifact)
    takes_ids = interface is not None and interface.takes_ids
    dims = artifact.checkpoint.dims
    table = None if takes_ids else TokenEmbedding(artifact.path("token_embedding"), dims)
    runnable = runnable_files(artifact, settings)
    lowered = [role for role in ROLES if runnable[role].lowered]
    foreign = artifact.origin == GIVEN or bool(lowered)
    files = [runnable[role].path for role in ROLES]
    with loading(settings, module, files, threads, foreign=foreign) as load:
        sides: Sides = shapes(dims) if interface is None else read_ports(interface)
        graphs = {
            role: load(runnable[role].path, *sides[role], name=file_name(artifact, role, runnable)) for role in ROLES
        }
        label = f"{artifact.stage} ({runtime}{', MTKEXT lowered' if lowered else ''})"
        notes = _notes({role: runnable[role].note for role in lowered})
        confined = (graphs["encoder"].note,) if isinstance(graphs["encoder"], GivenGraph) else ()
        placements = tuple(graphs[role].placement(role) for role in ROLES)
        facts = Facts(label, (*notes, *confined, *(table.notes if table else ())), placements)
        session = TFLiteSession(graphs, table, facts, artifact.checkpoint.dims)
        yield LastRow(session, session.row) if interface and interface.last_row else session


def plain_interface(artifact: Artifact) -> Interface | None:
    """What given files without a KV cache take and give; None for files of ours."""
    assert not isinstance(artifact.interface, Fitted)  # noqa: S101 - it would be another stage
    return artifact.interface


def file_name(artifact: Artifact, role: str, runnable: Mapping[str, lowered.Runnable]) -> str:
    """A file in messages."""
    where = f", lowered as {runnable[role].path}" if runnable[role].lowered else ""
    return f"{artifact.path(role)}{where}"


@contextmanager
def loading(
    settings: Settings, module: Any, files: Sequence[Path], threads: int, *, foreign: bool
) -> Iterator[Callable[..., Graph | GivenGraph]]:
    """What loads a file with its inputs and outputs: this process, or a confined one that may read these files."""
    if not foreign:
        yield lambda path, *sides, **named: Graph(module, path, threads, *sides, **named)
        return
    with given.opened(settings, module.__name__, files, threads) as loaded:
        yield loaded.load


def in_file(side: Side) -> Side:
    """Ports by the names that files have for them."""
    return {taps.file_port(name): port for name, port in side.items()}


def runnable_files(artifact: Artifact, settings: Settings) -> dict[str, lowered.Runnable]:
    """Files that the interpreter can load, by role."""
    hashes = {role: artifact.files[role].sha256 for role in ROLES}
    return {
        role: lowered.runnable(artifact.path(role), hashes[role], settings.assumptions, not_loaded) for role in ROLES
    }


def _notes(notes: Mapping[str, str]) -> tuple[str, ...]:
    """What lowering had to assume of MTKEXT ops, once where it is the same for both files."""
    roles: dict[str, list[str]] = {}
    for role, note in notes.items():
        roles.setdefault(note, []).append(role)
    return tuple(f"MTKEXT ops of the {' and '.join(halves)}: {note}" for note, halves in roles.items() if note)


def interpreter_module() -> tuple[Any, str]:
    """The package that offers `Interpreter`, and its name with its version.

    Raises:
        UnavailableError: none is installed, or it does not import.
    """
    from whisper_parity.backends.tflite import INTERPRETERS

    for package, (module, name) in INTERPRETERS.items():
        if version := provenance.of(package):
            try:
                return importlib.import_module(module), f"{name} {version[package]}"
            except ImportError as error:
                raise UnavailableError(f"{package} {version[package]} does not import ({first_line(error)})") from error
    raise UnavailableError("no TFLite interpreter is installed", hint="Run `pip install ai-edge-litert`")

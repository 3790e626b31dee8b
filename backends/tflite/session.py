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
from whisper_parity.backend.taps import Taps
from whisper_parity.backends import provenance
from whisper_parity.backends.split.embedding import TokenEmbedding, filled
from whisper_parity.backends.split.last_row import LastRow
from whisper_parity.backends.split.probe_session import HostProbe
from whisper_parity.backends.tflite import given
from whisper_parity.backends.tflite.given import GivenGraph
from whisper_parity.backends.tflite.graph import Graph, Ports, Shapes, match, not_loaded
from whisper_parity.backends.tflite.mtkext import lowered
from whisper_parity.backends.tflite.mtkext.tensors import ARRAY_TYPES
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import BackendError, UnavailableError, first_line
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
    module, runtime = _interpreter_module()
    takes_ids = artifact.interface is not None and artifact.interface.takes_ids
    dims = artifact.checkpoint.dims
    table = None if takes_ids else TokenEmbedding(artifact.path("token_embedding"), dims)
    runnable = _runnable(artifact, settings)
    lowered = [role for role in ROLES if runnable[role].lowered]
    foreign = artifact.origin == GIVEN or bool(lowered)
    files = [runnable[role].path for role in ROLES]
    with _loading(settings, module, files, threads, foreign=foreign) as load:
        sides: Sides = shapes(dims) if artifact.interface is None else read_ports(artifact.interface)
        graphs = {role: load(runnable[role].path, *sides[role], name=_name(artifact, role, runnable)) for role in ROLES}
        label = f"{artifact.stage} ({runtime}{', MTKEXT lowered' if lowered else ''})"
        notes = _notes({role: runnable[role].note for role in lowered})
        confined = (graphs["encoder"].note,) if isinstance(graphs["encoder"], GivenGraph) else ()
        placements = tuple(graphs[role].placement(role) for role in ROLES)
        facts = Facts(label, (*notes, *confined, *(table.notes if table else ())), placements)
        session = TFLiteSession(graphs, table, facts, artifact.checkpoint.dims)
        yield LastRow(session, session.row) if artifact.interface and artifact.interface.last_row else session


def _name(artifact: Artifact, role: str, runnable: Mapping[str, lowered.Runnable]) -> str:
    """A file in messages."""
    where = f", lowered as {runnable[role].path}" if runnable[role].lowered else ""
    return f"{artifact.path(role)}{where}"


@contextmanager
def tapped(settings: Settings, artifact: Artifact, wanted: Taps, threads: int) -> Iterator[HostProbe]:
    """A probe's files in LiteRT, and the lookup in front of them."""
    dims = artifact.checkpoint.dims
    module, runtime = _interpreter_module()
    ports = {component: taps.ports(wanted, component, dims) for component in wanted.components}
    files = [artifact.path(component) for component in ports]
    with _loading(settings, module, files, threads, foreign=artifact.origin == GIVEN) as load:
        graphs = {
            name: load(artifact.path(name), _in_file(sides.inputs), _in_file(sides.outputs))
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

        yield HostProbe(f"{artifact.stage} ({runtime}), probe", wanted, dims, run, lookup)


@contextmanager
def _loading(
    settings: Settings, module: Any, files: Sequence[Path], threads: int, *, foreign: bool
) -> Iterator[Callable[..., Graph | GivenGraph]]:
    """What loads a file with its inputs and outputs: this process, or a confined one that may read these files."""
    if not foreign:
        yield lambda path, *sides, **named: Graph(module, path, threads, *sides, **named)
        return
    with given.opened(settings, module.__name__, files, threads) as loaded:
        yield loaded.load


def _in_file(shapes: Shapes) -> Shapes:
    """Ports by the names that files have for them."""
    return {taps.file_port(name): shape for name, shape in shapes.items()}


def _runnable(artifact: Artifact, settings: Settings) -> dict[str, lowered.Runnable]:
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


def _interpreter_module() -> tuple[Any, str]:
    from whisper_parity.backends.tflite import INTERPRETERS

    for package, (module, name) in INTERPRETERS.items():
        if version := provenance.of(package):
            try:
                return importlib.import_module(module), f"{name} {version[package]}"
            except ImportError as error:
                raise UnavailableError(f"{package} {version[package]} does not import ({first_line(error)})") from error
    raise UnavailableError("no TFLite interpreter is installed", hint="Run `pip install ai-edge-litert`")

"""A stage's TFLite files with taps: private copies, run as the files themselves are."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import GIVEN, Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.taps import Taps
from whisper_parity.backends.split import inside
from whisper_parity.backends.split.embedding import TokenEmbedding
from whisper_parity.backends.split.inside import FileProbe
from whisper_parity.backends.tflite import session, surgery
from whisper_parity.backends.tflite.given import GivenGraph
from whisper_parity.backends.tflite.graph import Graph
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.backends.tflite.surgery import FED, SOURCES, Copy
from whisper_parity.errors import BackendError


class CopyTaps:
    """`Tapping` by loaded copies: of the one kind that they were written for."""

    def __init__(self, copies: Mapping[str, Copy], graphs: Mapping[str, Graph | GivenGraph]) -> None:
        self._copies, self._graphs = copies, graphs

    def entire(self, component: str, wanted: Collection[str], arrays: Mapping[str, Float32]) -> dict[str, NDArray[Any]]:
        """See `Tapping`."""
        return self._run(component, arrays, {})

    def single(
        self, component: str, wanted: Collection[str], arrays: Mapping[str, Float32], hidden: Mapping[str, Float32]
    ) -> dict[str, NDArray[Any]]:
        """See `Tapping`."""
        outputs = self._run(component, arrays, hidden)
        fed = self._copies[component].fed
        return {unit: output for unit, output in outputs.items() if unit not in fed or fed[unit] in hidden}

    def _run(
        self, component: str, arrays: Mapping[str, Float32], hidden: Mapping[str, Float32]
    ) -> dict[str, NDArray[Any]]:
        copy = self._copies[component]
        ports = {taps.file_port(name): np.zeros(shape, np.float32) for name, shape in copy.inputs.items()}
        for name, array in {**arrays, **{f"{unit}{FED}": array for unit, array in hidden.items()}}.items():
            if name in copy.inputs:
                ports[taps.file_port(name)] = inside.laid_out(array, copy.inputs[name], name)
        outputs = self._graphs[component].run_all(ports)
        sourced = {copy.sourced: arrays[SOURCES[component]]} if copy.sourced else {}
        return sourced | {unit: np.array(outputs[taps.file_port(unit)]) for unit in copy.outputs}


@contextmanager
def opened(settings: Settings, artifact: Artifact, wanted: Taps, threads: int) -> Iterator[FileProbe]:
    """Copies of a stage's files with taps, loaded: in a confined process where the files are.

    Raises:
        ArtifactError: a file that cannot be read, lowered or loaded.
        UnavailableError: no interpreter, or a file whose units are not told apart.
        BackendError: the process dies.
    """
    dims, (module, runtime) = artifact.checkpoint.dims, session.interpreter_module()
    runnable = session.runnable_files(artifact, settings)
    table = TokenEmbedding(artifact.path("token_embedding"), dims) if wanted.of("decoder") else None

    def lookup(tokens: Sequence[int]) -> Float32:
        if table is None:
            raise BackendError("a probe of the encoder was asked for the decoder")
        return table.lookup(tokens)

    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        copies = {
            role: surgery.write(
                runnable[role].path, Path(folder) / f"{role}.tflite", wanted.kind, wanted.of(role), role, dims
            )
            for role in wanted.components
        }
        foreign = artifact.origin == GIVEN or any(runnable[role].lowered for role in copies)
        files = [copy.path for copy in copies.values()]
        with session.loading(settings, module, files, threads, foreign=foreign) as load:
            graphs = {
                role: load(
                    copy.path, session.in_file(copy.inputs), session.in_file(copy.outputs),
                    name=f"{artifact.path(role)} with taps",
                )
                for role, copy in copies.items()
            }  # fmt: skip
            label = f"{artifact.stage} ({runtime}), taps in the file itself"
            yield FileProbe(label, wanted, dims, CopyTaps(copies, graphs), lookup)

"""A stage's TFLite files with taps: private copies, run as the files themselves are."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import GIVEN, Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.interface import Port
from whisper_parity.backend.taps import Taps
from whisper_parity.backends.split import inside
from whisper_parity.backends.split.embedding import TokenEmbedding, filled
from whisper_parity.backends.split.inside import FileProbe
from whisper_parity.backends.tflite import session, surgery
from whisper_parity.backends.tflite.given import GivenGraph
from whisper_parity.backends.tflite.graph import Graph
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.backends.tflite.surgery import FED, SOURCES, Copy, Shape


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
        copy = self._copies[component]
        outputs |= {unit: hidden[fed] for unit, fed in copy.empty.items() if fed in hidden}
        return {unit: output for unit, output in outputs.items() if unit not in copy.fed or copy.fed[unit] in hidden}

    def _run(
        self, component: str, arrays: Mapping[str, Float32], hidden: Mapping[str, Float32]
    ) -> dict[str, NDArray[Any]]:
        copy = self._copies[component]
        given = {**arrays, **{f"{unit}{FED}": array for unit, array in hidden.items()}}
        fed = {taps.file_port(name): _fed(name, port, given.get(name)) for name, port in copy.inputs.items()}
        outputs = self._graphs[component].run_all(fed)
        sourced = {copy.sourced: arrays[SOURCES[component]]} if copy.sourced else {}
        return sourced | {unit: np.array(outputs[taps.file_port(unit)]) for unit in copy.outputs}


def _fed(name: str, port: Shape | Port, array: Float32 | None) -> Float32:
    """What an input of a copy is given: as the file lays it out, or as we do where its port was read; else zeros."""
    if isinstance(port, Port):
        return np.zeros((1, *port.sizes), np.float32) if array is None else array
    return np.zeros(port, np.float32) if array is None else inside.laid_out(array, port, name)


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
    interface = artifact.interface
    takes_ids = interface is not None and interface.takes_ids
    table = None if takes_ids else TokenEmbedding(artifact.path("token_embedding"), dims)
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        copies = {
            role: surgery.write(
                runnable[role].path, Path(folder) / f"{role}.tflite", wanted.kind, wanted.of(role), role, dims,
                interface.half(role) if interface else None,
            )
            for role in wanted.components
        }  # fmt: skip
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
            lookup = partial(filled, table=table, count=dims.n_text_ctx)
            yield FileProbe(label, wanted, dims, CopyTaps(copies, graphs), lookup, interface)

"""A stage's TFLite files with taps: private copies, run as the files themselves are."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import GIVEN, Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.interface import Port
from whisper_parity.backend.taps import Taps
from whisper_parity.backends.split import inside
from whisper_parity.backends.split.embedding import TokenEmbedding
from whisper_parity.backends.split.inside import FileProbe, Tapping
from whisper_parity.backends.tflite import session, surgery
from whisper_parity.backends.tflite.graph import Side
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.backends.tflite.surgery import FED, SOURCES, Copy, Shape

Outputs = Mapping[str, NDArray[Any]]
"""Of units, as a file lays them out."""


class Loaded(Protocol):
    """**Protocol:** a loaded copy."""

    def run_all(self, arrays: Mapping[str, Float32]) -> Mapping[str, NDArray[Any]]:
        """Outputs by their names in files, of inputs by theirs."""


class CopyTaps:
    """`Tapping` by loaded copies: of the one kind that they were written for."""

    def __init__(self, copies: Mapping[str, Copy], graphs: Mapping[str, Loaded]) -> None:
        self._copies, self._graphs = copies, graphs

    def entire(self, component: str, wanted: Collection[str], arrays: Mapping[str, Float32]) -> dict[str, NDArray[Any]]:
        """See `Tapping`."""
        return _computed(self._copies[component], self._graphs[component], component, arrays, {})

    def single(
        self, component: str, wanted: Collection[str], arrays: Mapping[str, Float32], hidden: Mapping[str, Float32]
    ) -> dict[str, NDArray[Any]]:
        """See `Tapping`."""
        copy = self._copies[component]
        return _alone(copy, _computed(copy, self._graphs[component], component, arrays, hidden), hidden)


class FreeTaps:
    """`Tapping` by copies of files that take inputs of any length.

    Which shapes they compute with is known once they run, so a copy is loaded anew for each question; the units alone
    are fed in the shapes that the units before them give in the whole.
    """

    def __init__(self, copies: Mapping[str, Mapping[str, Copy]], load: Callable[..., Loaded]) -> None:
        """Take copies by component and kind, and what loads one: (component, copy, inputs, outputs)."""
        self._copies, self._load = copies, load

    def entire(self, component: str, wanted: Collection[str], arrays: Mapping[str, Float32]) -> dict[str, NDArray[Any]]:
        """See `Tapping`."""
        return self._run(component, self._copies[component][taps.ENTIRE], arrays, {})

    def single(
        self, component: str, wanted: Collection[str], arrays: Mapping[str, Float32], hidden: Mapping[str, Float32]
    ) -> dict[str, NDArray[Any]]:
        """See `Tapping`."""
        copy, whole = self._copies[component][taps.SINGLE], self.entire(component, wanted, arrays)
        fed = {name: whole[unit].shape for name, unit in copy.replaced.items()}
        sized = replace(copy, inputs={**copy.inputs, **fed})
        return _alone(copy, self._run(component, sized, arrays, hidden), hidden)

    def _run(
        self, component: str, copy: Copy, arrays: Mapping[str, Float32], hidden: Mapping[str, Float32]
    ) -> dict[str, NDArray[Any]]:
        inputs = {
            name: port.of_length(arrays[name].shape[1]) if isinstance(port, Port) else _placed(name, place, port)
            for place, (name, port) in enumerate(copy.inputs.items())
        }
        outputs = {unit: _placed(unit, place, (1, 1)) for place, unit in enumerate(copy.outputs)}
        return _computed(copy, self._load(component, copy, inputs, outputs), component, arrays, hidden)


def _placed(name: str, place: int, shape: Shape) -> Port:
    """An input or output by its place, whose arrays are as they are."""
    return Port(name, place, shape, (math.prod(shape[:-1]), shape[-1]))


def _computed(
    copy: Copy, loaded: Loaded, component: str, arrays: Mapping[str, Float32], hidden: Mapping[str, Float32]
) -> dict[str, NDArray[Any]]:
    """Outputs of a copy by unit."""
    given = {**arrays, **{f"{unit}{FED}": array for unit, array in hidden.items()}}
    fed = {taps.file_port(name): _fed(name, port, given.get(name)) for name, port in copy.inputs.items()}
    outputs = loaded.run_all(fed)
    sourced = {copy.sourced: arrays[SOURCES[component]]} if copy.sourced else {}
    return sourced | {unit: np.array(outputs[taps.file_port(unit)]) for unit in copy.outputs}


def _alone(
    copy: Copy, outputs: Mapping[str, NDArray[Any]], hidden: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """The outputs of units that were fed, or take the file's own input."""
    empty = {unit: hidden[fed] for unit, fed in copy.empty.items() if fed in hidden}
    fed = {unit: output for unit, output in outputs.items() if unit not in copy.fed or copy.fed[unit] in hidden}
    return fed | empty


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
    interface = session.plain_interface(artifact)
    takes_ids = interface is not None and interface.takes_ids
    table = None if takes_ids else TokenEmbedding(artifact.path("token_embedding"), dims)
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        copies = {
            role: _copies(Path(folder), runnable[role].path, wanted, role, artifact) for role in wanted.components
        }
        foreign = artifact.origin == GIVEN or any(runnable[role].lowered for role in copies)
        files = [copy.path for kinds in copies.values() for copy in kinds.values()]
        with session.loading(settings, module, files, threads, foreign=foreign) as load:

            def loaded(role: str, copy: Copy, inputs: Side, outputs: Side) -> Loaded:
                sides = session.in_file(inputs), session.in_file(outputs)
                graph: Loaded = load(copy.path, *sides, name=f"{artifact.path(role)} with taps")
                return graph

            label = f"{artifact.stage} ({runtime}), taps in the file itself"
            units = _Halves({role: _half(role, kinds, wanted.kind, loaded) for role, kinds in copies.items()})
            yield FileProbe(label, wanted, dims, units, inside.lookup(table), interface)


def _copies(folder: Path, path: Path, wanted: Taps, role: str, artifact: Artifact) -> dict[str, Copy]:
    """A copy of the wanted kind; of a file of any length also the whole one, which tells shapes."""
    interface, copies = session.plain_interface(artifact), dict[str, Copy]()
    for kind in dict.fromkeys((wanted.kind, taps.ENTIRE)):
        if not copies or next(iter(copies.values())).is_free:
            out = folder / f"{role}_{kind}.tflite"
            half = interface.half(role) if interface else None
            copies[kind] = surgery.write(path, out, kind, wanted.of(role), role, artifact.checkpoint.dims, half)
    return copies


class _Halves:
    """`Tapping` by that of each half."""

    def __init__(self, halves: Mapping[str, Tapping]) -> None:
        self._halves = halves

    def entire(self, component: str, wanted: Sequence[str], arrays: Mapping[str, Float32]) -> Outputs:
        """See `Tapping`."""
        return self._halves[component].entire(component, wanted, arrays)

    def single(
        self, component: str, wanted: Collection[str], arrays: Mapping[str, Float32], hidden: Mapping[str, Float32]
    ) -> Outputs:
        """See `Tapping`."""
        return self._halves[component].single(component, wanted, arrays, hidden)


def _half(role: str, copies: Mapping[str, Copy], kind: str, load: Callable[..., Loaded]) -> Tapping:
    """What computes with the copies of a half, by kind."""
    copy = copies[kind]
    if copy.is_free:
        return FreeTaps({role: copies}, load)
    return CopyTaps({role: copy}, {role: load(role, copy, copy.inputs, copy.outputs)})

"""TFLite files of others: loaded and run in a confined child process, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from whisper_parity.backend.contract import Float32, Placement
from whisper_parity.backend.interface import Port
from whisper_parity.backend.layout import Fitted
from whisper_parity.backends.split.remote import RemoteSteps
from whisper_parity.backends.tflite.graph import Side, not_loaded
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import BackendError
from whisper_parity.system.child import Child, Limits

WORKER = "whisper_parity.backends.tflite.worker"
MEMORY_FACTOR = 4
"""Copies of a file that its loading and running may take, beside what the settings allow."""
NOTE_LIMIT = 2000
NODES_LIMIT = 2**31


class GivenGraph:
    """A file in the child, with the methods of `Graph` that a session asks for."""

    def __init__(self, child: Child, key: str, name: str, outputs: Sequence[str], placed: Placement) -> None:
        self._child, self._key, self._name, self._outputs, self._placed = child, key, name, outputs, placed

    @property
    def note(self) -> str:
        """For the report: what the file is kept from."""
        return f"given files, run in a child process: {self._child.confinement}"

    def run(self, arrays: Mapping[str, Float32], rows: Sequence[int] | None = None) -> Float32:
        """See `Graph`.

        Raises:
            ArtifactError, BackendError: it failed, died, or did not answer in time.
        """
        asked = None if rows is None else [int(row) for row in rows]
        (output,) = self._ask({"do": "run", "rows": asked}, arrays, 1)
        return output

    def run_all(self, arrays: Mapping[str, Float32]) -> dict[str, Float32]:
        """See `Graph`; errors as of `run`."""
        return dict(zip(self._outputs, self._ask({"do": "run_all"}, arrays, len(self._outputs))))

    def steps(self, fitted: Fitted, encoder: GivenGraph) -> RemoteSteps:
        """The steps of this decoder with a KV cache, and its encoder, in the child."""
        graphs = {"encoder": encoder._key, "decoder": self._key}
        return RemoteSteps(self._child, self._name, fitted, {"graphs": graphs})

    def placement(self, component: str) -> Placement:
        """See `Graph`."""
        return replace(self._placed, component=component)

    def _ask(self, request: Mapping[str, Any], arrays: Mapping[str, Float32], count: int) -> tuple[Float32, ...]:
        message = {**request, "key": self._key, "inputs": list(arrays)}
        outputs = self._child.call(self._name, message, list(arrays.values())).arrays
        if len(outputs) != count:
            raise BackendError(f"{self._name}: {len(outputs)} outputs where {count} were asked for")
        return outputs


class GivenGraphs:
    """The child that holds them."""

    def __init__(self, child: Child, module: str, threads: int) -> None:
        self._child, self._module, self._threads, self._count = child, module, threads, 0

    def load(self, path: Path, inputs: Side, outputs: Side, name: str = "") -> GivenGraph:
        """Load a file and run it once; arguments as of `Graph`.

        Raises:
            ArtifactError: no TFLite file, one that does not fit, or one that its interpreter does not survive.
        """
        self._count += 1
        request = {
            "do": "load", "key": str(self._count), "path": str(path.absolute()), "name": name or str(path),
            "module": self._module, "threads": self._threads, "inputs": _stated(inputs), "outputs": _stated(outputs),
        }  # fmt: skip
        try:
            answer = self._child.call("running it once", request)
        except BackendError as error:
            raise not_loaded(name or path, str(error)) from error
        return GivenGraph(self._child, str(self._count), name or str(path), list(outputs), _placement(answer.text))


@contextmanager
def opened(settings: Settings, module: str, files: Sequence[Path], threads: int) -> Iterator[GivenGraphs]:
    """A child process that may read these files, until the context is left.

    Args:
        settings: of this site.
        module: that offers `Interpreter`.
        files: to be loaded.
        threads: of the interpreter.

    Raises:
        BackendError: it does not start.
    """
    child = Child(WORKER, files, Limits.of(files, settings.run_limit_s, settings.given_memory_gib))
    try:
        yield GivenGraphs(child, module, threads)
    finally:
        child.close()


def _stated(side: Side) -> dict[str, Any]:
    """Shapes or ports as JSON has them."""
    return {name: asdict(port) if isinstance(port, Port) else port for name, port in side.items()}


def _placement(text: str) -> Placement:
    """What the child says of where a file runs: two counts and two texts, whatever else it sent."""
    try:
        nodes, delegated, target, note = json.loads(text)
        return Placement("", str(target)[:NOTE_LIMIT], _count(nodes), _count(delegated), str(note)[:NOTE_LIMIT])
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BackendError("running it once: its process sent what is no placement") from error


def _count(value: Any) -> int | None:
    count = None if value is None else int(value)
    if count is not None and not 0 <= count <= NODES_LIMIT:
        raise ValueError(f"{count} nodes")
    return count

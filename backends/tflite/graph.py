"""One TFLite file in an interpreter of this process, its tensors known by our names."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.contract import Float32, Placement
from whisper_parity.backend.interface import Port
from whisper_parity.backends.tflite import placement as placing
from whisper_parity.errors import ArtifactError, BackendError, first_line

Shapes = Mapping[str, tuple[int, ...]]
Ports = Mapping[str, Port]
Side = Mapping[str, tuple[int, ...] | Port]
"""Inputs or outputs by our name: the shape of a float32 one, or what was read of it."""


class Graph:
    """One TFLite file, its tensors known by our names."""

    def __init__(self, module: Any, path: Path, threads: int, inputs: Side, outputs: Side, name: str = "") -> None:
        """Load a file.

        Args:
            module: the package that offers Interpreter.
            path: the .tflite file.
            threads: XNNPACK threads.
            inputs: expected shape of each input, by name, all float32; or what was read from the file.
            outputs: the same of the outputs; those that are not named are not used.
            name: of the file in messages; its path where there is none.

        Raises:
            ArtifactError: not a TFLite file, an op that this interpreter lacks, or inputs and outputs that do not fit.
        """
        self.name = name or str(path)
        try:
            with without_chatter():
                self._interpreter = module.Interpreter(model_path=str(path), num_threads=threads)
                self._resize(port for port in inputs.values() if isinstance(port, Port))
                self._interpreter.allocate_tensors()
            named = signature(self._interpreter)
            details = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (ValueError, RuntimeError, OSError) as error:
            raise not_loaded(self.name, _reason(error)) from error
        self._inputs = self._placed("input", inputs, details[0], named[0])
        self._outputs = self._placed("output", outputs, details[1], named[1])

    def run(self, arrays: Mapping[str, Float32], rows: Sequence[int] | None = None) -> Float32:
        """A copy of the first output; where rows are given, of those positions of [1, n, ...]: [len(rows), ...]."""
        output, (port, _) = next(iter(self._invoked(arrays).values())), next(iter(self._outputs.values()))
        if port is None:
            return np.array(output if rows is None else output[0, list(rows)])
        try:
            return port.unpack(output, rows)
        except ValueError as error:
            raise ArtifactError(f"{self.name}: its output is not what the file says: {error}") from error

    def run_all(self, arrays: Mapping[str, Float32]) -> dict[str, Any]:
        """All outputs by name, as views into the interpreter's memory."""
        return self._invoked(arrays)

    def step(self, arrays: Sequence[NDArray[Any]], changed: Collection[int] | None = None) -> list[NDArray[Any]]:
        """Run it on all inputs in the file's order and form; all outputs in its order, views of its memory.

        Inputs at places that did not change are still there: the interpreter's memory of an input holds nothing else.
        """
        try:
            for place, (index, array) in enumerate(zip(self._places("input"), arrays, strict=True)):
                if changed is None or place in changed:
                    self._interpreter.set_tensor(index, array)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"{self.name}: failed while it ran ({_reason(error)})") from error
        return [self._interpreter.tensor(index)() for index in self._places("output")]

    def _places(self, kind: str) -> list[int]:
        """Indices of the tensors of one side, in the order of the file."""
        side = self._interpreter.get_input_details() if kind == "input" else self._interpreter.get_output_details()
        return [int(detail["index"]) for detail in side]

    def _invoked(self, arrays: Mapping[str, Float32]) -> dict[str, Any]:
        """All outputs by name, as the file gives them."""
        try:
            for name, array in arrays.items():
                port, index = self._inputs[name]
                self._interpreter.set_tensor(index, array if port is None else self._packed(port, array))
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"{self.name}: failed while it ran ({_reason(error)})") from error
        return {name: self._interpreter.tensor(index)() for name, (_, index) in self._outputs.items()}

    def _packed(self, port: Port, array: Float32) -> NDArray[Any]:
        """An array in the file's form; an input of free length gets as much room as the array has."""
        port = port.of_length(array.shape[1])
        if port.free_axis is not None and self._resize([port]):
            self._interpreter.allocate_tensors()
        return port.pack(array)

    def _resize(self, ports: Iterable[Port]) -> bool:
        """Give inputs of free length the shapes of ports; whether one had another."""
        details, changed = self._interpreter.get_input_details(), False
        for port in ports:
            if tuple(int(size) for size in details[port.index]["shape"]) != port.shape:
                self._interpreter.resize_tensor_input(details[port.index]["index"], port.shape)
                changed = True
        return changed

    def _placed(
        self, kind: str, expected: Side, details: Sequence[Mapping[str, Any]], names: Mapping[str, int]
    ) -> dict[str, tuple[Port | None, int]]:
        """The port, where one was read, and the index of each tensor by our name."""
        ports = {name: port for name, port in expected.items() if isinstance(port, Port)}
        placed: dict[str, tuple[Port | None, int]] = {
            name: (port, int(details[port.index]["index"])) for name, port in ports.items()
        }
        shapes = {name: shape for name, shape in expected.items() if not isinstance(shape, Port)}
        if placed and not shapes:
            return placed
        rest = [detail for place, detail in enumerate(details) if all(port.index != place for port in ports.values())]
        return placed | {name: (None, index) for name, index in match(self.name, kind, shapes, rest, names).items()}

    def attempt(self) -> None:
        """Run it once on uninitialised inputs, which a broken file may not survive.

        Raises:
            ArtifactError: it cannot be run.
        """
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise not_loaded(self.name, _reason(error)) from error

    def placement(self, component: str) -> Placement:
        """Which of its nodes the delegate took."""
        return placing.placement(component, self._interpreter)


def match(
    path: Path | str, kind: str, expected: Shapes, details: Sequence[Mapping[str, Any]], names: Mapping[str, int]
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


def signature(interpreter: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Tensor index by name for inputs and outputs of the file's only signature; empty when it has none."""
    if len(interpreter.get_signature_list()) != 1:
        return {}, {}
    runner = interpreter.get_signature_runner()
    sides = (runner.get_input_details(), runner.get_output_details())
    return tuple({name: int(detail["index"]) for name, detail in side.items()} for side in sides)  # type: ignore[return-value]


@contextmanager
def without_chatter() -> Iterator[None]:
    """Keep what the C++ runtime prints about itself (which delegate it made) from the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_RDONLY)  # takes nothing; a confined process opens no file to write
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def not_loaded(path: Path | str, reason: str) -> ArtifactError:
    """The error for a file that the interpreter does not take."""
    return ArtifactError(
        f"{path}: cannot be loaded as TFLite ({reason})",
        hint="Is it complete, and of built-in ops only? MTKEXT ops need MediaTek's interpreter",
    )


def _reason(error: BaseException) -> str:
    """The line of an interpreter's message that names the cause, its source location cut off."""
    return first_line(error).rpartition("] ")[2]

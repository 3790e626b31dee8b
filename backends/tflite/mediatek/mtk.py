"""MediaTek's converter and interpreter, which run under their own Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from whisper_parity.backends.tflite.mediatek.mtk_process import Arrays, Process
from whisper_parity.backends.tflite.mtkext.inspection import Inspection, inspect
from whisper_parity.backends.tflite.settings import Settings
from whisper_parity.errors import ArtifactError, BackendError, BuildError
from whisper_parity.system.files import replacing

QUANTIZE = "quantize=False"
"""Options of every conversion, for the lineage."""


@dataclass(frozen=True, slots=True)
class Converted:
    """The result of a conversion."""

    version: str
    """mtk_converter's."""
    seconds: float
    inspection: Inspection
    """Of the written file."""


def version(settings: Settings) -> str:
    """mtk_converter's version: "8.16.0".

    Raises:
        UnavailableError: mtk_converter is not installed there.
    """
    with Process(settings) as process:
        return process.version


def convert(
    settings: Settings, source: Path, target: Path, shapes: Sequence[Sequence[int]], *, foreign: bool = False
) -> Converted:
    """Convert a TorchScript file without quantisation.

    Args:
        settings: of this site.
        source: the TorchScript file.
        target: the .tflite file to write; replaced atomically.
        shapes: of its inputs in order, all float32.
        foreign: the file is not ours: the converter may write its result and reach nothing else.

    Raises:
        UnavailableError: MediaTek's converter is not set up.
        BuildError: it failed, crashed, timed out, or wrote no usable file.
    """
    task = {
        "do": "convert",
        "source": str(source.absolute()),
        "shapes": [list(shape) for shape in shapes],
        "types": ["float32"] * len(shapes),
    }
    try:
        with replacing(target) as partial, Process(settings, [partial.parent] if foreign else None) as process:
            answer, _ = process.call({**task, "target": str(partial.absolute())}, [], settings.convert_limit_s)
            return Converted(process.version, float(answer.get("seconds", 0.0)), _written(partial))
    except BackendError as error:
        raise BuildError(f"converting {source.name}: {error}") from error


def _written(path: Path) -> Inspection:
    if not path.is_file():
        raise BackendError("mtk_converter wrote no file")
    try:
        return inspect(path)
    except ArtifactError as error:
        raise BackendError(f"mtk_converter wrote no usable file ({error})") from error


class Executor:
    """MediaTek's interpreter with loaded files; restarted for the next pass if it died."""

    def __init__(self, settings: Settings, paths: Mapping[str, Path], *, foreign: bool = False) -> None:
        """Read the files' inputs and outputs, which the interpreter does not report, and load them.

        Where they are not ours, the interpreter writes nowhere and reaches nothing.

        Raises:
            ArtifactError: not a TFLite file.
            UnavailableError: MediaTek's interpreter is not set up.
            BackendError: it cannot load a file.
        """
        self._settings, self._paths = settings, {name: path.absolute() for name, path in paths.items()}
        self.files = {name: inspect(path) for name, path in self._paths.items()}
        self._writable: list[Path] | None = [] if foreign else None
        self._process: Process | None = None
        self.version = self._running().version

    def run(self, name: str, arrays: Sequence[NDArray[Any]], rows: Sequence[int] | None) -> list[NDArray[Any]]:
        """Run one pass.

        Args:
            name: of a loaded file.
            arrays: its inputs in graph order.
            rows: positions of the second axis to return; None for whole outputs.

        Returns:
            Its outputs in graph order, [len(rows), ...] each if rows are given.

        Raises:
            BackendError: it failed, or its outputs are not those that the file declares.
        """
        request = {"do": "run", "name": name, "rows": None if rows is None else [int(row) for row in rows]}
        try:
            answer, outputs = self._running().call(request, arrays, self._settings.run_limit_s)
        except BackendError as error:
            self.close()
            raise BackendError(f"{self._paths[name]}: {error}") from error
        if problem := _mismatch(self.files[name], answer.get("shapes"), outputs, rows):
            raise BackendError(f"{self._paths[name]}: MediaTek's interpreter gave {problem}")
        return outputs

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
        self._process = None

    def _running(self) -> Process:
        if self._process is None:
            self._process = Process(self._settings, self._writable)
            try:
                self._load(self._process)
            except BaseException:
                self.close()
                raise
        return self._process

    def _load(self, process: Process) -> None:
        for name, path in self._paths.items():
            request = {"do": "load", "name": name, "path": str(path)}
            try:
                process.call(request, [], self._settings.run_limit_s)
            except BackendError as error:
                raise BackendError(f"{path}: {error}") from error


@contextmanager
def executor(settings: Settings, paths: Mapping[str, Path], *, foreign: bool = False) -> Iterator[Executor]:
    """MediaTek's interpreter with named files loaded; leaving the context ends its process; see `Executor`.

    Raises:
        ArtifactError, UnavailableError, BackendError: see `Executor`.
    """
    loaded = Executor(settings, paths, foreign=foreign)
    try:
        yield loaded
    finally:
        loaded.close()


def _mismatch(file: Inspection, shapes: Any, outputs: Arrays, rows: Sequence[int] | None) -> str:
    """How the outputs differ from what the file declares; "" if they do not."""
    declared = [[port.dtype, list(port.shape)] for port in file.outputs]
    shapes_known = isinstance(shapes, list) and len(shapes) == len(outputs)
    full_shapes = shapes if shapes_known else [list(array.shape) for array in outputs]
    actual = [[array.dtype.name, shape] for array, shape in zip(outputs, full_shapes)]
    if actual != declared:
        return f"{_describe(actual)} where the file declares {_describe(declared)}"
    expected = [tuple(port.shape) if rows is None else (len(rows), *port.shape[2:]) for port in file.outputs]
    if [array.shape for array in outputs] != expected:
        return f"other rows than requested: {_describe([[array.dtype.name, list(array.shape)] for array in outputs])}"
    return ""


def _describe(ports: Sequence[Sequence[Any]]) -> str:
    return f"{len(ports)} output(s): {', '.join(f'{kind} {shape}' for kind, shape in ports) or 'none'}"

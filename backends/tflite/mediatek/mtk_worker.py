"""What MediaTek's Python runs: `PYTHON mtk_worker.py`, asked and answering over stdin and stdout.

A message is b"MTKW", the length of a JSON header (uint32, little endian), the header, and the .npy arrays whose sizes
its "sizes" lists. Nothing of this project is imported: that Python has other versions of everything, from 3.8 on.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

MAGIC = b"MTKW"
PREFIX = struct.Struct("<4sI")


class Channel:
    """Messages over two file descriptors."""

    def __init__(self, source: int, target: int) -> None:
        self._source = os.fdopen(source, "rb")
        self._target = os.fdopen(target, "wb")

    def receive(self) -> tuple[dict[str, Any], list[Any]] | None:
        """The next message: header and arrays; None when nobody asks any more."""
        import numpy as np

        prefix = self._source.read(PREFIX.size)
        if len(prefix) < PREFIX.size:
            return None
        header = json.loads(self._source.read(PREFIX.unpack(prefix)[1]).decode("utf-8"))
        blobs = [self._source.read(size) for size in header["sizes"]]
        return header, [np.load(io.BytesIO(blob), allow_pickle=False) for blob in blobs]

    def send(self, header: dict[str, Any], arrays: Sequence[Any]) -> None:
        """Answer."""
        blobs = [_npy(array) for array in arrays]
        words = json.dumps(dict(header, sizes=[len(blob) for blob in blobs])).encode("utf-8")
        for part in (PREFIX.pack(MAGIC, len(words)), words, *blobs):
            self._target.write(part)
        self._target.flush()


class Worker:
    """Answers requests; holds the files that were loaded."""

    def __init__(self) -> None:
        self._package: Any = None
        self._executors: dict[str, Any] = {}

    def answer(self, request: dict[str, Any], arrays: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
        """Header and arrays that answer a request; whatever the package raises becomes an error of one line."""
        try:
            found: tuple[dict[str, Any], list[Any]] = getattr(self, "do_" + request["do"])(request, arrays)
            return found
        except ImportError as error:
            kind = "missing" if request["do"] == "start" else "failed"
            return {"error": _line(error), "kind": kind}, []
        except Exception as error:  # noqa: BLE001 - a foreign package may raise anything
            return {"error": _line(error), "kind": "failed"}, []

    def do_start(self, request: dict[str, Any], arrays: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
        """Import the package: {"version"}."""
        sys.path[:0] = request["paths"]
        self._package = importlib.import_module("mtk_converter")
        return {"version": str(getattr(self._package, "__version__", "of unknown version"))}, []

    def do_convert(self, request: dict[str, Any], arrays: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
        """Convert a TorchScript file: {"seconds"}."""
        started = time.time()
        converter = self._package.PyTorchConverter.from_script_module_file(
            request["source"],
            input_shapes=[tuple(shape) for shape in request["shapes"]],
            input_types=[_torch_type(name) for name in request["types"]],
        )
        converter.quantize = False
        converter.convert_to_tflite(output_file=request["target"])
        return {"seconds": time.time() - started}, []

    def do_load(self, request: dict[str, Any], arrays: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
        """Load a file under a name."""
        self._executors[request["name"]] = self._package.TFLiteExecutor(request["path"])
        return {}, []

    def do_run(self, request: dict[str, Any], arrays: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
        """Run a loaded file: {"shapes"} of the whole outputs, and the outputs, of which only rows where asked."""
        import numpy as np

        outputs = self._executors[request["name"]].run(arrays)
        if not isinstance(outputs, (list, tuple)):
            raise TypeError("TFLiteExecutor.run gave no list but " + type(outputs).__name__)
        whole = [np.asarray(each) for each in outputs]
        return {"shapes": [list(each.shape) for each in whole]}, [_selected(each, request["rows"]) for each in whole]


def _selected(array: Any, rows: Sequence[int] | None) -> Any:
    """The asked positions of [1, n, ...]; all of what has not that shape, which the other side refuses."""
    if rows is None or array.ndim < 2 or array.shape[0] != 1 or array.shape[1] <= max(rows, default=0):
        return array
    return array[0, rows]


def _torch_type(name: str) -> Any:
    """A type as torch has it, which the package brings along; its name where it does not."""
    return getattr(sys.modules.get("torch"), name, name)


def _npy(array: Any) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _line(error: BaseException) -> str:
    """An error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])[:400]


def main() -> None:
    """Answer until stdin ends. What the package prints goes to stderr: the pipe is under another number by then."""
    channel = Channel(os.dup(0), os.dup(1))
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(2, 1)
    del sys.path[0]  # this file's folder, whose modules must not stand in for others of their names
    worker = Worker()
    while True:
        message = channel.receive()
        if message is None:
            return
        header, arrays = worker.answer(*message)
        try:
            channel.send(header, arrays)
        except ValueError as error:  # an output of objects
            channel.send({"error": _line(error), "kind": "failed"}, [])


if __name__ == "__main__":
    main()

"""The script for MediaTek's Python: `PYTHON mtk_worker.py` takes requests on stdin and answers on stdout.

A message is b"MTKW", the length of a JSON header (uint32, little endian), the header, and the .npy arrays whose sizes
its "sizes" lists. It imports nothing of this project: that Python has its own packages, and may be as old as 3.8.
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
        """The next message, header and arrays; None at the end of the input."""
        import numpy as np

        prefix = self._source.read(PREFIX.size)
        if len(prefix) < PREFIX.size:
            return None
        header = json.loads(self._source.read(PREFIX.unpack(prefix)[1]).decode("utf-8"))
        blobs = [self._source.read(size) for size in header["sizes"]]
        return header, [np.load(io.BytesIO(blob), allow_pickle=False) for blob in blobs]

    def send(self, header: dict[str, Any], arrays: Sequence[Any]) -> None:
        """Send a header and arrays."""
        blobs = [_npy(array) for array in arrays]
        content = json.dumps(dict(header, sizes=[len(blob) for blob in blobs])).encode("utf-8")
        for part in (PREFIX.pack(MAGIC, len(content)), content, *blobs):
            self._target.write(part)
        self._target.flush()


class Worker:
    """Answers requests; holds the loaded files."""

    def __init__(self) -> None:
        self._package: Any = None
        self._executors: dict[str, Any] = {}

    def answer(self, request: dict[str, Any], arrays: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
        """Answer a request with header and arrays; any exception becomes an error of one line."""
        try:
            reply: tuple[dict[str, Any], list[Any]] = getattr(self, "do_" + request["do"])(request, arrays)
            return reply
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
        """Run a loaded file: {"shapes"} of the full outputs, and the outputs, cut to "rows" if given."""
        import numpy as np

        outputs = self._executors[request["name"]].run(arrays)
        if not isinstance(outputs, (list, tuple)):
            raise TypeError("expected a list from TFLiteExecutor.run, found " + type(outputs).__name__)
        full_outputs = [np.asarray(array) for array in outputs]
        shapes = [list(array.shape) for array in full_outputs]
        return {"shapes": shapes}, [_select_rows(array, request["rows"]) for array in full_outputs]


def _select_rows(array: Any, rows: Sequence[int] | None) -> Any:
    """The requested positions of [1, n, ...]; any other shape whole, which the caller will refuse."""
    if rows is None or array.ndim < 2 or array.shape[0] != 1 or array.shape[1] <= max(rows, default=0):
        return array
    return array[0, rows]


def _torch_type(name: str) -> Any:
    """The type in torch, which the package imports; its name if there is none."""
    return getattr(sys.modules.get("torch"), name, name)


def _npy(array: Any) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _line(error: BaseException) -> str:
    """An error as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])[:400]


def main() -> None:
    """Answer until stdin ends. The pipes move to other descriptors, so that the package prints to stderr."""
    channel = Channel(os.dup(0), os.dup(1))
    null_device = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_device, 0)
    os.dup2(2, 1)
    del sys.path[0]  # this file's folder, whose modules must not shadow others
    worker = Worker()
    while True:
        message = channel.receive()
        if message is None:
            return
        header, arrays = worker.answer(*message)
        try:
            channel.send(header, arrays)
        except ValueError as error:  # an output array of objects
            channel.send({"error": _line(error), "kind": "failed"}, [])


if __name__ == "__main__":
    main()

"""A TFLite flatbuffer as objects of the schema's own Python classes, read from and written to a file.

The generated classes trust their file: kilobytes whose vectors all point at each other unpack into gigabytes. They
therefore run on a table class that counts what it reads: a valid file holds each byte once, so reading is linear in
its size, and more is refused. Weights are views into the mapped file until `write` copies them into the new one.
"""

from __future__ import annotations

import importlib.util
import mmap
import sys
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from whisper_parity.errors import ArtifactError, OutputError, UnavailableError, first_line, mapped
from whisper_parity.system import inputs
from whisper_parity.system.files import replacing

IDENTIFIER = b"TFL3"
SIZE_LIMIT = 2**31 - 1
"""Offsets of a flatbuffer are signed 32 bits; larger models keep their weights after it, and are read, not written."""
TABLE_LIMIT = 200_000
"""Operators, tensors, buffers and options; Whisper base has about 3,000, large-v3 about 40,000."""
RANK_LIMIT = 8
KEPT = 2
"""Files whose objects are kept for readers: the halves of a stage."""
REBUILD_HINT = "Build or copy it again"


class Mapped(mmap.mmap):
    """A mapped file and its remaining read budget."""

    tables_left = TABLE_LIMIT
    payload_left = 0
    """Bytes of strings and vectors that may still be read."""

    def count_table(self) -> None:
        """Charge one table.

        Raises:
            ValueError: more than any model has.
        """
        self.tables_left -= 1
        if self.tables_left < 0:
            raise ValueError(f"more than {TABLE_LIMIT} tables")

    def count_payload(self, size_bytes: int) -> None:
        """Charge one string or vector.

        Raises:
            ValueError: more than the file can hold.
        """
        self.payload_left -= size_bytes
        if self.payload_left < 0:
            raise ValueError("its strings and vectors overlap")


@cache
def schema() -> Any:
    """The generated classes of the TFLite schema, in a private copy of the module that uses counting tables.

    Raises:
        UnavailableError: the schema's package is not installed.
    """
    try:
        import flatbuffers  # type: ignore[import-untyped,unused-ignore]
        from flatbuffers.number_types import UOffsetTFlags  # type: ignore[import-untyped,unused-ignore]
        from flatbuffers.table import Table  # type: ignore[import-untyped,unused-ignore]

        spec = importlib.util.find_spec("ai_edge_litert.schema_py_generated")
    except ImportError as error:
        raise UnavailableError(
            f"no TFLite schema ({first_line(error)})", hint="`pip install ai-edge-litert`"
        ) from error
    if spec is None or spec.loader is None:
        raise UnavailableError("ai-edge-litert has no schema_py_generated", hint="Install another version of it")

    class CountedTable(Table):  # type: ignore[misc]
        """A table that charges every access to its file."""

        def __init__(self, buf: Any, pos: int) -> None:
            if isinstance(buf, Mapped):
                buf.count_table()
            super().__init__(buf, pos)

        def String(self, off: int) -> bytes:  # noqa: N802 - the library's name
            text: bytes = super().String(off)
            length = self.Get(UOffsetTFlags, off + self.Get(UOffsetTFlags, off))
            if len(text) < length:  # slicing clips at the end of the file
                raise ValueError("a string is cut short")
            self.Bytes.count_payload(len(text))
            return text

        def GetVectorAsNumpy(self, flags: Any, off: int) -> Any:  # noqa: N802 - the library's name
            vector = super().GetVectorAsNumpy(flags, off)
            self.Bytes.count_payload(vector.nbytes)
            return vector

    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    counted = SimpleNamespace(**{**vars(flatbuffers), "table": SimpleNamespace(Table=CountedTable)})
    module.flatbuffers = counted  # type: ignore[attr-defined]
    return module


def read(path: Path) -> Any:
    """Read a file as a `ModelT` whose lists are never None and whose indices are all valid.

    Returns:
        ModelT; names and description are bytes, vectors of numbers are views into the mapped file.

    Raises:
        ArtifactError: not a TFLite file, truncated, hostile, or with weights in another file.
        UnavailableError: the schema package is missing.
    """
    classes = schema()
    with mapped(ArtifactError, f"{path}: not a whole TFLite file"):
        buffer = _map(path)
        model = classes.ModelT.InitFromObj(classes.Model.GetRootAs(buffer, 0))
        _fill(model)
        _attach(model, buffer)
    if problem := _problem(model):
        raise ArtifactError(f"{path}: not a usable TFLite file ({problem})", hint=REBUILD_HINT)
    return model


def shared(path: Path) -> Any:
    """As `read`, for readers that change nothing: what the last files gave is given again while they are as they were.

    Half a second for each half of Whisper base, and asked several times while a stage is opened.

    Raises:
        ArtifactError, UnavailableError: as `read`.
    """
    try:
        state = path.stat()
    except OSError:
        return read(path)  # says why
    return _read_once(path, state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(maxsize=KEPT)
def _read_once(path: Path, *_state: int) -> Any:
    return read(path)


def write(model: Any, path: Path) -> None:
    """Write a `ModelT` atomically.

    Raises:
        ArtifactError: more than 2 GB.
        OutputError: the file cannot be written.
    """
    builder = _builder(_payload(model, path))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            file.write(memoryview(builder.Bytes)[builder.Head() :])
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({first_line(error)})") from error


def _map(path: Path) -> Mapped:
    size = inputs.require_regular(path, inputs.MODEL_BYTES, ArtifactError, hint="Give a TFLite file")
    with path.open("rb") as file:
        buffer = Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)
    if buffer[4:8] != IDENTIFIER:
        raise ArtifactError(f"{path}: not a TFLite file (it has no {IDENTIFIER.decode()} at byte 4)", hint=REBUILD_HINT)
    buffer.payload_left = 2 * size + 2**16  # twice: builders may share equal strings and shapes
    return buffer


_LISTS = ("operatorCodes", "subgraphs", "buffers", "metadata", "signatureDefs")


def _fill(model: Any) -> None:
    """Replace absent vectors by empty ones, which mean the same."""
    for name in _LISTS:
        setattr(model, name, getattr(model, name) or [])
    for graph in model.subgraphs:
        graph.tensors, graph.operators = graph.tensors or [], graph.operators or []
        for node in (graph, *graph.operators):
            node.inputs, node.outputs = _indices(node.inputs), _indices(node.outputs)
        for tensor in graph.tensors:
            tensor.shape = _indices(tensor.shape)


def _indices(indices: Any) -> Any:
    return np.empty(0, np.int32) if indices is None else indices


def _attach(model: Any, file: Mapped) -> None:
    """Give buffers their bytes that lie behind the flatbuffer, where newer quantisers put all weights.

    Raises:
        ValueError: they lie outside the file, or overlap.
    """
    for buffer in model.buffers:
        if buffer.offset > 1 or buffer.size > 1:
            if buffer.data is not None or buffer.offset + buffer.size > len(file):
                raise ValueError(f"weights at {buffer.offset} to {buffer.offset + buffer.size} of {len(file)} bytes")
            file.count_payload(buffer.size)
            buffer.data = np.frombuffer(file, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0


def _problem(model: Any) -> str:
    """The first defect that no reader could handle; "" if none."""
    if model.version != 3:
        return f"schema version {model.version}, expected 3"
    if not model.subgraphs:
        return "no subgraph"
    if model.externalBuffers:
        return "weights in another file are not supported"
    graph_problems = (_graph_problem(model, graph, number) for number, graph in enumerate(model.subgraphs))
    return next(filter(None, (*graph_problems, *_signature_problems(model))), "")


def _signature_problems(model: Any) -> Iterable[str]:
    for signature in model.signatureDefs:
        if signature.subgraphIndex >= len(model.subgraphs):
            yield f"a signature of subgraph {signature.subgraphIndex}"
            return
        count = len(model.subgraphs[signature.subgraphIndex].tensors)
        for side in (signature.inputs or [], signature.outputs or []):
            if any(entry.tensorIndex >= count for entry in side):
                yield "a signature names a tensor that is not there"


def _graph_problem(model: Any, graph: Any, number: int) -> str:
    where = f"subgraph {number}"
    for index, tensor in enumerate(graph.tensors):
        if tensor.buffer >= len(model.buffers):
            return f"{where}, tensor {index}: no buffer {tensor.buffer}"
        if len(tensor.shape) > RANK_LIMIT or (tensor.shape < 0).any():
            return f"{where}, tensor {index}: shape {[int(size) for size in tensor.shape[:RANK_LIMIT]]}"
    count = len(graph.tensors)
    if not _within(graph.inputs, 0, count) or not _within(graph.outputs, 0, count):
        return f"{where}: its inputs or outputs are not there"
    for index, operator in enumerate(graph.operators):
        if operator.opcodeIndex >= len(model.operatorCodes):
            return f"{where}, operator {index}: no operator code {operator.opcodeIndex}"
        if not _within(operator.inputs, -1, count) or not _within(operator.outputs, 0, count):
            return f"{where}, operator {index}: a tensor that is not there"
        if operator.largeCustomOptionsOffset > 1:
            return f"{where}, operator {index}: options after the flatbuffer are not supported"
    return ""


def _within(indices: Any, low: int, high: int) -> bool:
    return bool(((indices >= low) & (indices < high)).all())


def _payload(model: Any, path: Path) -> int:
    """Initial size of the builder, so that it never grows: growing copies everything.

    Raises:
        ArtifactError: larger than a flatbuffer can be.
    """
    tables = sum(len(graph.tensors) + len(graph.operators) for graph in model.subgraphs) + len(model.buffers)
    weights = sum(buffer.data.nbytes + 32 for buffer in model.buffers if buffer.data is not None)
    size_bytes = int(weights) + 512 * tables + 2**16
    if size_bytes > SIZE_LIMIT:
        raise ArtifactError(f"{path}: {size_bytes / 2**30:.1f} GiB of weights; files beyond 2 GB are not supported")
    return size_bytes


def _builder(size_bytes: int) -> Any:
    import flatbuffers

    class AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
        """Copies vectors once, and aligns bytes (such as weights) to 16, as the schema requires."""

        def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802 - the library's name
            contiguous = np.ascontiguousarray(x if sys.byteorder == "little" else x.byteswap())
            self.StartVector(x.itemsize, x.size, 16 if x.itemsize == 1 else x.itemsize)
            self.head -= x.nbytes
            np.frombuffer(self.Bytes, np.uint8, x.nbytes, self.head)[:] = contiguous.view(np.uint8)
            self.vectorNumElems = x.size
            return int(self.EndVector())

    return AlignedBuilder(size_bytes)

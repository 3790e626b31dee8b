"""Small TFLite files with MTKEXT ops, written by the tests: stand-ins for what MediaTek's converter writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flatbuffers import flexbuffers
from numpy.typing import NDArray

from tests.support.checkout import CHECKOUT
from whisper_parity.backends.tflite.mediatek import checking
from whisper_parity.backends.tflite.mtkext import flatfile, tensors

DESCRIPTION = "Exported by NeuroPilot converter v0.0.0 (stand-in)"


@dataclass(frozen=True)
class Node:
    """One operator; its tensors by name, "" for one that is left out."""

    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    options: Mapping[str, Any] | bytes | None = None


@dataclass(frozen=True)
class Given:
    """A tensor without values."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    scale: float | None = None


def write(
    path: Path,
    nodes: Sequence[Node],
    held: Mapping[str, Given | NDArray[Any]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    signature: bool = True,
) -> Path:
    """Write a file.

    Args:
        path: where.
        nodes: operators in order; names of built-in ones are the schema's.
        held: tensors by name; arrays are constants.
        inputs: of the graph.
        outputs: of the graph.
        signature: whether to name inputs and outputs "in_<name>" and "out_<name>" by a signature.
    """
    classes = flatfile.schema()
    model, graph = classes.ModelT(), classes.SubGraphT()
    model.version, model.description, model.subgraphs = 3, DESCRIPTION, [graph]
    model.buffers, model.operatorCodes = [classes.BufferT()], []
    places = {name: number for number, name in enumerate(held)}
    graph.name = "main"
    graph.tensors = [_tensor(model, name, each) for name, each in held.items()]
    graph.inputs, graph.outputs = [places[name] for name in inputs], [places[name] for name in outputs]
    graph.operators = [_operator(model, node, places) for node in nodes]
    if signature:
        model.signatureDefs = [_signature(places, inputs, outputs)]
    flatfile._fill(model)
    flatfile.write(model, path)
    return path


def _tensor(model: Any, name: str, held: Given | NDArray[Any]) -> Any:
    classes = flatfile.schema()
    tensor = classes.TensorT()
    given = held if isinstance(held, Given) else Given(held.shape, held.dtype.name)
    tensor.name, tensor.shape = name, np.array(given.shape, np.int32)
    tensor.type = tensors.type_number(given.dtype)
    if given.scale is not None:
        tensor.quantization = classes.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = np.array([given.scale], np.float32), np.zeros(1, int)
    if not isinstance(held, Given):
        buffer = classes.BufferT()
        buffer.data = np.ascontiguousarray(held).reshape(-1).view(np.uint8)
        model.buffers.append(buffer)
        tensor.buffer = len(model.buffers) - 1
    return tensor


def _operator(model: Any, node: Node, places: Mapping[str, int]) -> Any:
    classes = flatfile.schema()
    operator, code = classes.OperatorT(), classes.OperatorCodeT()
    number = getattr(classes.BuiltinOperator, node.name, classes.BuiltinOperator.CUSTOM)
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
    code.customCode = node.name if number == classes.BuiltinOperator.CUSTOM else None
    model.operatorCodes.append(code)
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs = np.array([places[name] if name else -1 for name in node.inputs], np.int32)
    operator.outputs = np.array([places[name] for name in node.outputs], np.int32)
    if node.options is not None:
        raw = node.options if isinstance(node.options, bytes) else bytes(flexbuffers.Dumps(dict(node.options)))
        operator.customOptions = np.frombuffer(raw, np.uint8)
    return operator


def _signature(places: Mapping[str, int], inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    classes = flatfile.schema()
    signature = classes.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    for side, names, prefix in (("inputs", inputs, "in_"), ("outputs", outputs, "out_")):
        entries = []
        for name in names:
            entry = classes.TensorMapT()
            entry.name, entry.tensorIndex = prefix + name, places[name]
            entries.append(entry)
        setattr(signature, side, entries)
    return signature


def run(path: Path, *arrays: NDArray[Any]) -> NDArray[Any]:
    """The only output of a file of built-in ops, by LiteRT, in a process of its own."""
    (output,) = checking.replay(path, list(arrays), 1)
    return output


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """float32 [shape], standard normal."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def write_large(path: Path, count: int) -> Path:
    """A file of `count` linear layers in a row, 4 MiB of random weights each."""
    held: dict[str, Any] = {"h0": Given((1, 1024))}
    nodes = []
    for number in range(count):
        held |= {f"w{number}": normal(1024, 1024, seed=number), f"h{number + 1}": Given((1, 1024))}
        nodes.append(Node("MTKEXT_FULLY_CONNECTED", [f"h{number}", f"w{number}"], [f"h{number + 1}"]))
    return write(path, nodes, held, ["h0"], [f"h{count}"])


COST = """
import json, re, sys
from pathlib import Path
from whisper_parity.backends.tflite.mtkext import flatfile
from whisper_parity.backends.tflite.mtkext.lowering import lower

def peak_kib():  # of this program: ru_maxrss would start with the peak of the process that started it
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

exec(sys.argv[3])
flatfile.schema()
before = peak_kib()
done = lower(Path(sys.argv[1]), Path(sys.argv[2]))
print(json.dumps([done.seconds, (peak_kib() - before) / 1024]))
"""


def cost(source: Path, target: Path, fault: str = "") -> tuple[float, float]:
    """What lowering a file takes in a process of its own, Linux only: seconds, and MiB above what it had before.

    Args:
        source: the file.
        target: where the lowered one goes.
        fault: Python that breaks something first, for a test that shows it.
    """
    words = [sys.executable, "-c", COST, str(source), str(target), fault]
    ran = subprocess.run(words, capture_output=True, text=True, cwd=CHECKOUT, check=True)
    seconds, grown_mib = json.loads(ran.stdout)
    return seconds, grown_mib

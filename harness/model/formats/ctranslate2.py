"""CTranslate2's model.bin, as faster-whisper runs it.

Binary version 6 (ctranslate2's specs/model_spec.py), little endian: uint32 version, string name of the spec, uint32
revision, uint32 number of variables; each: string name, uint8 rank, uint32 dims, uint8 type, uint32 bytes, data; then
uint32 number of aliases, each: string alias, string name. A string is uint16 length with its final NUL, and bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.errors import CheckpointError
from whisper_parity.model.formats import shapes
from whisper_parity.model.formats.weights import Tensors

VERSIONS = (5, 6)
"""Binary versions of this layout."""
SPEC = "WhisperSpec"
INT8, INT16, INT32, BFLOAT16 = 1, 2, 3, 5
TYPES: Mapping[int, str] = {0: "<f4", INT8: "<i1", INT16: "<i2", INT32: "<i4", 4: "<f2", BFLOAT16: "<u2"}
"""numpy's type of a variable; bfloat16 as its bits."""
MAX_RANK = 8
COMPLETE = "Is the file complete? Copy it again, or convert the model again"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the file."""

    array: NDArray[Any]
    """Memory-mapped."""
    kind: int
    """Key of TYPES."""


class _Cursor:
    """Reads the file from front to back, never beyond its end."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        self._bytes = np.memmap(path, np.uint8, "c")  # copy on write: torch warns of arrays that it may not write

    def take(self, count: int) -> NDArray[np.uint8]:
        if count > len(self._bytes) - self._at:
            raise CheckpointError(
                f"{self._path}: ends after {len(self._bytes)} bytes, inside what it announces", hint=COMPLETE
            )
        self._at += count
        return self._bytes[self._at - count : self._at]

    def number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self.take(struct.calcsize(code)).tobytes())[0])

    def string(self) -> str:
        return self.take(self.number("H")).tobytes().rstrip(b"\0").decode("utf-8", "replace")


def is_one(head: bytes) -> bool:
    """Whether a file that begins so is a model.bin: a small version, then the name of a spec."""
    if len(head) < 8:
        return False
    version, length = struct.unpack_from("<IH", head)
    name = head[6 : 6 + length]
    return 0 < version < 100 and name.endswith(b"Spec\0")


def read(path: Path) -> tuple[Tensors, tuple[int, int] | None, str]:
    """Weights by openai-whisper's names, heads of encoder and decoder where the file states them, and its number type.

    Raises:
        CheckpointError: another model, another version, cut short, or quantised to what is not read.
    """
    variables, aliases = _variables(path)
    names = Names(path, variables, aliases)
    return dict(_renamed(names)), _heads(variables), _types(variables)


def _variables(path: Path) -> tuple[dict[str, Variable], dict[str, str]]:
    cursor = _Cursor(path)
    version, spec = cursor.number("I"), cursor.string()
    if spec != SPEC:
        raise CheckpointError(f"{path}: a CTranslate2 model of another kind ({spec})", hint="Give a Whisper model")
    if version not in VERSIONS:
        raise CheckpointError(
            f"{path}: CTranslate2's binary version {version}, this program reads {' and '.join(map(str, VERSIONS))}",
            hint="Convert the model again with a current ct2-transformers-converter",
        )
    cursor.number("I")
    variables = dict(_variable(cursor, path) for _ in range(cursor.number("I")))
    aliases = {cursor.string(): cursor.string() for _ in range(cursor.number("I"))}
    return variables, aliases


def _variable(cursor: _Cursor, path: Path) -> tuple[str, Variable]:
    name, rank = cursor.string(), cursor.number("B")
    if rank > MAX_RANK:
        raise CheckpointError(f"{path}: {name} has {rank} dimensions", hint=COMPLETE)
    shape = tuple(cursor.number("I") for _ in range(rank))
    kind, size = cursor.number("B"), cursor.number("I")
    content = cursor.take(size)
    if kind not in TYPES:
        raise CheckpointError(f"{path}: {name} is of the unknown type {kind}", hint=COMPLETE)
    if size == 0 or math.prod(shape) * np.dtype(TYPES[kind]).itemsize != size:
        raise CheckpointError(f"{path}: {name} of shape {list(shape)} has {size} bytes", hint=COMPLETE)
    return name, Variable(content.view(TYPES[kind]).reshape(shape), kind)


@dataclass(frozen=True, slots=True)
class Names:
    """The file's variables as torch tensors, by name."""

    path: Path
    variables: Mapping[str, Variable]
    aliases: Mapping[str, str]

    def tensor(self, name: str) -> Any:
        """A variable as a floating-point tensor; integers divided by their scale.

        Raises:
            CheckpointError: missing, or quantised to what is not read.
        """
        import torch

        name = self.aliases.get(name, name)
        variable = self._variable(name)
        array = torch.from_numpy(variable.array)
        if variable.kind == BFLOAT16:
            return array.view(torch.bfloat16)
        if variable.kind == INT32:
            raise CheckpointError(f"{self.path}: {name} is packed into 32-bit integers (AWQ)", hint=shapes.SAVE_FLOATS)
        if variable.kind in (INT8, INT16):
            scale = torch.from_numpy(self._variable(f"{name}_scale").array).float()
            return array.float() / scale.reshape(scale.shape + (1,) * (array.ndim - scale.ndim))
        return array

    def _variable(self, name: str) -> Variable:
        if name not in self.variables:
            raise CheckpointError(f"{self.path}: has no {name}", hint=COMPLETE)
        return self.variables[name]

    def __contains__(self, name: str) -> bool:
        """Whether the file has it under its name or an alias."""
        return self.aliases.get(name, name) in self.variables


def _renamed(names: Names) -> Iterator[tuple[str, Any]]:
    for conv in ("conv1", "conv2"):
        yield f"encoder.{conv}.weight", names.tensor(f"encoder/{conv}/weight")
        yield f"encoder.{conv}.bias", names.tensor(f"encoder/{conv}/bias")
    yield "decoder.token_embedding.weight", names.tensor("decoder/embeddings/weight")
    for side, norm in (("encoder", "ln_post"), ("decoder", "ln")):
        yield f"{side}.positional_embedding", names.tensor(f"{side}/position_encodings/encodings")
        yield from _norm(names, f"{side}/layer_norm", f"{side}.{norm}")
        layer = 0
        while f"{side}/layer_{layer}/ffn/linear_0/weight" in names:
            yield from _block(names, f"{side}/layer_{layer}", f"{side}.blocks.{layer}")
            layer += 1
    if "decoder/projection/weight" in names and names.aliases.get("decoder/projection/weight") is None:
        yield "proj_out.weight", names.tensor("decoder/projection/weight")


def _block(names: Names, source: str, target: str) -> Iterator[tuple[str, Any]]:
    yield from _stacked(names, f"{source}/self_attention/linear_0", f"{target}.attn", ("query", "key", "value"))
    yield from _linear(names, f"{source}/self_attention/linear_1", f"{target}.attn.out")
    yield from _norm(names, f"{source}/self_attention/layer_norm", f"{target}.attn_ln")
    if target.startswith("decoder."):
        yield from _linear(names, f"{source}/attention/linear_0", f"{target}.cross_attn.query")
        yield from _stacked(names, f"{source}/attention/linear_1", f"{target}.cross_attn", ("key", "value"))
        yield from _linear(names, f"{source}/attention/linear_2", f"{target}.cross_attn.out")
        yield from _norm(names, f"{source}/attention/layer_norm", f"{target}.cross_attn_ln")
    yield from _linear(names, f"{source}/ffn/linear_0", f"{target}.mlp.0")
    yield from _linear(names, f"{source}/ffn/linear_1", f"{target}.mlp.2")
    yield from _norm(names, f"{source}/ffn/layer_norm", f"{target}.mlp_ln")


def _stacked(names: Names, source: str, target: str, parts: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Projections that the file holds one above the other; Whisper's key has no bias, here it is zeros."""
    weights = names.tensor(f"{source}/weight").chunk(len(parts))
    biases = names.tensor(f"{source}/bias").chunk(len(parts))
    for part, weight, bias in zip(parts, weights, biases):
        yield f"{target}.{part}.weight", weight
        if part != "key" or bias.count_nonzero():
            yield f"{target}.{part}.bias", bias


def _linear(names: Names, source: str, target: str) -> Iterator[tuple[str, Any]]:
    yield f"{target}.weight", names.tensor(f"{source}/weight")
    yield f"{target}.bias", names.tensor(f"{source}/bias")


def _norm(names: Names, source: str, target: str) -> Iterator[tuple[str, Any]]:
    yield f"{target}.weight", names.tensor(f"{source}/gamma")
    yield f"{target}.bias", names.tensor(f"{source}/beta")


def _heads(variables: Mapping[str, Variable]) -> tuple[int, int] | None:
    stated = [variables.get(f"{side}/num_heads") for side in ("encoder", "decoder")]
    heads = [int(variable.array) for variable in stated if variable is not None and variable.array.size == 1]
    return (heads[0], heads[1]) if len(heads) == 2 else None


def _types(variables: Mapping[str, Variable]) -> str:
    """The number types of the weights: "float16", "int8 and float32"."""
    kinds = {variable.kind for name, variable in variables.items() if name.endswith("/weight")}
    names = {0: "float32", INT8: "int8", INT16: "int16", INT32: "int32", 4: "float16", BFLOAT16: "bfloat16"}
    return " and ".join(names[kind] for kind in sorted(kinds))

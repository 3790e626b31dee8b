"""Files of tensors alone: safetensors, NumPy's archives, and a model in several of these (shards) with an index."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_parity.errors import CheckpointError, first_line
from whisper_parity.model.formats import bare, pickled
from whisper_parity.model.formats.foreign import AGAIN
from whisper_parity.model.formats.weights import Tensors
from whisper_parity.system import inputs

MAX_HEADER = 100_000_000
"""Bytes of a header, as safetensors limits them."""


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so has the header of safetensors: its length in 8 bytes, then JSON."""
    return len(head) > 9 and struct.unpack_from("<Q", head)[0] <= MAX_HEADER and head[8:9] == b"{"


def is_numpy_archive(path: Path) -> bool:
    """Whether a zip archive holds NumPy's arrays only."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def safetensors(path: Path) -> Tensors:
    """Tensors of a file of safetensors, memory-mapped.

    Raises:
        CheckpointError: cut short, or damaged.
    """
    from safetensors import safe_open

    inputs.require_regular(path, inputs.MODEL_BYTES, CheckpointError, hint=AGAIN)
    _require_length(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except Exception as error:  # safetensors has a type of its own, torch raises many
        raise CheckpointError(f"{path}: no whole file of safetensors ({first_line(error)})", hint=AGAIN) from error


def _require_length(path: Path) -> None:
    """Say how much of a file is there, where its header tells how long it is."""
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            whole = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            return  # not its header: safetensors says what is wrong
    if type(whole) is int and path.stat().st_size < whole:
        raise CheckpointError(f"{path}: {path.stat().st_size} of {whole} bytes are there", hint=AGAIN)


def numpy_archive(path: Path) -> Tensors:
    """Arrays of an .npz, as MLX saves them.

    Raises:
        CheckpointError: damaged, too large unpacked, or it holds objects instead of numbers.
    """
    import numpy as np
    import torch

    pickled.require_size(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    except Exception as error:  # numpy parses headers as Python: bad bytes may raise anything
        raise CheckpointError(f"{path}: no whole .npz of numbers", hint=AGAIN) from error


def shards(index: Path) -> tuple[Path, ...]:
    """The files that an index of Hugging Face names.

    Raises:
        CheckpointError: no index, one that names files elsewhere, or a shard that is missing.
    """
    content = inputs.read_json(index, CheckpointError, hint=AGAIN)
    placed = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(placed, Mapping) or not placed or not all(isinstance(name, str) for name in placed.values()):
        raise CheckpointError(f"{index}: no index of shards: it has no weight_map", hint=AGAIN)
    names = sorted(set(placed.values()))
    if strange := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{index}: names a file in another folder: {strange[0]}", hint="Give a folder of its own")
    for number, name in enumerate(names, 1):
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.parent / name}: shard {number} of {len(names)} is missing", hint=AGAIN)
    return tuple(index.parent / name for name in names)


def of_shards(index: Path, files: tuple[Path, ...]) -> Tensors:
    """The tensors of all shards.

    Raises:
        CheckpointError: a shard is damaged, or holds less than the index says.
    """
    tensors: dict[str, Any] = {}
    for file in files:
        tensors.update(shard(file))
    placed: Mapping[str, str] = inputs.read_json(index, CheckpointError)["weight_map"]
    if missing := [name for name in placed if name not in tensors]:
        raise CheckpointError(f"{index.parent / placed[missing[0]]}: {missing[0]} is not in this shard", hint=AGAIN)
    return tensors


def shard(file: Path) -> Tensors:
    """The tensors of a file by itself, whichever of the two kinds it is of.

    Raises:
        CheckpointError: damaged, or no state dict.
    """
    with file.open("rb") as opened:
        head = opened.read(16)
    return safetensors(file) if is_safetensors(head) else bare.of_saved(pickled.read(file), file)

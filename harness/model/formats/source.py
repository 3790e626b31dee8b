"""A checkpoint as somebody gave it: a file or a folder, told by its content, never by its name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from whisper_parity.errors import CheckpointError
from whisper_parity.model.formats import (
    assembling,
    bare,
    config,
    ctranslate2,
    folders,
    foreign,
    naming,
    openai,
    pickled,
    tensorfile,
    tokens,
)
from whisper_parity.model.formats.weights import Tensors, Weights
from whisper_parity.system import inputs
from whisper_parity.system.files import file_sha256, safe_name

HEAD = 64 * 1024
"""Bytes that a format is told by."""
USUAL_NAMES = ("model", "pytorch_model", "weights")
"""Of files that a program names the same for every model."""
PICKLE = b"\x80"


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a checkpoint, and how to read them."""

    path: Path
    """As given, absolute: a file or a folder."""
    files: tuple[Path, ...]
    """Every file that decides what is read, weights first."""
    read: Callable[[], Weights]

    @property
    def name(self) -> str:
        """What it is called: its folder where the file has the name that all of its kind have."""
        if self.path.is_dir():
            return safe_name(folders.name_of(self.path))
        is_usual = self.path.name.partition(".")[0] in USUAL_NAMES and self.path.suffix != ".pt"
        return safe_name(folders.name_of(self.path.parent) if is_usual else self.path.stem)

    @property
    def sha256(self) -> str:
        """Hash of the one file, or one hash over the hashes of several by their names."""
        if len(self.files) == 1:
            return file_sha256(self.files[0])
        lines = sorted(f"{file.name} {file_sha256(file)}" for file in self.files)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def find(path: Path) -> Source:
    """The checkpoint at a path.

    Raises:
        CheckpointError: nothing there that is read, with what it is instead where that is known.
    """
    if not path.is_dir():
        return _file(path)
    folder = folders.snapshot(path)
    config.read(folder / config.NAME if (folder / config.NAME).is_file() else None)  # of another model: say that first
    return replace(_file(folders.model_file(folder)), path=folder)


def _file(path: Path) -> Source:
    inputs.require_regular(path, inputs.MODEL_BYTES, CheckpointError, hint=foreign.READ)
    with path.open("rb") as file:
        head = file.read(HEAD)
    if ctranslate2.is_one(head):
        beside = tokens.evidence(path.parent)
        return Source(path, (path, *beside), partial(_ctranslate2, path, beside))
    if tensorfile.is_safetensors(head):
        return _with_config(path, (path,), partial(tensorfile.safetensors, path))
    if head.startswith(b"PK") and tensorfile.is_numpy_archive(path):
        return _with_config(path, (path,), partial(tensorfile.numpy_archive, path))
    if foreign.is_text(head) and path.name.endswith(".json") and b'"weight_map"' in head:
        files = tensorfile.shards(path)
        return _with_config(path, (*files, path), partial(tensorfile.of_shards, path, files))
    if head.startswith(PICKLE) or (head.startswith(b"PK") and _is_of_torch(path)):
        return _pickled(path)
    raise foreign.refuse(path, head)


def _is_of_torch(path: Path) -> bool:
    names = foreign.zip_names(path)
    has_code = any(name.endswith("/constants.pkl") for name in names)
    return not has_code and any(name.endswith("/data.pkl") for name in names)


def _ctranslate2(path: Path, beside: tuple[Path, ...]) -> Weights:
    tensors, heads, types = ctranslate2.read(path)
    notes = ("its weights were quantised: what is judged is what that left of them",) if "int" in types else ()
    return assembling.assemble(path, f"CTranslate2, {types}", tensors, heads=heads, beside=beside, notes=notes)


def _with_config(path: Path, files: tuple[Path, ...], read: Callable[[], Tensors]) -> Source:
    """A file of tensors alone; what else decides is read from the files beside it."""
    said, beside = config.beside(path), tokens.evidence(path.parent)
    also = (*((said,) if said else ()), *beside)
    return Source(path, (*files, *also), lambda: _named(path, read(), said, beside))


def _pickled(path: Path) -> Source:
    """A file of torch.save: openai-whisper's own says everything itself, any other is a state dict."""
    saved = pickled.read(path)
    if openai.is_one(saved):
        return Source(path, (path,), partial(openai.read, path, saved))
    return _with_config(path, (path,), partial(bare.of_saved, saved, path))


def _named(path: Path, tensors: Tensors, said: Path | None, beside: tuple[Path, ...]) -> Weights:
    stated = config.read(said)
    named, whose = naming.openai(tensors, path)
    weights = assembling.assemble(
        path, f"{whose}, {_types(named)}", named, heads=config.heads(stated), config=stated, beside=beside
    )
    config.require_same(stated, weights.dims, said)
    return weights


def _types(tensors: Tensors) -> str:
    """The number types of the weights: "float16", "bfloat16 and float32"."""
    names = {_type(tensor) for name, tensor in tensors.items() if name.endswith("weight")}
    return " and ".join(sorted(names))


def _type(tensor: Any) -> str:
    return str(getattr(tensor, "dtype", "")).removeprefix("torch.")

"""The Whisper checkpoint from which every artifact descends."""

from __future__ import annotations

import dataclasses
import importlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity import project
from whisper_parity.errors import CheckpointError, MachineError, first_line
from whisper_parity.model.dims import Dims
from whisper_parity.model.vocabulary import ENGLISH_ONLY, LARGE_V3, MULTILINGUAL
from whisper_parity.system import inputs
from whisper_parity.system.files import exists, file_sha256, safe_name

MICRO = project.packaged("micro", "micro.pt")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk."""

    name: str
    """Part of artifact names: "base" for base.pt."""
    path: Path
    sha256: str
    dims: Dims
    note: str = ""
    """A remark for readers of the report ("stand-in with random weights")."""


def resolve(name_or_path: str | None) -> Checkpoint:
    """Find a checkpoint by openai-whisper name, by path, or the embedded one for None, and read its dimensions.

    Raises:
        CheckpointError: unknown name, or a file that is not a Whisper checkpoint.
        MachineError: a known name that could not be downloaded.
    """
    if name_or_path is None:
        return _embedded()
    path = Path(name_or_path)
    return describe(path if exists(path) else _by_name(name_or_path))


def describe(path: Path, note: str = "") -> Checkpoint:
    """Hash a checkpoint and read its dimensions, weights left on disk.

    Raises:
        CheckpointError: not a Whisper checkpoint.
    """
    saved = read(path)
    dims = _dims(saved, path)
    _check_weights(saved["model_state_dict"], dims, path)
    return Checkpoint(safe_name(path.stem), path.resolve(), file_sha256(path), dims, note)


def read(path: Path) -> dict[str, Any]:
    """Load {"dims", "model_state_dict"} with tensors memory-mapped and no code executed.

    Raises:
        CheckpointError: not a Whisper checkpoint.
    """
    import torch

    inputs.require_regular(path, inputs.MODEL_BYTES, CheckpointError, hint="Give a Whisper .pt file")
    try:
        saved = _torch_load(torch, path)
    except Exception as error:  # torch.load raises dozens of types on foreign bytes
        raise CheckpointError(
            f"{path}: not a PyTorch checkpoint ({_refusal(error)})",
            hint="Give a Whisper .pt file with dims and model_state_dict, or a name such as base",
        ) from error
    if not isinstance(saved, dict) or not {"dims", "model_state_dict"} <= set(saved):
        raise CheckpointError(
            f"{path}: expected the keys dims and model_state_dict, found {_keys(saved)}",
            hint="A Hugging Face checkpoint must be converted to openai-whisper's format first",
        )
    return saved


def _torch_load(torch: Any, path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say of the file is in the error, or does not matter
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # deflated zip entries, and the format before zip, cannot be memory-mapped
            return torch.load(path, map_location="cpu", weights_only=True)


def _refusal(error: Exception) -> str:
    """Why torch refuses a file, without its advice to load it in a way that would run the file's code."""
    if "weights_only" not in str(error):
        return first_line(error)
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"it asks for {named[1]}: code, not weights" if named else "it holds more than tensors and plain values"


def _keys(saved: Any) -> str:
    return ", ".join(str(key) for key in list(saved)[:5]) if isinstance(saved, dict) else type(saved).__name__


def _dims(saved: dict[str, Any], path: Path) -> Dims:
    names = {field.name for field in dataclasses.fields(Dims)}
    stated = saved["dims"]
    if (
        not isinstance(stated, dict)
        or set(stated) != names
        or not all(type(v) is int and v > 0 for v in stated.values())
    ):
        raise CheckpointError(
            f"{path}: dims must hold {', '.join(sorted(names))} as positive numbers, found {stated!r:.400}",
            hint="Save vars(model.dims) of openai-whisper",
        )
    dims = Dims(**stated)
    _check_dims(dims, path)
    return dims


def _check_dims(dims: Dims, path: Path) -> None:
    if dims.n_mels not in (80, 128):
        raise CheckpointError(f"{path}: n_mels is {dims.n_mels}", hint="openai-whisper has filters for 80 and 128")
    if dims.n_vocab not in (ENGLISH_ONLY, MULTILINGUAL, LARGE_V3):
        raise CheckpointError(
            f"{path}: n_vocab is {dims.n_vocab}", hint="Whisper's vocabularies are 51864, 51865 and 51866"
        )
    if dims.n_audio_ctx != 1500:
        raise CheckpointError(f"{path}: n_audio_ctx is {dims.n_audio_ctx}", hint="Windows are 30 s, a context of 1500")
    states = (dims.n_audio_state, dims.n_audio_head), (dims.n_text_state, dims.n_text_head)
    if dims.n_audio_state != dims.n_text_state or any(state % 2 or state % heads for state, heads in states):
        raise CheckpointError(
            f"{path}: n_audio_state {dims.n_audio_state} and n_text_state {dims.n_text_state} must be equal, even and "
            f"multiples of n_audio_head {dims.n_audio_head} and n_text_head {dims.n_text_head}",
            hint="Are the dims those of this model?",
        )


def _check_weights(weights: Any, dims: Dims, path: Path) -> None:
    """Check some weights' shapes before a model of the claimed size is built."""
    expected = {
        "encoder.conv1.weight": [dims.n_audio_state, dims.n_mels, 3],
        "encoder.positional_embedding": [dims.n_audio_ctx, dims.n_audio_state],
        "decoder.token_embedding.weight": [dims.n_vocab, dims.n_text_state],
        "decoder.positional_embedding": [dims.n_text_ctx, dims.n_text_state],
        f"encoder.blocks.{dims.n_audio_layer - 1}.attn_ln.weight": [dims.n_audio_state],
        f"decoder.blocks.{dims.n_text_layer - 1}.attn_ln.weight": [dims.n_text_state],
    }
    for name, shape in expected.items():
        weight = weights.get(name) if isinstance(weights, dict) else None
        actual = list(getattr(weight, "shape", ()))
        if actual != shape:
            raise CheckpointError(
                f"{path}: the weights do not fit the dimensions: {name} should be {shape}, found {actual or 'none'}",
                hint="Is the file complete, and are the dims those of this model?",
            )


def _by_name(name: str) -> Path:
    import whisper

    if name not in whisper.available_models():
        raise CheckpointError(
            f"{name}: neither a file nor a Whisper name", hint=f"Names: {', '.join(whisper.available_models())}"
        )
    cache = Path.home() / ".cache" / "whisper"
    try:
        return Path(whisper._download(whisper._MODELS[name], str(cache), in_memory=False))
    except (OSError, RuntimeError) as error:
        raise MachineError(
            f"{name}: not in {cache} and cannot be downloaded ({first_line(error)})",
            hint="Copy the .pt file here and give its path",
        ) from error


def _embedded() -> Checkpoint:
    if MICRO.is_file():
        return describe(MICRO, note="embedded micro checkpoint")
    scripted = importlib.import_module("whisper_parity.fixtures.scripted")
    return describe(scripted.checkpoint(), note="stand-in with random weights")

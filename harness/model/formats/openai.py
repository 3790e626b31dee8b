"""openai-whisper's checkpoints: {"dims", "model_state_dict"}, also with dims as the object that openai-whisper has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from whisper_parity.errors import CheckpointError
from whisper_parity.model.dims import STATED, Dims
from whisper_parity.model.formats import assembling, canonical
from whisper_parity.model.formats.canonical import Extras
from whisper_parity.model.formats.pickled import Inert
from whisper_parity.model.formats.weights import Weights
from whisper_parity.model.vocabulary import ENGLISH_ONLY, LARGE_V3, MULTILINGUAL


def is_one(saved: Any) -> bool:
    """Whether a file's content is a checkpoint of openai-whisper."""
    return isinstance(saved, dict) and {"dims", "model_state_dict"} <= set(saved)


def read(path: Path, saved: dict[str, Any]) -> Weights:
    """Weights of a checkpoint of openai-whisper, or of one that was converted to its format.

    Raises:
        CheckpointError: its dims are not dimensions of a Whisper, or its weights are not of these.
    """
    dims, tensors = _dims(saved["dims"], path), saved["model_state_dict"]
    tensors = dict(tensors) if isinstance(tensors, Mapping) else {}
    if own := canonical.extras(saved):
        return _converted(path, own, dims, tensors)
    weights = assembling.assemble(path, "", tensors, dims=dims)
    return replace(weights, loadable=isinstance(saved["dims"], dict) and not weights.notes)


def _converted(path: Path, own: Extras, dims: Dims, tensors: dict[str, Any]) -> Weights:
    if own.vocabulary not in (ENGLISH_ONLY, MULTILINGUAL, LARGE_V3) or own.vocabulary > dims.n_vocab:
        raise CheckpointError(f"{path}: vocabulary {own.vocabulary} of {dims.n_vocab} ids", hint="Convert it again")
    projection = {} if own.projection is None else {assembling.PROJECTION: own.projection}
    weights = assembling.assemble(path, "", {**tensors, **projection}, dims=dims)
    dims = replace(weights.dims, vocabulary=own.vocabulary)
    return replace(weights, dims=dims, notes=(own.note,) if own.note else (), loadable=True)


def _dims(stated: Any, path: Path) -> Dims:
    values = stated.state if isinstance(stated, Inert) else stated
    if (
        not isinstance(values, dict)
        or set(values) != set(STATED)
        or not all(type(v) is int and v > 0 for v in values.values())
    ):
        raise CheckpointError(
            f"{path}: dims must hold {', '.join(sorted(STATED))} as positive numbers, found {_shown(values)}",
            hint="Save vars(model.dims) of openai-whisper",
        )
    return Dims(**values)


def _shown(values: Any) -> str:
    return f"{type(values).__name__}" if isinstance(values, Inert) else f"{values!r:.400}"

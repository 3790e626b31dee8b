"""State dicts: a model's tensors by name, alone or among what a training tool keeps beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_parity.errors import CheckpointError
from whisper_parity.model.formats import naming
from whisper_parity.model.formats.pickled import Inert
from whisper_parity.model.formats.weights import Tensors

KEYS = ("model_state_dict", "state_dict", "model", "module", "model_state", "weights", "net", "params")
"""Where training tools keep the state dict (Lightning, DeepSpeed, accelerate, scripts of one's own)."""
MODULE_CLASSES = ("Whisper", "WhisperForConditionalGeneration", "WhisperModel")


def of_saved(saved: Any, path: Path) -> Tensors:
    """The state dict in what torch.save wrote.

    Raises:
        CheckpointError: none is in there, with what is there instead.
    """
    if isinstance(saved, Inert):
        raise CheckpointError(f"{path}: a whole pickled object, whose code would have to run", hint=WEIGHTS_ALONE)
    if not isinstance(saved, Mapping):
        raise CheckpointError(f"{path}: no checkpoint: it holds a {_kind(saved)}", hint=STATE_DICT)
    if _is_tensors(saved):
        return _tensors(saved)
    if {"param_groups", "state"} <= set(saved):
        raise CheckpointError(f"{path}: the state of an optimizer, not a model", hint="Give the model's own file")
    for key in KEYS:
        inner = saved.get(key)
        if isinstance(inner, Inert):
            raise CheckpointError(f"{path}: its {key!r} is a whole pickled object, whose code would have to run",
                                  hint=WEIGHTS_ALONE)  # fmt: skip
        if isinstance(inner, Mapping) and _is_tensors(inner):
            return _tensors(inner)
    raise CheckpointError(f"{path}: no weights of a model: it holds {_keys(saved)}", hint=STATE_DICT)


STATE_DICT = "Give a state dict of a Whisper, or openai-whisper's dims and model_state_dict"
WEIGHTS_ALONE = (
    "Save its weights where it was made: torch.save({'dims': vars(model.dims), 'model_state_dict': model.state_dict()}"
    ", FILE), or model.save_pretrained(FOLDER) for transformers"
)


def _is_tensors(content: Mapping[Any, Any]) -> bool:
    return any(_has_shape(tensor) and str(name).endswith(naming.FIRST) for name, tensor in content.items()) or (
        bool(content) and all(map(_has_shape, content.values()))
    )


def _tensors(content: Mapping[Any, Any]) -> Tensors:
    """What has a name and a shape; settings among the tensors are let go."""
    return {str(name): tensor for name, tensor in content.items() if _has_shape(tensor)}


def _has_shape(value: Any) -> bool:
    return hasattr(value, "untyped_storage")


def _kind(saved: Any) -> str:
    return "tensor" if _has_shape(saved) else type(saved).__name__


def _keys(saved: Mapping[Any, Any]) -> str:
    keys = [str(key)[:60] for key in saved]
    return f"the keys {', '.join(keys[:5])}{' ...' if len(keys) > 5 else ''}" if keys else "nothing"

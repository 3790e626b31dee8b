"""openai-whisper's own format, the one form that everything else here reads: {"dims", "model_state_dict"}.

What it has no place for stands under a key of our own, which openai-whisper does not look at: the vocabulary that the
ids are of, an output projection that is not the token embedding, what the file was read from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity.errors import OutputError, first_line
from whisper_parity.model import dims as dimensions
from whisper_parity.model.formats.weights import Weights
from whisper_parity.system.files import replacing

OWN = "whisper_parity"
"""Key of what openai-whisper's format has no place for."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What a converted checkpoint holds beyond openai-whisper's format."""

    vocabulary: int
    """See `Dims.vocabulary`."""
    note: str
    """For readers of the report."""
    projection: Any = None
    """torch.Tensor [n_vocab, n_text_state], where it is not the token embedding."""


def extras(saved: dict[str, Any]) -> Extras | None:
    """What a checkpoint that we converted holds beyond openai-whisper's format; None for any other."""
    own = saved.get(OWN)
    if not isinstance(own, dict) or type(own.get("vocabulary")) is not int:
        return None
    return Extras(own["vocabulary"], str(own.get("note", "")), own.get("projection"))


def write(weights: Weights, path: Path) -> None:
    """Write weights as openai-whisper's checkpoint, atomically, each tensor in the dtype that it came in.

    Raises:
        OutputError: the folder cannot be written.
    """
    import torch

    own = {
        "vocabulary": weights.dims.vocabulary,
        "note": note(weights),
        "projection": None if weights.projection is None else _alone(weights.projection),
    }
    state = {name: _alone(tensor) for name, tensor in weights.tensors.items()}
    content = {"dims": dimensions.stated(weights.dims), "model_state_dict": state, OWN: own}
    try:
        with replacing(path) as partial, partial.open("wb") as file:  # torch's own writer aborts on a full disk
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{path}: cannot be written ({first_line(error)})", hint="Choose another --cache") from error


def note(weights: Weights) -> str:
    """What readers of a report should know: the format, and what was let go or added."""
    return "; ".join((f"read from {weights.form}", *weights.notes) if weights.form else weights.notes)


def _alone(tensor: Any) -> Any:
    """A tensor that owns its bytes: torch would save the whole file that a part of it lies in."""
    tensor = tensor.detach()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()

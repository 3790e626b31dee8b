"""Names of Whisper's weights in other programs, and openai-whisper's names of the same.

Frameworks put prefixes in front ("model.", "module.", "student.model."), which are told by the one weight that every
Whisper has once: the encoder's first convolution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisper_parity.errors import CheckpointError
from whisper_parity.model.formats import assembling, shapes
from whisper_parity.model.formats.weights import Tensors

FIRST = "encoder.conv1.weight"
WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
"""Parts that torch.compile, DDP, FSDP, activation checkpointing and Fabric add to names."""
QUANTISED = re.compile(r"\.(scales|qweight|qzeros|SCB|absmax|quant_map|weight_format|_packed_params\S*|weight_packed)$")
"""Ends of the names that MLX, GPTQ, bitsandbytes, torch and compressed-tensors give to quantised weights' scales."""
PROJECTIONS = ("proj_out.weight", "lm_head.weight")
ADAPTERS = re.compile(r"lora_[AB]|lora_embedding|\.base_layer\.|hada_w|prompt_encoder|modules_to_save|ia3_")
"""Parts of the names that PEFT gives to adapters and to the layers that it wraps."""
PARTS = {"q": "query", "k": "key", "v": "value", "out": "out"}
HUGGING_FACE = (
    (r"\.layers\.(\d+)\.self_attn\.", r".blocks.\1.attn."),
    (r"\.layers\.(\d+)\.encoder_attn\.", r".blocks.\1.cross_attn."),
    (r"\.layers\.(\d+)\.self_attn_layer_norm\.", r".blocks.\1.attn_ln."),
    (r"\.layers\.(\d+)\.encoder_attn_layer_norm\.", r".blocks.\1.cross_attn_ln."),
    (r"\.layers\.(\d+)\.final_layer_norm\.", r".blocks.\1.mlp_ln."),
    (r"\.layers\.(\d+)\.fc1\.", r".blocks.\1.mlp.0."),
    (r"\.layers\.(\d+)\.fc2\.", r".blocks.\1.mlp.2."),
    (r"\.(q|k|v|out)_proj\.", lambda found: f".{PARTS[found[1]]}."),
    (r"^encoder\.layer_norm\.", "encoder.ln_post."),
    (r"^decoder\.layer_norm\.", "decoder.ln."),
    (r"\.embed_positions\.weight$", ".positional_embedding"),
    (r"^decoder\.embed_tokens\.", "decoder.token_embedding."),
)
"""transformers' names (modeling_whisper.py), in the order in which they are replaced."""
MLX = ((r"\.mlp1\.", ".mlp.0."), (r"\.mlp2\.", ".mlp.2."))
"""mlx-examples' names where they are not openai-whisper's."""
KEY_BIAS = re.compile(r"\.key\.bias$")


def openai(tensors: Tensors, path: Path) -> tuple[Tensors, str]:
    """The same tensors under openai-whisper's names, and whose names they had.

    Raises:
        CheckpointError: no Whisper, several of them, or an adapter that is not merged.
    """
    bare = {WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    _require_merged(bare, path)
    if scales := next((name for name in bare if QUANTISED.search(name)), None):
        raise CheckpointError(f"{path}: quantised weights: it holds {scales}", hint=shapes.SAVE_FLOATS)
    inner = _without_prefix(bare, path)
    if any(name.startswith("encoder.layers.") for name in inner):
        return _without_zeros({_renamed(name): tensor for name, tensor in inner.items()}), "Hugging Face"
    if _is_mlx(inner):
        return {_replaced(name, MLX): _turned(name, tensor) for name, tensor in inner.items()}, "MLX"
    return inner, "openai-whisper"


def _require_merged(tensors: Tensors, path: Path) -> None:
    if adapter := next((name for name in tensors if ADAPTERS.search(name)), None):
        raise CheckpointError(
            f"{path}: an adapter (LoRA, PEFT), not a whole model: it holds {adapter}",
            hint="Merge it into its base model: model.merge_and_unload().save_pretrained(FOLDER)",
        )


def _without_prefix(tensors: Tensors, path: Path) -> dict[str, Any]:
    prefixes = [name.removesuffix(FIRST) for name in tensors if re.search(rf"(^|\.){re.escape(FIRST)}$", name)]
    if not prefixes:
        raise CheckpointError(f"{path}: no Whisper: it holds {_some(tensors)}", hint="Give the checkpoint of a Whisper")
    if len(prefixes) > 1:
        raise CheckpointError(
            f"{path}: holds {len(prefixes)} models: {shapes.listed(prefixes)}", hint="Save one of them by itself"
        )
    prefix = prefixes[0]
    inner = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    outer = prefix.removesuffix("model.")
    for projection in PROJECTIONS:
        if (found := inner.pop(f"{outer}{projection}", inner.pop(projection, None))) is not None:
            inner[assembling.PROJECTION] = found
    return inner


def _some(tensors: Mapping[str, Any]) -> str:
    return shapes.listed(list(map(str, tensors))) or "nothing"


def _renamed(name: str) -> str:
    return _replaced(name, HUGGING_FACE) if name.startswith(("encoder.", "decoder.")) else name


def _replaced(name: str, pairs: Any) -> str:
    for old, new in pairs:
        name = re.sub(old, new, name)
    return name


def _without_zeros(tensors: dict[str, Any]) -> Tensors:
    """Without biases of the key that are zeros: some programs write them, and Whisper has none."""
    return {n: tensor for n, tensor in tensors.items() if not (KEY_BIAS.search(n) and not tensor.count_nonzero())}


def _is_mlx(tensors: Tensors) -> bool:
    """By its convolutions, which hold the width of 3 in the middle."""
    shape = list(getattr(tensors[FIRST], "shape", ()))
    return len(shape) == 3 and shape[1] == 3 and shape[2] != 3


def _turned(name: str, tensor: Any) -> Any:
    return tensor.transpose(1, 2).contiguous() if re.fullmatch(r"encoder\.conv[12]\.weight", name) else tensor

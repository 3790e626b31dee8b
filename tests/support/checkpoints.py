"""A tiny Whisper in the formats that people bring, written here by each format's own rules."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from whisper_parity.fixtures import scripted

State = dict[str, torch.Tensor]
N_STATE = 64
"""One head of Whisper's usual width: the heads can be told from the weights."""


def dims(**changes: int) -> dict[str, int]:
    """Dimensions of a tiny model, one head each."""
    usual = dict(vars(scripted.dimensions(n_state=N_STATE)))
    return {**usual, "n_audio_head": 1, "n_text_head": 1, **changes}


def state(**changes: int) -> State:
    """Random weights under openai-whisper's names."""
    from whisper.model import ModelDimensions

    return dict(scripted.model(ModelDimensions(**dims(**changes)), steps=4).state_dict())


def config(**changes: Any) -> dict[str, Any]:
    """transformers' config.json for it."""
    usual = dims()
    return {
        "model_type": "whisper", "d_model": usual["n_audio_state"], "num_mel_bins": usual["n_mels"],
        "encoder_layers": usual["n_audio_layer"], "decoder_layers": usual["n_text_layer"],
        "encoder_attention_heads": usual["n_audio_head"], "decoder_attention_heads": usual["n_text_head"],
        "max_source_positions": usual["n_audio_ctx"], "max_target_positions": usual["n_text_ctx"],
        "vocab_size": usual["n_vocab"], "activation_function": "gelu", "scale_embedding": False, **changes,
    }  # fmt: skip


HUGGING_FACE = {
    "blocks": "layers", "attn": "self_attn", "cross_attn": "encoder_attn", "attn_ln": "self_attn_layer_norm",
    "cross_attn_ln": "encoder_attn_layer_norm", "mlp_ln": "final_layer_norm", "ln_post": "layer_norm",
    "ln": "layer_norm", "query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj",
    "token_embedding": "embed_tokens",
}  # fmt: skip


def hugging_face_name(name: str) -> str:
    """transformers' name of a weight."""
    name = name.replace(".mlp.0.", ".fc1.").replace(".mlp.2.", ".fc2.")
    name = name.replace(".positional_embedding", ".embed_positions.weight")
    return "model." + ".".join(HUGGING_FACE.get(part, part) for part in name.split("."))


def hugging_face(weights: Mapping[str, torch.Tensor]) -> State:
    """The same weights under transformers' names."""
    return {hugging_face_name(name): tensor.contiguous() for name, tensor in weights.items()}


def folder(path: Path, weights: Mapping[str, torch.Tensor], **changes: Any) -> Path:
    """A folder as transformers saves it."""
    path.mkdir(parents=True, exist_ok=True)
    save_file(hugging_face(weights), path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(config(**changes)), "utf-8")
    return path


def sharded(path: Path, weights: Mapping[str, torch.Tensor], suffix: str = ".safetensors") -> Path:
    """A folder with its weights in two shards and an index."""
    path.mkdir(parents=True, exist_ok=True)
    named = hugging_face(weights)
    stem = {".safetensors": "model", ".bin": "pytorch_model"}[suffix]
    placed = {name: f"{stem}-0000{1 + ('decoder' in name)}-of-00002{suffix}" for name in named}
    for shard in sorted(set(placed.values())):
        part = {name: tensor for name, tensor in named.items() if placed[name] == shard}
        save_file(part, path / shard) if suffix == ".safetensors" else torch.save(part, path / shard)
    (path / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}), "utf-8")
    (path / "config.json").write_text(json.dumps(config()), "utf-8")
    return path


TYPES = {torch.float32: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.float16: 4, torch.bfloat16: 5}


TIED = {"decoder/projection/weight": "decoder/embeddings/weight"}


def ctranslate2(weights: Mapping[str, torch.Tensor]) -> bytes:
    """CTranslate2's model.bin, as its model_spec.py writes it."""
    return spec("WhisperSpec", variables_of(weights), TIED)


def variables_of(weights: Mapping[str, torch.Tensor], heads: int = 1) -> dict[str, torch.Tensor]:
    """CTranslate2's variables of a Whisper, by name."""
    variables: dict[str, torch.Tensor] = {
        "encoder/num_heads": torch.tensor(heads, dtype=torch.int16),
        "decoder/num_heads": torch.tensor(heads, dtype=torch.int16),
        "decoder/embeddings/weight": weights["decoder.token_embedding.weight"],
    }
    for conv in ("conv1", "conv2"):
        variables |= {f"encoder/{conv}/{part}": weights[f"encoder.{conv}.{part}"] for part in ("weight", "bias")}
    for side, norm in (("encoder", "ln_post"), ("decoder", "ln")):
        variables[f"{side}/position_encodings/encodings"] = weights[f"{side}.positional_embedding"]
        variables |= _norm(weights, f"{side}.{norm}", f"{side}/layer_norm")
        layers = {name.split(".")[2] for name in weights if name.startswith(f"{side}.blocks.")}
        for layer in sorted(layers, key=int):
            variables |= _layer(weights, f"{side}.blocks.{layer}", f"{side}/layer_{layer}")
    return variables


def spec(name: str, variables: Mapping[str, torch.Tensor], aliases: Mapping[str, str], version: int = 6) -> bytes:
    """Any model.bin."""
    content = struct.pack("<I", version) + _string(name) + struct.pack("<II", 3, len(variables))
    for key, tensor in variables.items():
        bits = tensor.contiguous().view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor.contiguous()
        data = bits.detach().numpy().tobytes()
        content += _string(key) + struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        content += struct.pack("<BI", TYPES[tensor.dtype], len(data)) + data
    content += struct.pack("<I", len(aliases))
    return content + b"".join(_string(alias) + _string(target) for alias, target in aliases.items())


def _string(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def _norm(weights: Mapping[str, torch.Tensor], source: str, target: str) -> State:
    return {f"{target}/gamma": weights[f"{source}.weight"], f"{target}/beta": weights[f"{source}.bias"]}


def _linear(weights: Mapping[str, torch.Tensor], sources: tuple[str, ...], target: str) -> State:
    stacked = [weights[f"{source}.weight"] for source in sources]
    biases = [weights.get(f"{source}.bias", torch.zeros(len(w), dtype=w.dtype)) for source, w in zip(sources, stacked)]
    return {f"{target}/weight": torch.cat(stacked), f"{target}/bias": torch.cat(biases)}


def _layer(weights: Mapping[str, torch.Tensor], block: str, layer: str) -> State:
    own, cross = f"{block}.attn", f"{block}.cross_attn"
    made = _linear(weights, (f"{own}.query", f"{own}.key", f"{own}.value"), f"{layer}/self_attention/linear_0")
    made |= _linear(weights, (f"{own}.out",), f"{layer}/self_attention/linear_1")
    made |= _norm(weights, f"{own}_ln", f"{layer}/self_attention/layer_norm")
    if f"{cross}.query.weight" in weights:
        made |= _linear(weights, (f"{cross}.query",), f"{layer}/attention/linear_0")
        made |= _linear(weights, (f"{cross}.key", f"{cross}.value"), f"{layer}/attention/linear_1")
        made |= _linear(weights, (f"{cross}.out",), f"{layer}/attention/linear_2")
        made |= _norm(weights, f"{cross}_ln", f"{layer}/attention/layer_norm")
    made |= _linear(weights, (f"{block}.mlp.0",), f"{layer}/ffn/linear_0")
    made |= _linear(weights, (f"{block}.mlp.2",), f"{layer}/ffn/linear_1")
    return made | _norm(weights, f"{block}.mlp_ln", f"{layer}/ffn/layer_norm")


def mlx(weights: Mapping[str, torch.Tensor], path: Path) -> Path:
    """mlx-examples' folder: convolutions turned, its own names of the perceptron, no positions of the encoder."""
    path.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name, tensor in weights.items():
        array = tensor.detach().numpy()
        name = name.replace(".mlp.0.", ".mlp1.").replace(".mlp.2.", ".mlp2.")
        arrays[name] = array.swapaxes(1, 2) if ".conv" in name and name.endswith("weight") else array
    del arrays["encoder.positional_embedding"]
    np.savez(path / "weights.npz", alignment_heads=np.zeros((1, 2), np.int64), **arrays)
    (path / "config.json").write_text(json.dumps({"model_type": "whisper", **dims()}), "utf-8")
    return path

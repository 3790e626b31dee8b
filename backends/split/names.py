"""File names of converted models, as users know them."""

from __future__ import annotations

from whisper_parity.model.checkpoint import Checkpoint

TOKEN_EMBEDDING = "token_embedding.npy"
POSITION_EMBEDDING = "position_embedding.npy"
EMBEDDING_INFO = "embedding_info.json"
MODEL_CONFIG = "model_config.json"
KV = "kv"
"""The variant of a backend whose decoder has a KV cache."""


def torchscript_names(checkpoint: Checkpoint) -> dict[str, str]:
    """encoder_base_3000.pt, decoder_base_448.pt, ..."""
    name, dims = checkpoint.name, checkpoint.dims
    return {
        "encoder": f"encoder_{name}_{dims.n_frames}.pt",
        "decoder": f"decoder_{name}_{dims.n_text_ctx}.pt",
        "token_embedding": TOKEN_EMBEDDING,
        "embedding_info": EMBEDDING_INFO,
        "metadata": f"whisper_{name}_metadata.json",
    }


def tflite_names(checkpoint: Checkpoint, variant: str) -> dict[str, str]:
    """encoder_base_80x3000.tflite, decoder_base_448.tflite, ..., with "_int8" before the suffix for a variant."""
    name, dims = checkpoint.name, checkpoint.dims
    tail = f"_{variant}.tflite" if variant else ".tflite"
    return {
        "encoder": f"encoder_{name}_{dims.n_mels}x{dims.n_frames}{tail}",
        "decoder": f"decoder_{name}_{dims.n_text_ctx}{tail}",
        "token_embedding": TOKEN_EMBEDDING,
    }


def dla_names(checkpoint: Checkpoint, target: str) -> dict[str, str]:
    """encoder_base_80x3000_MT8371.dla, decoder_base_448_MT8371.dla, ..."""
    name, dims = checkpoint.name, checkpoint.dims
    return {
        "encoder": f"encoder_{name}_{dims.n_mels}x{dims.n_frames}_{target}.dla",
        "decoder": f"decoder_{name}_{dims.n_text_ctx}_{target}.dla",
        "token_embedding": TOKEN_EMBEDDING,
        "compilation": f"compilation_{name}_{target}.json",
    }


def cached_names(checkpoint: Checkpoint, suffix: str) -> dict[str, str]:
    """encoder_base_80x3000_kv.pt, decoder_base_448_kv.pt, ... of a decoder with a KV cache, and its two tables."""
    name, dims = checkpoint.name, checkpoint.dims
    return {
        "encoder": f"encoder_{name}_{dims.n_mels}x{dims.n_frames}_{KV}{suffix}",
        "decoder": f"decoder_{name}_{dims.n_text_ctx}_{KV}{suffix}",
        "token_embedding": TOKEN_EMBEDDING,
        "position_embedding": POSITION_EMBEDDING,
        "embedding_info": EMBEDDING_INFO,
        "model_config": MODEL_CONFIG,
    }

"""File names of converted models, as users know them."""

from __future__ import annotations

from whisper_parity.model.checkpoint import Checkpoint

TOKEN_EMBEDDING = "token_embedding.npy"
EMBEDDING_INFO = "embedding_info.json"


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

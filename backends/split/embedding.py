"""The token embedding as a file beside the halves, and the metadata for users' programs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.constants import Constant
from whisper_parity.backend.contract import Float32
from whisper_parity.backends.split.interface import padded
from whisper_parity.backends.split.names import (
    EMBEDDING_INFO,
    MODEL_CONFIG,
    POSITION_EMBEDDING,
    TOKEN_EMBEDDING,
    cached_names,
    tflite_names,
    torchscript_names,
)  # fmt: skip
from whisper_parity.errors import ArtifactError, first_line
from whisper_parity.model.checkpoint import Checkpoint, read
from whisper_parity.model.dims import Dims
from whisper_parity.system import inputs

TABLE_TYPES = (np.float32, np.float16)
IS_IT = "Is it the {} of the given checkpoint?"


class TokenEmbedding:
    """A table beside the halves, memory-mapped, for the lookup outside the graph: token embedding or positions."""

    def __init__(self, path: Path, dims: Dims, role: str = "token_embedding") -> None:
        """Map the table, float32 or float16 [n, n_text_state]; a padded vocabulary has further rows.

        Args:
            path: the file.
            dims: of the checkpoint.
            role: "token_embedding" (n is n_vocab) or "position_embedding" (n is n_text_ctx, or more).

        Raises:
            ArtifactError: not a .npy file of that shape.
        """
        self._table = _map(path)
        self._n_ctx = dims.n_text_ctx
        tokens = role == "token_embedding"
        count, name = (dims.n_vocab, "token embedding") if tokens else (dims.n_text_ctx, "table of positions")
        expected, shape = (count, dims.n_text_state), self._table.shape
        is_long = shape[:1] in [(n,) for n in padded(count)] if tokens else shape[:1] >= (count,)
        if self._table.dtype not in TABLE_TYPES or shape[1:] != expected[1:] or not is_long:
            raise ArtifactError(
                f"{path}: expected float32 {list(expected)}, found {self._table.dtype} {list(shape)}",
                hint="It is transposed: save table.T" if shape == expected[::-1] else IS_IT.format(name),
            )
        self.notes = tuple(_table_notes(path.name, self._table, count, "vocabulary" if tokens else "cache"))

    def lookup(self, tokens: Sequence[int], count: int | None = None) -> Float32:
        """Embeddings float32 [1, count, n_text_state], by default of the whole context; zero behind the last token."""
        embeddings = np.zeros((1, count or self._n_ctx, self._table.shape[1]), np.float32)
        embeddings[0, : len(tokens)] = self._table[list(tokens)]
        return embeddings


def filled(tokens: Sequence[int], table: TokenEmbedding | None, count: int) -> Float32:
    """Tokens as a decoder takes them: embeddings float32 [1, count, n_text_state], or without a table ids [1, count].

    Behind the last token are zeros, as on a device: the decoder is causal. Ids are whole numbers in float32, which
    holds every id exactly, until they reach the file's own type.
    """
    if table is not None:
        return table.lookup(tokens, count)
    ids = np.zeros((1, count), np.float32)
    ids[0, : len(tokens)] = tokens
    return ids


def _table_notes(name: str, table: NDArray[Any], count: int, what: str) -> Iterator[str]:
    if table.dtype != np.float32:
        yield f"{name} is {table.dtype}: looked up as float32"
    if len(table) > count:
        yield f"{name} has {len(table)} rows: those behind the {what} of {count} are not used"


def _map(path: Path) -> NDArray[Any]:
    inputs.require_regular(path, inputs.MODEL_BYTES, ArtifactError)
    try:
        with np.errstate(over="ignore"):  # a header may claim a size that overflows
            table = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python: bad bytes may raise anything
        if "allow_pickle" in str(error):  # its advice would run the file's code
            raise ArtifactError(
                f"{path}: not a .npy table (it holds no numbers)", hint="Build or copy it again"
            ) from error
        raise ArtifactError(f"{path}: not a .npy table ({first_line(error)})", hint="Build or copy it again") from error
    if not isinstance(table, np.ndarray):
        raise ArtifactError(f"{path}: not a .npy table (an archive of several)", hint="Build or copy it again")
    return table


def constant(path: Path) -> Constant:
    """A table beside the halves as a constant under its file's name: token embedding, positions.

    Raises:
        ArtifactError: not a .npy file of numbers.
    """
    table = _map(path)
    return Constant(path.name, str(table.dtype), table, names=(path.stem,))


def write_table(table: Float32, path: Path) -> None:
    """Write a table, float32 [n, n_text_state], as .npy."""
    content = np.ascontiguousarray(table, dtype=np.float32)
    with path.open("wb") as file:  # np.save does not say that the disk is full
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(content))
        file.write(content.data)


def write_token_embedding(table: Float32, out: Path) -> None:
    """Write token_embedding.npy (float32 [n_vocab, n_text_state]) and embedding_info.json."""
    write_table(table, out / TOKEN_EMBEDDING)
    info = {
        "vocab_size": table.shape[0],
        "embedding_dim": table.shape[1],
        "token_embedding_file": TOKEN_EMBEDDING,
        "dtype": "float32",
        "notes": "Token embedding weights for manual lookup (GATHER not supported)",
    }
    _write_json(out / EMBEDDING_INFO, info)


def write_of_checkpoint(checkpoint: Checkpoint, out: Path) -> None:
    """Write a checkpoint's token embedding into `out`, with its information."""
    table = read(checkpoint.path)["model_state_dict"]["decoder.token_embedding.weight"]
    write_token_embedding(table.float().numpy(), out)


def write_of_cached(checkpoint: Checkpoint, out: Path) -> None:
    """Write what lies beside a decoder with a KV cache: both tables, embedding_info.json and model_config.json.

    They are the same beside TorchScript and TFLite files, which may lie in one folder.
    """
    dims = checkpoint.dims
    write_of_checkpoint(checkpoint, out)
    positions = read(checkpoint.path)["model_state_dict"]["decoder.positional_embedding"]
    write_table(positions.float().numpy(), out / POSITION_EMBEDDING)
    config = {
        "model_name": checkpoint.name,
        "n_mels": dims.n_mels,
        "d_model": dims.n_text_state,
        "num_decoder_layers": dims.n_text_layer,
        "vocab_size": dims.n_vocab,
        "max_cache_len": dims.n_text_ctx,
        **{
            f"{role}_{kind}": cached_names(checkpoint, suffix)[role]
            for kind, suffix in (("torchscript", ".pt"), ("tflite", ".tflite")) for role in ("encoder", "decoder")
        },
    }  # fmt: skip
    _write_json(out / MODEL_CONFIG, config)


def write_metadata(checkpoint: Checkpoint, out: Path) -> None:
    """Write whisper_<name>_metadata.json with the checkpoint's dimensions under the keys of users' programs."""
    dims, names, tflite = checkpoint.dims, torchscript_names(checkpoint), tflite_names(checkpoint, "")
    encoder_output = [1, dims.n_audio_ctx, dims.n_audio_state]
    metadata = {
        "model_name": f"whisper-{checkpoint.name}",
        "model_type": "encoder-decoder",
        "audio_duration_sec": 30,
        "encoder": {
            "input_shape": [1, dims.n_mels, dims.n_frames],
            "output_shape": encoder_output,
            "n_mels": dims.n_mels,
            "n_ctx": dims.n_audio_ctx,
            "n_state": dims.n_audio_state,
            "n_head": dims.n_audio_head,
            "n_layer": dims.n_audio_layer,
            "file": names["encoder"],
        },
        "decoder": {
            "input_embedding_shape": [1, dims.n_text_ctx, dims.n_text_state],
            "input_encoder_shape": encoder_output,
            "output_shape": [1, dims.n_text_ctx, dims.n_vocab],
            "n_vocab": dims.n_vocab,
            "n_ctx": dims.n_text_ctx,
            "n_state": dims.n_text_state,
            "n_head": dims.n_text_head,
            "n_layer": dims.n_text_layer,
            "file": names["decoder"],
        },
        "embedding": {
            "vocab_size": dims.n_vocab,
            "embedding_dim": dims.n_text_state,
            "token_embedding_file": TOKEN_EMBEDDING,
            "info_file": EMBEDDING_INFO,
        },
        "files": {
            "encoder_torchscript": names["encoder"],
            "decoder_torchscript": names["decoder"],
            "encoder_tflite": tflite["encoder"],
            "decoder_tflite": tflite["decoder"],
            "token_embedding": TOKEN_EMBEDDING,
            "embedding_info": EMBEDDING_INFO,
        },
        "notes": ["The decoder takes embeddings, not token ids", "No KV cache: one row of logits per position"],
        "checkpoint_sha256": checkpoint.sha256,
    }
    _write_json(out / names["metadata"], metadata)


def link_or_copy_token_embedding(parent: Artifact, out: Path) -> None:
    """Put the parent's token_embedding.npy into `out`: a hard link if the file system can, else a copy."""
    link_or_copy(parent.path("token_embedding"), out / TOKEN_EMBEDDING)


def link_or_copy(source: Path, target: Path) -> None:
    """Have a file under another name: a hard link if the file system can, else a copy."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")

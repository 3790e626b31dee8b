"""Which of openai-whisper's vocabularies a checkpoint's ids are of, where tokens were added to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from whisper_parity.errors import CheckpointError
from whisper_parity.model.dims import Dims
from whisper_parity.model.vocabulary import ENGLISH_ONLY, LARGE_V3, MULTILINGUAL
from whisper_parity.system import inputs

NO_TIMESTAMPS = "<|notimestamps|>"
OF_NO_TIMESTAMPS = {50362: ENGLISH_ONLY, 50363: MULTILINGUAL, 50364: LARGE_V3}
"""The token's id in each vocabulary: the languages before it shift it by one."""
FILES = ("generation_config.json", "added_tokens.json", "tokenizer_config.json", "vocabulary.json", "vocabulary.txt")
"""Beside the weights: any of them may name that token's id."""
ENGLISH_ENDS = {"bos_token_id": 50257, "eos_token_id": 50256}
"""Of English-only models in transformers' configuration; its defaults, which no model has, are 50256 and 50256."""
HINT = "Mend the file, or take it out of the folder"


def evidence(folder: Path) -> tuple[Path, ...]:
    """The files of a folder that may name a vocabulary."""
    return tuple(folder / name for name in FILES if (folder / name).is_file())


def vocabulary(dims: Dims, files: tuple[Path, ...], config: Mapping[str, Any], path: Path) -> int:
    """Size of the vocabulary that the ids are of.

    By the id of "<|notimestamps|>" in a file beside the weights, else by start and end in config.json, else by the
    number of mel bands (128 came with large-v3), where an English-only model has 51864 rows or is called "... .en".

    Args:
        dims: the model's; its n_vocab counts the rows of the token embedding.
        files: what `evidence` found.
        config: config.json; empty without one.
        path: of the checkpoint.

    Raises:
        CheckpointError: a file that cannot be read, or fewer rows than Whisper's smallest vocabulary has.
    """
    ids = (no_timestamps_id(file) for file in files)
    known = next((OF_NO_TIMESTAMPS[number] for number in ids if number in OF_NO_TIMESTAMPS), None)
    if known is None:
        is_english = ENGLISH_ENDS.items() <= config.items() or _is_english(dims.n_vocab, path)
        is_large = dims.n_mels == 128 and dims.n_vocab >= LARGE_V3
        known = ENGLISH_ONLY if is_english else LARGE_V3 if is_large else MULTILINGUAL
    if dims.n_vocab < known:
        raise CheckpointError(
            f"{path}: n_vocab is {dims.n_vocab}",
            hint="Whisper's vocabularies are 51864, 51865 and 51866; with added tokens they have more rows",
        )
    return known


def _is_english(n_vocab: int, path: Path) -> bool:
    """By the number of rows; one that no published model has, by the name."""
    if n_vocab in (ENGLISH_ONLY, MULTILINGUAL, LARGE_V3):
        return n_vocab == ENGLISH_ONLY
    return bool(re.search(r"\.en\b", path.name))


def no_timestamps_id(file: Path) -> int | None:
    """The id of "<|notimestamps|>" by a file of `FILES`; None where it does not say.

    Raises:
        CheckpointError: it cannot be read.
    """
    if file.suffix == ".txt":
        lines = inputs.read_text(file, kind=CheckpointError, hint=HINT).split("\n")
        return lines.index(NO_TIMESTAMPS) if NO_TIMESTAMPS in lines else None
    content = inputs.read_json(file, CheckpointError, hint=HINT)
    if isinstance(content, list):
        return content.index(NO_TIMESTAMPS) if NO_TIMESTAMPS in content else None
    if not isinstance(content, dict):
        return None
    number = content.get("no_timestamps_token_id", content.get(NO_TIMESTAMPS, _decoded(content)))
    return number if type(number) is int else None


def _decoded(content: Mapping[str, Any]) -> int | None:
    """The id in the table that transformers writes into tokenizer_config.json."""
    table = content.get("added_tokens_decoder")
    entries = table.items() if isinstance(table, dict) else ()
    ids = (key for key, entry in entries if isinstance(entry, dict) and entry.get("content") == NO_TIMESTAMPS)
    found = next(ids, "")
    return int(found) if found.isdecimal() else None


def added(n_vocab: int, size: int) -> Iterator[str]:
    """What a reader should know of ids beyond the vocabulary."""
    if n_vocab > size:
        count = n_vocab - size
        yield f"{count} added id{'s' if count > 1 else ''} without text behind Whisper's vocabulary of {size}"

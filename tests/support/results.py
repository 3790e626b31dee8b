"""Result files of other programs, made by hand: texts encoded in a vocabulary, and written as their programs do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whisper_parity.model import vocabulary
from whisper_parity.model.vocabulary import ENGLISH_ONLY, LARGE_V3, MULTILINGUAL

SIZES = (ENGLISH_ONLY, MULTILINGUAL, LARGE_V3)
FIRST = " The committee met on Thursday to discuss the budget."
SECOND = " Nobody could agree on the final figure, so they adjourned."
THIRD = " They will meet again next week."
WHOLE = FIRST + SECOND + THIRD
TIMES = ((0.0, 4.2), (4.2, 8.8), (10.0, 12.5))
"""Of the three: a boundary, then a pause."""


def encode(text: str, n_vocab: int = MULTILINGUAL) -> list[int]:
    return list(vocabulary.tokenizer(n_vocab).encoding.encode(text))


def timestamp(seconds: float, n_vocab: int = MULTILINGUAL) -> int:
    return vocabulary.timestamp_begin(n_vocab) + round(seconds / 0.02)


def prompt(n_vocab: int = MULTILINGUAL, language: str = "en", task: str = "transcribe") -> list[int]:
    """The whole prompt, without timestamps."""
    words = vocabulary.tokenizer(n_vocab)
    if n_vocab == ENGLISH_ONLY:
        return [words.sot, words.no_timestamps]
    spoken = words.all_language_tokens[words.all_language_codes.index(language)]
    return [words.sot, spoken, getattr(words, task), words.no_timestamps]


def eot(n_vocab: int = MULTILINGUAL) -> int:
    return int(vocabulary.tokenizer(n_vocab).eot)


def segments(n_vocab: int = MULTILINGUAL, texts: Sequence[str] = (FIRST, SECOND, THIRD)) -> list[dict[str, Any]]:
    """As openai-whisper writes them."""
    return [
        {"id": i, "seek": 0, "start": start, "end": end, "text": text,
         "tokens": [timestamp(start, n_vocab), *encode(text, n_vocab), timestamp(end, n_vocab)]}
        for i, (text, (start, end)) in enumerate(zip(texts, TIMES))
    ]  # fmt: skip


def transcribed(n_vocab: int = MULTILINGUAL, language: str = "en", **fields: Any) -> dict[str, Any]:
    """The result of `whisper.transcribe` on three sentences."""
    return {"text": WHOLE, "segments": segments(n_vocab), "language": language, **fields}


def ported(text: str, n_vocab: int = MULTILINGUAL, language: str = "en", **fields: Any) -> dict[str, Any]:
    """The result of a port: prompt, text, end-of-text."""
    ids = [*prompt(n_vocab, language), *encode(text, n_vocab), eot(n_vocab)]
    return {"text": text.strip(), "tokens": ids, "language": language, **fields}


def write(folder: Path, name: str, content: Any) -> Path:
    """A file with bytes, a text, or a value as JSON."""
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path

"""openai-whisper's vocabularies, identified by their size."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

ENGLISH_ONLY, MULTILINGUAL, LARGE_V3 = 51864, 51865, 51866


def is_multilingual(n_vocab: int) -> bool:
    """Whether the vocabulary has language tokens: 51865 entries and more."""
    return n_vocab >= MULTILINGUAL


def num_languages(n_vocab: int) -> int:
    """99 languages, or 100 from large-v3 on (openai-whisper's model.py)."""
    return n_vocab - 51765 - int(is_multilingual(n_vocab))


@lru_cache(maxsize=32)
def tokenizer(n_vocab: int, language: str | None = None) -> Any:
    """openai-whisper's tokenizer for this vocabulary."""
    from whisper.tokenizer import get_tokenizer

    return get_tokenizer(
        is_multilingual(n_vocab), num_languages=num_languages(n_vocab), language=language or "en", task="transcribe"
    )


def token_text(n_vocab: int, tokens: Sequence[int]) -> str:
    """The text of tokens, special and added ones by name, bytes of a broken character as U+FFFD."""
    return token_bytes(n_vocab, tokens).decode("utf-8", "replace")


def token_bytes(n_vocab: int, tokens: Sequence[int]) -> bytes:
    """The UTF-8 bytes of tokens; they may begin or end inside a character. An id that was added is "<|51866|>"."""
    if not tokens:
        return b""
    encoding = tokenizer(n_vocab).encoding
    return b"".join(
        encoding.decode_single_token_bytes(token) if token < encoding.n_vocab else f"<|{token}|>".encode()
        for token in tokens
    )


def whole_characters(n_vocab: int, tokens: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Spans [start, end) of tokens that end where a character does; tokens that share a character form one span."""
    spans, start, decoder = [], 0, getincrementaldecoder("utf-8")("replace")
    for end, token in enumerate(tokens, 1):
        decoder.decode(token_bytes(n_vocab, [token]))
        if decoder.getstate()[0] and end < len(tokens):
            continue
        spans.append((start, end))
        start = end
    return tuple(spans)


def spoken(n_vocab: int, tokens: Sequence[int]) -> tuple[int, ...]:
    """The text tokens, without specials and timestamps."""
    eot = tokenizer(n_vocab).eot
    return tuple(token for token in tokens if token < eot)


def eot_of(n_vocab: int) -> int:
    """The end-of-text token."""
    return int(tokenizer(n_vocab).eot)


def timestamp_begin(n_vocab: int) -> int:
    """The first timestamp token."""
    return int(tokenizer(n_vocab).timestamp_begin)


def first_unknown(n_vocab: int, tokens: Sequence[int]) -> int | None:
    """The first token outside this vocabulary; None when all are inside."""
    return next((token for token in tokens if not 0 <= token < n_vocab), None)

"""Result files of other programs: openai-whisper's transcribe output, and token lists of a port."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity.compare import comparison
from whisper_parity.compare.normalise import compare_texts
from whisper_parity.compare.text import TextDiff
from whisper_parity.compare.token import TokenDiff
from whisper_parity.errors import RecordError
from whisper_parity.model import vocabulary


@dataclass(frozen=True, slots=True)
class Result:
    """One program's result on a clip."""

    name: str
    text: str
    timestamped_tokens: tuple[int, ...]
    """Text and timestamps, without prompt and end-of-text."""
    language: str | None


@dataclass(frozen=True, slots=True)
class ResultComparison:
    """Two results, compared; no tensors, so no verdict beyond equal or not."""

    reference: Result
    candidate: Result
    tokens: TokenDiff
    text: TextDiff
    edits_at_boundaries: tuple[int, ...]
    """Indices of the token edits exactly at a pair of the reference's timestamps."""

    @property
    def exit_code(self) -> int:
        """0 when tokens and texts are equal, 1 otherwise."""
        return 0 if self.tokens.equal and self.text.equal else 1


def compare_files(reference: Path, candidate: Path, n_vocab: int = vocabulary.MULTILINGUAL) -> ResultComparison:
    """Compare two result files.

    Raises:
        RecordError: one of them is not a result file, or holds tokens beyond the vocabulary.
    """
    first, second = read(reference, n_vocab), read(candidate, n_vocab)
    spoken = [vocabulary.spoken(n_vocab, result.timestamped_tokens) for result in (first, second)]
    tokens = comparison.token_diff(spoken[0], spoken[1], n_vocab)
    boundaries = comparison.timestamp_pairs(first.timestamped_tokens, n_vocab)
    text = compare_texts(reference=first.text, hypothesis=second.text, language=first.language or second.language)
    return ResultComparison(first, second, tokens, text, comparison.edits_at(tokens, boundaries))


def read(path: Path, n_vocab: int) -> Result:
    """Read {"text", "segments": [{"tokens"}]} or {"text", "tokens"}.

    Raises:
        RecordError: neither of the two.
    """
    content = _content(path)
    text, tokens = content.get("text"), _tokens(content, path)
    if not isinstance(text, str):
        raise RecordError(f'{path}: no "text" in it', hint="Give a transcribe result, or one with text and tokens")
    if (unknown := vocabulary.first_unknown(n_vocab, tokens)) is not None:
        raise RecordError(f"{path}: token {unknown} is outside a vocabulary of {n_vocab}", hint="Give --n-vocab")
    words = vocabulary.tokenizer(n_vocab)
    kept = tuple(token for token in tokens if token < words.eot or token >= words.timestamp_begin)
    language = content.get("language") or content.get("language_detected")
    return Result(path.name, text, kept, language if isinstance(language, str) else None)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(
            f"{path}: not a JSON result file ({error})", hint="Give two JSON results, or two runs"
        ) from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _tokens(content: dict[str, Any], path: Path) -> list[int]:
    segments = content.get("segments")
    parts = [s.get("tokens") if isinstance(s, dict) else None for s in segments] if isinstance(segments, list) else None
    lists = [content.get("tokens")] if parts is None else parts
    if not all(isinstance(part, list) and all(type(token) is int for token in part) for part in lists):
        raise RecordError(f'{path}: no token list in "tokens" or "segments"', hint="Save the token ids with the text")
    return [token for part in lists if part for token in part]

"""When the reference's tokens are spoken: by its cross-attention where it has tensors, else by its segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.errors import ParityError
from whisper_parity.model import checkpoint, vocabulary
from whisper_parity.report.html.recorded import Recorded
from whisper_parity.trace.trace import FRAMES_PER_SECOND, Trace, WindowTrace

MOST = 60
"""Clips that are listened to again for their times; each costs one pass of the decoder."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Times:
    """When what a reference says is spoken [s]."""

    source: str
    """"cross-attention", "segments", or "" where nothing is known."""
    steps: dict[tuple[int, int], Span]
    """(start, end) by (window, step) of its teacher-forced tokens; empty for segments."""
    characters: tuple[float, ...]
    """Start of each character of its text, blanks left out."""

    def second(self, characters: int) -> float | None:
        """When the text goes on behind so many characters, blanks left out; None where nothing is known."""
        return self.characters[min(characters, len(self.characters) - 1)] if self.characters else None

    def start(self, step: tuple[int, int]) -> float | None:
        """When the token of a (window, step) begins; None for what is not spoken, and where nothing is known."""
        return self.steps[step][0] if step in self.steps else None


UNKNOWN = Times("", {}, ())


class Clock:
    """Times of a run's clips; its checkpoint is loaded for the first of them, and for none where none is asked."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self._model: Any = None
        self._left = MOST

    def times(self, reference: Trace | None) -> Times:
        """Times of what a reference says."""
        if reference is None:
            return UNKNOWN
        if not reference.windows or self._left <= 0 or not self._loaded():
            return by_segments(reference)
        self._left -= 1
        try:
            return by_attention(reference, self._model)
        except (
            RuntimeError,
            IndexError,
            KeyError,
            ValueError,
        ):  # ids that the table does not have, a window of silence
            return by_segments(reference)

    def _loaded(self) -> bool:
        """Load the run's checkpoint once; False where it is not there any more, or another one is."""
        if self._model is None:
            self._model = _load(self._recorded) or False
        return self._model is not False


def by_attention(reference: Trace, model: Any) -> Times:
    """Times by openai-whisper's `timing.find_alignment` (warped cross-attention), no encoder run again.

    Args:
        reference: with tensors: its encoder output is what the decoder attends to.
        model: openai-whisper's, of the checkpoint that the reference has its weights of.
    """
    steps: dict[tuple[int, int], Span] = {}
    characters: list[float] = []
    for window in reference.windows:
        offset = window.header.index * reference.header.window_s
        words = list(_words(window, reference, model, offset))
        steps |= {(window.header.index, step): (start, end) for place, _, start, end in words for step in place}
        characters += [start for _, text, start, _ in words for letter in text if not letter.isspace()]
        if words:  # what would follow them begins where they end
            steps[window.header.index, len(window.header.forced_tokens)] = (words[-1][3], words[-1][3])
    said = sum(not letter.isspace() for letter in reference.header.text)
    return Times("cross-attention", steps, tuple(characters) if len(characters) == said else ())


def by_segments(reference: Trace) -> Times:
    """Times by the segments that a stage gave itself, their characters spread evenly."""
    characters: list[float] = []
    for start, end, text in reference.header.segments:
        count = sum(not letter.isspace() for letter in text)
        characters += [start + (end - start) * i / count for i in range(count)]
    return Times("segments", {}, tuple(characters)) if characters else UNKNOWN


def _words(
    window: WindowTrace, reference: Trace, model: Any, offset: float
) -> Iterator[tuple[list[int], str, float, float]]:
    """(steps, text, start [s], end [s]) of each word."""
    from whisper import timing

    header = reference.header
    tokenizer = vocabulary.tokenizer(header.vocabulary, header.language)
    places = [i for i, token in enumerate(window.header.forced_tokens) if token < tokenizer.eot]
    tokens = [window.header.forced_tokens[i] for i in places]
    left = min(header.audio_s - offset, header.window_s)
    if not tokens or left <= 0:
        return
    frames = max(2, round(left * FRAMES_PER_SECOND))
    found = timing.find_alignment(_Listening(model), tokenizer, tokens, _tensor(window.encoder_output[0]), frames)
    at = 0
    for word in found:
        end = at + len(word.tokens)
        yield places[at:end], word.word, offset + float(word.start), offset + float(word.end)
        at = end


class _Listening:
    """A model whose encoder has run already: what stands for the features is the encoder output."""

    def __init__(self, model: Any) -> None:
        self.decoder, self.device = model.decoder, model.device
        self.alignment_heads, self.dims = model.alignment_heads, model.dims

    def __call__(self, encoder_output: Any, tokens: Any) -> Any:
        return self.decoder(tokens, encoder_output)


def _tensor(array: NDArray[np.float32]) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


def _load(recorded: Recorded) -> Any:
    """The run's checkpoint as openai-whisper's model; None where it cannot be had."""
    options = recorded.options
    if options is None:
        return None
    try:
        found = checkpoint.resolve(options.checkpoint, options.cache)
        if found.sha256 != recorded.report.checkpoint_sha256:
            return None
        return _openai(found.path)
    except (ParityError, OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError):
        return None  # the times are a convenience; whatever is wrong with the file, the run has said it


def _openai(path: Path) -> Any:
    import whisper

    return whisper.load_model(str(path), device="cpu").eval()


def places_of(units: Sequence[str]) -> list[int]:
    """Characters in front of each unit and of the end, blanks left out."""
    return list(accumulate((sum(not letter.isspace() for letter in unit) for unit in units), initial=0))

"""Does a front end alone change the text? Its features through the root's own encoder and decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whisper_parity.backend.contract import Float32, Halves
from whisper_parity.backend.facets import Drafting
from whisper_parity.clips import features
from whisper_parity.compare.front_end.difference import FrontEndDiff
from whisper_parity.compare.tensor import FloatArray
from whisper_parity.decode import loop
from whisper_parity.decode.policy import Policy, concrete
from whisper_parity.errors import UsageError
from whisper_parity.explain import differences
from whisper_parity.explain.explanation import Change
from whisper_parity.model import vocabulary
from whisper_parity.model.dims import Dims
from whisper_parity.trace.record import detect_language

MARKS = {",": "the comma", "、": "the comma", "，": "the comma", ".": "the full stop", "。": "the full stop"}
MARKS |= {"?": "the question mark", "？": "the question mark", "!": "the exclamation mark"}


@dataclass(frozen=True, slots=True)
class Heard:
    """What the root makes of input features."""

    text: str
    tokens: tuple[int, ...]
    """Without prompt and end-of-text, timestamps included."""
    ended: str
    """One of `decode.loop.ENDS`."""
    language: str


@dataclass(frozen=True, slots=True)
class FrontEndEffect:
    """Two sets of input features through the same encoder and decoder."""

    reference: Heard
    """Of openai-whisper's features."""
    candidate: Heard
    """Of the stage's."""
    changes: tuple[Change, ...]
    """What differs: all of it by the front end alone."""

    @property
    def sentence(self) -> str:
        """What the front end alone does, in words."""
        if not self.changes:
            return "the front end alone changes nothing: the same tokens come out"
        if self.reference.text == self.candidate.text:
            return "the front end alone changes tokens, but not the text"
        return f"the front end alone {', '.join(dict.fromkeys(map(_done, self.changes)))}"


def text_of(session: Halves, policy: Policy, dims: Dims, language: str | None, input_features: Float32) -> Heard:
    """Decode input features by a session's own encoder and decoder.

    Args:
        session: the root's.
        policy: decode policy.
        dims: of the checkpoint.
        language: Whisper code; None to detect it.
        input_features: float32 [1, n_mels, n_frames].
    """
    encoder_output = session.encode(input_features)
    code = language or detect_language(session, dims, encoder_output)
    plan = concrete(policy, dims, code)
    draft = session.greedy(encoder_output, plan.options) if isinstance(session, Drafting) else []
    decoded = loop.decode(session, plan, encoder_output, draft)
    spoken = vocabulary.spoken(dims.vocabulary, decoded.tokens)
    return Heard(vocabulary.token_text(dims.vocabulary, spoken).strip(), decoded.tokens, decoded.ended, code)


def effect(
    session: Halves, policy: Policy, dims: Dims, language: str | None, reference: Float32, candidate: Float32
) -> FrontEndEffect:
    """What a front end alone changes.

    Args:
        session: the root's.
        policy: decode policy.
        dims: of the checkpoint.
        language: Whisper code; None for the one that is detected from the reference.
        reference: openai-whisper's input features, float32 [1, n_mels, n_frames].
        candidate: the stage's, of the same shape.
    """
    ours = text_of(session, policy, dims, language, reference)
    theirs = text_of(session, policy, dims, ours.language, candidate)
    changes = differences.changes(ours.tokens, theirs.tokens, dims.vocabulary, ours.language)
    return FrontEndEffect(ours, theirs, tuple(changes))


def pair(candidate: FloatArray, sound: Path, diff: FrontEndDiff, dims: Dims) -> tuple[Float32, Float32]:
    """Openai-whisper's input features of a window and a stage's, as an encoder takes them.

    Args:
        candidate: the stage's, of a shape that `measure` compares.
        sound: the file that it was given.
        diff: how they were measured.
        dims: of the checkpoint.

    Raises:
        UsageError: the checkpoint does not take such features, or they are not finite.
    """
    expected = (1, dims.n_mels, 2 * dims.n_audio_ctx)
    if diff.expected != expected or diff.whole_db is None:
        reason = "values are not finite" if diff.nonfinite else f"found {list(diff.shape)}"
        raise UsageError(
            f"--checkpoint: its encoder takes features {list(expected)}, {reason}", hint="Leave --checkpoint out"
        )
    ours = features.compute(sound, dims.n_mels, n_frames=expected[2]).windows[diff.window].input_features
    return ours, np.array(candidate, np.float32).reshape(expected)


def _done(change: Change) -> str:
    if change.edit_class == "punctuation" and change.mark:
        return _punctuated(change)
    if not change.candidate_text:
        return f"loses {change.reference_text!r}"
    if not change.reference_text:
        return f"adds {change.candidate_text!r}"
    return f"makes {change.candidate_text!r} of {change.reference_text!r}"


def _punctuated(change: Change) -> str:
    before, after = (
        [mark for mark in change.mark if side.count(mark) > other.count(mark)]
        for side, other in (
            (change.reference_text, change.candidate_text),
            (change.candidate_text, change.reference_text),
        )
    )
    if before and after:
        return f"makes {' '.join(after)} of {' '.join(before)}"
    names = ", ".join(MARKS.get(mark, repr(mark)) for mark in before or after or change.mark)
    return f"{'takes away' if before else 'adds' if after else 'moves'} {names}"

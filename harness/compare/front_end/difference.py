"""A stage's own input features against openai-whisper's of the same sound, in three parts.

A frame t hears the samples [160 t - 200, 160 t + 200) of its window. Of n samples in the window,

    speech   160 t - 200 >= 0 and 160 t + 200 <= n    all of them are the sound's
    padding  160 t - 200 >= n                         none of them is
    edges    the others                               they reach over its start or its end

and the SNR of a part is 10 log10(sum r^2 / sum (r - c)^2) over its values, r the reference's and c the candidate's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from whisper_parity.clips import audio, features
from whisper_parity.compare import tensor
from whisper_parity.compare.front_end import variants
from whisper_parity.compare.front_end.layout import as_bands
from whisper_parity.compare.front_end.recipe import HOP, Floats, Frames, Sound
from whisper_parity.compare.front_end.search import FLOAT_NOISE_DB
from whisper_parity.errors import UsageError

PASS_DB = 60.0
"""Least SNR of each part of features that count as Whisper's."""


@dataclass(frozen=True, slots=True)
class FrontEndCause:
    """One thing that a front end does otherwise, found by doing the same to the reference's."""

    kind: str
    """One of `variants.KINDS`."""
    sentence: str
    """What it does, in words: "spectrogram padded with 0.0, not the audio with silence"."""
    explains_db: float
    """SNR of the stage's features against the reference's made in this way [dB]."""


@dataclass(frozen=True, slots=True)
class FrontEndDiff:
    """The input features of one window."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    window: int
    shape: tuple[int, ...]
    """As the stage wrote them."""
    expected: tuple[int, ...]
    """[1, n_mels, n_frames]."""
    whole_db: float | None
    """SNR of all values [dB]; inf where they are identical, None where shapes leave nothing to compare."""
    speech_db: float | None
    """Of the frames that hold sound, without those at its edges; None where there are none."""
    edges_db: float | None
    """Of the frames whose STFT window reaches over the start or the end of the sound."""
    padding_db: float | None
    """Of the frames behind the sound, which hear silence alone."""
    nonfinite: int = 0
    """Values that are NaN or infinite."""
    causes: tuple[FrontEndCause, ...] = ()
    """What makes the difference, the best explanation first: several where they act together."""


def measure(
    candidate: Floats, sound: Path, window: int, n_mels: int, n_frames: int = features.FRAMES, *, causes: bool = True
) -> FrontEndDiff:
    """Measure features of one window, and name what makes them differ.

    Args:
        candidate: float [1, n_mels, n_frames], [n_mels, n_frames] or flat; others have causes, but no SNR.
        sound: the file that the program was given.
        window: which window of the file, from 0.
        n_mels: mel bands that the model takes.
        n_frames: frames of a window.
        causes: whether to look for them.

    Raises:
        AudioError: see `clips.audio.read`.
        UsageError: the sound has no such window.
    """
    samples = audio.load(sound)
    length = n_frames * HOP
    count = -(-len(samples) // length)
    if not 0 <= window < count:
        raise UsageError(f"{sound}: no window {window}, the sound has {count}", hint=f"Name one of 0 to {count - 1}")
    reference = features.of_samples(samples[window * length : (window + 1) * length], n_mels, n_frames)
    diff = _measured(candidate, reference, Sound(samples, window, n_frames))
    if not causes or diff.nonfinite or _is_sound(diff):
        return diff
    explained = variants.explain(candidate, sound, window, n_mels, n_frames)
    return replace(diff, causes=tuple(FrontEndCause(*cause) for cause in explained))


def _measured(candidate: Floats, reference: Floats, sound: Sound) -> FrontEndDiff:
    bands = as_bands(candidate, *reference.shape)

    def level(frames: Frames | slice) -> float | None:
        return None if bands is None else _snr_db(reference[:, frames], bands[:, frames])

    return FrontEndDiff(
        sound.window,
        tuple(candidate.shape),
        (1, *reference.shape),
        whole_db=level(slice(None)),
        speech_db=level(sound.frames_inside),
        edges_db=level(sound.frames_at_edges),
        padding_db=level(sound.frames_behind),
        nonfinite=tensor.count_nonfinite(candidate),
    )


def _snr_db(reference: Floats, candidate: Floats) -> float | None:
    """None where there is nothing, or something that is not finite."""
    if not reference.size or tensor.count_nonfinite(candidate):
        return None
    return tensor.measure(reference=reference, candidate=candidate).snr_db


def _is_sound(diff: FrontEndDiff) -> bool:
    parts = (diff.whole_db, diff.speech_db, diff.edges_db, diff.padding_db)
    return diff.whole_db is not None and all(part is None or part >= FLOAT_NOISE_DB for part in parts)


def is_whispers(diff: FrontEndDiff) -> bool:
    """Whether features are openai-whisper's up to their precision: rounding to float16 leaves 65 dB and more."""
    parts = (diff.whole_db, diff.speech_db, diff.edges_db, diff.padding_db)
    return not diff.nonfinite and diff.whole_db is not None and all(part is None or part >= PASS_DB for part in parts)


def lines(diff: FrontEndDiff) -> list[str]:
    """A diff as lines of plain text, the verdict last."""
    shape = f"{list(diff.shape)}, expected {list(diff.expected)}"
    nonfinite = [f"not finite  {diff.nonfinite} values are NaN or infinite"] if diff.nonfinite else []
    measured = [
        f"{name:<11} {_decibels(level)}"
        for name, level in (("whole", diff.whole_db), ("speech", diff.speech_db), ("edges", diff.edges_db),
                            ("padding", diff.padding_db))
    ]  # fmt: skip
    causes = [f"cause       {cause.sentence} ({_decibels(cause.explains_db)} with it)" for cause in diff.causes]
    return [f"shape       {shape}", *nonfinite, *measured, *causes, f"verdict     {_verdict(diff)}"]


def _verdict(diff: FrontEndDiff) -> str:
    if is_whispers(diff):
        return "this is Whisper's log-mel"
    named = "" if diff.causes else "; no known variant of Whisper's front end explains it"
    return f"this is not Whisper's log-mel{named}"


def _decibels(level: float | None) -> str:
    if level is None:
        return "not measured"
    return "identical" if level == math.inf else f"{level:.2f} dB"

"""All results of a stage on a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.account import Account
from whisper_parity.backend.contract import Placement, Usage
from whisper_parity.decode.loop import ENDS, TeacherForced

FRAMES_PER_SECOND = 100
TRACE_VERSION = 3
"""3: with a hash over header and tensors."""


@dataclass(frozen=True)
class WindowHeader:
    """A window's facts beside its tensors."""

    index: int
    input_features_sha256: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    """Free-running, timestamps included, without prompt and end-of-text."""
    ended: str
    """"eot", "length" or "nonfinite"."""
    forced_tokens: tuple[int, ...]
    """The tokens that were fed for the teacher-forced logits."""
    encoder_calls: int
    decoder_calls: int
    encode_s: float
    decode_s: float
    forced_limited: bool = False
    """The fed tokens fill the policy's limit: no row predicts what follows them."""

    def __post_init__(self) -> None:
        """Check `ended`.

        Raises:
            ValueError: `ended` is not one of ENDS.
        """
        if self.ended not in ENDS:
            raise ValueError(f"ended {self.ended!r}: expected one of {', '.join(ENDS)}")


@dataclass(frozen=True)
class WindowTrace:
    """One window: its header and its tensors."""

    header: WindowHeader
    encoder_output: NDArray[np.float32]
    """float32 [1, n_audio_ctx, n_audio_state]."""
    teacher_forced: TeacherForced

    def __post_init__(self) -> None:
        """Compare the header's tokens with those of the tensors.

        Raises:
            ValueError: they differ.
        """
        if self.header.forced_tokens != self.teacher_forced.tokens:
            raise ValueError(f"window {self.header.index}: the header names other tokens than were fed")


@dataclass(frozen=True)
class TraceHeader:
    """A trace's facts beside its tensors."""

    trace_version: int
    clip: str
    stage: str
    label: str
    """The runtime and its version: "pytorch (torch 2.13.0)"."""
    artifact_sha256: str
    audio_sha256: str
    n_vocab: int
    """Columns of the logits."""
    policy: str
    language: str | None
    audio_s: float
    silent: bool
    text: str
    """Texts of all windows, joined."""
    tokens: tuple[int, ...]
    """Text tokens of all windows: no specials, no timestamps."""
    timestamped_tokens: tuple[int, ...]
    """All tokens as decoded, with timestamps where the policy allows them."""
    segments: tuple[tuple[float, float, str], ...]
    """(start [s], end [s], text), where the stage provides them."""
    step_by_step: bool
    """The row-invariance check failed: decoded without drafts."""
    seconds: float
    """Wall time of encoding and decoding."""
    windows: tuple[WindowHeader, ...]
    usage: Usage | None = None
    """Compute and transfer of a stage on a device."""
    notes: tuple[str, ...] = ()
    """The session's notes: assumptions that determine its numbers."""
    audio_notes: tuple[str, ...] = ()
    """What was done to the clip's sound: "mixed down from 6 channels (5.1)"."""
    n_frames: int = 3000
    """Mel frames of the stage's windows, each of 10 ms."""
    n_text_ctx: int | None = None
    """Tokens that the stage's files have room for; None: as many as the checkpoint."""

    vocabulary: int = 0
    """Size of the vocabulary that the ids are of, see `Dims.vocabulary`; 0 stands for n_vocab."""
    recorded: str = ""
    """When, as ISO 8601; "" where an earlier version did not say."""
    run: str = ""
    """Id of the run that recorded it."""
    decided_by: str = ""
    """Hash over all that decided it, where it is kept for other runs."""
    placement: tuple[Placement, ...] = ()
    """Where the stage's files ran, as far as it says."""
    account: Account | None = None
    """What a program says of itself; None for a stage that our loop decodes, and for one that says nothing."""

    def __post_init__(self) -> None:
        """Take n_vocab for a vocabulary that nothing was added to."""
        if not self.vocabulary:
            object.__setattr__(self, "vocabulary", self.n_vocab)

    @property
    def names_tokens(self) -> bool:
        """Whether its tokens are known: a program may give text alone."""
        return self.account is None or self.account.names_tokens

    @property
    def has_text(self) -> bool:
        """Whether its text is known: of a program tensors alone may have been handed over."""
        return self.account is None or self.account.text is not None

    @property
    def window_s(self) -> float:
        """Length of a window [s]."""
        return self.n_frames / FRAMES_PER_SECOND


@dataclass(frozen=True)
class Trace:
    """All results of a stage on a clip."""

    header: TraceHeader
    windows: tuple[WindowTrace, ...]
    """Empty for a stage with text and tokens only."""
    tensors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Of a program, by `account.tensor_name`: its own input features and encoder outputs, as it wrote them."""

    @property
    def n_frames(self) -> int | None:
        """Frames of its windows; None for a stage with text and tokens only."""
        return self.header.n_frames if self.windows else None


def share_windows(reference: Trace, candidate: Trace) -> bool:
    """Whether both have tensors of the same pieces of a clip: under another window there is nothing to pair."""
    return reference.n_frames is not None and reference.n_frames == candidate.n_frames

"""What a program gives an account of: everything that it did to a sound, as far as it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from whisper_parity.backend.contract import Float32

FEATURES, ENCODER_OUTPUT = "input_features", "encoder_output"
"""Names of the tensors that a program may give."""
ENDS = ("eot", "length", "")
"""How a window may end, as a program says it: by end-of-text, at its limit; "" where it does not say."""


@dataclass(frozen=True, slots=True)
class AccountWindow:
    """One window of a program: what it fed, and what it chose."""

    prompt: tuple[int, ...] | None = None
    """Ids that were fed before the first step; None where the program does not say."""
    tokens: tuple[int, ...] | None = None
    """Ids that it chose, without prompt, end-of-text and what follows it included where it names them; None where it
    does not say."""
    ended: str = ""
    """One of ENDS."""

    def __post_init__(self) -> None:
        """Check `ended`.

        Raises:
            ValueError: it is not one of ENDS.
        """
        if self.ended not in ENDS:
            raise ValueError(f"ended {self.ended!r}: expected one of {', '.join(map(repr, ENDS))}")


@dataclass(frozen=True, slots=True)
class Account:
    """Everything that a program says of one sound, beside its tensors."""

    text: str | None
    """Exactly as it was written, blanks at its ends included; None where only tensors were handed over."""
    windows: tuple[AccountWindow, ...]
    language: str | None = None
    """The Whisper code that it says it decoded; None where it does not say."""
    warnings: tuple[str, ...] = ()
    """What it printed as a warning, a line each."""
    errors: tuple[str, ...] = ()
    """What it printed as an error, a line each, though it went on."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Times that it measured itself, by their names [s]."""
    exit_code: int | None = None
    """None where nobody recorded it; it proves nothing."""
    peak_memory_bytes: int | None = None
    sound: str = ""
    """What was given to it in place of the clip's file, in words: "converted to 16-bit WAV, mono, 16 kHz"; "" for the
    file itself."""

    @property
    def names_tokens(self) -> bool:
        """Whether it says which tokens it chose, in every window."""
        return bool(self.windows) and all(window.tokens is not None for window in self.windows)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens of all windows, in order; () where it names none."""
        return tuple(token for window in self.windows for token in window.tokens or ())


@dataclass(frozen=True)
class ProgramOutput:
    """An account and the tensors that were pulled with it."""

    account: Account
    tensors: Mapping[str, Float32] = field(default_factory=dict)
    """By `tensor_name`: float32 arrays in the shape in which they were written."""


def tensor_name(name: str, window: int) -> str:
    """The name of a tensor of a window: "input_features.0"."""
    return f"{name}.{window}"

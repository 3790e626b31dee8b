"""What a program left behind: what it printed and wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Output:
    """One run of a program, as bytes that nobody trusts."""

    stdout: bytes = b""
    stderr: bytes = b""
    result: bytes | None = None
    """The file that it writes its result to; None where it is to print it, or wrote none."""
    tensors: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    """Files of each tensor, a window each."""
    exit_code: int | None = None
    """None where nobody recorded it."""

    @property
    def printed(self) -> str:
        """Everything that it printed: standard error behind standard output."""
        return text_of(self.stdout) + ("\n" if self.stdout and self.stderr else "") + text_of(self.stderr)

    @property
    def document(self) -> str:
        """What holds its result."""
        return text_of(self.stdout if self.result is None else self.result)


def text_of(content: bytes) -> str:
    r"""UTF-8 text; a byte that is none of it stays visible as "\xNN"."""
    return content.decode("utf-8", "backslashreplace").removeprefix("\ufeff")

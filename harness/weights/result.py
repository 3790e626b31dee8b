"""What a look-up says: of each file, which of the checkpoint's tensors it holds, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor that a file does not hold as the checkpoint has it."""

    tensor: str
    """Of the checkpoint."""
    unit: str
    """The unit (`backend.taps`) that it belongs to."""
    grade: str
    """"differs", "zero", "missing", "equal after rounding to bfloat16" or "misplaced"."""
    snr_db: float | None
    """Of what stands in its place; None where nothing does."""
    constant: str
    """The constant in its place; "" for none."""
    what: str
    """How it differs, in words that go behind the tensor's name."""
    source: str = ""
    """The tensor whose numbers stand in its place, where it is another one."""


@dataclass(frozen=True, slots=True)
class Surplus:
    """A constant that looks like weights and is no tensor of the checkpoint."""

    constant: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FileWeights:
    """One file, looked up."""

    role: str
    """"encoder", "decoder", "token_embedding", ...; "" where nothing says what the file is for."""
    name: str
    tensors: int
    """How many tensors of the checkpoint it has to hold."""
    matrices: int = 0
    """How many of them are no vectors: biases, gains and shifts."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Of them, by grade, the best first; those that differ in `differences`, too."""
    differences: tuple[Difference, ...] = ()
    surplus: tuple[Surplus, ...] = ()
    remarks: tuple[str, ...] = ()
    """What is no difference and worth knowing: a window cut shorter, one layer with fewer bits."""
    unread: str = ""
    """Why nothing can be said of the file; "" where it was read."""

    @property
    def is_good(self) -> bool:
        """Whether it holds all of them, up to the precision that its types have."""
        return not self.differences

    @property
    def units(self) -> tuple[str, ...]:
        """The units that differ."""
        return tuple(dict.fromkeys(difference.unit for difference in self.differences))


@dataclass(frozen=True, slots=True)
class LookUp:
    """A stage's files, or those of a folder, looked up in a checkpoint."""

    checkpoint: str
    checkpoint_sha256: str
    files: tuple[FileWeights, ...]
    sentences: tuple[str, ...]
    """What there is to say, the most important first; one when all is well."""

    @property
    def was_read(self) -> bool:
        """Whether anything could be read."""
        return any(not file.unread for file in self.files)

    @property
    def is_good(self) -> bool:
        """Whether everything that could be read is the checkpoint's, and something of it."""
        holds = any(file.tensors for file in self.files) or not self.was_read
        return holds and all(file.is_good for file in self.files)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Those of all files."""
        return tuple(difference for file in self.files for difference in file.differences)

    @property
    def exit_code(self) -> int:
        """0 for the checkpoint's weights, 1 for others, 2 where nothing could be read."""
        return (0 if self.is_good else 1) if self.was_read else 2

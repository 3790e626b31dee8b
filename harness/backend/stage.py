"""What the steps of the chain are called: stages, and the edges between them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

ARROW = "->"
ANY = "*"
"""In a table of limits: any reference."""
WINDOW = "window"
"""In a table of limits: the variant of any window."""
POSITIONS_PER_SECOND = 50
"""Of the encoder's output: one for two frames of 10 ms."""


@dataclass(frozen=True, slots=True)
class StageName:
    """A stage as users type it: a backend, or one of its variants."""

    backend: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> StageName:
        """From "backend" or "backend:variant"."""
        backend, _, variant = text.partition(":")
        return cls(backend, variant)

    @classmethod
    def of_window(cls, backend: str, n_audio_ctx: int) -> StageName:
        """The stage of a backend under another window than the checkpoint's: "backend:10s"."""
        return cls(backend, f"{n_audio_ctx / POSITIONS_PER_SECOND:g}s")

    @property
    def n_audio_ctx(self) -> int | None:
        """Positions of the window that the variant names; None where it names none."""
        seconds = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,2})?)s", self.variant)
        positions = float(seconds[1]) * POSITIONS_PER_SECOND if seconds else 0.0
        return round(positions) if positions >= 1 and abs(positions - round(positions)) < 1e-6 else None

    @property
    def slug(self) -> str:
        """The name as part of a file name: "backend-variant"."""
        return str(self).replace(":", "-")

    def __str__(self) -> str:
        """As typed: "backend:variant"."""
        return f"{self.backend}:{self.variant}" if self.variant else self.backend


@dataclass(frozen=True, slots=True)
class Edge:
    """The step from one stage to another: what a comparison is about."""

    reference: str
    """Stage as typed; `ANY` in a table of limits."""
    candidate: str
    """Stage as typed."""

    @classmethod
    def parse(cls, text: str) -> Edge | None:
        """From "reference->candidate"; None for anything else."""
        reference, arrow, candidate = text.partition(ARROW)
        return cls(reference, candidate) if arrow and reference and candidate else None

    @property
    def sections(self) -> tuple[str, ...]:
        """Sections of a table of limits that concern it, the most special one first."""
        name = StageName.parse(self.candidate)
        ends = [self.candidate, *([f"{name.backend}:{WINDOW}"] if name.n_audio_ctx else []), name.backend]
        return tuple(dict.fromkeys((str(self), *(f"{ANY}{ARROW}{end}" for end in ends), "default")))

    def is_among(self, backends: Collection[str]) -> bool:
        """Whether both ends are stages of these backends; the reference may be any."""
        reference, candidate = (StageName.parse(end).backend for end in (self.reference, self.candidate))
        return candidate in backends and reference in (*backends, ANY)

    def __str__(self) -> str:
        """As reports write it: "reference->candidate"."""
        return f"{self.reference}{ARROW}{self.candidate}"


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of the chain of one run."""

    spec: str
    """As typed: "backend:variant"."""
    parent: str | None
    """Nearest earlier stage of the same run, where its edge starts; None for the first."""
    root: str | None = None
    """The stage that it is judged against beside its parent and that drafts its tokens: under the same window."""

    @property
    def name(self) -> StageName:
        """Its backend and variant."""
        return StageName.parse(self.spec)

    @property
    def edge(self) -> Edge | None:
        """The edge that ends here; None for the first stage."""
        return Edge(self.parent, self.spec) if self.parent else None

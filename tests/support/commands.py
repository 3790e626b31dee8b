"""A `parity run` of two stages, as tests of bad input call it, and what a finished command leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from click.testing import Result

STAGES = ("pytorch", "torchscript")
RUN = ("run", "--language", "en", "--stages", ",".join(STAGES))


@dataclass(frozen=True)
class Finished:
    """A command that ran to its end."""

    folder: Path
    """Where clips and manifest lie."""
    result: Result
    run: Path

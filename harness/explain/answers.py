"""Answers that are sought one by one: one that fails leaves its reason, and the others are sought all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from whisper_parity.errors import ParityError
from whisper_parity.system.activity import Kind, step

MISSING_LIMIT = 300


@dataclass
class Answers:
    """Collects answers; one that fails leaves its reason in `missing` and does not stop the others."""

    missing: list[str]

    @contextmanager
    def to(self, question: str) -> Iterator[None]:
        """Turn an error inside the block into the reason why `question` has no answer; it is shown as a step."""
        try:
            with step(Kind.CLIPS, question):
                yield
        except ParityError as error:
            self.missing.append(f"{question}: {str(error)[:MISSING_LIMIT]}")

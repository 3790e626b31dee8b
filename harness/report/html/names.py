"""Anchors and texts shared by several parts of the page."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from whisper_parity import project
from whisper_parity.judge.verdict import Outcome
from whisper_parity.report.numbers import decibels, rate, seconds
from whisper_parity.report.opening import first_failing
from whisper_parity.run.report import Row
from whisper_parity.system.files import safe_name


def clip_anchor(clip: str) -> str:
    """Id of a clip's section: letters, digits, '.', '_' and '-' only, for any clip name."""
    return f"clip-{safe_name(clip)}"


def cell_anchor(clip: str, stage: str) -> str:
    """Id of a stage's part in a clip's section."""
    return f"cell-{safe_name(clip)}--{safe_name(stage.replace(':', '-'))}"


def edge_anchor(stage: str) -> str:
    """Id of the section about the edge that ends at `stage`."""
    return f"edge-{safe_name(stage.replace(':', '-'))}"


def shown(text: str) -> str:
    """Text with invisible and direction-changing characters written as escapes.

    These are control characters, direction overrides and halves of surrogate pairs; the page isolates the direction of
    the rest by <bdi>.
    """
    return "".join(character if _is_printable(character) else f"\\u{ord(character):04x}" for character in text)


def _is_printable(character: str) -> bool:
    """Accept format characters (they join emoji and shape Arabic) except those that override direction."""
    overrides = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return character not in overrides and unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def place(path: str | Path) -> str:
    """A path for other machines: relative to the project's folder where it lies inside."""
    location, folder = Path(path), project.folder()
    return str(location.relative_to(folder)) if location.is_relative_to(folder) else str(path)


def css_class(outcome: Outcome) -> str:
    """Class of an outcome in the style sheet: "not-compared"."""
    return outcome.value.replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the grid: its texts and its link."""

    outcome: str
    css: str
    figures: tuple[str, ...]
    """"WER 0.0 %", "@5", "38 dB"."""
    seconds: str
    anchor: str
    reason: str
    failed: bool = False
    """Whether its exit code is another than 0."""


def cell(row: Row) -> Cell:
    """The grid's cell of a report row."""
    return Cell(
        outcome=row.verdict.outcome.value,
        css=css_class(row.verdict.outcome),
        figures=tuple(_figures(row)),
        seconds=seconds(row.seconds) if row.seconds else "",
        anchor=cell_anchor(row.clip, row.stage) if row.stage else clip_anchor(row.clip),
        reason=_reason(row),
        failed=bool(row.verdict.outcome.exit_code),
    )


def _reason(row: Row) -> str:
    """The first rung that fails, measured; where none does, what the verdict says."""
    failing = first_failing(row)
    return f"{failing.rung}: {failing.reason}" if failing else row.verdict.reason


def _figures(cell: Row) -> list[str]:
    if not cell.judged:
        return []
    comparison, figures = cell.judged.comparison, []
    if comparison.text:
        figures.append(f"{comparison.text.leading.upper()} {rate(comparison.text.leading_counts)}")
    if comparison.tokens and comparison.tokens.first_divergence is not None:
        figures.append(f"@{comparison.tokens.first_divergence}")
    if comparison.tensors:
        figures.append(decibels(min(item.diff.snr_db for item in comparison.tensors)))
    return figures

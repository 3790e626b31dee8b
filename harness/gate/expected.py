"""Expected divergences: one reviewed, strict list. An entry that no longer occurs is an error like a new divergence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from whisper_parity import project
from whisper_parity.compare.text import EDIT_CLASSES
from whisper_parity.errors import ConfigError
from whisper_parity.gate.evidence import NOT_RUN
from whisper_parity.run.report import Judged, Report, Row

FILE = "expected.toml"
TOKEN = "token"
CLASSES = (*EDIT_CLASSES, TOKEN)
"""Classes of a text edit, and "token": other tokens that give the same text."""
KEYS = frozenset({"clip", "stage", "class", "reason", "link", "date", "approved"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One divergence that a person has inspected and accepted."""

    clip: str
    stage: str
    edit_class: str
    reason: str
    link: str
    """Where it was discussed, or ""."""
    date: str
    approved: str
    """Name of the approved result that the entry is limited to; "" for all."""

    @property
    def words(self) -> str:
        """The entry in one line."""
        link = f" {self.link}" if self.link else ""
        return f"{self.clip} · {self.stage} · {self.edit_class} ({self.date}): {self.reason}{link}"


@dataclass(frozen=True, slots=True)
class Matched:
    """The list, matched against a run."""

    occurred: tuple[Entry, ...]
    gone: tuple[Entry, ...]
    unknown: tuple[Entry, ...]
    """Entries of cells without a result: whether they occur is unknown."""
    elsewhere: tuple[Entry, ...]
    """Entries of clips and stages outside this run."""
    excused: frozenset[tuple[str, str]]
    """(clip, stage) of cells whose divergences are all on the list."""


def load(folder: Path) -> tuple[Entry, ...]:
    """Read the list; empty for a folder without one.

    Raises:
        ConfigError: not TOML, or an entry that is incomplete, unknown or duplicate.
    """
    file = folder / FILE
    if not file.exists():
        return ()
    content = project.read_toml(file)
    listed = content.pop("expected", [])
    if content or not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ConfigError(f"{file}: expected nothing but [[expected]] entries", hint="Write [[expected]] above each")
    entries = tuple(_entry(values, f"{file}: entry {number}") for number, values in enumerate(listed, 1))
    for index, entry in enumerate(entries):
        if _key(entry) in map(_key, entries[:index]):
            raise ConfigError(f"{file}: {entry.clip} · {entry.stage} · {entry.edit_class} is listed twice")
    return entries


def match(entries: tuple[Entry, ...], report: Report, approved: str) -> Matched:
    """Match the list against a run, ignoring entries of other approved results."""
    applicable = [entry for entry in entries if entry.approved in ("", approved)]
    cells = {(cell.clip, cell.stage): cell for cell in report.rows}
    present = [entry for entry in applicable if (entry.clip, entry.stage) in cells]
    judgeable = [entry for entry in present if cells[entry.clip, entry.stage].verdict.outcome not in NOT_RUN]
    occurred = [entry for entry in judgeable if entry.edit_class in classes(cells[entry.clip, entry.stage])]
    listed = {(entry.clip, entry.stage): set[str]() for entry in occurred}
    for entry in occurred:
        listed[entry.clip, entry.stage].add(entry.edit_class)
    return Matched(
        occurred=tuple(occurred),
        gone=tuple(entry for entry in judgeable if entry not in occurred),
        unknown=tuple(entry for entry in present if entry not in judgeable),
        elsewhere=tuple(entry for entry in applicable if entry not in present),
        excused=frozenset(key for key, named in listed.items() if classes(cells[key]) <= named),
    )


def classes(cell: Row) -> set[str]:
    """Classes of divergence of a cell, against its parent and against the root."""
    return {edit_class for judged in (cell.vs_parent, cell.vs_root) if judged for edit_class in _edge_classes(judged)}


def _edge_classes(judged: Judged) -> set[str]:
    text, tokens = judged.comparison.text, judged.comparison.tokens
    edit_classes = {edit.edit_class for edit in text.edits} if text else set()
    if not edit_classes and tokens and not tokens.equal:
        edit_classes = {TOKEN}
    return edit_classes


def _key(entry: Entry) -> tuple[str, str, str, str]:
    return entry.clip, entry.stage, entry.edit_class, entry.approved


def _entry(values: dict[str, Any], where: str) -> Entry:
    if unknown := set(values) - KEYS:
        raise ConfigError(
            f"{where}: unknown key {', '.join(sorted(unknown))}", hint=f"Known: {', '.join(sorted(KEYS))}"
        )
    for key in ("clip", "stage", "class", "reason"):
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise ConfigError(f"{where}: no {key}", hint="An entry needs clip, stage, class, reason and date")
    if values["class"] not in CLASSES:
        raise ConfigError(f"{where}: no class {values['class']!r:.40}", hint=f"Known: {', '.join(CLASSES)}")
    for key in ("link", "approved"):
        if not isinstance(values.get(key, ""), str):
            raise ConfigError(f"{where}: {key} must be text")
    names = (values["clip"], values["stage"], values["class"], values["reason"].strip(), values.get("link", ""))
    return Entry(*names, _date(values.get("date"), where), values.get("approved", ""))


def _date(value: Any, where: str) -> str:
    try:
        return (value if isinstance(value, date) else date.fromisoformat(value)).isoformat()[:10]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: no date", hint="Write date = 2026-01-31, the day it was accepted") from error

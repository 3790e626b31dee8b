"""Expected divergences: one reviewed list, strict. An entry that no longer occurs is an error like one that is new."""

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
    """One divergence that somebody has looked at and accepted."""

    clip: str
    stage: str
    edit_class: str
    reason: str
    link: str
    """Where it was discussed, or ""."""
    date: str
    approved: str
    """Name of the approved result that it belongs to; "" for all."""

    @property
    def words(self) -> str:
        """The entry in one line."""
        link = f" {self.link}" if self.link else ""
        return f"{self.clip} · {self.stage} · {self.edit_class} ({self.date}): {self.reason}{link}"


@dataclass(frozen=True, slots=True)
class Found:
    """The list, held against a run."""

    occurred: tuple[Entry, ...]
    gone: tuple[Entry, ...]
    unknown: tuple[Entry, ...]
    """Entries of a cell that has no result: it cannot be said whether they occur."""
    elsewhere: tuple[Entry, ...]
    """Entries of clips and stages that are not in this run."""
    excused: frozenset[tuple[str, str]]
    """(clip, stage) of cells all of whose divergences are on the list."""


def load(folder: Path) -> tuple[Entry, ...]:
    """Read the list; a folder without one has none.

    Raises:
        ConfigError: not TOML, or an entry that lacks something, names something unknown, or stands there twice.
    """
    file = folder / FILE
    if not file.exists():
        return ()
    content = project.read_toml(file)
    listed = content.pop("expected", [])
    if content or not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ConfigError(f"{file}: expected nothing but [[expected]] entries", hint="Write [[expected]] above each")
    entries = tuple(_entry(values, f"{file}: entry {number}") for number, values in enumerate(listed, 1))
    for index, each in enumerate(entries):
        if _key(each) in map(_key, entries[:index]):
            raise ConfigError(f"{file}: {each.clip} · {each.stage} · {each.edit_class} is there twice")
    return entries


def match(entries: tuple[Entry, ...], report: Report, approved: str) -> Found:
    """Hold the list against a run; entries of other approved results are left aside."""
    concerned = [each for each in entries if each.approved in ("", approved)]
    rows = {(row.clip, row.stage): row for row in report.rows}
    there = [each for each in concerned if (each.clip, each.stage) in rows]
    known = [each for each in there if rows[each.clip, each.stage].verdict.outcome not in NOT_RUN]
    occurred = [each for each in known if each.edit_class in classes(rows[each.clip, each.stage])]
    listed = {(each.clip, each.stage): set[str]() for each in occurred}
    for each in occurred:
        listed[each.clip, each.stage].add(each.edit_class)
    return Found(
        occurred=tuple(occurred),
        gone=tuple(each for each in known if each not in occurred),
        unknown=tuple(each for each in there if each not in known),
        elsewhere=tuple(each for each in concerned if each not in there),
        excused=frozenset(key for key, named in listed.items() if classes(rows[key]) <= named),
    )


def classes(row: Row) -> set[str]:
    """Classes of divergence of a cell, against its parent and against the root."""
    return {each for judged in (row.vs_parent, row.vs_root) if judged for each in _of(judged)}


def _of(judged: Judged) -> set[str]:
    text, tokens = judged.comparison.text, judged.comparison.tokens
    found = {edit.edit_class for edit in text.edits} if text else set()
    if not found and tokens and not tokens.equal:
        found = {TOKEN}
    return found


def _key(entry: Entry) -> tuple[str, str, str, str]:
    return entry.clip, entry.stage, entry.edit_class, entry.approved


def _entry(values: dict[str, Any], where: str) -> Entry:
    if unknown := set(values) - KEYS:
        raise ConfigError(
            f"{where}: unknown key {', '.join(sorted(unknown))}", hint=f"Known: {', '.join(sorted(KEYS))}"
        )
    for key in ("clip", "stage", "class", "reason"):
        if not isinstance(values.get(key), str) or not values[key].strip():
            raise ConfigError(f"{where}: no {key}", hint="An entry says clip, stage, class, reason and date")
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

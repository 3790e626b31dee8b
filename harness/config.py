"""parity.toml: what a project sets once."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "parity.toml"


@dataclass(frozen=True, slots=True)
class Config:
    """The content of parity.toml; an absent file is an empty one."""

    run: Mapping[str, Any] = field(default_factory=dict)
    """[run]: defaults of `parity run`'s options."""
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """[policies.NAME]: decode policies of one's own."""
    tolerances: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """[tolerances."reference->candidate"]: overrides of the reviewed file."""
    backends: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """[backends.NAME]: what a backend wants to know about this site; each one checks its own table."""
    gate: Mapping[str, Any] = field(default_factory=dict)
    """[gate]: approved results and rules of one's own; `harness.gate.settings` checks the values."""


SECTIONS = frozenset({"run", "policies", "tolerances", "backends", "gate"})
GATE_KEYS = frozenset({"folder", "approved", "stages", "edges"})
RUN_KEYS = frozenset(
    {
        "checkpoint",
        "stages",
        "artifacts",
        "clips",
        "manifest",
        "policy",
        "language",
        "threads",
        "mask_value",
        "report_dir",
        "cache",
        "soc",
        "serial",
        "noise",
        "state",
        "require_placement",
    }
)


def load(folder: Path) -> Config:
    """Read parity.toml of a folder.

    Raises:
        ConfigError: not TOML, or an unknown key.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return Config()
    content = read_toml(path)
    for section in SECTIONS:
        if not isinstance(table := content.get(section, {}), dict):
            raise ConfigError(f"{path}: [{section}] must be a table, found {table!r:.60}", hint=f"Write [{section}]")
    for section, known in (("", SECTIONS), ("run", RUN_KEYS), ("gate", GATE_KEYS)):
        table = content.get(section, {}) if section else content
        if unknown := set(table) - known:
            where = f"[{section}] " if section else ""
            raise ConfigError(
                f"{path}: unknown key {where}{', '.join(sorted(unknown))}", hint=f"Known: {', '.join(sorted(known))}"
            )
    for section in ("policies", "tolerances", "backends"):
        if not all(isinstance(value, dict) for value in content.get(section, {}).values()):
            raise ConfigError(f"{path}: every entry of [{section}] must be a table", hint=f"Write [{section}.NAME]")
    return Config(**content)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: unreadable, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: not TOML ({error})", hint="Check the line that it names") from error

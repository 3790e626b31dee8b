"""[gate] of parity.toml, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import registry
from harness.config import FILE_NAME, Config
from harness.errors import ConfigError
from harness.gate import approved, rules


@dataclass(frozen=True)
class Settings:
    """What a project says about its gate."""

    folder: Path
    """Of approved results and expected divergences."""
    approved: str | None
    """Name of the approved result; None for checkpoint and policy."""
    stages: tuple[str, ...]
    """Stages that a run must have, so that none goes missing unseen."""
    table: rules.Table
    """Rules by edge."""


def of(config: Config) -> Settings:
    """Settings of a project; an absent section is an empty one.

    Raises:
        ConfigError: a value that cannot be used.
    """
    given = config.gate
    name = given.get("approved")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{FILE_NAME} [gate] approved: expected a name, found {name!r:.60}")
    edges = given.get("edges", {})
    if not isinstance(edges, Mapping):
        raise ConfigError(f"{FILE_NAME} [gate] edges: expected tables", hint='Write [gate.edges."tflite->dla"]')
    return Settings(_folder(given), name, _stages(given), rules.load(edges, registry.names()))


def _folder(given: Mapping[str, Any]) -> Path:
    folder = given.get("folder", approved.FOLDER)
    if not isinstance(folder, (str, Path)) or not str(folder):
        raise ConfigError(f"{FILE_NAME} [gate] folder: expected a path, found {folder!r:.60}")
    return Path(folder).absolute()


def _stages(given: Mapping[str, Any]) -> tuple[str, ...]:
    stages = given.get("stages", ())
    words = stages.split(",") if isinstance(stages, str) else stages
    if not isinstance(words, (list, tuple)) or not all(isinstance(each, str) and each.strip() for each in words):
        raise ConfigError(f"{FILE_NAME} [gate] stages: expected names, found {stages!r:.60}")
    found = tuple(each.strip() for each in words)
    registry.plan(found)
    return found

"""[gate] of parity.toml, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity.backend import registry
from whisper_parity.errors import ConfigError
from whisper_parity.gate import rules
from whisper_parity.project import FILE_NAME, Project


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


def of(config: Project) -> Settings:
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
    return Settings(_folder(config), name, _stages(given), rules.load(edges, registry.names()))


def _folder(project: Project) -> Path:
    folder = project.gate.get("folder", project.approved)
    if not isinstance(folder, (str, Path)) or not str(folder):
        raise ConfigError(f"{FILE_NAME} [gate] folder: expected a path, found {folder!r:.60}")
    return project.at(folder)


def _stages(given: Mapping[str, Any]) -> tuple[str, ...]:
    stages = given.get("stages", ())
    words = stages.split(",") if isinstance(stages, str) else stages
    if not isinstance(words, (list, tuple)) or not all(isinstance(each, str) and each.strip() for each in words):
        raise ConfigError(f"{FILE_NAME} [gate] stages: expected names, found {stages!r:.60}")
    found = tuple(each.strip() for each in words)
    registry.plan(found)
    return found

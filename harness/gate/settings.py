"""[gate] of parity.toml, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisper_parity.backend.registry import Backends
from whisper_parity.errors import ConfigError
from whisper_parity.gate import rules
from whisper_parity.project import FILE_NAME, Project, require_known


@dataclass(frozen=True)
class Settings:
    """A project's gate settings."""

    folder: Path
    """Folder of approved results and expected divergences."""
    approved: str | None
    """Name of the approved result; None for one made of checkpoint and policy."""
    stages: tuple[str, ...]
    """Stages that a run must have, so that none is lost unnoticed."""
    table: rules.Table
    """Rules by edge."""


KEYS = ("folder", "approved", "stages", "edges")


def of(project: Project, backends: Backends) -> Settings:
    """Settings of a project; an absent section is an empty one.

    Args:
        project: its parity.toml.
        backends: those installed, whose stages may have rules.

    Raises:
        ConfigError: an invalid value.
    """
    given = project.gate
    require_known(given, KEYS, f"{project.folder / FILE_NAME} [gate]")
    name = given.get("approved")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{FILE_NAME} [gate] approved: expected a name, found {name!r:.60}")
    edges = given.get("edges", {})
    if not isinstance(edges, Mapping):
        raise ConfigError(
            f"{FILE_NAME} [gate] edges: expected tables", hint='Write [gate.edges."reference->candidate"]'
        )
    return Settings(_folder(project), name, _stages(given, backends), rules.load(backends, edges))


def _folder(project: Project) -> Path:
    folder = project.gate.get("folder", project.approved)
    if not isinstance(folder, (str, Path)) or not str(folder):
        raise ConfigError(f"{FILE_NAME} [gate] folder: expected a path, found {folder!r:.60}")
    return project.at(folder)


def _stages(given: Mapping[str, Any], backends: Backends) -> tuple[str, ...]:
    stages = given.get("stages", ())
    words = stages.split(",") if isinstance(stages, str) else stages
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) and word.strip() for word in words):
        raise ConfigError(f"{FILE_NAME} [gate] stages: expected names, found {stages!r:.60}")
    names = tuple(word.strip() for word in words)
    backends.chain(names)
    return names

"""Limits of the edges to our own stages: two reviewed files, of which each backend takes its part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whisper_parity import project
from whisper_parity.backend.stage import Edge, StageName

TOLERANCES = Path(__file__).with_name("tolerances.toml")
RULES = Path(__file__).with_name("rules.toml")


def of(file: Path, backend: str) -> dict[str, dict[str, Any]]:
    """The sections of a file whose edges end at stages of a backend."""
    sections = project.read_toml(file)
    edges = {name: Edge.parse(name) for name in sections}
    return {
        name: sections[name]
        for name, edge in edges.items()
        if edge and StageName.parse(edge.candidate).backend == backend
    }

"""The installed backends, their limits, and workshops over them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from whisper_parity.backend.build import Workshop
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import Edge
from whisper_parity.judge import tolerance
from whisper_parity.judge.tolerance import Tolerance
from whisper_parity.model import checkpoint
from whisper_parity.model.checkpoint import Checkpoint


@cache
def backends() -> Backends:
    """Every installed backend, as a site without parity.toml has it."""
    return Backends()


def workshop(weights: Checkpoint | Path | None, cache: Path, **settings: Mapping[str, Any]) -> Workshop:
    """Where artifacts of a checkpoint come from.

    Args:
        weights: a checkpoint, its file, or None for the embedded one.
        cache: folder of built artifacts.
        settings: [backends.NAME] by name.
    """
    if not isinstance(weights, Checkpoint):
        weights = checkpoint.resolve(None) if weights is None else checkpoint.describe(weights)
    site = Backends(settings) if settings else backends()
    return Workshop(site, weights, cache, options={"mask_value": "-inf"})


@cache
def _limits() -> dict[str, dict[str, Any]]:
    return tolerance.load(backends())


def tolerances() -> dict[str, dict[str, Any]]:
    """The reviewed limits."""
    return {edge: dict(values) for edge, values in _limits().items()}


def limits_of(reference: str, candidate: str) -> Tolerance:
    """The reviewed limits of an edge."""
    return tolerance.for_edge(_limits(), Edge(reference, candidate))

"""Where a PyTorch model runs."""

from __future__ import annotations

from typing import Any

from whisper_parity.backend.contract import Placement

KNOWN_BY = "where its weights lie: nothing else was asked for"


def of_model(model: Any) -> tuple[Placement, ...]:
    """Placement of encoder and decoder of a loaded Whisper."""
    halves = (("encoder", model.encoder), ("decoder", model.decoder))
    return tuple(Placement(role, _device(half), None, None, KNOWN_BY) for role, half in halves)


def _device(half: Any) -> str:
    return str(next(half.parameters()).device.type).upper()

"""Where DLA files run: the engines of the execution plan that the compiler printed when it made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Placement

ROLES = ("encoder", "decoder")
NO_RECORD = "no record of its compilation lies beside the file: the execution plan is not known"


def of_plan(artifact: Artifact) -> tuple[Placement, ...]:
    """One placement for each file; an unknown one where the record is missing or holds no plan."""
    record = _record(artifact)
    return tuple(_placement(role, record) for role in ROLES)


def _record(artifact: Artifact) -> dict[str, Any]:
    if "compilation" not in artifact.files:
        return {}
    try:
        found = json.loads(artifact.path("compilation").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _placement(role: str, record: dict[str, Any]) -> Placement:
    entry = record.get(role)
    targets = entry.get("targets") if isinstance(entry, dict) else None
    if not isinstance(targets, list) or not targets or not all(isinstance(each, str) for each in targets):
        return Placement(role, "", None, None, NO_RECORD if entry is None else "its execution plan names no engine")
    engines = [each for each in targets if each.upper().startswith("MDLA")]
    return Placement(
        role,
        ", ".join(engines) or "MDLA",
        None,
        None,
        _note(str(record.get("compiler", "")), targets),
        tuple(each for each in targets if each not in engines),
    )


def _note(compiler: str, targets: Sequence[str]) -> str:
    simulated = " (simulated: computed on this machine's CPU)" if "stand-in" in compiler else ""
    return f"execution plan of {compiler[:80] or 'an unnamed compiler'}: {', '.join(targets)}{simulated}"

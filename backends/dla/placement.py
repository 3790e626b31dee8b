"""Where DLA files run, according to the execution plan that the compiler printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Placement
from whisper_parity.errors import InputError
from whisper_parity.system import inputs

ROLES = ("encoder", "decoder")
NO_RECORD = "no record of its compilation beside the file: execution plan unknown"


def of_plan(artifact: Artifact) -> tuple[Placement, ...]:
    """One placement per file; unknown where the record is missing or holds no plan."""
    record = _record(artifact)
    return tuple(_placement(role, record) for role in ROLES)


def _record(artifact: Artifact) -> dict[str, Any]:
    if "compilation" not in artifact.files:
        return {}
    try:
        record = inputs.read_json(artifact.path("compilation"))
    except InputError:
        return {}
    return record if isinstance(record, dict) else {}


def _placement(role: str, record: dict[str, Any]) -> Placement:
    entry = record.get(role)
    targets = entry.get("targets") if isinstance(entry, dict) else None
    if not isinstance(targets, list) or not targets or not all(isinstance(target, str) for target in targets):
        return Placement(role, "", None, None, NO_RECORD if entry is None else "its execution plan names no engine")
    engines = [target for target in targets if target.upper().startswith("MDLA")]
    return Placement(
        role,
        ", ".join(engines) or "MDLA",
        None,
        None,
        _note(str(record.get("compiler", "")), targets),
        tuple(target for target in targets if target not in engines),
    )


def _note(compiler: str, targets: Sequence[str]) -> str:
    simulated = " (simulated: computed on this machine's CPU)" if "stand-in" in compiler else ""
    return f"execution plan of {compiler[:80] or 'an unnamed compiler'}: {', '.join(targets)}{simulated}"

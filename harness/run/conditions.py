"""What a run's numbers depend on: its folder is bound to that, and takes no number that was made otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from whisper_parity.backend.stage import StageName
from whisper_parity.clips import features
from whisper_parity.errors import InputError, UsageError
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.plan import Plan
from whisper_parity.system import inputs
from whisper_parity.system.files import locked, write_text
from whisper_parity.system.machine import versions

BY_NAME = ("packages", "settings")
"""Tables that grow when a run is continued with more stages; each entry is held against its own earlier value."""

ID = "id"
"""Of the run, wherever its folder lies."""


def bind(plan: Plan) -> None:
    """Bind a run's folder to the conditions of a plan, or hold them against those that it is bound to.

    Raises:
        UsageError: the run was made under other conditions.
        RecordError: its folder holds a link.
    """
    path = plan.folder.without_links().conditions
    with locked(plan.folder.path / ".locks" / path.name, hint="Choose another --report-dir"):
        now, then = of_plan(plan), _recorded(plan.folder)
        if changed := list(_changes(then, now)):
            raise UsageError(
                f"run {plan.folder.name} was made under other conditions: {', '.join(changed)}",
                hint="Choose another --run-id",
            )
        merged = {**now, **{name: {**(then or {}).get(name, {}), **now[name]} for name in BY_NAME}}
        merged[ID] = (then or {}).get(ID) or uuid4().hex
        if merged != then:
            write_text(path, json.dumps(merged, indent=1) + "\n")


def run_id(plan: Plan) -> str:
    """The id of a plan's run; "" for one that was not bound, or by an earlier version."""
    return str((_recorded(plan.folder) or {}).get(ID, ""))


def changes(plan: Plan) -> str:
    """What a run was made with and is another now, by name, with both values; "" for nothing."""
    return ", ".join(_changes(_recorded(plan.folder), of_plan(plan)))


def recorded(folder: RunFolder) -> dict[str, Any]:
    """What a run's folder is bound to, with its id; {} for one that is not bound."""
    return _recorded(folder) or {}


def write(folder: RunFolder, conditions: Mapping[str, Any]) -> None:
    """Bind a folder on another machine to the conditions of the run that it works for."""
    write_text(folder.conditions, json.dumps(conditions, indent=1) + "\n")


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What decides numbers and is another on this machine than on that of the run, with both values; "" for nothing."""
    return ", ".join(_changes(there, here))


def of_plan(plan: Plan) -> dict[str, Any]:
    """Everything that decides the numbers of a plan, as JSON has it."""
    specs = [stage.spec for stage in plan.stages]
    conditions = {
        "checkpoint_sha256": plan.checkpoint.sha256,
        "policy": plan.policy.name,
        "policy_options": dict(plan.policy.options),
        "build_options": dict(plan.workshop.options),
        "threads": plan.threads,
        "features_version": features.VERSION,
        "packages": versions(*plan.backends.packages(specs)),
        "settings": {StageName.parse(spec).backend: plan.backends.deciding_settings(spec) for spec in specs},
    }
    return dict(json.loads(json.dumps(conditions)))


def _recorded(folder: RunFolder) -> dict[str, Any] | None:
    """What the folder is bound to; None for a new one, and {} for what cannot be read."""
    if not folder.conditions.exists():
        return None
    try:
        record = inputs.read_json(folder.conditions)
    except InputError:
        return {}
    return record if isinstance(record, dict) else {}


def _changes(then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Iterator[str]:
    if then is None:
        return
    for key, value in now.items():
        if key in BY_NAME and isinstance(then.get(key), dict):
            yield from _entries(then[key], value)
        elif then.get(key) != value:
            yield f"{key} ({_shown(then.get(key))} then, {_shown(value)} now)"


def _entries(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, value in now.items():
        before = then.get(name, value)
        if isinstance(value, dict) and isinstance(before, dict):
            yield from (f"{name}.{change}" for change in _entries(before, value))
        elif before != value:
            yield f"{name} ({_shown(before)} then, {_shown(value)} now)"


def _shown(value: Any) -> str:
    return "unknown" if value is None else f"{value if isinstance(value, str) else json.dumps(value)}"[:60]

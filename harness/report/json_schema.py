"""JSON Schema of a run's files, derived from the dataclasses: the contract for their readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from whisper_parity.gate.result import GateResult
from whisper_parity.project import PACKAGE
from whisper_parity.run.report import SCHEMA_VERSION, Report

FILES: dict[str, tuple[type[Any], str]] = {
    "report.schema.json": (Report, f"report.json of a run, schema version {SCHEMA_VERSION}"),
    "gate.schema.json": (GateResult, "gate.json beside a run's report"),
}
"""Published under docs/: name, the dataclass behind it, title."""
FOLDER = PACKAGE.parent / "docs"


def of(kind: type[Any], title: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of a dataclass in its serialised form."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(kind).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_finished(schema), "title": title}


def write(folder: Path = FOLDER) -> None:
    """Rewrite the published files: `python -m whisper_parity.report.json_schema`."""
    for name, (kind, title) in FILES.items():
        (folder / name).write_text(dumps(kind, title), "utf-8")


def dumps(kind: type[Any], title: str) -> str:
    """The content of a schema's file."""
    return json.dumps(of(kind, title), indent=1, ensure_ascii=False) + "\n"


def _finished(node: Any) -> Any:
    """Allow the strings for non-finite numbers, which pydantic's schema omits."""
    if isinstance(node, list):
        return [_finished(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") == "number":
        rest = {key: value for key, value in node.items() if key != "type"}
        return {**rest, "anyOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity", "NaN"]}]}
    return {key: _finished(value) for key, value in node.items()}


if __name__ == "__main__":
    write()

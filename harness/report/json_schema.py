"""JSON Schema of what a run writes, made from the dataclasses: what readers of it may rely on."""

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
    """JSON Schema (2020-12) of a dataclass as it is written."""
    from pydantic import TypeAdapter

    made = TypeAdapter(kind).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_finished(made), "title": title}


def write(folder: Path = FOLDER) -> None:
    """Write the published files anew: `python -m whisper_parity.report.json_schema`."""
    for name, (kind, title) in FILES.items():
        (folder / name).write_text(dumps(kind, title), "utf-8")


def dumps(kind: type[Any], title: str) -> str:
    """A schema as its file holds it."""
    return json.dumps(of(kind, title), indent=1, ensure_ascii=False) + "\n"


def _finished(node: Any) -> Any:
    """Infinite numbers are the strings "Infinity" and "-Infinity", which pydantic's schema does not say."""
    if isinstance(node, list):
        return [_finished(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") == "number":
        rest = {key: value for key, value in node.items() if key != "type"}
        return {**rest, "anyOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity", "NaN"]}]}
    return {key: _finished(value) for key, value in node.items()}


if __name__ == "__main__":
    write()

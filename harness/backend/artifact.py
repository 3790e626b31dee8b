"""A stage's files and their lineage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from whisper_parity.backend.interface import Interface
from whisper_parity.backend.layout import Fitted
from whisper_parity.backend.stage import StageName
from whisper_parity.errors import ArtifactError
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.system import inputs
from whisper_parity.system.files import file_sha256

BuildOptions = Mapping[str, str | int | float | bool | None]

LINEAGE_VERSION = 1
AGAIN = "Build or copy it again"
DELETE = "Delete it, or build again"
CHECKPOINT, GIVEN, BUILT, CACHED = "checkpoint", "given", "built", "cached"
"""Origin of an artifact: the checkpoint itself, the user's folder, our converters now or in an earlier run."""


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of an artifact."""

    name: str
    """File name inside the artifact's folder."""
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stage's files and their lineage."""

    stage: str
    """As typed: "backend", "backend:variant"."""
    folder: Path
    files: dict[str, ArtifactFile]
    """By role: checkpoint, encoder, decoder, token_embedding, ..."""
    checkpoint: Checkpoint
    """The checkpoint it descends from; its dimensions give the expected shapes."""
    origin: str
    """CHECKPOINT, GIVEN, BUILT or CACHED."""
    parent_sha256: str | None = None
    tools: dict[str, str] | None = None
    options: dict[str, Any] | None = None
    created: str = ""
    build_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    """Remarks for readers of the report, such as the role assigned to each file."""
    interface: Interface | Fitted | None = None
    """How given files take and give their numbers; None for files of ours, whose form is known."""

    @property
    def is_foreign(self) -> bool:
        """Whether its files were given without a lineage record."""
        return self.origin == GIVEN and self.parent_sha256 is None

    @property
    def sha256(self) -> str:
        """One hash over all files and their roles."""
        lines = sorted(f"{role} {file.sha256}" for role, file in self.files.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def path(self, role: str) -> Path:
        """Path of the file of a role.

        Raises:
            ArtifactError: the artifact has no such file.
        """
        if role not in self.files:
            raise ArtifactError(f"{self.folder}: the {self.stage} artifact has no {role} file")
        return self.folder / self.files[role].name


def of_checkpoint(stage: str, checkpoint: Checkpoint) -> Artifact:
    """The artifact of a stage that runs the checkpoint itself."""
    file = ArtifactFile(checkpoint.path.name, checkpoint.sha256, checkpoint.path.stat().st_size)
    return Artifact(stage, checkpoint.path.parent, {"checkpoint": file}, checkpoint, CHECKPOINT)


def describe(folder: Path, names: Mapping[str, str]) -> dict[str, ArtifactFile]:
    """Hash the files of an artifact, given their names by role.

    Raises:
        ArtifactError: one is missing, empty, no regular file, or larger than any model.
    """
    files = {}
    for role, name in names.items():
        path = folder / name
        size = inputs.require_regular(path, inputs.MODEL_BYTES, ArtifactError, hint=AGAIN) if path.exists() else 0
        if size == 0:
            raise ArtifactError(f"{path}: the {role} file is missing or empty", hint=AGAIN)
        files[role] = ArtifactFile(name, file_sha256(path), size)
    return files


def cache_key(stage: str, parent_sha256: str, options: BuildOptions, tools: Mapping[str, str]) -> str:
    """One hash over everything that determines an artifact's content: same key, same files."""
    content = json.dumps([LINEAGE_VERSION, stage, parent_sha256, dict(options), dict(tools)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def lineage_name(stage: str) -> str:
    """File name of the lineage record beside a stage's files."""
    return f"{StageName.parse(stage).slug}.lineage.json"


def write_lineage(artifact: Artifact) -> None:
    """Write the lineage record beside the files."""
    record = {
        "lineage_version": LINEAGE_VERSION,
        "stage": artifact.stage,
        "checkpoint": artifact.checkpoint.name,
        "checkpoint_sha256": artifact.checkpoint.sha256,
        "sha256": artifact.sha256,
        "parent_sha256": artifact.parent_sha256,
        "files": {role: asdict(file) for role, file in artifact.files.items()},
        "tools": artifact.tools,
        "options": artifact.options,
        "created": artifact.created,
        "build_seconds": artifact.build_seconds,
    }
    path = artifact.folder / lineage_name(artifact.stage)
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", "utf-8")


def read_lineage(folder: Path, stage: str, checkpoint: Checkpoint, origin: str) -> Artifact | None:
    """The artifact described by a folder's lineage record, with freshly hashed files; None without a record.

    Raises:
        ArtifactError: the record is unreadable, a file changed since, or it descends from another checkpoint.
    """
    path = folder / lineage_name(stage)
    if not inputs.is_there(path):
        return None
    record = _read_record(path)
    if record["checkpoint_sha256"] != checkpoint.sha256:
        raise ArtifactError(
            f"{folder}: the {stage} files were built from another checkpoint than {checkpoint.path.name}",
            hint=f"Give their checkpoint {record['checkpoint']}, or build them again",
        )
    files = describe(folder, {role: file["name"] for role, file in record["files"].items()})
    _require_unchanged(folder, record["files"], files)
    return Artifact(
        stage, folder, files, checkpoint, origin, record["parent_sha256"], record["tools"], record["options"],
        record["created"], record["build_seconds"],
    )  # fmt: skip


def recorded_sha256(folder: Path, stage: str) -> str | None:
    """The hash of a stage's files as their lineage record has it, unchecked; None without a record that can be read."""
    path = folder / lineage_name(stage)
    try:
        return str(_read_record(path).get("sha256")) if inputs.is_there(path) else None
    except ArtifactError:
        return None


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


_RECORD_TYPES: Mapping[str, tuple[type, ...]] = {
    "checkpoint": (str,),
    "checkpoint_sha256": (str,),
    "parent_sha256": (str, type(None)),
    "tools": (dict, type(None)),
    "options": (dict, type(None)),
    "created": (str,),
    "build_seconds": (int, float),
}


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = inputs.read_json(path, ArtifactError, hint=DELETE)
        names = [file["name"] for file in record["files"].values()]
        complete = all(isinstance(record[key], kinds) for key, kinds in _RECORD_TYPES.items())
        if any(Path(name).name != name for name in names) or not complete:
            raise ValueError("a value of the wrong type, or a file name that leaves the folder")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a lineage record ({error})", hint=DELETE) from error
    return dict(record)


def _require_unchanged(folder: Path, recorded: Mapping[str, Any], files: Mapping[str, ArtifactFile]) -> None:
    for role, file in files.items():
        if file.sha256 != recorded[role].get("sha256"):
            raise ArtifactError(
                f"{folder / file.name}: changed since it was built (sha256 {file.sha256[:12]} is not the recorded one)",
                hint="Build it again, or delete its lineage record to have it judged as a file of unknown origin",
            )

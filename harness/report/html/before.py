"""What a run is held against where nobody says: its approved result, else the last run of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from whisper_parity import project
from whisper_parity.errors import ParityError
from whisper_parity.gate import approved
from whisper_parity.gate.approved import Difference
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report
from whisper_parity.system.files import exists

LOOKED_AT = 6
"""Runs that are read to find one of the same kind, the newest first."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A run against what was approved."""

    name: str
    cells: int
    """Approved cells of the run's stages."""
    differences: tuple[Difference, ...]


def approval(run: RunFolder, report: Report) -> Approval | None:
    """The run against the approved result of its checkpoint and policy; None where there is none.

    Raises:
        ParityError: there is one and it cannot be read.
    """
    place = project.find(project.around(run.path))
    folder = place.at(str(place.gate.get("folder", place.approved)))
    file = approved.path(folder, str(place.gate.get("approved") or approved.default_name(report)))
    if not exists(file):
        return None
    signed = approved.of_subset(approved.load(file), report)
    if signed.checkpoint_sha256 != report.checkpoint_sha256:
        return None  # another model of that name
    return Approval(file.stem, len(signed.cells), tuple(approved.differences(signed, report)))


def last(run: RunFolder, report: Report) -> RunFolder | None:
    """The newest run in the same folder recorded before this one with its checkpoint, policy and a cell."""
    cells = {(row.clip, row.stage) for row in report.rows if row.stage}
    folders = [RunFolder(path) for path in _siblings(run)]
    for folder in sorted(folders, key=_written, reverse=True)[:LOOKED_AT]:
        try:
            other = records.load(folder)
        except ParityError:
            continue
        same_kind = (other.checkpoint_sha256, other.policy) == (report.checkpoint_sha256, report.policy)
        if same_kind and other.created < report.created and any((row.clip, row.stage) in cells for row in other.rows):
            return folder
    return None


def _siblings(run: RunFolder) -> list[Path]:
    try:
        paths = [path for path in run.path.absolute().parent.iterdir() if path.name != run.path.name]
        return [path for path in paths if not path.name.startswith(".") and RunFolder(path).report.is_file()]
    except OSError:
        return []


def _written(folder: RunFolder) -> float:
    try:
        return folder.report.stat().st_mtime
    except OSError:
        return 0.0

"""The content of a run's folder, read once: the page is a view of it and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from whisper_parity import project
from whisper_parity.clips.clip import Clip
from whisper_parity.errors import ParityError, RecordError
from whisper_parity.explain.explanation import Explanations
from whisper_parity.gate.result import GateResult
from whisper_parity.run import options as run_options
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.options import RunOptions
from whisper_parity.run.report import Report, Row, StageInfo
from whisper_parity.system import serial
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace


@dataclass(frozen=True)
class Recorded:
    """A run as recorded in its folder; a missing part is None or empty, with its reason in `missing`."""

    folder: RunFolder
    report: Report
    """Of a large run its short form: the rows of its worst clips."""
    whole: Report
    """With all rows, which are read as they are asked for."""
    gate: GateResult | None
    explanations: tuple[Explanations, ...]
    options: RunOptions | None
    """The run's options; None for a folder without options.json."""
    clips: Mapping[str, Clip]
    """The clips that still exist, by name."""
    missing: tuple[str, ...]
    """Unreadable parts, one line each."""

    @property
    def clip_names(self) -> tuple[str, ...]:
        """Every clip of the report in its order, unusable ones included."""
        return tuple(dict.fromkeys(cell.clip for cell in self.report.rows))

    def cell(self, clip: str, stage: str) -> Row | None:
        """A cell of the grid; None when it has not run."""
        return next((cell for cell in self.of_clip(clip) if cell.stage == stage), None)

    def of_clip(self, name: str) -> list[Row]:
        """A clip's cells."""
        return self._by_clip[name]

    @cached_property
    def _by_clip(self) -> dict[str, list[Row]]:
        cells: dict[str, list[Row]] = {}
        for cell in self.report.rows:
            cells.setdefault(cell.clip, []).append(cell)
        return cells

    @property
    def edges(self) -> tuple[StageInfo, ...]:
        """The stages with a parent: each is the candidate of one edge."""
        return tuple(stage for stage in self.report.stages if stage.parent)


class Traces:
    """Traces of a run, read on demand; two are kept, so that a long clip costs two traces of memory."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._read = lru_cache(maxsize=2)(file.load)
        self.unread: dict[str, str] = {}
        """Why a file could not be read, by its name."""

    def get(self, clip: str, stage: str) -> Trace | None:
        """A trace; None when the run kept none or it is unreadable."""
        path = self._folder.trace(clip, stage)
        if path.parent != self._folder.traces or not path.is_file():  # a name may try to leave the folder
            return None
        try:
            return self._read(path)
        except RecordError as error:
            self.unread[path.name] = str(error)
        return None


def load(folder: RunFolder) -> Recorded:
    """Read a run's folder.

    Raises:
        RecordError: no report, or one of another version.
    """
    report = records.load(folder)
    missing: list[str] = []
    options = _options(folder, missing)
    return Recorded(
        folder=folder,
        report=report.short,
        whole=report,
        gate=_optional(GateResult, folder.gate, missing) if folder.gate.is_file() else None,
        explanations=_explanations(folder, missing),
        options=options,
        clips=_clips(options, missing) if options else {},
        missing=tuple(missing),
    )


def _options(folder: RunFolder, missing: list[str]) -> RunOptions | None:
    try:
        return run_options.load(folder.options, project.around(folder.path))
    except RecordError as error:
        missing.append(str(error))
        return None


def _optional(kind: type, path: Path, missing: list[str]):  # type: ignore[no-untyped-def,type-arg]
    """Read a record; on failure return None and add the reason to `missing`."""
    try:
        return serial.read(kind, path)
    except RecordError as error:
        missing.append(str(error))
        return None


def _explanations(folder: RunFolder, missing: list[str]) -> tuple[Explanations, ...]:
    records = (_optional(Explanations, path, missing) for path in folder.explanations())
    return tuple(record for record in records if record)


def _clips(options: RunOptions, missing: list[str]) -> Mapping[str, Clip]:
    """The run's clips; they may have moved since, and the page then has no sound."""
    try:
        selected = options.selected()
    except ParityError as error:
        missing.append(f"audio and log-mel pictures: {error}")
        return {}
    return {clip.name: clip for clip in selected.clips}

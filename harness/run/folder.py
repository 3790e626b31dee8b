"""A run's folder: where each of its files is, and which run is meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.backend.stage import StageName
from whisper_parity.errors import RecordError
from whisper_parity.system import closeness

REPORT = "report.json"
JOURNAL = "journal.jsonl"
RESULTS = (".json", ".jsonl", ".txt", ".srt", ".vtt", ".csv", ".tsv")
"""Suffixes of files that somebody means by a result, and no run."""
TRACE_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run; no other module knows how a file in it is called."""

    path: Path

    @classmethod
    def open(cls, given: Path | None, reports: Path) -> RunFolder:
        """A recorded run by the path of its folder or report, by its name under `reports`, or the newest for None.

        Raises:
            RecordError: there is none.
        """
        if given is None:
            return cls._newest(reports)
        for path in (given, reports / given):
            if path.name == REPORT and path.is_file():
                return cls(path.parent).without_links()
            if (path / REPORT).is_file():
                return cls(path).without_links()
        raise _no_run(given, reports)

    @classmethod
    def _newest(cls, reports: Path) -> RunFolder:
        runs = recorded(reports)
        if not runs:
            raise RecordError(f"{reports}: no run yet", hint="Run `parity run` first")
        return runs[0].without_links()

    def without_links(self) -> RunFolder:
        """The same folder; one from elsewhere must not direct what is written into it to another place.

        Raises:
            RecordError: a link is in it.
        """
        for place, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                if (path := Path(place, name)).is_symlink():
                    raise RecordError(f"{path}: a link, and a run holds none", hint="Delete it")
        return self

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def reports(self) -> Path:
        """The folder that it lies in."""
        return self.path.parent

    @property
    def report(self) -> Path:
        """All cells, judged."""
        return self.path / REPORT

    @property
    def options(self) -> Path:
        """What the run was asked for."""
        return self.path / "options.json"

    def page_of_rows(self, name: str) -> Path:
        """A file of rows of a large run, by its name in the report."""
        return self.path / Path(name).name  # a name may try to leave the folder

    def pages_of_rows(self) -> Iterator[Path]:
        """Every file of rows."""
        return self.path.glob("rows-*.jsonl")

    @property
    def journal(self) -> Path:
        """What it has finished, line by line."""
        return self.path / JOURNAL

    @property
    def owner(self) -> Path:
        """Held by the process that works on the run."""
        return self.path / ".locks" / "owner"

    @property
    def conditions(self) -> Path:
        """What its numbers depend on."""
        return self.path / "run.json"

    @property
    def gate(self) -> Path:
        """What the gate said of it."""
        return self.path / "gate.json"

    @property
    def page(self) -> Path:
        """The page about it."""
        return self.path / "index.html"

    @property
    def taps(self) -> Path:
        """Folder of what probes measured."""
        return self.path / "taps"

    @property
    def crashes(self) -> Path:
        """Folder of tracebacks, one for each error that nobody thought of."""
        return self.path / "crashes"

    @property
    def traces(self) -> Path:
        """Folder of its traces."""
        return self.path / "traces"

    def trace(self, clip: str, stage: str) -> Path:
        """What a stage did with a clip."""
        return self.traces / f"{_cell(clip, stage)}{TRACE_SUFFIX}"

    def lock(self, clip: str, stage: str) -> Path:
        """Held while a cell is recorded: two processes never record the same one."""
        return self.path / ".locks" / _cell(clip, stage)

    def explanation(self, clip: str, stage: str) -> Path:
        """What was found about the differences of a cell."""
        return self.path / "explain" / f"{_cell(clip, stage)}.json"

    def explanations(self) -> Iterator[Path]:
        """All explanations, by name."""
        return iter(sorted((self.path / "explain").glob("*.json")))

    def is_page_alone(self) -> bool:
        """Whether nothing lies in it but a page that was written elsewhere, as in the sample."""
        return [path.name for path in self.path.iterdir()] == [self.page.name]


def recorded(reports: Path) -> list[RunFolder]:
    """The runs in a folder, the newest first."""
    paths = sorted(reports.glob(f"*/{REPORT}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [RunFolder(path.parent) for path in paths]


def _no_run(given: Path, reports: Path) -> RecordError:
    """What is there under a name that is no run's, where it was looked for, and what was meant."""
    names = [run.name for run in recorded(reports)]
    newest = f"The newest are {', '.join(names[:3])}" if names else "There is none yet: `parity run` makes one"
    folder = next((place for place in (given, reports / given) if place.is_dir()), None)
    if folder and RunFolder(folder).options.is_file():
        again = f"Go on with it: `parity run --run-id {folder.name}` and the options that it was made with"
        return RecordError(f"{given}: a run that was cut off before its report", hint=again)
    if folder:
        what = "an empty folder" if not any(folder.iterdir()) else f"a folder without {REPORT}"
        return RecordError(f"{given}: no run, {what}", hint=newest)
    if given.is_file():
        return RecordError(f"{given}: a file, and no {REPORT} of a run", hint=newest)
    if given.suffix in RESULTS:
        return RecordError(f"{given}: no such file", hint="Give two result files, or two runs")
    places = f"looked in {Path.cwd() if given == Path(given.name) else given.parent}"
    places += "" if given.is_absolute() else f" and in {reports}"
    return RecordError(f"no run called {given}: {places}", hint=closeness.hint(given.name, names, newest))


def _slug(stage: str) -> str:
    return StageName.parse(stage).slug


def _cell(clip: str, stage: str) -> str:
    return f"{clip}--{_slug(stage)}"

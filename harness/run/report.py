"""What a run's report holds: every number of a run; tables and pages are views of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from whisper_parity.backend.artifact import ArtifactFile
from whisper_parity.backend.contract import Placement, Usage
from whisper_parity.compare.comparison import Comparison
from whisper_parity.compare.finding import Finding
from whisper_parity.compare.text import TextDiff
from whisper_parity.errors import RecordError
from whisper_parity.judge.program import ProgramCheck
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.pages import Page, PagedRows
from whisper_parity.run.totals import Totals
from whisper_parity.system import serial
from whisper_parity.system.machine import Machine
from whisper_parity.weights.result import LookUp

SCHEMA_VERSION = 5
"""5: totals by stage; rows of a large run in pages."""
READ = (4, 5)
"""Versions that are read: nothing of 4 was taken away."""


@dataclass(frozen=True)
class Judged:
    """A comparison and its verdict."""

    comparison: Comparison
    verdict: Verdict


@dataclass(frozen=True)
class Row:
    """One judged cell: a stage on a clip."""

    clip: str
    stage: str
    verdict: Verdict
    """The worst of the verdicts against parent and root."""
    label: str
    """What really ran; "" when nothing did."""
    text: str
    tokens: int
    audio_s: float
    seconds: float
    encoder_calls: int
    decoder_calls: int
    vs_parent: Judged | None
    vs_root: Judged | None
    """None when the root is the parent."""
    vs_transcript: TextDiff | None
    """Against the clip's reference transcript, where it has one; informs, is not judged."""
    notes: tuple[str, ...]
    reproduce: str
    """Command that repeats this row."""
    usage: Usage | None = None
    """What was spent on a device and on the way there."""
    language: str = ""
    """Language of the prompt, a Whisper code; "" when nothing ran."""
    token_ids: tuple[int, ...] = ()
    """The text tokens themselves; `tokens` of them."""
    recorded: str = ""
    """When an earlier run recorded it, in `seconds`, and the cache kept it; "" where this run did."""
    program: ProgramCheck | None = None
    """What a program did by itself: front end, prompt, detokeniser, end; None for a stage that our loop decodes."""

    @property
    def judged(self) -> Judged | None:
        """What the table shows: the comparison against the parent."""
        return self.vs_parent

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Named findings: of a program by itself, then against the parent, or where there is none against the root."""
        sides = [side.comparison.findings for side in (self.vs_parent, self.vs_root) if side]
        own = self.program.findings if self.program else ()
        return (*own, *next(filter(None, sides), ()))


def row_without_trace(clip: str, stage: str, verdict: Verdict, reproduce: str) -> Row:
    """The row of a stage that did not get as far as a comparison."""
    return Row(clip, stage, verdict, "", "", 0, 0.0, 0.0, 0, 0, None, None, None, (), reproduce)


@dataclass(frozen=True)
class StageInfo:
    """A stage of the run and where its artifact came from."""

    spec: str
    parent: str | None
    available: bool
    reason: str
    """Versions, or why it is not available."""
    origin: str = ""
    """"checkpoint", "given", "built" or "cached"; "" when there is no artifact."""
    folder: str = ""
    sha256: str = ""
    parent_sha256: str | None = None
    files: dict[str, ArtifactFile] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    build_seconds: float = 0.0
    placement: tuple[Placement, ...] = ()
    """Where its files really ran; empty when nothing ran or the runtime does not say."""
    notes: tuple[str, ...] = ()
    """Which file was taken for what, where its name did not say; what files take and give."""
    root: str = ""
    """The stage that it is judged against beside its parent: the root under its window; "" for none."""
    weights: LookUp | None = None
    """Which of the checkpoint's weights given files hold; None for files that were built here."""

    @property
    def source(self) -> str:
        """How a table says where its files come from: "given", "built", or "" for the checkpoint and for nothing."""
        return {"given": "given", "external": "given", "built": "built", "cached": "built"}.get(self.origin, "")


@dataclass(frozen=True, slots=True)
class CacheFault:
    """Something about a stage's KV cache: a fault, or a remark."""

    kind: str
    """The cause, which the reference reproduces; "" where none is known."""
    sentence: str
    """What was found, how far off, and where."""
    layer: int | None
    """Of the first row of the cache that is not the reference's; None where it is not known."""
    slot: int | None
    step: int
    """Of the part of the script: tokens that were fed before, from 0."""
    part: str
    """Of the script: "first", "rewind", "another clip", "A B A", "poison", "limit", "dead inputs"."""
    fails: bool = True
    """False for a remark."""


@dataclass(frozen=True)
class OrderCheck:
    """Whether a stage's result on a clip depends on what ran before."""

    stage: str
    sequence: str
    """What was run: "A B A", "short after long"."""
    clips: tuple[str, ...]
    stateful: bool
    reason: str
    """What differed, where and how far; "" when nothing did."""
    checked: bool = True
    """False when it could not be checked; the reason says why."""
    reproducible: bool = True
    """False when fresh sessions give other results for the same sequence: judged against that noise of its own."""
    error_code: int = 0
    """Exit code of the error that ended the check; 0 when none did."""
    runs: int = 0
    """How often a clip was run for it."""
    seconds: float = 0.0
    recorded: str = ""
    """When an earlier run checked it, and the cache kept that; "" where this run did."""
    cache: tuple[CacheFault, ...] = ()
    """What was found in its KV cache, of a stage that has one; the first thing first."""

    @property
    def failed(self) -> bool:
        """Whether it is stateful, or keeps its cache wrongly."""
        return self.stateful or any(fault.fails for fault in self.cache)

    @property
    def exit_code(self) -> int:
        """1 when it failed, else that of the error that ended it."""
        return 1 if self.failed else self.error_code


@dataclass(frozen=True)
class Report:
    """A whole run."""

    schema_version: int
    run: str
    created: str
    finished: bool
    """False while rows are still missing: a run that was cut off can be continued by its name."""
    verdict: Outcome
    exit_code: int
    summary: str
    """The verdict in one sentence."""
    checkpoint: str
    checkpoint_sha256: str
    checkpoint_note: str
    policy: str
    policy_options: dict[str, Any]
    tolerances: dict[str, dict[str, Any]]
    """Every limit by edge; an infinite one is the string "Infinity", which `float` reads."""
    machine: Machine
    stages: tuple[StageInfo, ...]
    rows: tuple[Row, ...]
    """All of them; in report.json empty where they are in `pages`, from which they are read as they are asked for."""
    seconds: float
    states: tuple[OrderCheck, ...] = ()
    """Checks of state and order; a stateful stage fails the run."""
    misplaced: tuple[str, ...] = ()
    """Why stages do not meet `require_placement`; empty when they do, or when it was not asked for."""
    tolerance_origins: dict[str, dict[str, str]] = field(default_factory=dict)
    """By edge and limit: the multiples of measured noise that a limit was written as, and whose noise it is."""
    root: str = "pytorch"  # runs of before this was recorded had no other
    """The stage that every later one is judged against."""
    clip_notes: tuple[str, ...] = ()
    """What the selection of clips left out: files of a folder that are no sound."""
    windows: tuple[str, ...] = ()
    """What each window other than the checkpoint's changed by itself, in a sentence each."""
    subset: str = ""
    """"2 of 6 cells": the others were not selected, and nothing is said of them; "" for a whole run."""
    threads: int = 0
    """Of every runtime; 0 where an earlier version did not record it."""
    totals: tuple[Totals, ...] = ()
    """By stage, over all rows; empty where an earlier version did not record them, see `run.tally`."""
    clips: int = 0
    """Of the rows; 0 where an earlier version did not record it."""
    pages: tuple[Page, ...] = ()
    """Files of rows; none where `rows` holds them."""
    excerpt: tuple[Row, ...] = ()
    """Of a run whose rows are in pages: the rows of its worst clips, which a reader looks at first."""
    traces: str = "all"
    """Which traces the run keeps: "all", "worst:10", "none"."""

    @property
    def short(self) -> Report:
        """The report for a reader: as it is, or of a large run with the rows of its worst clips alone."""
        return replace(self, rows=self.excerpt) if self.pages else self

    @property
    def held(self) -> Report:
        """The report with all rows in memory, for what goes through them several times."""
        return replace(self, rows=tuple(self.rows), pages=(), excerpt=())

    @property
    def left_out(self) -> int:
        """Clips that the `short` report leaves out."""
        return self.clips - len({row.clip for row in self.excerpt}) if self.pages else 0


def load(folder: RunFolder) -> Report:
    """Read a run's report.

    Raises:
        RecordError: there is none, or it was written by another version.
    """
    report = serial.read(Report, folder.report)
    if report.schema_version not in READ:
        read = " and ".join(map(str, READ))
        raise RecordError(f"{folder.report}: schema version {report.schema_version}, this program reads {read}")
    return opened(folder, report)


def opened(folder: RunFolder, report: Report) -> Report:
    """A report with the rows of its pages, which are read as they are asked for."""
    return replace(report, rows=rows_of(folder, report.pages, report.rows))


def rows_of(folder: RunFolder, pages: Sequence[Page], inline: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows of a report, which has them itself or in pages: a sequence like a tuple that is not held in memory."""
    return cast("tuple[Row, ...]", PagedRows(folder, pages, _row)) if pages else inline


def _row(line: bytes, where: str) -> Row:
    return serial.loads(Row, line, where)

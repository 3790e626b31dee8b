"""Approved results: results that a person has inspected and approved, reviewed in git like any snapshot.

Texts, tokens and the error counts derived from them are compared exactly. Signal-to-noise ratios are compared with a
margin (`worse_by_db` of the edge), because another processor sums in another order.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from whisper_parity.errors import RecordError, UsageError
from whisper_parity.gate import evidence, measure
from whisper_parity.run.report import Report, Row, StageInfo
from whisper_parity.system import files, serial
from whisper_parity.system.files import safe_name

VERSION = 1
RESERVED = frozenset({"noise"})
"""Names of other files in the folder."""
OBTAINED = ".obtained"


@dataclass(frozen=True)
class Cell:
    """One clip through one stage; one line of the file."""

    clip: str
    stage: str
    language: str
    text: str
    tokens: tuple[int, ...]
    metrics: dict[str, float] = field(default_factory=dict)
    """Against the parent, and `errors` against the transcript; rounded; infinite where tensors are identical."""


@dataclass(frozen=True)
class Artifact:
    """A stage's artifact at approval; informative, not compared."""

    sha256: str
    tools: dict[str, str]
    options: dict[str, Any]


@dataclass(frozen=True)
class Approved:
    """One approved run."""

    approved_version: int
    name: str
    checkpoint: str
    checkpoint_sha256: str
    policy: str
    policy_options: dict[str, Any]
    packages: dict[str, str]
    """Package versions of the recording; informative, not compared, like `stages`."""
    stages: dict[str, Artifact]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one cell (or of the whole run) that differs from the approved result."""

    clip: str
    """"" for the whole run."""
    stage: str
    name: str
    expected: str
    obtained: str

    @property
    def where(self) -> str:
        """The cell as shown in reports."""
        return " · ".join(part for part in (self.clip, self.stage) if part) or "the whole run"


def default_name(report: Report) -> str:
    """Checkpoint and policy, which a result depends on by intention."""
    return safe_name(f"{report.checkpoint}-{report.policy}")


def path(folder: Path, name: str) -> Path:
    """The file of the approved result of this name.

    Raises:
        UsageError: the name leaves the folder or is reserved.
    """
    if not name or name != safe_name(name) or name in RESERVED or name.endswith(OBTAINED):
        raise UsageError(f"{name!r:.60} cannot name an approved result", hint="Use letters, digits, '.', '_' and '-'")
    return folder / f"{name}.json"


def obtained_path(approved: Path) -> Path:
    """Where the gate writes a differing result: beside the approved file, ignored by git."""
    return approved.with_name(f"{approved.stem}{OBTAINED}.json")


def summarise(report: Report, name: str) -> Approved:
    """The compact summary of a run, cells sorted by clip, then in the order of the chain."""
    stages = [stage.spec for stage in report.stages]
    cells = sorted((cell for cell in report.rows if _has_result(cell)), key=lambda c: (c.clip, stages.index(c.stage)))
    return Approved(
        approved_version=VERSION,
        name=name,
        checkpoint=report.checkpoint,
        checkpoint_sha256=report.checkpoint_sha256,
        policy=report.policy,
        policy_options=dict(report.policy_options),
        packages=dict(report.machine.packages),
        stages={stage.spec: _artifact(stage) for stage in report.stages},
        cells=tuple(_cell(cell) for cell in cells),
    )


def load(file: Path) -> Approved:
    """Read an approved result.

    Raises:
        RecordError: it cannot be read, or was written by another version.
    """
    approved = serial.read(Approved, file)
    if approved.approved_version != VERSION:
        raise RecordError(f"{file}: version {approved.approved_version}, this program reads {VERSION}")
    return approved


def save(file: Path, approved: Approved) -> None:
    """Write an approved result in stable order, one line per cell, so that git shows what changed."""
    whole = asdict(approved)
    cells, stages = whole.pop("cells"), whole.pop("stages")
    lines = [f" {_json(key)}: {_json(value)}," for key, value in whole.items()]
    lines += [' "stages": {', *_joined(f"  {_json(key)}: {_json(value)}" for key, value in stages.items()), " },"]
    lines += [' "cells": [', *_joined(f"  {_json(_finite(cell))}" for cell in cells), " ]"]
    files.write_text(file, "\n".join(["{", *lines, "}"]) + "\n")


def approve(report: Report, folder: Path, name: str | None = None) -> tuple[Path, list[str]]:
    """Write a run as approved and return the lines of what changed; CI cannot.

    Raises:
        UsageError: called in CI, or the run has cells without a result.
    """
    if in_ci():
        raise UsageError(
            "approved results are not written in CI", hint="Run `parity approve` yourself, commit the file"
        )
    _require_complete(report)
    file = path(folder, name or default_name(report))
    changes = diff(file, differences(load(file), report)) if file.is_file() else []
    save(file, summarise(report, file.stem))
    obtained_path(file).unlink(missing_ok=True)
    return file, changes


def _require_complete(report: Report) -> None:
    bad = [cell for cell in report.rows if not _has_result(cell)]
    if bad or not report.finished or report.subset or not report.rows:
        which = f"{bad[0].clip} · {bad[0].stage}: {bad[0].verdict.reason}" if bad else "cells are missing"
        raise UsageError(f"run {report.run} has cells without a result, {which}", hint="Repair it, and run again")


def in_ci() -> bool:
    """Whether the environment variable CI is set."""
    return os.environ.get("CI", "").strip().lower() not in ("", "0", "false", "no")


def differences(expected: Approved, report: Report) -> list[Difference]:
    """Differences from the approved result: premises of the run, cells that one side lacks, texts, tokens.

    An approved stage that the run left out is no difference (the gate's `stages` setting names the required ones). An
    approved clip that the run left out is one.
    """
    obtained = summarise(report, expected.name)
    changed = _run_differences(expected, obtained)
    ours, theirs = ({(cell.clip, cell.stage): cell for cell in side.cells} for side in (expected, obtained))
    stages = {stage.spec for stage in report.stages}
    selected = [key for key in ours if key[1] in stages]
    for clip, stage in dict.fromkeys([*selected, *theirs]):
        changed += _cell_differences(ours.get((clip, stage)), theirs.get((clip, stage)), clip, stage)
    return changed


def of_subset(expected: Approved, report: Report) -> Approved:
    """The approved cells that a report covers: all, or those of its subset."""
    if not report.subset:
        return expected
    keys = {(cell.clip, cell.stage) for cell in report.rows}
    return replace(expected, cells=tuple(cell for cell in expected.cells if (cell.clip, cell.stage) in keys))


def worse_metrics(expected: Approved, edge: evidence.EdgeEvidence, worse_by_db: float) -> tuple[list[Difference], int]:
    """Figures of an edge that are worse than approved by more than a margin, and how many were compared.

    An SNR may fall by `worse_by_db`, and anywhere inside the pass band of the edge; flips may not increase.
    """
    cells = {(cell.clip, cell.stage): cell for cell in expected.cells}
    worse, compared = [], 0
    for pair in edge.pairs:
        approved = cells.get((pair.clip, edge.edge.candidate))
        if pair.row is None or pair.missing or approved is None:
            continue
        obtained = measure.cell(pair.row)
        for name in [metric for metric in COMPARED if metric in approved.metrics]:
            compared += 1
            if _is_worse(name, approved.metrics[name], obtained.get(name), edge, worse_by_db):
                worse.append(
                    _difference(pair.clip, edge.edge.candidate, name, approved.metrics[name], obtained.get(name))
                )
    return worse, compared


COMPARED = ("features_snr_db", "encoder_output_snr_db", "logits_snr_db", "flips", "errors")
"""Metrics of an approved cell that a run may not worsen."""


def diff(file: Path, differences: Sequence[Difference]) -> list[str]:
    """The differences like a unified diff: expected with "-", obtained with "+"."""
    lines = [f"--- {file.name}", f"+++ {obtained_path(file).name}"] if differences else []
    where = ""
    for difference in differences:
        if difference.where != where:
            where = difference.where
            lines.append(f"@@ {where} @@")
        lines += [
            f"{sign}{difference.name}: {value}"
            for sign, value in (("-", difference.expected), ("+", difference.obtained))
            if value
        ]
    return lines


def _run_differences(expected: Approved, obtained: Approved) -> list[Difference]:
    names = ("checkpoint_sha256", "policy", "policy_options")
    pairs = [(name, getattr(expected, name), getattr(obtained, name)) for name in names]
    return [Difference("", "", name, _json(ours), _json(theirs)) for name, ours, theirs in pairs if ours != theirs]


def _cell_differences(ours: Cell | None, theirs: Cell | None, clip: str, stage: str) -> list[Difference]:
    if ours is None or theirs is None:
        cell = ours or theirs
        text = _json(cell.text) if cell else ""
        return [Difference(clip, stage, "text", text if ours else "", text if theirs else "")]
    return [
        Difference(clip, stage, name, _json(getattr(ours, name)), _json(getattr(theirs, name)))
        for name in ("language", "text", "tokens")
        if getattr(ours, name) != getattr(theirs, name)
    ]


def _is_worse(
    name: str, approved: float, obtained: float | None, edge: evidence.EdgeEvidence, worse_by_db: float
) -> bool:
    if obtained is None:
        return True
    if not name.endswith("_snr_db"):
        return not measure.within(name, obtained, approved)
    passes = getattr(edge.tolerance, name).passes
    return not measure.within(name, obtained, min(approved - worse_by_db, passes))


def _difference(clip: str, stage: str, name: str, approved: float, obtained: float | None) -> Difference:
    return Difference(clip, stage, name, f"{approved:g}", "not measured" if obtained is None else f"{obtained:.4g}")


def _has_result(cell: Row) -> bool:
    return bool(cell.stage) and cell.verdict.outcome not in evidence.NOT_RUN and len(cell.token_ids) == cell.tokens


def _cell(cell: Row) -> Cell:
    metrics = {name: _rounded(name, value) for name, value in measure.cell(cell).items()}
    return Cell(cell.clip, cell.stage, cell.language, cell.text, cell.token_ids, metrics)


def _rounded(name: str, value: float) -> float:
    """SNRs to whole decibels, the rest to two digits: further digits change from machine to machine."""
    if math.isinf(value):
        return value
    if name.endswith("_db"):
        return round(value)
    return value if isinstance(value, int) else float(f"{value:.2g}")


def _artifact(stage: StageInfo) -> Artifact:
    return Artifact(stage.sha256, dict(sorted(stage.tools.items())), dict(sorted(stage.options.items())))


def _finite(cell: dict[str, Any]) -> dict[str, Any]:
    """Replace infinity, which JSON lacks, by the string "Infinity", as in reports."""
    metrics = {name: str(value).replace("inf", "Infinity") if math.isinf(value) else value
               for name, value in cell["metrics"].items()}  # fmt: skip
    return {**cell, "metrics": metrics}


def _json(value: Any) -> str:
    """One line of JSON; invisible characters (control and direction) as escapes."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=False, default=str)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _joined(lines: Iterable[str]) -> list[str]:
    listed = list(lines)
    return [f"{line}," for line in listed[:-1]] + listed[-1:]

"""Artifacts as a user gives them, without lineage records, and ways to spoil them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from tests.support.refusals import files_of, require_line, require_no_traceback, rows_of
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Report, Row

ROLES = {
    "torchscript": ("encoder_{}_3000.pt", "decoder_{}_448.pt"),
    "tflite": ("encoder_{}_80x3000.tflite", "decoder_{}_448.tflite"),
}


@dataclass(frozen=True)
class Folder:
    """A folder of artifacts that a user gives, without lineage records."""

    path: Path
    name: str
    """Of the checkpoint, as it stands in the file names."""
    run: Callable[..., Result] = field(repr=False)
    reports: Path
    capfd: pytest.CaptureFixture[str] = field(repr=False)

    def file(self, stage: str, role: str) -> Path:
        return self.path / ROLES[stage][role == "decoder"].format(self.name)

    @property
    def token_embedding(self) -> Path:
        return self.path / "token_embedding.npy"

    def judged(self, stage: str, exit_code: int = 2) -> Row:
        """The stage's row of a run on these files; the root's row and trace stay as they were."""
        before = files_of(self.reports / "one" / "traces")
        words = ("--artifacts", self.path, "--stages", stage, "--clips", self.reports.parent / "good.wav")
        self.capfd.readouterr()
        result = self.run("run", "--language", "en", "--run-id", "one", *words)
        require_no_traceback(result, exit_code)
        assert self.capfd.readouterr() == ("", "")  # nothing that a native runtime printed by itself
        rows = rows_of(self.reports / "one")
        assert rows["good", "pytorch"].verdict.outcome is Outcome.REFERENCE
        assert before.items() <= files_of(self.reports / "one" / "traces").items()
        if exit_code:
            require_line(result, rows["good", stage])
        return rows["good", stage]

    def report(self, stage: str, *words: object) -> Report:
        """A run on these files, whatever became of it."""
        clip = self.reports.parent / "good.wav"
        given = ("--artifacts", self.path, "--stages", stage, "--clips", clip, "--language", "en", "--run-id", "other")
        self.run("run", *given, *words)
        return records.load(RunFolder(self.reports / "other"))

    def refused(self, stage: str) -> str:
        """The reason with which the stage's files are refused: no number is compared."""
        row = self.judged(stage)
        assert row.verdict.outcome is Outcome.INVALID_INPUT
        assert (row.vs_parent, row.vs_root) == (None, None)
        return row.verdict.reason


def replace(path: Path, content: bytes) -> None:
    """Give a file other content, and leave those that are linked to it alone."""
    path.unlink()
    path.write_bytes(content)


def dump(table: Any, path: Path) -> None:
    """Put another table in a .npy file's place."""
    path.unlink()
    np.save(path, table)


CORRUPT: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda content: content[: len(content) // 2],
    "cut at its end": lambda content: content[:-100],
    "random bytes": lambda content: np.random.default_rng(0).bytes(5000),
    "text": lambda content: b"model\n" * 100,
    "zeros": lambda content: bytes(5000),
}

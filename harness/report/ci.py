"""What a job of continuous integration picks up: a summary on its page, annotations at its lines."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from whisper_parity.errors import printable
from whisper_parity.gate.result import GateResult
from whisper_parity.report import markdown
from whisper_parity.run.report import Report

ANNOTATIONS = 10
"""A job page shows no more of one step."""


def announce(report: Report, gate: GateResult | None) -> None:
    """Write the summary into the file that GITHUB_STEP_SUMMARY names, and annotations where GITHUB_ACTIONS is set."""
    if target := os.environ.get("GITHUB_STEP_SUMMARY"):
        _append(Path(target), markdown.render(report, gate))
    if os.environ.get("GITHUB_ACTIONS"):
        for line in commands(report, gate):
            click.echo(line)


def commands(report: Report, gate: GateResult | None) -> list[str]:
    """Workflow commands, one for each rule that failed; without a gate, one for each cell that did."""
    if gate is not None:
        failed = [(f"parity {each.rule} {each.edge}".strip(), f"{each.actual} (limit: {each.limit})")
                  for each in gate.rules if not each.passed]  # fmt: skip
    else:
        failed = [(f"parity {row.clip} {row.stage}".strip(), f"{row.verdict.outcome.value}: {row.verdict.reason}")
                  for row in report.rows if row.verdict.outcome.exit_code]  # fmt: skip
    lines = [f"::error title={_property(title)}::{_data(message)}" for title, message in failed[:ANNOTATIONS]]
    if len(failed) > ANNOTATIONS:
        lines.append(f"::error title=parity::{len(failed) - ANNOTATIONS} more")
    return lines


def _append(file: Path, text: str) -> None:
    """Other steps write into the same file; one that cannot be written stops no gate."""
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")
    except OSError as error:
        click.echo(f"parity: {file}: the summary cannot be written ({error.strerror})", err=True, file=sys.stderr)


def _data(text: str) -> str:
    """A message of a workflow command: no line break ends it, no percent sign starts an escape."""
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A property of a workflow command: a colon or comma would end it."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")

"""Output for continuous integration: a summary on the job's page, annotations at its lines."""

from __future__ import annotations

import os
from pathlib import Path

import click

from whisper_parity.errors import printable
from whisper_parity.gate.result import GateResult
from whisper_parity.report import markdown
from whisper_parity.run.report import Report
from whisper_parity.system import terminal

ANNOTATIONS = 10
"""A job page shows no more per step."""


def announce(report: Report, gate: GateResult | None, *, to_stderr: bool = False) -> None:
    """Append the summary to the file of GITHUB_STEP_SUMMARY, and print annotations where GITHUB_ACTIONS is set.

    Args:
        report: the run.
        gate: what judged it.
        to_stderr: print them there, since stdout is a document.
    """
    if target := os.environ.get("GITHUB_STEP_SUMMARY"):
        _append(Path(target), markdown.render(report, gate))
    if os.environ.get("GITHUB_ACTIONS"):
        for line in commands(report, gate):
            click.echo(line, err=to_stderr)  # a command on purpose, its texts escaped as commands have them


def commands(report: Report, gate: GateResult | None) -> list[str]:
    """Workflow commands, one per failed rule, or without a gate one per failed cell."""
    if gate is not None:
        failed = [(f"parity {rule.rule} {rule.edge}".strip(), f"{rule.actual} (limit: {rule.limit})")
                  for rule in gate.rules if not rule.passed]  # fmt: skip
    else:
        failed = [(f"parity {cell.clip} {cell.stage}".strip(), f"{cell.verdict.outcome.value}: {cell.verdict.reason}")
                  for cell in report.rows if cell.verdict.outcome.exit_code]  # fmt: skip
    lines = [f"::error title={_property(title)}::{_data(message)}" for title, message in failed[:ANNOTATIONS]]
    if len(failed) > ANNOTATIONS:
        lines.append(f"::error title=parity::{len(failed) - ANNOTATIONS} more")
    return lines


def _append(file: Path, text: str) -> None:
    """Append to a file shared with other steps; a write error does not stop the gate."""
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")
    except OSError as error:
        terminal.say(f"parity: {file}: the summary cannot be written ({error.strerror})", to_stderr=True)


def _data(text: str) -> str:
    """Escape a message of a workflow command: line breaks would end it, percent signs start escapes."""
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a property of a workflow command: a colon or comma would end it."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")

"""The formats of a recorded run: one table, each entry imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from whisper_parity.gate.result import GateResult
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import serial

if TYPE_CHECKING:
    from whisper_parity.run.report import Report

TEXTS = {
    "json": "whisper_parity.report.views:as_json",
    "markdown": "whisper_parity.report.markdown:render",
    "junit": "whisper_parity.report.junit:render",
}
"""Formats rendered as one text from a report and the gate's result: name -> "module:function"."""

FORMATS = ("console", *TEXTS, "html")


def text(form: str, run: RunFolder) -> str:
    """A recorded run in one of TEXTS.

    Args:
        form: a key of TEXTS.
        run: its folder.

    Raises:
        RecordError: no run, or a gate.json that cannot be read.
    """
    from whisper_parity.run import report

    module, _, name = TEXTS[form].partition(":")
    render: Callable[[Report, GateResult | None], str] = getattr(importlib.import_module(module), name)
    gate = serial.read(GateResult, run.gate) if run.gate.is_file() else None
    return render(report.load(run), gate)


def as_json(report: Report, gate: GateResult | None) -> str:  # noqa: ARG001 - as the other forms are called
    """The report as in report.json, of a large run with all its rows."""
    return serial.dumps(report.held if report.pages else report) + "\n"

"""The forms that a recorded run can be shown in: one table of them, each imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from whisper_parity.gate.result import GATE, GateResult
from whisper_parity.system import serial

if TYPE_CHECKING:
    from whisper_parity.run.report import Report

TEXTS = {
    "json": "whisper_parity.report.views:as_json",
    "markdown": "whisper_parity.report.markdown:render",
    "junit": "whisper_parity.report.junit:render",
}
"""Forms that are one text made of a report and the gate's judgement: name -> "module:function"."""

FORMATS = ("console", *TEXTS, "html")


def text(form: str, run: Path) -> str:
    """A recorded run in one of TEXTS.

    Args:
        form: a key of TEXTS.
        run: its folder.

    Raises:
        RecordError: no run, or a gate.json that cannot be read.
    """
    from whisper_parity.run import report as schema

    module, _, name = TEXTS[form].partition(":")
    render: Callable[[Report, GateResult | None], str] = getattr(importlib.import_module(module), name)
    folder = run if run.is_dir() else run.parent
    gate = serial.read(GateResult, folder / GATE) if (folder / GATE).is_file() else None
    return render(schema.load(folder), gate)


def as_json(report: Report, gate: GateResult | None) -> str:  # noqa: ARG001 - as the other forms are called
    """The report as it stands in report.json."""
    return serial.dumps(report) + "\n"

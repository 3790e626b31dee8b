"""Notes under the table: said once for each clip, and once in all where every clip has them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.report import console
from whisper_parity.run.report import row_without_trace


def notes(*rows: tuple[str, str, str]) -> list[str]:
    """Lines for rows given as (clip, stage, note)."""
    passed = Verdict(Outcome.PASS, "", "", ())
    made = [
        replace(row_without_trace(clip, stage, passed, ""), notes=(note,) * bool(note)) for clip, stage, note in rows
    ]
    report: Any = SimpleNamespace(rows=made, clip_notes=(), pages=())
    return [line.text for line in console._notes(report)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("a", "x", ""), ("b", "x", "")], []),
        ([("a", "x", "n"), ("b", "x", "n")], ["note: all clips: n (x)"]),
        ([("a", "x", "n"), ("b", "x", "")], ["note: a: n (x)"]),
        ([("a", "x", "n")], ["note: a: n (x)"]),
        ([("a", "x", "n"), ("a", "y", "n"), ("b", "x", ""), ("b", "y", "")], ["note: a: n (x, y)"]),
        (
            [("a", "x", "n"), ("a", "y", "n"), ("b", "x", "n"), ("b", "y", "")],
            ["note: all clips: n (x)", "note: a: n (y)"],
        ),
    ],
)
def test_a_note_is_said_once(rows, said):
    """One that only some clips have names each of them: nothing is said of a clip that does not have it."""
    assert notes(*rows) == said

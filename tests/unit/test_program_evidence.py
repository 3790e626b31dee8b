"""A program's tokens beside the reference's: window by window, or as one where windows are counted otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.traces import says, tokens
from whisper_parity.backend.account import Account, AccountWindow
from whisper_parity.backend.stage import Edge
from whisper_parity.explain.program_parts import Evidence
from whisper_parity.trace.trace import Trace

FIRST, SECOND = tokens(" Ask not"), tokens(" what your country")
EOT, ZERO, ONE = 50257, 50364, 50414
NOTHING: Any = None


def evidence(*windows: tuple[int, ...], timestamps: bool = False) -> Evidence:
    """Of a reference with two windows and a program with these."""
    sides = [(ZERO, *side, ONE) if timestamps else side for side in (FIRST, SECOND)]
    reference = says(*sides, stage="pytorch")
    account = Account("", tuple(AccountWindow(None, said) for said in windows))
    program = Trace(replace(reference.header, stage="app", account=account, windows=()), ())
    return Evidence(Edge("pytorch", "app"), reference, program, NOTHING, NOTHING, ())


@pytest.mark.parametrize("timestamps", [False, True])
def test_windows_are_paired_without_what_one_side_alone_has(timestamps: bool):
    """Timestamps of the reference alone, end-of-text."""
    pair = evidence((*FIRST, EOT), SECOND, timestamps=timestamps)
    assert pair.is_aligned
    assert pair.windows == ((FIRST, FIRST), (SECOND, SECOND))
    assert (pair.chosen(0), pair.chosen(1)) == ((*FIRST, EOT), SECOND)
    assert pair.of_window(((ZERO, *FIRST), SECOND), 0) == FIRST


def test_timestamps_of_both_are_compared():
    pair = evidence((ZERO, *FIRST, ONE), (ZERO, *SECOND, ONE), timestamps=True)
    assert pair.windows[0] == ((ZERO, *FIRST, ONE),) * 2


def test_a_program_that_counts_windows_otherwise_is_compared_as_a_whole():
    """One list for two windows; a sound of which only the first window was heard."""
    whole = evidence((*FIRST, *SECOND))
    assert not whole.is_aligned
    assert whole.windows == (((*FIRST, *SECOND),) * 2,)
    assert whole.of_window((FIRST, SECOND), 0) == (*FIRST, *SECOND)


def test_an_end_that_was_passed_has_its_place():
    """In text tokens; filling at the end is none."""
    assert evidence((ZERO, *FIRST, EOT, *FIRST), (*SECOND, EOT, EOT)).passed(0) == len(FIRST)
    assert evidence(FIRST, (*SECOND, EOT, EOT)).passed(1) is None

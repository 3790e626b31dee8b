"""What stands between the table and the rows' lines: steps at risk, placement, state, multiples of noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.support import sites
from tests.support.noises import MACHINE
from tests.support.traces import N_VOCAB, changed, flipped, trace
from whisper_parity.backend.contract import Placement
from whisper_parity.compare.comparison import compare
from whisper_parity.judge.verdict import Outcome, Verdict, judge
from whisper_parity.report import console
from whisper_parity.run.report import SCHEMA_VERSION, CacheFault, Judged, OrderCheck, Report, Row, StageInfo
from whisper_parity.trace.trace import Trace


def report(*rows: Row, **changes) -> Report:
    """A report of pytorch and torchscript with these rows."""
    stages = (StageInfo("pytorch", None, True, ""), StageInfo("torchscript", "pytorch", True, ""))
    empty = Report(
        SCHEMA_VERSION, "r", "", True, Outcome.PASS, 0, "pass", "tiny", "", "", "whisper", {}, {}, MACHINE, stages,
        rows, 1.0,
    )  # fmt: skip
    return dataclasses.replace(empty, **changes)


def row(clip: str, reference: Trace, candidate: Trace) -> Row:
    """A judged row of torchscript, on an edge with ties up to 0.03."""
    limits = dataclasses.replace(sites.limits_of("pytorch", "torchscript"), max_tie_margin=0.03)
    comparison = compare(reference, candidate, N_VOCAB, limits.max_tie_margin)
    judged = Judged(comparison, judge(comparison, limits))
    passed = Verdict(Outcome.PASS, "", "", ())
    return Row(clip, "torchscript", passed, "", "", 0, 0.0, 0.0, 1, 1, judged, None, None, (), "")


def texts(found: Report) -> list[str]:
    return [line.text for line in console.lines(found)]


def close(margin: float, moves: float) -> tuple[Trace, Trace]:
    """Four of nine steps with a small margin, and a candidate that moves every pair by so much, up and down."""
    reference, candidate = trace("pytorch"), trace("torchscript")
    logits = reference.windows[0].teacher_forced.logits.copy()
    logits[range(4), 13] = logits[range(4), reference.windows[0].teacher_forced.choices[:4]] - np.float32(margin)
    moved = logits.copy()
    moved[range(9), 13] += np.where(np.arange(9) % 2, moves, -moves).astype(np.float32)
    return changed(reference, logits=logits), changed(candidate, logits=moved)


def test_steps_at_risk_are_added_up_over_clips():
    """Four of nine on each clip, one of which flipped on the other: counts, share, flips."""
    reference, candidate = close(0.02, 0.01)
    found = report(row("one", reference, candidate), row("two", reference, flipped(candidate, 0, 13, 0.001)))
    assert "steps at risk: torchscript 8 of 18 (44.4 %), 1 flipped" in texts(found)
    assert not any(line.startswith("steps at risk") for line in texts(report()))


@pytest.mark.parametrize("moves", [0.0001, 0.01])
def test_margins_outside_the_floor_are_at_no_risk(moves):
    """Whatever the candidate moves: a broken one does not make every step a near flip."""
    assert "steps at risk: torchscript 0 of 9 (0.0 %), 0 flipped" in texts(report(row("one", *close(0.04, moves))))


def test_where_stages_ran_and_what_fell_back():
    """One line for all, one warning for each file, one failure where it was required."""
    split = Placement("encoder", "XNNPACK", 10, 7, "counted")
    stages = (StageInfo("tflite", None, True, "", placement=(split, Placement("decoder", "XNNPACK", 4, 4))),)
    warned = "tflite: encoder: 7 of 10 nodes on XNNPACK, 3 fell back to the CPU (counted)"
    assert texts(report(stages=stages)) == [
        "placement: tflite encoder XNNPACK 7/10 nodes, decoder XNNPACK 4/4 nodes",
        f"warning: {warned}",
    ]
    assert f"placement required: {warned}" in texts(report(stages=stages, misplaced=(warned,)))
    unknown = (StageInfo("dla", None, True, "", placement=(Placement("encoder", "", None, None, "no record"),)),)
    assert texts(report(stages=unknown)) == ["placement: dla encoder unknown"]


def test_checks_of_state_are_one_line_where_nothing_is_to_be_said():
    """What is steady by sequence; what is not, could not be checked, or is not reproducible on its own."""
    steady = OrderCheck("pytorch", "A B A", ("a", "b"), False, "")
    bad = dataclasses.replace(steady, stage="tflite", stateful=True, reason="logits of a (run 3, after b) differs")
    unchecked = dataclasses.replace(steady, stage="dla", checked=False, reason="one device")
    dice = dataclasses.replace(steady, stage="torchscript", reproducible=False, reason="not reproducible: ...")
    fault = CacheFault("heads permuted", "heads permuted (first, step 1)", 0, 0, 1, "first")
    cached = dataclasses.replace(steady, stage="kv", sequence="KV cache", reason=fault.sentence, cache=(fault,))
    assert texts(report(states=(cached,))) == ["cache: kv: KV cache: heads permuted (first, step 1)"]
    assert texts(report(states=(steady, bad, unchecked, dice))) == [
        "state: nothing depends on what ran before: A B A (pytorch)",
        "stateful: tflite: A B A: logits of a (run 3, after b) differs",
        "not checked: dla: A B A: one device",
        "state: torchscript: A B A: not reproducible: ...",
    ]
    assert [check.exit_code for check in (steady, bad, unchecked, dice)] == [0, 1, 0, 0]

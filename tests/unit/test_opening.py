"""The first sentence of a report, the first broken rung, what changed in words, and the measured cause."""

from __future__ import annotations

import dataclasses

import pytest

from tests.support import pages, sites
from tests.support.traces import N_VOCAB, TEXT, changed, trace
from whisper_parity.compare import comparison as compare
from whisper_parity.explain.explanation import Cause, Explanations
from whisper_parity.gate.result import GateResult
from whisper_parity.judge import verdict
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.report.opening import opening
from whisper_parity.run import report as records
from whisper_parity.run.report import Judged, OrderCheck, Report, Row

CHAIN = ("pytorch", "torchscript", "tflite:int8")


def row(clip: str, stage: str, text: str = TEXT, noise: float = 1e-6, before: str = TEXT, language: str = "en") -> Row:
    """A judged cell whose stage says a text."""
    parent = CHAIN[CHAIN.index(stage) - 1] if stage != CHAIN[0] else None
    sides = [None, None]
    for i, reference in enumerate((parent, CHAIN[0])):
        if reference and (i == 0 or reference != parent):
            said = before if i == 0 else TEXT
            ours = changed(trace(reference), text=said, clip=clip, language=language)
            theirs = changed(trace(stage, noise=noise), text=text, clip=clip, language=language)
            limits = sites.limits_of(reference, stage)
            found = compare.compare(ours, theirs, N_VOCAB, limits.max_tie_margin)
            sides[i] = Judged(found, verdict.judge(found, limits))
    judged = [side.verdict for side in sides if side] or [Verdict(Outcome.REFERENCE, "", "", ())]
    worst = max(judged, key=verdict.severity)
    return Row(clip, stage, worst, stage, text, 8, 2.0, 0.1, 1, 1, *sides, None, (), "parity run")


def a_report(*rows: Row, **changes) -> Report:
    made = pages.report(list(rows))
    return dataclasses.replace(made, **{"stages": made.stages[:3]} | changes)


def clips(**texts: str) -> list[Row]:
    """A clip for each keyword, whose last stage says this text."""
    return [row(clip, stage, text if stage == CHAIN[2] else TEXT) for clip, text in texts.items() for stage in CHAIN]


def test_the_sentence_of_a_stage_that_loses_words():
    """What to do, what it does, in how many clips, and that what lies in front of it is sound."""
    rows = clips(a=TEXT.replace(" fellow Americans,", ""), b=TEXT, c=TEXT)
    assert opening(a_report(*rows)).sentence == (
        "tflite:int8 must not ship: it loses 2 words in 1 of 3 clips; everything before it is the same model"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TEXT + " what your country can do", "invents 5 words"),
        (TEXT.replace("fellow Americans", "yellow pelicans").replace("ask not", "ask now"), "changes 3 words"),
        (TEXT.replace(" fellow Americans,", "") + " 25", "loses 2 words and changes 1 number"),
    ],
)
def test_what_changed_in_words(text: str, words: str):
    """Counts by what was done to them."""
    assert f"it {words} in 1 of 1 clip;" in opening(a_report(*clips(a=text))).sentence


def test_the_first_broken_rung_comes_first_and_words_are_told_from_the_reference():
    """In the order of the flow, with the clips that it is the first to fail in; lost words before marks."""
    rows = clips(a=TEXT.replace(" fellow Americans,", ""))
    broken = [row("b", stage, noise=3.0 if stage == CHAIN[2] else 1e-6) for stage in CHAIN]
    (item,) = opening(a_report(*rows, *broken)).broken
    assert [(rung, count) for rung, _, count in item.rungs] == [("tensor", 1), ("text", 1)]
    assert item.rungs[0][1].startswith("b: encoder_output SNR")
    assert (item.changes[0].reference, item.changes[0].candidate) == ("fellow Americans", "")
    assert item.because == ()


def test_a_stage_that_is_sound_by_itself_inherits():
    """What diverged lies in front of it, and that is said instead of a second verdict."""
    text = TEXT.replace(" fellow Americans,", "")
    rows = [row("a", "pytorch"), row("a", "torchscript", text), row("a", "tflite:int8", text, before=text)]
    told = opening(a_report(*rows))
    assert [(item.stage, item.follows) for item in told.broken] == [("torchscript", ""), ("tflite:int8", "torchscript")]
    assert told.sentence == "torchscript must not ship: it loses 2 words in 1 of 1 clip; tflite:int8 only inherits it"


def test_a_measured_cause_is_told_and_no_other_clips_one():
    """With the unit where one is at fault, once for all clips that share it."""
    rows = clips(a=TEXT.replace(" fellow Americans,", ""))
    cause = Cause("torchscript->tflite:int8", "decoder", "decoder.ln", (), "its weights are another checkpoint's")
    told = [Explanations(clip, "tflite:int8", (), causes=(cause,)) for clip in ("a", "elsewhere")]
    (item,) = opening(a_report(*rows), told).broken
    assert [(cause.where, cause.finding, cause.clips) for cause in item.because] == [
        ("decoder, decoder.ln", "its weights are another checkpoint's", ("a",))
    ]


def test_successes_are_a_line_each():
    """The sentence says that they are the same model, and where numbers drift, that it can ship all the same."""
    told = opening(a_report(*clips(a=TEXT, b=TEXT)))
    assert told.sentence == "torchscript and tflite:int8 can ship: the same model as pytorch on 2 clips"
    assert not told.broken
    assert [item.words for item in told.sound] == ["the reference, 2 clips", *["the same text on 2 clips"] * 2]
    drift = [row("a", stage, noise=0.05 if stage == CHAIN[2] else 1e-6) for stage in CHAIN]
    assert drift[2].verdict.outcome is Outcome.DRIFT
    told = opening(a_report(*drift))
    assert "tflite:int8 can ship: the same text on 1 clip, its numbers drift in 1" in told.sentence


def test_a_changed_mark_within_the_limits_is_told():
    """A stage that can ship and does not say the same is not said to."""
    told = opening(a_report(*clips(a=TEXT.replace("Americans,", "Americans"), b=TEXT)))
    (item,) = (item for item in told.sound if item.stage == "tflite:int8")
    assert item.words == "changes 1 mark or capital letter in 1 of 2 clips, within its limits"


def test_a_gate_that_fails_comes_before_a_run_that_passes():
    """What must not be released does not open with "can ship"."""
    gate = GateResult("by-hand", False, 1, "failed: 1 of 2 rules: flips", (), (), ())
    report = a_report(*clips(a=TEXT))
    told = opening(report, gate=gate)
    assert told.sentence == "this run must not be released: gate failed: 1 of 2 rules: flips"
    assert "can ship" in opening(report, gate=dataclasses.replace(gate, passed=True, exit_code=0)).sentence


def test_what_could_not_be_judged_is_not_passed():
    """A stage that failed, one that is missing, and one that remembers."""
    failed = records.row_without_trace("a", "tflite:int8", Verdict(Outcome.FAILED, "", "no converter", ()), "")
    rows = [row("a", "pytorch"), row("a", "torchscript")]
    told = opening(a_report(*rows, failed))
    assert told.sentence == (
        "torchscript can ship: the same model as pytorch on 1 clip; tflite:int8 could not be judged: no converter"
    )
    stages = [records.row_without_trace("b", stage, failed.verdict, "") for stage in CHAIN[1:]]
    told = opening(a_report(*clips(a=TEXT), row("b", "pytorch"), *stages))
    assert told.sentence == "torchscript and tflite:int8 could not be judged on 1 of 2 clips: no converter"
    state = OrderCheck("torchscript", "A B A", ("a",), stateful=True, reason="the third differs from the first")
    assert opening(a_report(*rows, states=(state,))).sentence.startswith(
        "torchscript must not ship: it remembers what ran before"
    )


def test_chinese_is_counted_in_characters():
    """A word there is a character, and blanks do not come into it."""
    chinese = "我想说的是大家"
    rows = [
        row("a", stage, chinese[:5] if stage == CHAIN[2] else chinese, before=chinese, language="zh") for stage in CHAIN
    ]
    assert "it loses 2 characters in 1 of 1 clip" in opening(a_report(*rows)).sentence

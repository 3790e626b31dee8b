"""Every rule of the gate goes red: one thing of a run is broken at a time, and the exact result is asserted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.support import runs, traces
from tests.support.gates import EDGE, failed, noisy, rule
from whisper_parity.backend.stage import Edge
from whisper_parity.compare.finding import finding
from whisper_parity.compare.front_end.difference import FrontEndCause, FrontEndDiff
from whisper_parity.gate.result import UNJUDGED, RuleResult
from whisper_parity.judge import tolerance
from whisper_parity.judge.program import ProgramCheck, checked
from whisper_parity.project import read_toml
from whisper_parity.run.report import CacheFault, OrderCheck, Report

pytestmark = pytest.mark.usefixtures("not_in_ci")


def test_an_unbroken_run_passes(gate):
    """A gate that never opens is no gate either: every rule has a limit, an actual and a source."""
    result = gate(runs.report()).result
    assert (result.passed, result.exit_code, failed(gate(runs.report()))) == (True, 0, [])
    assert result.sentence == "passed: 45 rules on 3 edges"
    assert all(each.limit and each.actual and each.source for each in result.rules)


def test_tensor_floor(gate):
    """85 dB is the floor of the edge's tolerances; the deciding clip comes first."""
    found = gate(runs.report({("two", "tflite"): noisy(3e-3)}))
    result = rule(found, "encoder_output_snr_db")
    assert (result.passed, result.limit, result.clips[0]) == (False, "at least 85 dB", "two")
    assert result.actual.endswith(" dB on two")
    assert result.source == "default, from the run's tolerances"
    assert ("encoder_output_snr_db", "pytorch->tflite", "") in failed(found)
    assert not [each for each in failed(found) if each[1] == "pytorch->torchscript"]


def test_logits_floor_and_kl(gate):
    """Logits alone moved: the encoder's floor holds."""
    quiet = runs.report(
        {("one", "tflite"): lambda t: traces.changed(t, logits=t.windows[0].teacher_forced.logits * 0.9)}
    )
    names = {name for name, edge, _ in failed(gate(quiet)) if edge == EDGE}
    assert names == {"logits_snr_db", "kl_max", "top_movement", "not_worse_than_approved"}
    kl = rule(gate(quiet), "kl_max")
    assert (kl.limit, kl.clips[0]) == ("at most 1e-07 nat", "one")
    assert kl.actual.endswith(" nat on one")


def test_a_fault_is_never_allowed(gate):
    """A flip far outside the floor."""
    found = gate(runs.report({("three", "tflite"): lambda t: traces.flipped(t, 5, 13, 0.1)}))
    result = rule(found, "faults")
    assert result == RuleResult("faults", EDGE, "", "at most 0", "1 fault", False, ("three",), "default")


def test_ties_per_thousand(gate):
    """A flip inside the floor is counted per thousand steps: one in 27 is too many."""
    whole = runs.report({("one", "tflite"): lambda t: traces.flipped(t, 5, 13, 0.1)})
    row = next(row for row in whole.rows if (row.clip, row.stage) == ("one", "tflite"))
    tied = tuple(replace(flip, margin=1e-5) for flip in row.vs_parent.comparison.flips)
    sound = next(row for row in runs.report().rows if (row.clip, row.stage) == ("one", "tflite")).vs_parent.comparison
    judged = replace(row.vs_parent, comparison=replace(sound, flips=tied))
    result = rule(gate(runs.with_row(whole, "one", "tflite", vs_parent=judged)), "ties_per_thousand")
    actual = "37 per thousand: 1 tie in 27 steps"
    assert result == RuleResult(
        "ties_per_thousand", EDGE, "", "at most 1 per thousand steps", actual, False, ("one",), "default"
    )


def test_steps_at_risk(gate):
    """Near flips count before one falls."""
    whole = runs.report()
    row = next(row for row in whole.rows if (row.clip, row.stage) == ("two", "tflite"))
    judged = replace(row.vs_parent, comparison=replace(row.vs_parent.comparison, steps_at_risk=2))
    result = rule(gate(runs.with_row(whole, "two", "tflite", vs_parent=judged)), "steps_at_risk_per_thousand")
    assert (result.passed, result.actual, result.clips) == (
        False, "74.1 per thousand: 2 steps at risk in 27 steps", ("two",),
    )  # fmt: skip


def test_changed_words(gate):
    """Rate against the reference, difference against the transcripts, clips that got worse: three rules see it."""
    found = gate(runs.report({("two", "tflite"): runs.saying("And so my fellow Martians, ask not")}))
    rate = rule(found, "text_rate", language="en")
    assert rate == RuleResult("text_rate", EDGE, "en", "at most 0.00%", "4.76% (1 of 21)", False, ("two",), "default")
    delta = rule(found, "text_delta", language="en")
    assert (delta.passed, delta.actual, delta.limit) == (False, "+4.76% (+1 of 21)", "at most 0.00% more")
    kept = rule(found, "no_regression_rate")
    assert (kept.passed, kept.actual, kept.limit, kept.clips) == (
        False, "66.67%: 1 of 3 clips worse", "at least 100.00% of the clips", ("two",),
    )  # fmt: skip


def test_a_better_text_is_no_regression(gate):
    """Errors that the candidate corrects never fail a rule of their own, only the approved result."""
    worse = runs.saying("And so my fellow Martians, ask not")
    found = gate(runs.report({("two", "pytorch"): worse, ("two", "torchscript"): worse}))
    assert rule(found, "text_delta", language="en").actual == "-4.76% (-1 of 21)"
    assert rule(found, "text_delta", language="en").passed
    assert rule(found, "no_regression_rate").passed
    assert not rule(found, "approved", edge="").passed


def test_punctuation(gate):
    """A lost comma changes no word, but fails the rule for punctuation."""
    found = gate(runs.report({("one", "tflite"): runs.saying("And so my fellow Americans ask not")}))
    result = rule(found, "punctuation_per_thousand", language="en")
    assert (result.passed, result.limit) == (False, "at most 0 per thousand")
    assert result.actual == "47.6 per thousand: 1 edit of punctuation or case in 21 units of text"
    assert rule(found, "text_rate", language="en").passed


def silent(whole: Report, clip: str, stage: str, errors: int) -> Report:
    """A clip without speech, on which a stage invents that many words."""
    from whisper_parity.compare.text import ErrorCounts

    row = next(row for row in whole.rows if (row.clip, row.stage) == (clip, stage))
    nothing = replace(row.vs_transcript, wer_normalised=ErrorCounts(insertions=errors))
    return runs.with_row(whole, clip, stage, vs_transcript=nothing)


@pytest.mark.parametrize(("before", "after", "passed"), [(0, 0, True), (0, 3, False), (3, 0, True), (3, 3, True)])
def test_a_stage_that_begins_to_speak_in_silence(gate, before, after, passed):
    """Without reference words there is no rate: invented words fail all the same, and losing them does not."""
    whole = runs.report()
    for clip in runs.CLIPS:
        for stage in runs.STAGES:
            whole = silent(whole, clip, stage, after if stage == "tflite" else before)
    result = rule(gate(whole), "text_delta", language="en")
    assert (result.passed, result.actual.startswith("n/a: ")) == (passed, True)
    assert rule(gate(whole), "no_regression_rate").passed is passed


def test_a_broken_premise(gate):
    """NaN: nothing that rests on it passes."""
    value = traces.trace().windows[0].encoder_output.copy()
    value[0, 0, 3] = math.nan
    found = gate(runs.report({("one", "tflite"): lambda t: traces.changed(t, encoder_output=value)}))
    result = rule(found, "premises")
    assert (result.passed, result.clips) == (False, ("one",))
    assert result.actual.startswith("1 broken; encoder_output: finiteness broken on one: 1 of 160 values")
    on_edge = [each for each in found.result.rules if each.edge == EDGE and each.limit != UNJUDGED]
    assert not any(each.passed for each in on_edge if each.rule != "not_worse_than_approved")


def test_a_stage_without_a_result_passes_no_rule(gate):
    """Missing data is never green, on no edge that ends or starts there."""
    found = gate(runs.failed(runs.report(), "two", "tflite"))
    passed = {each.rule for each in found.result.rules if each.passed and each.edge.endswith("->tflite")}
    assert passed == set()
    result = rule(found, "kl_max")
    assert result.actual.startswith("no result on 1 of 3 clips, first two (failed: the device went away); ")
    assert result.clips[0] == "two"
    complete = rule(found, "complete", edge="")
    assert complete.actual == "1 missing, first two · tflite: failed: the device went away"
    assert ("approved", "", "") in failed(found)


def test_a_reference_without_a_result(gate):
    """The edge behind it is not judged green either."""
    lacking = runs.failed(runs.report(), "one", "torchscript")
    lacking = runs.with_row(lacking, "one", "tflite", vs_parent=None)
    assert not rule(gate(lacking), "text_rate", language="en").passed


def test_cells_that_were_not_run(gate):
    """A row that is not there, a run that was cut off, a stage that was not asked for, nothing compared."""
    whole = runs.report()
    cut = replace(whole, rows=whole.rows[:-1], finished=False)
    assert rule(gate(cut), "complete", "").actual == "2 missing, first three · tflite: not run"
    assert not rule(gate(cut), "faults").passed
    asked = gate(whole, stages=["dla"])
    assert rule(asked, "complete", "").actual == "1 missing, first stage dla is not in this run"
    empty = replace(whole, rows=(), stages=whole.stages[:1])
    assert rule(gate(empty), "complete", "").actual == "1 missing, first nothing was compared"


def test_text_only_where_logits_were_wanted(gate):
    """No flip was seen because nobody looked: that is no pass."""
    whole = runs.report()
    row = next(row for row in whole.rows if (row.clip, row.stage) == ("one", "tflite"))
    bare = replace(row.vs_parent.comparison, tensors=(), logits=(), flips=(), steps=0)
    found = gate(runs.with_row(whole, "one", "tflite", vs_parent=replace(row.vs_parent, comparison=bare)))
    assert rule(found, "faults").actual == "no logits on 1 clip"
    assert rule(found, "logits_snr_db").actual == "not measured on 1 clip"
    assert {"faults", "ties_per_thousand", "steps_at_risk_per_thousand", "kl_max", "encoder_output_snr_db"} <= {
        name for name, edge, _ in failed(found) if edge == EDGE
    }


def test_a_stateful_stage(gate):
    """A result that depends on what ran before fails one rule of the run."""
    check = OrderCheck("tflite", "A B A", ("one", "two"), True, "logits differ by 0.3")
    found = gate(runs.report(states=(check,)))
    assert failed(found) == [("stateless", "", "")]
    assert rule(found, "stateless", "").actual == "tflite, A B A: logits differ by 0.3"


def test_a_stage_that_keeps_its_cache_wrongly(gate):
    """It fails as a stateful one does; a remark on its cache fails nothing."""
    fault = CacheFault("keys and values swapped", "keys and values swapped (first, step 1)", 0, 0, 1, "first")
    check = OrderCheck("tflite", "KV cache", ("one",), False, fault.sentence, cache=(fault,))
    found = gate(runs.report(states=(check,)))
    assert failed(found) == [("stateless", "", "")]
    assert rule(found, "stateless", "").actual == "tflite, KV cache: keys and values swapped (first, step 1)"
    assert failed(gate(runs.report(states=(replace(check, cache=(replace(fault, fails=False),)),)))) == []


SOUND = FrontEndDiff(0, (1, 80, 3000), (1, 80, 3000), 120.0, 121.0, None, 119.0)
PADDED = replace(SOUND, padding_db=0.3, causes=(FrontEndCause("padding", "spectrogram padded with 0.0", 120.0),))


def of_program(check: dict[str, ProgramCheck]) -> Report:
    """A run whose last stage is a program: what it did by itself, by clip."""
    whole = runs.report()
    for clip in ("one", "two", "three"):
        sound = checked((SOUND,), {"prompt": (), "detokenise": (), "end": ()}, LIMITS)
        whole = runs.with_row(whole, clip, "tflite", program=check.get(clip, sound))
    return whole


LIMITS = tolerance.for_edge(read_toml(tolerance.FILE), Edge.parse(EDGE))


def test_a_sound_program_passes(gate):
    """Its four rules are there, and kept."""
    result = gate(of_program({})).result
    assert result.passed
    names = ("features_snr_db", "prompt_faults", "detokenise_faults", "end_faults")
    assert {name: rule(gate(of_program({})), name).passed for name in names} == dict.fromkeys(names, True)


def test_a_front_end_that_is_not_whispers(gate):
    """The lowest part decides, on the worst clip."""
    found = gate(of_program({"two": checked((SOUND, PADDED), {}, LIMITS)}))
    result = rule(found, "features_snr_db")
    assert (result.passed, result.limit, result.actual) == (False, "at least 40 dB", "0.3 dB on two")
    assert result.clips[0] == "two"


def test_features_that_a_clip_lacks(gate):
    """A program that wrote none for one clip is not judged by the others."""
    found = gate(of_program({"three": checked((), {"prompt": ()}, LIMITS)}))
    result = rule(found, "features_snr_db")
    assert (result.passed, result.actual, result.clips) == (False, "not measured on 1 clip", ("three",))


@pytest.mark.parametrize("rung", ["prompt", "detokenise", "end"])
def test_a_fault_of_a_program(gate, rung: str):
    """Each rung has a rule of its own."""
    fault = finding("wrong prompt", "translate for transcribe")
    found = gate(of_program({"one": checked((SOUND,), {rung: (fault,)}, LIMITS)}))
    result = rule(found, f"{rung}_faults")
    assert (result.passed, result.limit, result.actual, result.clips) == (
        False, "at most 0 clips", f"1 clip, one: {fault.sentence}", ("one",),
    )  # fmt: skip

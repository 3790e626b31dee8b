"""What is worth explaining, what two result files can tell, and what is to blame."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.traces import N_VOCAB, changed, says, tokens, trace
from whisper_parity.compare import token
from whisper_parity.compare.result import Result
from whisper_parity.compare.results import compare_results
from whisper_parity.errors import UnavailableError, UsageError
from whisper_parity.explain import explain, moved
from whisper_parity.explain.answers import Answers
from whisper_parity.explain.explanation import Explanations
from whisper_parity.judge.verdict import Outcome, Verdict
from whisper_parity.run.report import Judged, row_without_trace
from whisper_parity.trace.trace import Trace

ZERO, ONE, TWO, EOT = 50364, 50414, 50464, 50257
PLAIN, COMMA = tokens(" Americans ask"), tokens(" Americans, ask")


def files(reference, candidate, *languages: str | None) -> Explanations:
    """Explanations of two result files with these tokens, and these languages."""
    names = ("whisper.json", "port.json")
    sides = [
        Result(name, "JSON", None, (tuple(said),), language)
        for name, said, language in zip(names, (reference, candidate), languages or ("en", "en"))
    ]
    return explain.explain_files(compare_results(sides[0], sides[1], N_VOCAB))


def test_two_files_tell_what_changed_and_no_more():
    """Class, words around and edge; why there is no more."""
    found = files(PLAIN, COMMA)
    (only,) = found.found
    assert (found.clip, found.stage) == ("whisper.json", "port.json")
    assert (only.change.edit_class, only.change.before, only.change.after) == ("punctuation", "Americans", "ask")
    assert only.entry.edge == "whisper.json->port.json"
    assert only.missing == ("two result files hold no tensors: give a run for the other answers",)
    assert (only.cross_feed, only.layers, only.weight) == (None, (), None)


@pytest.mark.parametrize(
    ("at_the_comma", "said"),
    [
        ((ONE, ONE), "the comma is a segment boundary in timestamp mode: suspect the decode policy (timestamps) first"),
        ((ONE,), "the comma is not at a segment boundary of the reference"),
        ((), "the comma is not at a segment boundary of the reference"),
    ],
)
def test_timestamps_of_the_reference_make_boundaries(at_the_comma, said):
    """They are no differences themselves."""
    (only,) = files((ZERO, PLAIN[0], *at_the_comma, *PLAIN[1:], TWO), COMMA).found
    assert only.entry.finding == said


@pytest.mark.parametrize(
    ("languages", "edit_class"),
    [(("zh", None), "script"), ((None, "zh"), "script"), (("en", "zh"), "word"), ((None, None), "script")],
)
def test_the_language_is_the_references_if_it_has_one(languages, edit_class):
    """Else the candidate's; where neither says it the characters do."""
    (only,) = files(tokens("紹"), tokens("绍"), *languages).found
    assert only.change.edit_class == edit_class


@pytest.mark.parametrize(("reference", "candidate"), [((), ()), (PLAIN, PLAIN), ((ZERO, *PLAIN, ONE), (*PLAIN, EOT))])
def test_files_of_the_same_tokens_have_no_difference(reference, candidate):
    """Timestamps and specials apart."""
    assert files(reference, candidate).found == ()


def row(clip: str, stage: str, *, parent: str = "same", root: str = "", outcome: Outcome = Outcome.PASS):
    """A row whose tokens are the "same" as its parent's and root's, "other", not "broken" off, or "" without one."""
    verdict = Verdict(outcome, "", "", ())
    made = row_without_trace(clip, stage, verdict, "")
    known = {
        "same": token.compare(reference=[1], candidate=[1]),
        "other": token.compare(reference=[1], candidate=[2]),
        "broken": None,
    }
    judged: Any = [Judged(SimpleNamespace(tokens=known[each]), verdict) if each else None for each in (parent, root)]
    return replace(made, vs_parent=judged[0], vs_root=judged[1])


ROWS = (
    row("a", "pytorch"),
    row("a", "torchscript", parent="same", root="other"),
    row("a", "tflite", parent="other", outcome=Outcome.DRIFT),
    row("b", "pytorch", parent="", outcome=Outcome.REFERENCE),
    row("b", "torchscript", parent="broken", outcome=Outcome.DIVERGED),
    row("b", "tflite", outcome=Outcome.DIVERGED),
    row("b", "port", outcome=Outcome.DRIFT),
    row("c", "", parent="", outcome=Outcome.INVALID_INPUT),
    row("c", "tflite", parent="", outcome=Outcome.FAILED),
)
REPORT: Any = SimpleNamespace(
    run="made", rows=ROWS, stages=[SimpleNamespace(spec=spec) for spec in ("pytorch", "torchscript", "tflite")]
)


@pytest.mark.parametrize(
    ("clips", "stage", "expected"),
    [
        ((), None, [("a", "torchscript"), ("a", "tflite"), ("b", "torchscript"), ("b", "tflite"), ("b", "port")]),
        (("b",), None, [("b", "torchscript"), ("b", "tflite"), ("b", "port")]),
        (("b", "a"), "pytorch", [("a", "pytorch"), ("b", "pytorch")]),
        ((), "torchscript", [("a", "torchscript"), ("b", "torchscript")]),
        (("c",), None, []),
    ],
)
def test_what_differs_or_left_its_limits_is_wanted(clips, stage, expected):
    """A stage that is named is wanted anyway; a clip that is named only where it differs."""
    assert explain.wanted(REPORT, clips, stage) == expected


@pytest.mark.parametrize(
    ("clips", "stage", "said"),
    [
        (("a", "d"), None, r"run made has no clip d\. It has a, b, c"),
        ((), "dla", r"run made has no stage 'dla'\. It has pytorch, torchscript, tflite"),
    ],
)
def test_what_the_run_does_not_have_is_an_error(clips, stage, said):
    """Not an empty answer."""
    with pytest.raises(UsageError, match=said):
        explain.wanted(REPORT, clips, stage)


def test_rows_that_were_not_compared_are_not_called_equal():
    """Nothing to explain of what was compared; how many were not."""
    said = "nothing to explain: tokens are equal on every edge that was compared, and no stage left its limits"
    sound: Any = SimpleNamespace(rows=ROWS[:1])
    assert explain.nothing(sound) == said
    assert explain.nothing(REPORT) == f"{said}; 2 row(s) were not compared (`parity report` says why)"


def test_windows_that_one_side_lacks_are_told():
    """Only the others are explained; a stage of text alone has none, and lacks none."""
    two = says(" a fox", " in the end")
    assert explain._unpaired(two, two) == explain._unpaired(two, Trace(two.header, ())) == []
    assert explain._unpaired(two, Trace(two.header, two.windows[1:])) == ["windows 0: only one of the two has them"]


def test_the_window_that_moved_most_has_the_smallest_ratio():
    """Of encoder output and logits the worse one; what is not finite is worst."""
    (ours,) = trace().windows
    (little,), (much,) = trace(noise=0.01).windows, trace(noise=1.0).windows
    (broken,) = changed(trace(), encoder_output=np.full((1, 20, 8), np.nan, np.float32)).windows
    kept = [moved._kept_db((ours, each)) for each in (broken, much, little, ours)]
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (-math.inf, math.inf)


def test_an_answer_that_cannot_be_had_leaves_its_reason():
    """In one short line; the other questions are asked all the same."""
    answers = Answers([])
    with answers.to("layer of the encoder"):
        raise UnavailableError("no probe " * 100)
    with answers.to("does it matter"):
        pass
    (reason,) = answers.missing
    assert reason.startswith("layer of the encoder: no probe no probe")
    assert len(reason) <= 400

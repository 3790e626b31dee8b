"""What `parity explain` blames in a program: one thing is done otherwise, and that one is named, by what was measured.

The program is made of the reference's own halves, so that nothing else differs.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.meta.test_explain_detectors import CLIP
from tests.support.madeprograms import ALL, PROMPT, TOKENS, Benched, Program
from whisper_parity import project
from whisper_parity.backend.account import ENCODER_OUTPUT, FEATURES
from whisper_parity.explain.explain import explain
from whisper_parity.explain.explanation import Explanations
from whisper_parity.report import explained as shown
from whisper_parity.run import plan as planning
from whisper_parity.run import schedule
from whisper_parity.run.cell import Cell
from whisper_parity.run.options import RunOptions
from whisper_parity.run.plan import Plan
from whisper_parity.system import serial

STAGE, EDGE = "torchscript", "pytorch->torchscript"
"""The program stands in its place; nothing of it is run."""
TRANSLATE = (50258, 50259, 50358, 50363)
GERMAN = (50258, 50261, 50359, 50363)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Plan:
    """A run of the micro checkpoint on one clip: the root alone."""
    options = RunOptions(stages=("pytorch", STAGE), clips=(CLIP,), policy="plain", language="en", threads=2,
                         run_id="run", report_dir=tmp_path_factory.mktemp("runs"), cache=cache_dir)  # fmt: skip
    plan = planning.make(options, project.Project(Path()))
    with schedule.opened(plan) as running:
        running.row(Cell(plan.stages[0], plan.clips[0]))
    return plan


def explained(plan: Plan, program: Program) -> Explanations:
    with ExitStack() as stack:
        return explain(Benched(plan, stack, STAGE, program), plan.clips[0], STAGE)


def quieter(features: np.ndarray) -> np.ndarray:
    return features * 0.3


def late(features: np.ndarray) -> np.ndarray:
    return np.roll(features, 40, axis=2)


def other_half(output: np.ndarray) -> np.ndarray:
    """An encoder output that says something else: that of another sound."""
    return output[:, ::-1] * 0.2


def test_a_program_without_a_fault_has_no_cause(plan: Plan):
    result = explained(plan, Program())
    assert (result.found, result.causes, result.missing, result.findings) == ((), (), (), ())
    assert [(part.part, part.fails) for part in result.parts] == [("features", False), ("encoder", False)]


@pytest.mark.parametrize("shows", [ALL, (FEATURES, TOKENS), (FEATURES,)])
def test_a_front_end_that_alone_makes_the_difference(plan: Plan, shows: tuple[str, ...]):
    """With tokens there is the reference's margin; text alone is compared in texts; what is not shown is said."""
    result = explained(plan, Program(front_end=quieter, shows=shows))
    (only,) = result.found
    assert only.cross_feed is not None
    assert only.cross_feed.part == "features"
    assert only.cross_feed.finding.startswith("front end: ")
    assert only.cross_feed.finding.endswith("; alone reproduces the word 'he remembered this old boat'")
    assert (only.weight is not None) == (TOKENS in shows)
    assert [cause.part for cause in result.causes] == ["features"]
    assert any("it gave no encoder output" in line for line in result.missing) == (ENCODER_OUTPUT not in shows)
    assert any("it does not say which prompt" in line for line in result.missing) == (PROMPT not in shows)
    assert ("margins: it names no tokens" in result.missing) == (TOKENS not in shows)


def test_a_front_end_that_changes_no_token_is_a_cause_all_the_same(plan: Plan):
    result = explained(plan, Program(front_end=late))
    assert result.found == ()
    (cause,) = result.causes
    assert (cause.edge, cause.part) == (EDGE, "features")
    assert cause.finding == "front end: the sound comes 40 frames too late; alone changes no word or mark"
    assert f"             {cause.finding}" in shown.lines(result)


def test_an_encoder_is_told_from_the_front_end_before_it(plan: Plan):
    """Its own features are right; without them the two cannot be told apart."""
    result = explained(plan, Program(encoder=other_half))
    assert result.found
    assert {item.cross_feed.part for item in result.found if item.cross_feed} == {"encoder"}
    assert result.causes[0].finding.endswith(", and its front end passes")
    assert [(part.part, part.fails) for part in result.parts] == [("features", False), ("encoder", True)]
    blind = explained(plan, Program(encoder=other_half, shows=(ENCODER_OUTPUT, PROMPT, TOKENS)))
    assert blind.causes[0].finding.startswith("front end or encoder: ")
    assert "front end alone: it gave no input features" in blind.missing


def test_a_decoder_is_what_remains(plan: Plan):
    """Its encoder output is right, and the reference's decoder says otherwise."""
    result = explained(plan, Program(decoder=other_half))
    assert result.found
    assert [cause.part for cause in result.causes] == ["decoder"]
    without = explained(plan, Program(decoder=other_half, shows=(FEATURES, PROMPT, TOKENS)))
    assert [cause.part for cause in without.causes] == ["encoder or decoder"]


def test_a_prompt_that_alone_makes_the_difference(plan: Plan):
    result = explained(plan, Program(prompt=TRANSLATE))
    (only,) = result.found
    assert only.cross_feed is not None
    assert only.cross_feed.finding == (
        "prompt: task translate for transcribe; alone reproduces the word 'I lost the chair'"
    )
    assert ("its prompt through the decoder of pytorch", True) in only.cross_feed.tried
    assert result.findings[0].kind == "wrong prompt"
    harmless = explained(plan, Program(prompt=GERMAN))
    assert harmless.found == ()
    assert [cause.part for cause in harmless.causes] == ["prompt"]
    assert harmless.causes[0].finding.endswith("; alone changes no word or mark")


def test_front_end_and_prompt_together(plan: Plan):
    """Both are named: what each does alone, and what only both do."""
    result = explained(plan, Program(front_end=quieter, prompt=TRANSLATE))
    parts = {item.cross_feed.part for item in result.found if item.cross_feed}
    assert parts <= {"features", "prompt", "features and prompt"}
    assert {"features", "prompt"} <= {cause.part for cause in result.causes}


def test_a_detokeniser(plan: Plan):
    """Its tokens are the reference's, its text is not."""
    result = explained(plan, Program(said=lambda text: text.replace(" ", "")))
    assert {item.cross_feed.part for item in result.found if item.cross_feed} == {"detokenise"}
    assert {item.change.edit_class for item in result.found} == {"spacing"}
    assert [cause.part for cause in result.causes] == ["detokenise"]
    assert "difference(s) in texts" in shown.lines(result)[0]


def test_an_end_that_is_passed_or_comes_too_early(plan: Plan):
    passed = explained(plan, Program(ends=lambda tokens: (*tokens, *tokens)))
    assert [item.kind for item in passed.findings] == ["repetition loop", "end-of-text passed"]
    assert {item.cross_feed.part for item in passed.found if item.cross_feed} == {"end"}
    assert {cause.part for cause in passed.causes} == {"end"}
    cut = explained(plan, Program(ends=lambda tokens: tokens[:3]))
    (only,) = cut.found
    assert only.cross_feed is not None
    assert only.cross_feed.finding == "end: each of its tokens is the reference's choice, and then it stops"
    assert only.weight is None


def test_a_program_that_shows_nothing_gets_the_reasons(plan: Plan):
    """Text alone: no part is named, and the answer is not there."""
    result = explained(plan, Program(front_end=quieter, shows=()))
    (only,) = result.found
    assert (only.cross_feed, only.weight, result.causes) == (None, None, ())
    assert result.missing == (
        "front end alone: it gave no input features",
        "prompt alone: it does not say which prompt it fed",
        "front end and encoder together: it gave no encoder output",
        "margins: it names no tokens",
    )
    assert (result.compared, result.answered) == (True, True)


def test_tensors_that_cannot_be_fed_are_reasons(plan: Plan):
    """Another shape, values that are not finite."""
    odd = explained(plan, Program(front_end=same_but(np.nan), shows=(FEATURES, TOKENS)))
    assert any("its input features are not finite" in line for line in odd.missing)
    assert odd.causes[0].part == "features"


def same_but(value: float):
    def change(features: np.ndarray) -> np.ndarray:
        changed = features.copy()
        changed[0, 3, 5] = value
        return changed

    return change


def test_the_explanation_is_written_to_the_run_and_read_again(plan: Plan):
    result = explained(plan, Program(prompt=TRANSLATE))
    path = plan.folder.explanation(CLIP, STAGE)
    assert serial.read(Explanations, path) == result

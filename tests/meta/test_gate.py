"""Every rule of the gate goes red: one thing of a run is broken at a time, and the exact result is asserted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support import runs, traces
from whisper_parity.compare import logits, tensor, text
from whisper_parity.errors import ConfigError, RecordError, UsageError
from whisper_parity.gate import approved, judging, measure
from whisper_parity.gate import settings as gate_settings
from whisper_parity.gate.judging import Judgement
from whisper_parity.gate.result import RuleResult
from whisper_parity.gate.rules import UNJUDGED
from whisper_parity.project import Project
from whisper_parity.run.report import Report, OrderCheck

EDGE = "torchscript->tflite"

Gate = Callable[..., Judgement]


@pytest.fixture(autouse=True)
def not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's machine, unless a test says otherwise."""
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Judge a run against the approved result of the unbroken one."""
    approved.approve(runs.report(), tmp_path)

    def judge(report: Report, **given: object) -> Judgement:
        return judging.judge(report, gate_settings.of(Project(Path(), gate={"folder": str(tmp_path), **given})))

    return judge


def failed(judged: Judgement) -> list[tuple[str, str, str]]:
    """(rule, edge, language) of the rules that failed."""
    return [(each.rule, each.edge, each.language) for each in judged.result.rules if not each.passed]


def rule(judged: Judgement, name: str, edge: str = EDGE, language: str = "") -> RuleResult:
    """One rule's result."""
    found = [each for each in judged.result.rules if (each.rule, each.edge, each.language) == (name, edge, language)]
    assert len(found) == 1, [(each.rule, each.edge, each.language) for each in judged.result.rules]
    return found[0]


def noisy(amount: float) -> runs.Change:
    """The encoder output and the logits moved by Gaussian noise."""

    def change(found):
        window = found.windows[0]
        rng = np.random.default_rng(5)
        moved = [a + amount * rng.standard_normal(a.shape, dtype=np.float32)
                 for a in (window.encoder_output, window.teacher_forced.logits)]  # fmt: skip
        return traces.changed(found, encoder_output=moved[0], logits=moved[1])

    return change


def test_an_unbroken_run_passes(gate):
    """A gate that never opens is no gate either: every rule has a limit, an actual and a source."""
    result = gate(runs.report()).result
    assert (result.passed, result.exit_code, failed(gate(runs.report()))) == (True, 0, [])
    assert result.sentence == "passed: 39 rules on 3 edges"
    assert all(each.limit and each.actual and each.source for each in result.rules)


def test_tensor_floor(gate):
    """60 dB is the floor of the edge's tolerances; the deciding clip comes first."""
    found = gate(runs.report({("two", "tflite"): noisy(3e-3)}))
    result = rule(found, "encoder_output_snr_db")
    assert (result.passed, result.limit, result.clips[0]) == (False, "at least 60 dB", "two")
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
    assert names == {"logits_snr_db", "kl_max", "not_worse_than_approved"}
    kl = rule(gate(quiet), "kl_max")
    assert (kl.limit, kl.clips[0]) == ("at most 0.001 nat", "one")
    assert kl.actual.endswith(" nat on one")


def test_a_fault_is_never_allowed(gate):
    """A flip far outside the noise."""
    found = gate(runs.report({("three", "tflite"): lambda t: traces.flipped(t, 5, 13, 0.1)}))
    result = rule(found, "faults")
    assert result == RuleResult("faults", EDGE, "", "at most 0", "1 fault", False, ("three",), "default")


def test_ties_per_thousand(gate):
    """A flip inside the noise is counted per thousand steps: one in 27 is too many."""
    whole = runs.report({("one", "tflite"): lambda t: traces.flipped(t, 5, 13, 0.1)})
    row = next(row for row in whole.rows if (row.clip, row.stage) == ("one", "tflite"))
    tied = tuple(replace(flip, kind="tie", margin=0.1) for flip in row.vs_parent.comparison.flips)
    judged = replace(row.vs_parent, comparison=replace(row.vs_parent.comparison, flips=tied))
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
    """The direction of the difference: errors that the candidate mends never fail a rule, only the snapshot."""
    worse = runs.saying("And so my fellow Martians, ask not")
    found = gate(runs.report({("two", "pytorch"): worse, ("two", "torchscript"): worse}))
    assert rule(found, "text_delta", language="en").actual == "-4.76% (-1 of 21)"
    assert rule(found, "text_delta", language="en").passed
    assert rule(found, "no_regression_rate").passed
    assert not rule(found, "approved", edge="").passed


def test_punctuation(gate):
    """A lost comma changes no word."""
    found = gate(runs.report({("one", "tflite"): runs.saying("And so my fellow Americans ask not")}))
    result = rule(found, "punctuation_per_thousand", language="en")
    assert (result.passed, result.limit) == (False, "at most 0 per thousand")
    assert result.actual == "47.6 per thousand: 1 edit of punctuation or case in 21 units of text"
    assert rule(found, "text_rate", language="en").passed


def silent(whole: Report, clip: str, stage: str, errors: int) -> Report:
    """A clip on which nothing is said, with that many words of a stage."""
    from whisper_parity.compare.text import ErrorCounts

    row = next(row for row in whole.rows if (row.clip, row.stage) == (clip, stage))
    nothing = replace(row.vs_transcript, wer_normalised=ErrorCounts(insertions=errors))
    return runs.with_row(whole, clip, stage, vs_transcript=nothing)


@pytest.mark.parametrize(("before", "after", "passed"), [(0, 0, True), (0, 3, False), (3, 0, True), (3, 3, True)])
def test_a_stage_that_begins_to_speak_in_silence(gate, before, after, passed):
    """N = 0 has no rate; words where nothing is said fail all the same, and losing them does not."""
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
    assert rule(asked, "complete", "").actual == "1 missing, first stage dla was not asked for"
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
    """A result that depends on what ran before."""
    check = OrderCheck("tflite", "A B A", ("one", "two"), True, "logits differ by 0.3")
    found = gate(runs.report(states=(check,)))
    assert failed(found) == [("stateless", "", "")]
    assert rule(found, "stateless", "").actual == "tflite, A B A: logits differ by 0.3"


def test_no_approved_result(gate, tmp_path):
    """Missing is red, says what to do, and leaves what it found."""
    (tmp_path / "hand-plain.json").unlink()
    found = gate(runs.report())
    result = rule(found, "approved", "")
    assert result.actual == "no approved result hand-plain.json: look at the run, then `parity approve made`"
    assert not rule(found, "not_worse_than_approved").passed
    assert approved.load(tmp_path / "hand-plain.obtained.json") == approved.summarise(runs.report(), "hand-plain")
    assert found.diff[:4] == ("--- hand-plain.json", "+++ hand-plain.obtained.json", "@@ one · pytorch @@",
                              f"+text: {traces.TEXT!r}")  # fmt: skip


def test_a_changed_text_and_its_diff(gate, tmp_path):
    """Expected and obtained, one below the other; the file goes when the run is as approved again."""
    found = gate(runs.report({("two", "tflite"): runs.saying("Ask not", (7, 8))}))
    result = rule(found, "approved", "")
    assert result.clips == ("two",)
    assert result.source.endswith("/hand-plain.json")
    assert list(found.diff) == [
        "--- hand-plain.json",
        "+++ hand-plain.obtained.json",
        "@@ two · tflite @@",
        f'-text: "{traces.TEXT}"',
        '+text: "Ask not"',
        f"-tokens: {list(traces.TOKENS)}",
        "+tokens: [7, 8]",
    ]
    assert (tmp_path / "hand-plain.obtained.json").exists()
    gate(runs.report())
    assert not (tmp_path / "hand-plain.obtained.json").exists()


@pytest.mark.parametrize("field", ["checkpoint_sha256", "policy", "policy_options"])
def test_another_premise_of_the_run(gate, field):
    """Another checkpoint or policy is not what was approved."""
    value = {"a": 1} if field == "policy_options" else "other"
    found = gate(runs.report(**{field: value}), approved="hand-plain")
    assert failed(found) == [("approved", "", "")]
    assert field in rule(found, "approved", "").actual


def test_cells_that_one_side_lacks(gate):
    """A clip that was dropped, and one that nobody has approved; a stage that was left out is the run's choice."""
    whole = runs.report()
    dropped = replace(whole, rows=tuple(row for row in whole.rows if row.clip != "two"))
    assert rule(gate(dropped), "approved", "").clips == ("two",)
    assert "not in this run" in rule(gate(dropped), "approved", "").actual
    renamed = replace(whole, rows=tuple(replace(row, clip="new") if row.clip == "two" else row for row in whole.rows))
    assert set(rule(gate(renamed), "approved", "").clips) == {"two", "new"}
    fewer = replace(whole, stages=whole.stages[:2], rows=tuple(row for row in whole.rows if row.stage != "tflite"))
    assert failed(gate(fewer)) == []


def test_worse_than_approved(gate, tmp_path):
    """An SNR that fell by more than the margin and out of the pass band; other processors may move it inside."""
    found = gate(runs.report({("two", "tflite"): noisy(5e-4)}))
    result = rule(found, "not_worse_than_approved")
    assert {name for name, *_ in failed(found)} == {"not_worse_than_approved"}
    assert result.clips == ("two",)
    assert result.limit == "flips and errors as approved, SNR at most 10 dB below"
    assert result.actual.startswith("2 worse, first two: encoder_output_snr_db 98 -> 65.")
    assert failed(gate(runs.report({("two", "tflite"): noisy(2e-5)}))) == []


def test_bits_that_were_identical(gate, tmp_path):
    """An infinite SNR is approved as such, and comparable."""
    same = runs.report({("two", "tflite"): lambda t: runs.trace_as("torchscript", t)})
    file, _ = approved.approve(same, tmp_path)
    assert '"logits_snr_db": "Infinity"' in file.read_text("utf-8")
    assert approved.load(file) == approved.summarise(same, "hand-plain")
    assert failed(gate(runs.report())) == []
    assert rule(gate(runs.report({("two", "tflite"): noisy(5e-4)})), "not_worse_than_approved").clips == ("two",)


def test_an_approved_result_that_cannot_be_read(gate, tmp_path):
    """Not a rule that passes, an error that says which file."""
    (tmp_path / "hand-plain.json").write_text("{}")
    with pytest.raises(RecordError, match=r"hand-plain\.json"):
        gate(runs.report())


def expect(folder: Path, *entries: dict[str, str]) -> None:
    """Write the list of expected divergences."""
    body = ("\n".join(f"{key} = {value!r}" for key, value in each.items()) for each in entries)
    (folder / "expected.toml").write_text("\n".join(f"[[expected]]\n{each}\n" for each in body))


ENTRY = {"clip": "two", "stage": "tflite", "class": "word", "reason": "a near tie", "date": "2026-01-31"}


def test_an_expected_divergence_is_not_held_against_the_edge(gate, tmp_path):
    """Text, flips and clips that got worse leave it out; it is named."""
    changed = runs.report({("two", "tflite"): runs.saying("And so my fellow Martians, ask not")})
    approved.approve(changed, tmp_path)
    assert ("text_rate", EDGE, "en") in failed(gate(changed))
    expect(tmp_path, ENTRY)
    found = gate(changed)
    assert {name for name, *_ in failed(found)} == set()
    assert found.result.expected == ("expected: two · tflite · word (2026-01-31): a near tie",)


def test_an_expected_divergence_excuses_its_class_only(gate, tmp_path):
    """A lost comma beside the expected word counts."""
    changed = runs.report({("two", "tflite"): runs.saying("And so my fellow Martians ask not")})
    expect(tmp_path, ENTRY)
    names = {name for name, *_ in failed(gate(changed))}
    assert {"text_rate", "punctuation_per_thousand"} <= names


def test_an_expected_divergence_that_is_gone(gate, tmp_path):
    """Strict: the list may not keep what no longer happens."""
    expect(tmp_path, ENTRY)
    found = gate(runs.report())
    assert failed(found) == [("expected_divergences", "", "")]
    result = rule(found, "expected_divergences", "")
    assert result.actual == "no longer occurs: two · tflite · word (2026-01-31): a near tie"
    assert (result.clips, result.limit) == (("two",), "every entry occurs")


def test_an_expected_divergence_of_a_cell_without_result(gate, tmp_path):
    """It cannot be told, so it does not pass."""
    expect(tmp_path, ENTRY)
    result = rule(gate(runs.failed(runs.report(), "two", "tflite")), "expected_divergences", "")
    assert (result.passed, result.actual.partition(":")[0]) == (False, "cannot be told, the cell has no result")


def test_entries_of_other_runs_are_named_and_left_aside(gate, tmp_path):
    """A clip that is not in this run, and another approved result's entry."""
    expect(tmp_path, {**ENTRY, "clip": "elsewhere"}, {**ENTRY, "approved": "other"})
    found = gate(runs.report())
    assert failed(found) == []
    assert found.result.expected == ("not in this run: elsewhere · tflite · word (2026-01-31): a near tie",)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"reason": " "}, "no reason"),
        ({"date": None}, "no date"),
        ({"date": "soon"}, "no date"),
        ({"clip": None}, "no clip"),
        ({"class": "mood"}, "no class 'mood'"),
        ({"who": "me"}, "unknown key who"),
    ],
)
def test_entries_that_say_too_little(gate, tmp_path, change, named):
    """An entry without reason or date is an error, and so is one that nobody understands."""
    entry = {key: value for key, value in {**ENTRY, **change}.items() if value is not None}
    expect(tmp_path, entry)
    with pytest.raises(ConfigError, match=named):
        gate(runs.report())


def test_an_entry_that_is_there_twice(gate, tmp_path):
    """One of the two would be overlooked."""
    expect(tmp_path, ENTRY, ENTRY)
    with pytest.raises(ConfigError, match="twice"):
        gate(runs.report())


@pytest.mark.parametrize("value", ["1", "true", "yes please"])
def test_ci_cannot_approve(tmp_path, monkeypatch, value):
    """Nothing is written."""
    monkeypatch.setenv("CI", value)
    with pytest.raises(UsageError, match="not written in CI") as caught:
        approved.approve(runs.report(), tmp_path / "approved")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "approved").exists()


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_an_environment_that_says_no_ci(tmp_path, monkeypatch, value):
    """CI=false is how some tools say that they are none."""
    monkeypatch.setenv("CI", value)
    assert approved.approve(runs.report(), tmp_path)[0].is_file()


def test_a_run_without_results_cannot_be_approved(tmp_path):
    """Neither with a failed cell, nor cut off, nor with rows that do not hold their tokens."""
    for bad in (
        runs.failed(runs.report(), "one", "tflite"),
        runs.report(finished=False),
        runs.report(rows=()),
        runs.with_row(runs.report(), "one", "tflite", token_ids=()),
    ):
        with pytest.raises(UsageError, match="cells without a result"):
            approved.approve(bad, tmp_path)


@pytest.mark.parametrize("name", ["noise", "../up", "a.obtained", "a b", ""])
def test_names_that_belong_to_others(tmp_path, name):
    """noise.json is not an approved result, and no name leaves the folder."""
    with pytest.raises(UsageError):
        approved.path(tmp_path, name)


def test_an_approved_file_reads_well_in_a_diff(tmp_path):
    """One line for each cell, the same order whatever the run's, nothing invisible, the same when read back."""
    whole = runs.report()
    hidden = runs.with_row(whole, "one", "tflite", text="a\u202eb\nc")
    file, _ = approved.approve(hidden, tmp_path)
    lines = file.read_text("utf-8").splitlines()
    cells = [line for line in lines if line.startswith('  {"clip"')]
    assert len(cells) == 9
    assert cells == sorted(cells, key=lambda line: line.split('"')[3])
    assert r'"text": "a\u202eb\nc"' in cells[2]
    shuffled = replace(hidden, rows=tuple(reversed(hidden.rows)))
    approved.save(tmp_path / "again.json", approved.summarise(shuffled, "hand-plain"))
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()
    assert approved.load(file) == approved.summarise(hidden, "hand-plain")


def test_direction_of_each_metric():
    """Each one is declared, agrees with its own module, and a figure one step worse is never within its limit."""
    higher = {"encoder_output_snr_db", "logits_snr_db", "argmax_agreement", "no_regression_rate"}
    assert {name for name, up in measure.HIGHER_IS_BETTER.items() if up} == higher
    for name, up in measure.HIGHER_IS_BETTER.items():
        worse, better = (0.4, 0.6) if up else (0.6, 0.4)
        assert measure.within(name, better, 0.5), name
        assert measure.within(name, 0.5, 0.5), name
        assert not measure.within(name, worse, 0.5), name
        assert not measure.within(name, math.nan, 0.5), name
        assert measure.goodness(name, better) > measure.goodness(name, worse), name


def test_directions_are_those_of_the_metrics_themselves():
    """Measured on a pair and on a worse pair: the declared direction is what the numbers do."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((4, 30)).astype(np.float32)
    near, far = (reference + amount * rng.standard_normal((4, 30)).astype(np.float32) for amount in (0.01, 3.0))
    for module in (tensor, logits):
        a, b = (module.measure(reference=reference, candidate=each) for each in (near, far))
        for name, up in module.HIGHER_IS_BETTER.items():
            assert (getattr(a, name) > getattr(b, name)) is up, name
    good, bad = (text.word_errors(reference="a b c", hypothesis=each) for each in ("a b c", "x y c"))
    assert (good.rate > bad.rate) is text.HIGHER_IS_BETTER["wer"]


def test_limits_of_a_language_and_of_a_project(gate):
    """parity.toml over the reviewed file, a language over its edge, and the source says which."""
    edges = {EDGE: {"steps_at_risk_per_thousand": 7, "en": {"faults": 2}}, "*->tflite": {"kl_max": "none"}}
    found = gate(runs.report({("one", "tflite"): lambda t: traces.flipped(t, 5, 13, 0.1)}), edges=edges)
    faults = rule(found, "faults", language="en")
    assert (faults.limit, faults.passed, faults.source) == ("at most 2", True, "parity.toml")
    assert rule(found, "steps_at_risk_per_thousand").limit == "at most 7 per thousand steps"
    assert (rule(found, "kl_max").limit, rule(found, "kl_max").source) == (UNJUDGED, "parity.toml")
    assert not rule(found, "faults", edge="pytorch->tflite").passed


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"edges": {"tflite->onnx": {"faults": 1}}}, "no such edge"),
        ({"edges": {EDGE: {"fault": 1}}}, "no rule 'fault'"),
        ({"edges": {EDGE: {"faults": "few"}}}, "expected a number"),
        ({"edges": {EDGE: {"faults": True}}}, "expected a number"),
        ({"edges": {EDGE: {"faults": math.nan}}}, "expected a number"),
        ({"edges": {EDGE: {"faults": "tolerance"}}}, "expected a number"),
        ({"edges": {EDGE: {"tlh": {"faults": 1}}}}, "unknown language 'tlh'"),
        ({"edges": {EDGE: 3}}, "expected a table"),
        ({"edges": 3}, "expected tables"),
        ({"stages": ["onnx"]}, "no backend called 'onnx'"),
        ({"stages": 3}, "expected names"),
        ({"approved": 3}, "expected a name"),
        ({"folder": 3}, "expected a path"),
    ],
)
def test_settings_that_cannot_be_used(given, named):
    """One line that names the place; a misspelt rule would be one that nobody applies."""
    with pytest.raises((ConfigError, UsageError), match=named):
        gate_settings.of(Project(Path(), gate=given))

"""What `parity explain` blames, shown to go red: a record, a policy or a stage is changed, and the answer is exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from whisper_parity import project
from whisper_parity.errors import RecordError, UnavailableError, UsageError
from whisper_parity.explain.bench import Bench, bench
from whisper_parity.explain.explain import explain
from whisper_parity.explain.explanation import Explanations
from whisper_parity.model.vocabulary import token_text
from whisper_parity.run import plan as planning
from whisper_parity.run import schedule
from whisper_parity.run.cell import Cell
from whisper_parity.run.options import RunOptions
from whisper_parity.run.plan import Plan
from whisper_parity.system import serial
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace

CLIP = "en-comma-01"
COMMA, FULL_STOP = 11, 13


def recorded(folder: Path, cache: Path, stages: tuple[str, ...], **policies: dict[str, object]) -> Plan:
    """A run of the micro checkpoint on one clip, under the policy "own" where one is given."""
    options = RunOptions(stages=stages, clips=(CLIP,), policy="own" if policies else "plain", language="en", threads=2,
                      run_id="run", report_dir=folder, cache=cache)  # fmt: skip
    plan = planning.make(options, project.Project(Path(), policies=policies))
    with schedule.opened(plan) as running:
        for stage in plan.stages:
            running.row(Cell(stage, plan.clips[0]))
    return plan


@contextmanager
def opened(plan: Plan) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(plan, stack)


def explained(plan: Plan, stage: str) -> Explanations:
    with opened(plan) as bench:
        return explain(bench, plan.clips[0], stage)


def change(plan: Plan, stage: str, edit: Callable[[Trace], Trace]) -> None:
    """Rewrite a stage's record."""
    path = plan.folder.trace(CLIP, stage)
    file.save(edit(file.load(path)), path)


def says_full_stop(trace: Trace) -> Trace:
    """The first comma became a full stop, in what was said and in what is chosen under the root's tokens."""
    (window,) = trace.windows
    step = window.header.tokens.index(COMMA)
    tokens = (*window.header.tokens[:step], FULL_STOP, *window.header.tokens[step + 1 :])
    choices = window.teacher_forced.choices.copy()
    choices[step] = FULL_STOP
    logits = window.teacher_forced.logits.copy()
    logits[step, [COMMA, FULL_STOP]] = logits[step, [FULL_STOP, COMMA]]
    forced = replace(window.teacher_forced, choices=choices, logits=logits)
    header = replace(window.header, tokens=tokens)
    text = token_text(trace.header.n_vocab, tokens)
    top = replace(trace.header, tokens=tokens, timestamped_tokens=tokens, text=text, windows=(header,))
    return Trace(top, (replace(window, header=header, teacher_forced=forced),))


def test_a_result_that_the_file_does_not_repeat_is_state(tmp_path, cache_dir):
    """The record says a full stop; the file, opened afresh, does not."""
    plan = recorded(tmp_path, cache_dir, ("pytorch", "torchscript"))
    change(plan, "torchscript", says_full_stop)
    found = explained(plan, "torchscript")
    (each,) = found.found
    assert (each.change.edit_class, each.change.reference_text[-1:], each.change.candidate_text[-1:]) == (
        "punctuation", ",", ".",
    )  # fmt: skip
    assert (found.edge, found.part, found.unit) == ("pytorch->torchscript", "state", "")
    assert each.layers == ()
    assert each.weight
    assert each.weight.kind == "fault"


def test_a_divergence_that_nothing_explains_has_no_answer(tmp_path, cache_dir, monkeypatch):
    """The device went away: no part is named. Once it is back there is one."""
    plan = recorded(tmp_path, cache_dir, ("pytorch", "torchscript"))
    change(plan, "torchscript", says_full_stop)

    def gone(*_: object) -> None:
        raise UnavailableError("the device went away")

    with monkeypatch.context() as patched:
        patched.setattr(Bench, "session", gone)
        patched.setattr(Bench, "probe", gone)
        found = explained(plan, "torchscript")
    assert (found.causes, found.part, found.answered) == ((), "", False)
    assert "encoder, embedding or decoder: the device went away" in found.found[0].missing
    assert explained(plan, "torchscript").answered


def test_an_encoder_output_that_the_file_does_not_repeat_is_state(tmp_path, cache_dir):
    """No token differs, and the tensors are of another moment."""
    plan = recorded(tmp_path, cache_dir, ("pytorch", "torchscript"))

    def stale(trace: Trace) -> Trace:
        (window,) = trace.windows
        return Trace(trace.header, (replace(window, encoder_output=np.roll(window.encoder_output, 7, axis=1)),))

    change(plan, "torchscript", stale)
    assert (explained(plan, "torchscript").part, explained(plan, "torchscript").unit) == ("state", "")


def test_a_row_whose_parent_is_broken_says_where_to_look(tmp_path, cache_dir):
    """It agrees with the root, and no part of it is blamed; the other way round it is no fault of its own either."""
    plan = recorded(tmp_path, cache_dir, ("pytorch", "torchscript", "tflite"))

    def rolled(trace: Trace) -> Trace:
        (window,) = trace.windows
        return Trace(trace.header, (replace(window, encoder_output=np.roll(window.encoder_output, 7, axis=1)),))

    change(plan, "torchscript", rolled)
    found = explained(plan, "tflite")
    assert (found.edge, found.part, found.unit, found.answered) == ("pytorch->torchscript", "", "", True)
    assert found.missing == ("it agrees with pytorch: look at torchscript, use --stage torchscript",)
    change(plan, "tflite", rolled)
    found = explained(plan, "tflite")
    assert (found.edge, found.part, found.answered) == ("pytorch->torchscript", "", True)
    assert found.causes[0].finding.startswith("it passes against torchscript: what differs from pytorch was there")


def test_an_edge_in_the_middle_is_named(tmp_path, cache_dir):
    """torchscript says a full stop, tflite behind it does not: it entered there, and was undone."""
    plan = recorded(tmp_path, cache_dir, ("pytorch", "torchscript", "tflite"))
    change(plan, "torchscript", says_full_stop)
    found = explained(plan, "torchscript")
    assert found.edge == "pytorch->torchscript"
    assert found.found[0].entry
    assert found.found[0].entry.undone_by == "torchscript->tflite"
    change(plan, "tflite", says_full_stop)
    late = explained(plan, "tflite")
    assert late.edge == "pytorch->torchscript"
    assert late.found[0].missing == ("it entered before, at pytorch->torchscript: use --stage torchscript",)


def test_a_difference_that_comes_again_is_blamed_on_the_edge_that_brings_it_last(tmp_path, cache_dir):
    """torchscript says it, tflite does not, int8 does again: mending the first edge would not mend this one."""
    plan = recorded(tmp_path, cache_dir, ("pytorch", "torchscript", "tflite", "tflite:int8"))
    for stage in ("torchscript", "tflite:int8"):
        change(plan, stage, says_full_stop)
    found = explained(plan, "tflite:int8")
    assert found.edge == "tflite->tflite:int8"
    assert found.found[0].entry
    assert "torchscript had it before, and a later stage undid it" in found.found[0].entry.finding


def test_logits_that_are_not_finite_are_no_tie(tmp_path, cache_dir):
    """However small the margin: NaN is no noise."""
    plan = recorded(tmp_path, cache_dir, ("pytorch", "torchscript"))

    def broken(trace: Trace) -> Trace:
        found = says_full_stop(trace)
        forced = found.windows[0].teacher_forced
        step = int((forced.choices == FULL_STOP).nonzero()[0][0])
        logits = forced.logits.copy()
        logits[step, 0] = np.nan
        return Trace(found.header, (replace(found.windows[0], teacher_forced=replace(forced, logits=logits)),))

    change(plan, "torchscript", broken)
    (each,) = explained(plan, "torchscript").found
    assert each.weight
    assert each.weight.kind == "fault"
    assert each.weight.finding.endswith("; logits are not finite here")


def test_a_run_of_another_checkpoint_or_policy_is_refused(tmp_path, cache_dir, monkeypatch):
    """What would run now is not what was recorded."""
    monkeypatch.chdir(tmp_path)
    plan = recorded(tmp_path, cache_dir, ("pytorch", "torchscript"))
    options = serial.read(dict, plan.folder.options)
    for other, named in (
        ({"policy": "whisper"}, r"policy \(plain then, whisper now\), policy_options \("),
        ({"mask_value": "-100"}, r"build_options \("),
        ({"threads": 1}, r"threads \(2 then, 1 now\)"),
    ):
        serial.write(plan.folder.options, {**options, **other})
        with (
            pytest.raises(UsageError, match=f"run run was made under other conditions: {named}"),
            bench(plan.folder),
        ):
            pass


def test_a_record_of_another_artifact_is_refused_and_kept(tmp_path, cache_dir):
    """It is not recorded over: it is what the report rests on."""
    plan = recorded(tmp_path, cache_dir, ("pytorch", "torchscript"))
    path = plan.folder.trace(CLIP, "torchscript")
    change(plan, "torchscript", lambda trace: Trace(replace(trace.header, artifact_sha256="0" * 64), trace.windows))
    before = path.read_bytes()
    with pytest.raises(RecordError, match="torchscript on en-comma-01: the run recorded it with another artifact"):
        explained(plan, "torchscript")
    assert path.read_bytes() == before


@pytest.mark.parametrize(("token", "effect"), [(COMMA, (False, True)), (FULL_STOP, (True, True))])
def test_suppressed_tokens_are_named(tmp_path, cache_dir, token, effect):
    """A mark that our policy must not take: that part alone, of six, brings it back."""
    plan = recorded(tmp_path, cache_dir, ("whisper", "pytorch"), own={"base": "whisper", "suppress_tokens": [token]})
    found = explained(plan, "pytorch")
    assert (found.edge, found.part, found.unit) == ("whisper->pytorch", "policy", "")
    (each,) = found.found
    assert each.entry
    effects = {part.part: (part.removes, part.restores) for part in each.entry.policy}
    assert effects.pop("suppressed tokens") == effect
    assert list(effects.values()) == [(False, False)] * 5


def test_a_clean_port_gives_nothing_to_explain(tmp_path, cache_dir):
    """No difference, no part, no unit."""
    plan = recorded(tmp_path, cache_dir, ("pytorch", "torchscript"))
    found = explained(plan, "torchscript")
    assert (found.found, found.part, found.unit, found.missing) == ((), "", "", ())
    assert all(not layer.culprit for layer in found.layers)

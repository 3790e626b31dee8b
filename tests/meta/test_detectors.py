"""Every detector goes red: one thing is broken at a time, and the exact verdict is asserted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from tests.support import sites, traces
from tests.support.traces import N_VOCAB, TOKENS, changed, flipped, trace
from whisper_parity.compare.comparison import compare
from whisper_parity.judge.verdict import Grade, Outcome, Verdict, judge
from whisper_parity.trace.trace import Trace


def verdict(reference: Trace, candidate: Trace) -> Verdict:
    edge = sites.limits_of(reference.header.stage, candidate.header.stage)
    return judge(compare(reference, candidate, N_VOCAB), edge)


def grades(found: Verdict) -> dict[str, Grade]:
    return {result.rung: result.grade for result in found.rungs}


@pytest.fixture
def reference() -> Trace:
    return trace("pytorch")


@pytest.fixture
def candidate() -> Trace:
    return trace("torchscript")


def test_nothing_broken_passes(reference, candidate):
    """A check that never passes is no check either."""
    found = verdict(reference, candidate)
    assert found.outcome is Outcome.PASS
    assert set(grades(found).values()) == {Grade.PASS}


@pytest.mark.parametrize(
    ("noise", "outcome", "rung"),
    [(1e-5, Outcome.PASS, ""), (3e-4, Outcome.DRIFT, "tensor"), (3e-3, Outcome.DIVERGED, "tensor")],
)
def test_noise_of_known_size(reference, noise, outcome, rung):
    """About 100, 70 and 50 dB on the encoder output: pass, drift, fail."""
    found = verdict(reference, trace("torchscript", noise=noise))
    assert (found.outcome, found.rung if rung else "") == (outcome, rung)


def test_encoder_output_of_another_clip(reference, candidate):
    """A stale buffer: shapes fit, values do not."""
    stale = candidate.windows[0].encoder_output[:, ::-1]
    found = verdict(reference, changed(candidate, encoder_output=stale))
    assert (found.outcome, found.rung) == (Outcome.DIVERGED, "tensor")
    assert "encoder_output SNR -" in found.reason


def test_frames_shifted_by_one(reference, candidate):
    """Off by one frame is a failure of the encoder output, not of tokens."""
    found = verdict(reference, changed(candidate, encoder_output=np.roll(candidate.windows[0].encoder_output, 1, 1)))
    assert (found.outcome, found.rung, grades(found)["token"]) == (Outcome.DIVERGED, "tensor", Grade.PASS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["encoder_output", "logits"])
def test_one_value_that_is_not_finite(reference, candidate, name, value):
    """Found, counted, located; nothing behind it is compared."""
    window = candidate.windows[0]
    tensor = (window.encoder_output if name == "encoder_output" else window.teacher_forced.logits).copy()
    tensor[(0,) * (tensor.ndim - 1) + (3,)] = value
    found = verdict(reference, changed(candidate, **{name: tensor}))
    place = [0] * (tensor.ndim - 1) + [3]
    assert found.outcome is Outcome.DIVERGED
    assert found.reason == (
        f"{name}: finiteness broken: 1 of {tensor.size} values of the candidate are NaN or infinite, first at {place}"
    )


def test_a_reference_that_is_not_finite_is_said_to_be_the_reference(reference, candidate):
    """The candidate is not blamed for it."""
    broken = reference.windows[0].encoder_output.copy()
    broken[0, 0, 0] = math.nan
    found = verdict(changed(reference, encoder_output=broken), candidate)
    assert "of the reference are NaN" in found.reason


def test_transposed_layout(reference, candidate):
    """A transposed tensor breaks the premise of equal shapes."""
    transposed = np.ascontiguousarray(candidate.windows[0].encoder_output.transpose(0, 2, 1))
    found = verdict(reference, changed(candidate, encoder_output=transposed))
    assert found.reason == "encoder_output: shapes broken: expected [1, 20, 8], found [1, 8, 20]"


def test_another_dtype(reference, candidate):
    """Half precision is not silently promoted."""
    half = candidate.windows[0].encoder_output.astype(np.float16)
    found = verdict(reference, changed(candidate, encoder_output=half))
    assert found.reason == "encoder_output: dtypes broken: expected float32, found float16"


def test_missing_window(reference, candidate):
    """A tensor without a partner is a finding."""
    window = candidate.windows[0]
    moved = dataclasses.replace(window, header=dataclasses.replace(window.header, index=1))
    found = verdict(reference, Trace(candidate.header, (moved,)))
    assert found.reason == "windows: names broken: the reference has windows [0], the candidate [1]"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("input_features_sha256", "other", "different input features"),
        ("prompt", (50258, 50260, 50359, 50363), "the prompts differ"),
    ],
)
def test_not_fed_the_same(reference, candidate, field, value, named):
    """What was not fed the same is not compared."""
    window = candidate.windows[0]
    other = dataclasses.replace(window, header=dataclasses.replace(window.header, **{field: value}))
    found = verdict(reference, Trace(candidate.header, (other,)))
    assert found.outcome is Outcome.DIVERGED
    assert named in found.reason


def test_not_forced_with_the_same_tokens(reference, candidate):
    """Teacher-forced logits of different tokens are not comparable."""
    window = candidate.windows[0]
    other = (13, *TOKENS[1:])
    forced = dataclasses.replace(window.teacher_forced, tokens=other)
    header = dataclasses.replace(window.header, forced_tokens=other)
    window = dataclasses.replace(window, header=header, teacher_forced=forced)
    found = verdict(reference, Trace(candidate.header, (window,)))
    assert "fed different tokens" in found.reason


def test_a_flip_far_outside_the_noise_is_a_fault(reference, candidate):
    """One logit raised by 5.1 where nothing else moved."""
    found = verdict(reference, flipped(candidate, 5, 13, 0.1))
    token = next(result for result in found.rungs if result.rung == "token")
    assert found.outcome is Outcome.DIVERGED
    assert token.grade is Grade.FAIL
    assert token.reason == "1 flip(s), 1 fault(s): step 5 ',' -> '.' (margin 5, moved 5.1, noise 0: fault)"


def test_a_flip_inside_the_noise_is_a_tie():
    """Margins of 0.004 and movements of that size all over: a drift, no failure of the token rung."""
    reference = trace("pytorch")
    close = reference.windows[0].teacher_forced.logits.copy()
    steps = np.arange(len(close))
    close[steps, 13] = close[steps, reference.windows[0].teacher_forced.choices] - np.float32(0.004)
    reference = changed(reference, logits=close)
    moved = close.copy()
    moved[steps, 13] += np.where(steps % 2, 0.003, -0.003).astype(np.float32)
    candidate = flipped(changed(trace("torchscript"), logits=moved), 5, 13, 0.001)
    found = verdict(reference, candidate)
    token = next(result for result in found.rungs if result.rung == "token")
    assert token.grade is Grade.DRIFT
    assert token.reason.endswith("noise 0.003: tie)")


def test_a_tie_is_never_wider_than_its_limit():
    """Noise of 2 logits everywhere does not excuse a flip of margin 5."""
    reference, noisy = trace("pytorch"), trace("torchscript", noise=2.0)
    found = verdict(reference, flipped(noisy, 5, 13, 0.1))
    token = next(result for result in found.rungs if result.rung == "token")
    assert (token.grade, found.outcome) == (Grade.FAIL, Outcome.DIVERGED)


def test_a_changed_word_cannot_ship(reference, candidate):
    """Perfect tensors and another word: diverged, on the token rung first."""
    tokens = (*TOKENS[:-1], 525)
    text = traces.TEXT.replace("not", "nod")
    found = verdict(reference, changed(candidate, tokens=tokens, text=text))
    assert (found.outcome, found.rung) == (Outcome.DIVERGED, "token")
    assert (grades(found)["tensor"], grades(found)["text"]) == (Grade.PASS, Grade.FAIL)


def test_the_same_tokens_with_another_text(reference, candidate):
    """A detokenizer that differs is found by the text rung alone."""
    found = verdict(reference, changed(candidate, text=traces.TEXT.replace("Americans", "Amerikans")))
    assert (found.outcome, found.rung) == (Outcome.DIVERGED, "text")
    assert found.reason.startswith("text: WER 14.3% (1/7), 0 punctuation or case edit(s), first word 'Americans'")


def test_a_moved_comma_is_a_drift_of_the_text(reference, candidate):
    """Normalised texts are equal; the comma is counted all the same."""
    found = verdict(reference, changed(candidate, text=traces.TEXT.replace(",", "")))
    assert (found.outcome, found.rung) == (Outcome.DRIFT, "text")
    assert "1 punctuation or case edit(s), first punctuation ',' -> ''" in found.reason


def test_too_many_marks_are_a_failure(reference, candidate):
    """Marks have a limit of their own."""
    found = verdict(reference, changed(candidate, text=traces.TEXT.replace(" ", ", ")))
    assert (found.outcome, found.rung) == (Outcome.DIVERGED, "text")


def test_words_out_of_silence(reference, candidate):
    """Against an empty reference text there is no rate, and still no pass."""
    found = verdict(changed(reference, text=""), candidate)
    assert (found.outcome, found.rung) == (Outcome.DIVERGED, "text")
    assert "WER n/a (7/0)" in found.reason


def test_a_decoder_of_another_checkpoint_is_named(reference, candidate):
    """Encoder agrees, logits do not: the reason says where to look."""
    other = np.random.default_rng(9).permutation(candidate.windows[0].teacher_forced.logits, axis=1)
    found = verdict(reference, changed(candidate, logits=other))
    assert (found.outcome, found.rung) == (Outcome.DIVERGED, "logits")
    assert "look at the decoder and the token embedding" in found.reason


def test_kl_alone_can_fail():
    """A small tensor error on the few logits that matter: SNR passes the int8 edge, the distribution does not."""
    reference, candidate = trace("pytorch"), trace("tflite:int8")
    logits = candidate.windows[0].teacher_forced.logits.copy()
    logits[2, 13] += 4.9
    found = verdict(reference, changed(candidate, logits=logits))
    assert (found.outcome, found.rung, grades(found)["token"]) == (Outcome.DRIFT, "logits", Grade.PASS)
    assert "largest KL of a step" in found.reason


def test_text_and_tokens_only_is_judged_by_them():
    """Against whisper.transcribe there are no tensors; a changed word is a drift of policy, up to its limit."""
    whisper = Trace(trace("whisper").header, ())
    found = verdict(whisper, trace("pytorch"))
    assert (found.outcome, grades(found)["tensor"]) == (Outcome.PASS, Grade.NOT_COMPARED)
    one_word = changed(trace("pytorch"), text=traces.TEXT.replace("not", "nod"), tokens=(*TOKENS[:-1], 525))
    assert verdict(whisper, one_word).outcome is Outcome.DRIFT
    garbage = changed(trace("pytorch"), text="one two three four five six", tokens=(1, 2, 3))
    assert (verdict(whisper, garbage).outcome, verdict(whisper, garbage).rung) == (Outcome.DIVERGED, "text")

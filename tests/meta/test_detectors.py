"""Every detector goes red: one thing is broken at a time, and the exact verdict is asserted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from tests.support import sites, traces
from tests.support.traces import N_VOCAB, TOKENS, changed, flipped, trace
from whisper_parity.compare.comparison import compare
from whisper_parity.judge.verdict import TIES, Grade, Outcome, RungResult, Verdict, judge
from whisper_parity.trace.trace import Trace

TIE = sites.limits_of("pytorch", "torchscript").max_tie_margin
"""Widest margin of a tie between float32 stages."""


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
    [(1e-5, Outcome.PASS, ""), (4e-5, Outcome.DRIFT, "tensor"), (3e-4, Outcome.DIVERGED, "tensor")],
)
def test_noise_of_known_size(reference, noise, outcome, rung):
    """About 100, 88 and 70 dB on the encoder output: pass, drift, fail."""
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


def token_rung(found: Verdict) -> RungResult:
    return next(result for result in found.rungs if result.rung == "token")


def near(margin: float) -> Trace:
    """A reference whose runner-up is so close at every step."""
    reference = trace("pytorch")
    logits = reference.windows[0].teacher_forced.logits.copy()
    steps = np.arange(len(logits))
    logits[steps, 13] = logits[steps, reference.windows[0].teacher_forced.choices] - np.float32(margin)
    return changed(reference, logits=logits)


def as_candidate(reference: Trace) -> Trace:
    """The same numbers, in another stage."""
    return changed(reference, stage="torchscript")


def test_a_flip_far_outside_the_floor_is_a_fault(reference, candidate):
    """One logit raised by 5.1 where nothing else moved."""
    found = verdict(reference, flipped(candidate, 5, 13, 0.1))
    assert (found.outcome, token_rung(found).grade) == (Outcome.DIVERGED, Grade.FAIL)
    assert token_rung(found).reason == (
        f"1 flip(s), 1 fault(s): step 5 ',' -> '.' (margin 5, moved 5.1, a tie on this edge up to {TIE:g}: fault)"
    )


def test_a_flip_inside_the_floor_is_a_tie():
    """A margin of 0.9 times the widest tie, where nothing else moved: a drift, no failure of the token rung."""
    reference = near(0.9 * TIE)
    found = verdict(reference, flipped(as_candidate(reference), 5, 13, 0.05 * TIE))
    assert (found.outcome, token_rung(found).grade) == (Outcome.DRIFT, Grade.DRIFT)
    assert token_rung(found).reason.endswith(f"a tie on this edge up to {TIE:g}: tie)")


def test_what_the_candidate_moves_excuses_no_flip():
    """It moves every pair by up to four times the margin, and that margin is above the floor of its edge: a fault."""
    reference = near(1.5 * TIE)
    moved = reference.windows[0].teacher_forced.logits.copy()
    moved[:, 13] += np.where(np.arange(len(moved)) % 2, -6 * TIE, 1.2 * TIE).astype(np.float32)
    found = verdict(reference, flipped(changed(as_candidate(reference), logits=moved), 5, 13, 0.1 * TIE))
    assert (found.outcome, token_rung(found).grade) == (Outcome.DIVERGED, Grade.FAIL)
    assert token_rung(found).reason.endswith(f"a tie on this edge up to {TIE:g}: fault)")


def test_there_is_no_tie_where_another_rung_fails():
    """The same near flip, and an encoder output of 50 dB: what flips there is the fault's."""
    reference = near(0.9 * TIE)
    candidate = flipped(as_candidate(reference), 5, 13, 0.05 * TIE)
    error = 3e-3 * np.random.default_rng(3).standard_normal((1, 20, 8), dtype=np.float32)
    found = verdict(reference, changed(candidate, encoder_output=candidate.windows[0].encoder_output + error))
    assert (found.outcome, found.rung, token_rung(found).grade) == (Outcome.DIVERGED, "tensor", Grade.FAIL)
    assert token_rung(found).reason.endswith(", no tie where tensor fails: fault)")


@pytest.mark.parametrize(
    ("columns", "by", "said"),
    [
        ([11], 0.5, "token ',' is +0.5 at every step"),
        ([13], -0.5, "token '.' is -0.5 at every step"),
        (range(51765, 51865), 0.5, "tokens 51765 to 51864 are +0.5 at every step"),
    ],
)
def test_columns_that_are_off_at_every_step(reference, columns, by, said):
    """Nothing flips, and over 51,865 columns the SNR may pass; named, in sound noise."""
    logits = trace("torchscript", noise=1e-5).windows[0].teacher_forced.logits.copy()
    logits[:, list(columns)] += np.float32(by)
    found = verdict(reference, changed(trace("torchscript"), logits=logits))
    assert (found.outcome, found.rung, token_rung(found).grade) == (Outcome.DIVERGED, "logits", Grade.PASS)
    assert found.reason.startswith(f"logits: {said} (pass to ")


def test_a_column_that_is_off_is_seen_among_the_noise_of_8_bits():
    """0.5 is less than 8 bits move a top token by now and then, and more than they move a column at every step."""
    candidate = trace("tflite:int8", noise=0.02)
    logits = candidate.windows[0].teacher_forced.logits.copy()
    logits[:, 11] += np.float32(0.5)
    found = verdict(trace("pytorch"), changed(candidate, logits=logits))
    assert (found.outcome, grades(found)["logits"]) == (Outcome.DRIFT, Grade.DRIFT)
    assert "token ',' is +0.5 at every step (pass to 0.4, drift to 1.2)" in found.reason


def test_a_top_token_that_moves_at_one_step(reference, candidate):
    """The runner-up rises by 0.5 once: an SNR of 75 dB or more, and no flip."""
    logits = candidate.windows[0].teacher_forced.logits.copy()
    logits[4, 13] += np.float32(0.5)
    found = verdict(reference, changed(candidate, logits=logits))
    assert (found.outcome, found.rung, token_rung(found).grade) == (Outcome.DIVERGED, "logits", Grade.PASS)
    compared = compare(reference, changed(candidate, logits=logits), N_VOCAB).logits[0]
    assert (compared.top_movement, compared.top_movement_step, compared.top_movement_text) == (0.5, 4, ".")


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
    logits[2, 13] += 3
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


def spoken(stage: str, text: str) -> Trace:
    """A stage that says this, its tensors aside."""
    return changed(trace(stage), text=text, tokens=traces.tokens(f" {text}"))


@pytest.mark.parametrize(
    ("text", "outcome", "said"),
    [
        ("And so, my fellow Americans! Do ask not", Outcome.DRIFT, "invented text: 'Do' (1 word)"),
        ("Yes, my fellow Englishmen: ask him", Outcome.DRIFT, "token: "),
        ("", Outcome.DIVERGED, "lost text: "),
        ("Thank you for watching", Outcome.DIVERGED, "other text: "),
        (f"{traces.TEXT}{' ask not' * 12}", Outcome.DIVERGED, "repetition loop: "),
        (f"{traces.TEXT} what your country can do for you but what you can", Outcome.DIVERGED, "invented text: "),
    ],
)
def test_what_another_policy_may_do_and_what_it_may_not(text, outcome, said):
    """Words and marks are the policy's; a loop, an empty or wholly other text and a sentence too many are nobody's."""
    found = verdict(Trace(trace("whisper").header, ()), spoken("pytorch", text))
    assert (found.outcome, found.reason.startswith(said)) == (outcome, True), found.reason


@pytest.mark.parametrize(
    ("text", "outcome", "said"),
    [
        (f"{traces.TEXT}{' ask not' * 12}", Outcome.DRIFT, "repetition loop: "),
        ("Thank you for watching", Outcome.DRIFT, "other text: "),
        ("", Outcome.DIVERGED, "lost text: "),
    ],
)
def test_what_another_window_makes_of_a_clip_is_named_and_fails_nothing(text, outcome, said):
    """The same loop and weights on both sides: the users' own choice, named first; nothing left is nobody's choice."""
    found = verdict(Trace(trace("pytorch").header, ()), spoken("pytorch:10s", text))
    assert (found.outcome, found.reason.startswith(said)) == (outcome, True), found.reason


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (traces.TEXT, Outcome.PASS),
        (traces.TEXT.replace("ask", "asked"), Outcome.DRIFT),
        (traces.TEXT.replace(", ask not", ""), Outcome.DIVERGED),
    ],
)
def test_8_bits_may_change_a_word_by_a_tie_and_lose_none(text, outcome):
    """One flip, of a margin that 8 bits move: another word is a drift, two lost ones are not."""
    reference = near(1.0)
    candidate = changed(reference, stage="tflite:int8")
    if text != traces.TEXT:
        candidate = changed(flipped(candidate, 6, 13, 0.1), text=text, tokens=traces.tokens(f" {text}"))
    found = verdict(reference, candidate)
    assert found.outcome is outcome, found.reason
    if outcome is Outcome.DIVERGED:
        assert found.reason.startswith("lost end: 'ask not' (2 words) from step 6 of the reference; text: WER 28.6%")
        assert found.reason.endswith(TIES)

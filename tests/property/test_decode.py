"""Drafts change what decoding costs, never what it says."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import FakeSession, FakeStepper, plan
from whisper_parity.decode.cached import Cached
from whisper_parity.decode.loop import decode, realign

ENCODER_OUTPUT = np.zeros((1, 4, 2), np.float32)
tokens = st.lists(st.integers(1, 19), max_size=20)
seeds = st.integers(0, 10_000)


def alone(seed: int, **changes) -> tuple[FakeSession, tuple[int, ...]]:
    """One-token-at-a-time decoding: the tokens that everything else must give."""
    session = FakeSession(seed, **changes)
    return session, decode(session, plan(), ENCODER_OUTPUT, [], step_by_step=True).tokens


@given(seeds, tokens)
def test_any_draft_gives_the_tokens_of_step_by_step_decoding(seed, draft):
    """Right, wrong, too short, too long or empty: the result is the same."""
    _, expected = alone(seed)
    assert decode(FakeSession(seed), plan(), ENCODER_OUTPUT, draft).tokens == expected


@given(seeds, st.integers(0, 11), st.integers(1, 19), st.sampled_from(["replace", "insert", "delete"]))
def test_one_wrong_token_in_a_right_draft_changes_nothing(seed, place, token, edit):
    """A draft that is wrong at any place is corrected there and used behind it."""
    _, expected = alone(seed)
    draft = list(expected)
    place = min(place, len(draft))
    draft[place : place + (edit != "insert")] = [] if edit == "delete" else [token]
    assert decode(FakeSession(seed), plan(), ENCODER_OUTPUT, draft).tokens == expected


@given(seeds)
def test_a_right_draft_costs_one_decoder_call(seed):
    """A clip at parity is verified in one call, its limit of steps reached or not."""
    _, expected = alone(seed)
    session = FakeSession(seed)
    decoded = decode(session, plan(), ENCODER_OUTPUT, expected, reference=expected)
    assert (decoded.tokens, decoded.decoder_calls, len(session.calls)) == (expected, 1, 1)


@given(seeds, tokens)
def test_calls_never_exceed_those_of_step_by_step_decoding(seed, draft):
    """Each call takes at least one token of its own, so that a bad draft costs no more than none."""
    stepwise, _ = alone(seed)
    session = FakeSession(seed)
    decode(session, plan(), ENCODER_OUTPUT, draft)
    assert len(session.calls) <= len(stepwise.calls)


@given(seeds, tokens)
def test_teacher_forced_rows_are_those_of_the_fed_tokens(seed, reference):
    """Whatever the decoder would say, the record has the reference's tokens, one row per step, up to the limit."""
    decoded = decode(FakeSession(seed), plan(), ENCODER_OUTPUT, reference, reference=reference)
    stepwise = decode(FakeSession(seed), plan(), ENCODER_OUTPUT, [], reference=reference, step_by_step=True)
    limit = plan().max_steps
    assert decoded.teacher_forced.tokens == tuple(reference[:limit])
    assert decoded.teacher_forced.logits.shape[0] == min(len(reference) + 1, limit)
    assert decoded.teacher_forced.limited == (len(reference) >= limit)
    np.testing.assert_array_equal(decoded.teacher_forced.logits, stepwise.teacher_forced.logits)


@given(seeds)
def test_without_a_reference_the_record_is_of_the_decoders_own_tokens(seed):
    """The root's logits and tokens come from the same numbers."""
    decoded = decode(FakeSession(seed), plan(), ENCODER_OUTPUT, [])
    chosen = decoded.teacher_forced.choices[: len(decoded.tokens)]
    assert tuple(chosen) == decoded.tokens == decoded.teacher_forced.tokens


@given(tokens.filter(bool), st.data())
def test_realigning_moves_on_or_finds_the_token(draft, data):
    """The draft goes on behind a place of the token near the difference, or one further."""
    position = data.draw(st.integers(0, len(draft) - 1))
    token = data.draw(st.integers(1, 19))
    found = realign(draft, position, token)
    assert found == position + 1 or draft[found - 1] == token


@given(seeds, st.lists(tokens, max_size=5))
def test_a_stepper_under_the_adapter_answers_as_halves_do(seed, sequences):
    """Whatever is asked in whatever order: rows of any sequence, the shared prefix kept, the rest taken back."""
    stepper = FakeStepper(seed)
    cached, halves = Cached(stepper), FakeSession(seed)
    for sequence in filter(None, sequences):
        rows = range(len(sequence))
        expected = halves.decode(sequence, ENCODER_OUTPUT, rows)
        np.testing.assert_array_equal(cached.decode(sequence, ENCODER_OUTPUT, rows), expected)
    assert cached.calls == len(stepper.fed)


@given(seeds, tokens)
def test_a_stepper_decodes_to_the_same_tokens_for_one_pass_of_each(seed, draft):
    """A clip at parity costs the prompt and its tokens; a wrong draft costs what follows the difference again."""
    _, expected = alone(seed)
    cached = Cached(FakeStepper(seed))
    assert decode(cached, plan(), ENCODER_OUTPUT, draft).tokens == expected
    at_parity = Cached(FakeStepper(seed))
    decode(at_parity, plan(), ENCODER_OUTPUT, expected, reference=expected)
    assert at_parity.calls <= len(plan().prompt) + len(expected)

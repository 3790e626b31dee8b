"""The decode loop, step by step."""

from __future__ import annotations

import numpy as np

from tests.support.fakes import EOT, FakeSession, plan
from whisper_parity.decode.loop import decode, realign, rows_are_invariant

ENCODER_OUTPUT = np.zeros((1, 4, 2), np.float32)


def test_end_of_text_ends_decoding():
    """The end-of-text token is no token of the result."""
    decoded = decode(FakeSession(eot_bias=99), plan(), ENCODER_OUTPUT, [])
    assert (decoded.tokens, decoded.ended, decoded.decoder_calls) == ((), "eot", 1)


def test_the_policys_limit_ends_decoding():
    """Without end-of-text there are exactly max_steps tokens."""
    decoded = decode(FakeSession(eot_bias=-99), plan(max_steps=5), ENCODER_OUTPUT, [1] * 30)
    assert (len(decoded.tokens), decoded.ended) == (5, "length")


def test_a_row_with_nan_ends_decoding_there():
    """Nothing is chosen from a row that is no distribution; it stays in the record."""
    session = FakeSession(eot_bias=-99, nan_at=2 + 3)
    decoded = decode(session, plan(), ENCODER_OUTPUT, [])
    assert (len(decoded.tokens), decoded.ended) == (3, "nonfinite")
    assert np.isnan(decoded.teacher_forced.logits[-1]).all()


def test_a_draft_is_never_fed_beyond_the_limit():
    """The context of the decoder is respected however long the draft."""
    session = FakeSession()
    decode(session, plan(max_steps=6), ENCODER_OUTPUT, [1] * 100)
    assert max(fed for fed, _ in session.calls) <= 3 + 5


def test_rows_are_asked_for_only_where_needed():
    """The prompt's own rows are not asked for: a device sends back what is used."""
    session = FakeSession()
    decode(session, plan(), ENCODER_OUTPUT, [1, 2, 3])
    assert session.calls[0] == (6, 4)


def test_a_causal_decoder_is_row_invariant():
    """Rows of a prefix are the same bits whatever follows."""
    assert rows_are_invariant(FakeSession(), plan(), ENCODER_OUTPUT)


def test_a_decoder_that_reads_the_suffix_is_not_row_invariant():
    """The check that verified drafts stand on can fail."""
    assert not rows_are_invariant(FakeSession(reads_suffix=True), plan(), ENCODER_OUTPUT)


def test_step_by_step_decoding_is_right_where_drafts_are_not():
    """A decoder that reads the suffix is decoded without drafts, and gives what it gives alone."""
    session = FakeSession(3, reads_suffix=True)
    expected: list[int] = []
    for _ in range(12):
        row = session.decode([*plan().prompt, *expected], ENCODER_OUTPUT, [2 + len(expected)])[0]
        if int(row.argmax()) == EOT:
            break
        expected.append(int(row.argmax()))
    decoded = decode(session, plan(), ENCODER_OUTPUT, [4, 5, 6], reference=[4, 5, 6], step_by_step=True)
    assert decoded.tokens == tuple(expected)


def test_an_inserted_comma_is_found_one_difference_later():
    """Draft "a b c", candidate "a , b c": after the comma a replacement is guessed, then b is found behind."""
    assert realign([1, 2, 3], 1, 11) == 2
    assert realign([1, 2, 3], 2, 2) == 2


def test_a_left_out_comma_is_found_at_once():
    """Draft "a , b", candidate "a b": the draft goes on behind b."""
    assert realign([1, 11, 2, 3], 1, 2) == 3

"""Metrics on anything."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from whisper_parity.compare import logits, tensor, text, token

floats = st.floats(-1e3, 1e3, width=32)
vectors = arrays.arrays(np.float32, st.integers(1, 40), elements=floats)
words = st.lists(st.sampled_from(["a", "b", "c", "d,", "E", "7", "."]), max_size=8).map(" ".join)
token_lists = st.lists(st.integers(0, 5), max_size=12)


@given(vectors)
def test_a_tensor_is_identical_to_itself(values):
    """No error, infinite SNR."""
    diff = tensor.measure(reference=values, candidate=values)
    assert (diff.max_abs_err, diff.rmse, diff.snr_db) == (0.0, 0.0, np.inf)


@given(vectors, st.floats(2, 100))
def test_ten_times_the_error_is_20_db_less(values, amplitude):
    """SNR falls with the energy of the error."""
    reference = (values + np.float32(2000)).astype(np.float64)
    noise = np.full_like(reference, amplitude)
    near = tensor.measure(reference=reference, candidate=reference + noise)
    far = tensor.measure(reference=reference, candidate=reference + 10 * noise)
    assert abs(near.snr_db - far.snr_db - 20) < 1e-6


@given(vectors)
def test_kl_is_zero_for_the_same_logits_up_to_a_constant(values):
    """Softmax ignores what is added to all."""
    assert logits.kl_divergence(values, values + np.float32(1)) < 1e-6


@given(st.tuples(words, words))
def test_edits_explain_every_difference(texts):
    """No edit exactly when both texts have the same units."""
    reference, hypothesis = texts
    edits = text.classify(reference=reference, hypothesis=hypothesis, language="en")
    assert (not edits) == (text.units(reference, "en") == text.units(hypothesis, "en"))


@given(words, words)
def test_counts_are_consistent(reference, hypothesis):
    """Hits, substitutions and deletions make up the reference."""
    counts = text.word_errors(reference=reference, hypothesis=hypothesis)
    assert counts.length == len(reference.split())
    assert (counts.errors == 0) == (reference.split() == hypothesis.split())


@given(token_lists, token_lists)
def test_applying_the_edits_gives_the_candidate(reference, candidate):
    """The list of edits is complete."""
    diff = token.compare(reference=reference, candidate=candidate)
    rebuilt, position = [], 0
    for edit in diff.edits:
        rebuilt += [*reference[position : edit.reference_start], *edit.candidate_tokens]
        position = edit.reference_start + len(edit.reference_tokens)
    assert rebuilt + reference[position:] == candidate
    assert diff.equal == (not diff.edits)


rows = arrays.arrays(np.float32, st.tuples(st.just(2), st.integers(1, 40)), elements=st.integers(-500, 500).map(float))
"""A row of logits of each side; whole numbers, whose sums are exact."""


@given(rows, st.integers(-1000, 1000))
def test_the_movement_of_top_tokens_ignores_what_is_added_to_all(pair, shift):
    """As softmax does."""
    reference, candidate = pair
    moved = logits.top_movement(reference, candidate)[0]
    assert moved == logits.top_movement(reference, candidate + np.float32(shift))[0]
    assert logits.top_movement(reference, reference + np.float32(shift))[0] == 0.0


@given(rows)
def test_the_movement_of_top_tokens_is_that_of_the_way_back(pair):
    """Reference and candidate exchanged: the same tokens, the same distance."""
    assert logits.top_movement(*pair)[0] == logits.top_movement(*reversed(pair))[0]


@given(rows, st.integers(0, 39), st.sampled_from([-0.5, 0.5]))
def test_one_column_that_is_off_is_its_own_movement(pair, column, by):
    """The median of the others is not moved by it, and it is found wherever it is a candidate."""
    reference = np.sort(pair[0])
    candidate = reference.copy()
    index = column % len(reference)
    candidate[index] += np.float32(by)
    seen = len(reference) - index <= logits.TOP and len(reference) > 2
    assert logits.top_movement(reference, candidate) == (0.5, index) or not seen


@given(rows)
def test_no_movement_is_more_than_twice_the_largest_error(pair):
    """The largest error, and the median's."""
    error = float(np.abs(pair[1].astype(np.float64) - pair[0]).max())
    assert 0.0 <= logits.top_movement(*pair)[0] <= 2 * error

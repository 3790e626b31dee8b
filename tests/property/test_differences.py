"""Whatever two stages say, changes account for it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.traces import N_VOCAB, tokens
from whisper_parity.explain.differences import Span, changes, classify, marks_that_differ, overlaps
from whisper_parity.explain.explanation import Change

WORDS = (400, 370, 11, 13, 312, 2144, 14862, 220, 50364, 50414)
"""" And", " so", ",", ".", " be", "ization", " token", " ", and two timestamps."""
CHARACTERS = (30312, 38193, 10115, 235, 234, 28907, 11, 220)
"""介, 紹, and tokens that are parts of characters; "," and " "."""
TOKENS = st.lists(
    st.one_of(st.sampled_from(WORDS), st.sampled_from(CHARACTERS), st.integers(0, N_VOCAB - 1)), max_size=14
)
LANGUAGES = st.sampled_from(["en", "zh", None])
WHOLE = {
    "en": ["token", "tokenization", "tokenizations", "atoken", "antitoken", "realization"],
    "zh": list("介紹绍绌龘龍龗"),
}
"""Words and characters that share pieces."""
SPANS = st.tuples(st.integers(0, 6), st.integers(0, 3)).map(lambda pair: (pair[0], sum(pair)))


def applied(found: list[Change], reference: list[int], candidate: list[int]) -> list[int]:
    """The reference with every span replaced by the candidate's."""
    rebuilt, position = [], 0
    for change in found:
        rebuilt += [*reference[position : change.reference_span[0]], *candidate[slice(*change.candidate_span)]]
        position = change.reference_span[1]
    return rebuilt + reference[position:]


@given(TOKENS, LANGUAGES)
def test_equal_tokens_have_no_changes(said, language):
    """Broken characters and specials included."""
    assert changes(said, said, N_VOCAB, language) == []


@given(TOKENS, TOKENS, LANGUAGES)
def test_applying_all_changes_gives_the_candidate(reference, candidate, language):
    """Nothing is lost where edits are joined."""
    found = changes(reference, candidate, N_VOCAB, language)
    assert applied(found, reference, candidate) == candidate
    assert bool(found) == (reference != candidate)


@given(TOKENS, TOKENS, LANGUAGES)
def test_changes_stand_in_order_and_apart(reference, candidate, language):
    """In range, an equal token between any two, each at its first tokens."""
    found = changes(reference, candidate, N_VOCAB, language)
    for side, said in (("reference", reference), ("candidate", candidate)):
        spans: list[Span] = [getattr(change, f"{side}_span") for change in found]
        assert all(0 <= start <= end <= len(said) for start, end in spans)
        assert all(before[1] < after[0] for before, after in pairwise(spans))
        firsts = [said[start] if start < end else None for start, end in spans]
        assert [getattr(change, f"{side}_token") for change in found] == firsts
    assert [change.step for change in found] == [change.reference_span[0] for change in found]


@given(st.data(), st.sampled_from([("en", " "), ("zh", "")]))
def test_no_word_and_no_character_is_cut(data, written):
    """Whatever pieces they are made of."""
    language, blank = written
    reference, candidate = (data.draw(st.lists(st.sampled_from(WHOLE[language]), max_size=10)) for _ in range(2))
    sides = (tokens("".join(blank + word for word in side)) for side in (reference, candidate))
    for change in changes(*sides, N_VOCAB, language):
        for text, said in ((change.reference_text, reference), (change.candidate_text, candidate)):
            assert set(text.split() if blank else text) <= set(said)


@given(SPANS, SPANS)
def test_overlapping_is_mutual(first, second):
    """And a span overlaps itself."""
    assert overlaps(first, second) == overlaps(second, first)
    assert overlaps(first, first)


@given(st.text(max_size=20), st.text(max_size=20), LANGUAGES)
def test_a_class_does_not_depend_on_the_side(reference, candidate, language):
    """Nor do the marks, whose order tells who lost them."""
    assert classify(reference, candidate, language) == classify(candidate, reference, language)
    assert set(marks_that_differ(reference, candidate)) == set(marks_that_differ(candidate, reference))
    assert (classify(reference, candidate, language) == "token") == (reference == candidate)


@pytest.mark.parametrize("said", [400, 2144, 10115])
@pytest.mark.parametrize(("times", "classes"), [(0, ["repetition"]), (445, ["repetition"]), (448, [])])
def test_one_token_over_and_over(said, times, classes):
    """A decoder that hangs fills its context: one change, at once, though the reference hangs too."""
    found = changes([said] * times, [said] * 448, N_VOCAB, "en")
    assert [change.edit_class for change in found] == classes


@pytest.mark.parametrize("length", range(1, 9))
def test_a_loop_of_any_length_fills_the_context(length):
    """Found as one, whatever it repeats."""
    words = [1000 + i for i in range(length)]
    (change,) = changes([400], (words * 448)[:448], N_VOCAB, "en")
    assert change.edit_class == "repetition"

"""Loops, edits and findings, for any text."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from whisper_parity.compare import findings, repetition
from whisper_parity.compare.sides import side
from whisper_parity.compare.token import token_diff
from whisper_parity.model.vocabulary import MULTILINGUAL, tokenizer

units = st.lists(st.integers(0, 3), max_size=40)
texts = st.text(st.sampled_from("ab 。對紹👍🏽,.é1"), max_size=30)


def encoded(text: str) -> list[int]:
    return list(tokenizer(MULTILINGUAL).encoding.encode(text))


@given(units)
def test_a_sequence_has_no_loop_against_itself(ours):
    """Whatever it repeats, the other one repeats as well."""
    assert repetition.loops(ours, ours) == ()


@given(units, units)
def test_a_loop_repeats_its_part_more_often_than_the_other(ours, theirs):
    """Its stretch consists of it, none overlaps another, and what remains is what the other has of it."""
    found = repetition.loops(ours, theirs)
    for loop in found:
        part = ours[loop.start : loop.start + loop.period]
        assert ours[loop.start : loop.end] == (part * (loop.times + 1))[: loop.end - loop.start]
        assert loop.surplus >= 1
        longest = max((n for n in range(len(theirs) + 1) if _holds(theirs, part * n)), default=0)
        assert loop.allowed == longest
    assert all(first.end <= second.start for first, second in pairwise(found))
    kept = repetition.without(ours, found)
    assert len(kept) <= len(ours)
    assert kept == sorted(kept)


def _holds(whole: list[int], part: list[int]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


@given(texts, texts)
def test_edits_of_whole_characters_lead_from_one_sequence_to_the_other(ours, theirs):
    """Applied in order; and none shows half of a character."""
    reference, candidate = encoded(ours), encoded(theirs)
    diff = token_diff(reference, candidate, MULTILINGUAL)
    result, at = [], 0
    for edit in diff.edits:
        result += reference[at : edit.reference_start]
        assert len(result) == edit.candidate_start
        result += edit.candidate_tokens
        at = edit.reference_start + len(edit.reference_tokens)
        assert "\ufffd" not in edit.reference_text + edit.candidate_text
    assert [*result, *reference[at:]] == candidate


@given(texts, texts)
def test_any_two_texts_have_findings_or_none(ours, theirs):
    """By words and by tokens; and none of a text against itself."""
    for text, other in ((ours, theirs), (ours, ours)):
        by_words = findings.of_pair(side(text, None, None), side(other, None, None))
        by_tokens = findings.of_pair(*(side(each, encoded(each), MULTILINGUAL) for each in (text, other)))
        assert [item.kind for item in by_words] == [item.kind for item in by_tokens]
        assert text != other or by_words == ()

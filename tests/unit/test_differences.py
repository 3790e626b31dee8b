"""What changed between two token sequences: classes, whole words, causes and what follows from them."""

from __future__ import annotations

import pytest

from tests.support.traces import N_VOCAB, PROMPT, SPANISH, says, tokens
from whisper_parity.explain import differences
from whisper_parity.explain.differences import changes, classify, marks_that_differ, overlaps
from whisper_parity.explain.explanation import Change
from whisper_parity.trace.trace import Trace

AND, SO, BLANK, ZERO, ONE, TWO = 400, 370, 220, 50364, 50414, 50464
"""" And", " so", " ", "<|0.00|>", "<|1.00|>", "<|2.00|>"."""
TOKEN, IZATION, BE = 14862, 2144, 312
"""" token", "ization", " be"."""
LEAD, REST, OTHER_REST, OTHER_LEAD = 10115, 235, 234, 28907
"""The first two bytes of 绍 and 绌, the last one of each; the first two of 龍, which ends as 绍 does."""


def between(reference, candidate, language: str | None = "en") -> list[Change]:
    """Changes between two texts or lists of tokens."""
    return changes(tokens(reference), tokens(candidate), N_VOCAB, language)


def texts(found: list[Change]) -> list[tuple[str, str]]:
    return [(change.reference_text, change.candidate_text) for change in found]


@pytest.mark.parametrize(
    ("reference", "candidate", "language", "edit_class"),
    [
        ("fox", "fox", "en", "token"),
        ("every body", "everybody", "en", "spacing"),
        ("ask", "ask,", "en", "punctuation"),
        ("介紹", "介紹,", "zh", "punctuation"),
        ("every body", "every, body.", "en", "punctuation"),
        ("What", "what", "en", "case"),
        ("What?", "what.", "en", "case"),
        ("介紹", "介绍", "zh", "script"),
        ("介紹", "介绍", None, "script"),
        ("介紹", "介绍", "en", "word"),
        ("介紹", "介召", "zh", "word"),
        ("25", "twenty", "en", "number"),
        ("2,000", "2000", "en", "number"),
        ("3.14", "314", "zh", "number"),
        ("25,", "25", "en", "punctuation"),
        ("don't", "dont", "en", "word"),
        ("fox", "dog", "en", "word"),
        ("fox", "", "en", "word"),
    ],
)
def test_each_pair_of_texts_has_its_class(reference, candidate, language, edit_class):
    """The mildest that explains it; simplified characters are looked at where they are written."""
    assert classify(reference, candidate, language) == edit_class


@pytest.mark.parametrize(
    ("reference", "candidate", "marks"),
    [("ask", "ask,", ","), ("ask.", "ask,", ".,"), ("ask,", "ask,", ""), ("a.b", "a.b..", "."), ('."', '".', "")],
)
def test_marks_that_stand_on_one_side_only(reference, candidate, marks):
    """Those that went before those that came, each once; mere order is none."""
    assert marks_that_differ(reference, candidate) == marks


@pytest.mark.parametrize(
    ("reference", "candidate", "language", "edit_class", "mark", "said"),
    [
        (" fellow Americans ask", " fellow Americans, ask", "en", "punctuation", ",", ("", ",")),
        (" ask, not", " ask. not", "en", "punctuation", ",.", (",", ".")),
        (" And What then", " And what then", "en", "case", "", ("What", "what")),
        (" ask What? Then", " ask what. Then", "en", "case", "?.", ("What?", "what.")),
        (" in 2,000 years", " in 2000 years", "en", "number", "", ("2,000", "2000")),
        (" thank you" * 5, " thank you", "en", "repetition", "", (" ".join(["thank you"] * 4), "")),
        (" in 25 years", " in twenty years", "en", "number", "", ("25", "twenty")),
        ("我介紹你", "我介绍你", "zh", "script", "", ("紹", "绍")),
        (" a fox ran", " a dog ran", "en", "word", "", ("fox", "dog")),
        (" thank you", " thank you" * 5, "en", "repetition", "", ("", " ".join(["thank you"] * 4))),
        ((ZERO, AND, ONE), (ZERO, AND, TWO), "en", "timestamp", "", ("<|1.00|>", "<|2.00|>")),
        (" peaceful", (*tokens(" peace"), *tokens("ful")), "en", "token", "", ("peaceful", "peaceful")),
        ((AND, SO), (*tokens("And"), SO), "en", "token", "", ("And", "And")),
        ((AND, SO), (AND, BLANK, SO), "en", "spacing", "", ("", "")),
        ((AND, SO), (AND, SO, BLANK), "en", "token", "", ("", "")),
        ("你我", "你 我", "zh", "spacing", "", ("我", "我")),
        (" And, so", " And,so", "en", "spacing", "", (", so", ",so")),
    ],
)
def test_each_edit_has_its_class(reference, candidate, language, edit_class, mark, said):
    """From tokens: blanks inside a text count, those around it do not."""
    (change,) = between(reference, candidate, language)
    assert (change.edit_class, change.mark) == (edit_class, mark)
    assert texts([change]) == [said]


@pytest.mark.parametrize(
    ("reference", "candidate", "loops"),
    [
        (" ha", " ha ha ha", False),
        (" ha", " ha ha ha ha", True),
        (" ha ha ha", " ha ha ha ha ha", False),
        ("", " one two three four five six seven eight" * 3, True),
        ("", " one two three four five six seven eight nine ten eleven twelve" * 3, True),
        (" one ha ha ha ha two", " one ha ha ha ha three", False),
    ],
)
def test_a_loop_repeats_a_short_phrase_three_times_more_than_the_reference(reference, candidate, loops):
    """What the reference repeats as well is no loop."""
    assert [change.edit_class == "repetition" for change in between(reference, candidate)] == [loops]


@pytest.mark.parametrize(
    ("reference", "candidate", "language", "marks"),
    [
        (" a fox, ran far", " a fox ran, far", "en", [(",", ""), ("", ",")]),
        (" a fox ran, far", " a fox, ran far", "en", [("", ","), (",", "")]),
        (" a fox ran far, and fast", " a fox, ran far and fast", "en", [("", ","), (",", "")]),
    ],
)
def test_a_comma_that_moved_is_two_edits_of_punctuation(reference, candidate, language, marks):
    """One that went and one that came; the words beside it stand where they stood."""
    found = between(reference, candidate, language)
    assert [(change.edit_class, change.mark) for change in found] == [("punctuation", marks[0][0] or marks[0][1])] * 2
    assert texts(found) == marks


@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        ("我想說的，是大家", "我想說，的是大家", ("的，是", "，的是")),
        ("我想說，的是大家", "我想說的，是大家", ("，的是", "的，是")),
        ("你好的，是大家", "你好，的是大家", ("你好的，是", "你好，的是")),
    ],
)
def test_a_comma_that_moved_between_other_tokens_is_one_edit_of_punctuation(reference, candidate, said):
    """的是 is one token, and two with a comma inside; so is 好的."""
    (change,) = between(reference, candidate, "zh")
    assert (change.edit_class, change.mark, texts([change])) == ("punctuation", "，", [said])


def test_an_edit_beside_a_loop_keeps_its_class():
    """Only what stands inside the loop is repetition."""
    found = between(" a fox ran and ha", " a dog ran and ha ha ha ha ha")
    assert [change.edit_class for change in found] == ["word", "repetition"]


@pytest.mark.parametrize(
    ("language", "reference", "candidate", "before", "after"),
    [
        ("en", " one two three four five X one two three four five", "Y", "two three four five", "one two three four"),
        ("zh", "一二三四五我一二三四五", "你", "二三四五", "一二三四"),
        ("en", " X one", "Y", "", "one"),
        ("en", " one X", "Y", "one", ""),
    ],
)
def test_four_words_around(language, reference, candidate, before, after):
    """Characters, where words are not separated."""
    old = "我" if language == "zh" else "X"
    (change,) = between(reference, reference.replace(old, candidate), language)
    assert (change.before, change.after) == (before, after)


def test_timestamps_are_no_words():
    """They are left out of what stands around."""
    (change,) = between((ZERO, AND, SO, ONE), (ZERO, AND, AND, ONE))
    assert (change.before, change.after) == ("And", "")


@pytest.mark.parametrize(
    ("reference", "candidate", "said", "spans"),
    [
        (
            " antidisestablishmentarianism is", (*tokens(" antidisestablish"), *tokens("arianism is")),
            ("antidisestablishmentarianism", "antidisestablisharianism"), ((4, 5), (4, 4)),
        ),
        ((AND, TOKEN, BE), (AND, TOKEN, IZATION, BE), ("token", "tokenization"), ((2, 2), (2, 3))),
        ((AND, TOKEN, IZATION), (AND, BE, IZATION), ("tokenization", "beization"), ((1, 2), (1, 2))),
        ((AND, TOKEN, IZATION), (AND, TOKEN, BE, IZATION), ("tokenization", "token beization"), ((2, 2), (2, 3))),
        (" twenty-five men", " twentyfive men", ("twenty-five", "twentyfive"), ((1, 2), (1, 1))),
    ],
)  # fmt: skip
def test_words_are_shown_whole(reference, candidate, said, spans):
    """However many pieces they have; the spans stay those of the edit."""
    (change,) = between(reference, candidate)
    assert (texts([change]), (change.reference_span, change.candidate_span)) == ([said], spans)


@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        ((LEAD, REST), (LEAD, OTHER_REST), ("绍", "绌")),
        ("介绍我", "介召我", ("绍", "召")),
        ("我绍", "你绍", ("我", "你")),
        ("介绍", (*tokens("介"), OTHER_LEAD, REST), ("绍", "龍")),
    ],
)
def test_characters_are_shown_whole(reference, candidate, said):
    """Though their bytes are spread over tokens; characters beside them are none of theirs."""
    (change,) = between(reference, candidate, "zh")
    assert texts([change]) == [said]


def test_edits_in_one_word_are_one_change():
    """Two pieces of it, an equal one between them."""
    (change,) = between(" antidisestablishmentarianism", [2511, 40920, AND, 1933, SO, 10652, 1434])
    assert (change.reference_span, change.candidate_span) == ((2, 5), (2, 5))
    assert change.reference_text == "antidisestablishmentarianism"


def test_edits_that_touch_are_one_change():
    """A word replaced, and one put in behind it."""
    (change,) = between(" a fox ran", " a small dog ran")
    assert texts([change]) == [("fox", "small dog")]


def test_edits_apart_are_changes_of_their_own():
    """In order, each with its first tokens."""
    found = between(" a fox ran far", " a dog ran so far")
    assert texts(found) == [("fox", "dog"), ("", "so")]
    assert [(change.step, change.reference_token, change.candidate_token) for change in found] == [
        (1, *tokens(" fox"), *tokens(" dog")), (3, None, SO),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [("", "", []), (" And", "", [("And", "")]), ("", " And", [("", "And")]), (" And", " And", [])],
)
def test_transcripts_of_nothing(reference, candidate, said):
    """No tokens on one side, or on both."""
    assert texts(between(reference, candidate)) == said
    assert texts(list(differences.differences(says(reference), says(candidate)))) == said


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [((0, 2), (2, 3), True), ((0, 2), (3, 4), False), ((2, 2), (2, 2), True), ((3, 5), (1, 3), True)],
)
def test_spans_that_touch_overlap(first, second, expected):
    """An empty one stands between two tokens."""
    assert overlaps(first, second) == expected


class TestTraces:
    """whisper_parity.explain.differences.differences"""

    @pytest.mark.parametrize(
        ("reference", "candidate", "edit_class"),
        [
            (" ask not", " ask not what then", "missing end"),
            (" ask not what then", " ask not", "extra end"),
            (" ask not", " ask not in 25 years", "missing end"),
            (" ask not", " ask not.", "punctuation"),
            (" ask not", " ask never", "word"),
            (" ask ask not", " ask not", "word"),
            ("", " ask", "missing end"),
        ],
    )
    def test_the_end_came_late_or_early(self, reference, candidate, edit_class):
        """Words that one side has at its end; a mark there is a mark."""
        (change,) = differences.differences(says(reference), says(candidate))
        assert change.edit_class == edit_class

    @pytest.mark.parametrize(
        ("prompt", "said"), [(SPANISH, ("<|en|>", "<|es|>")), (PROMPT[:-1], ("<|notimestamps|>", ""))]
    )
    def test_other_prompts_leave_nothing_to_compare(self, prompt, said):
        """One difference, whatever the window says, a shorter prompt included."""
        (change,) = differences.differences(says(" ask not"), says(" no preguntes", prompt=prompt))
        assert (change.edit_class, change.step) == ("language", None)
        assert texts([change]) == [said]

    @pytest.mark.parametrize(
        ("flips", "follows"),
        [
            ([], [None, 0, 0]),
            ([(0, 1)], [None, 0, 0]),
            ([(0, 3)], [None, None, 1]),
            ([(0, 3), (0, 5)], [None, None, None]),
            ([(0, 5)], [None, 0, None]),
            ([(0, 2), (0, 4)], [None, 0, 0]),
        ],
    )
    def test_a_change_that_does_not_flip_by_itself_follows_from_the_cause_before_it(self, flips, follows):
        """Flips under the reference's tokens make causes; the first change always is one."""
        found = differences.differences(says(" a fox ran far and fast"), says(" a dog ran near and slow", flips=flips))
        assert [change.follows_from for change in found] == follows

    def test_an_insertion_is_its_own_cause_where_the_next_token_flips(self):
        """The step at which it was put in."""
        found = differences.differences(says(" a fox ran far"), says(" a dog ran, far", flips=[(0, 3)]))
        assert [change.follows_from for change in found] == [None, None]

    def test_nothing_follows_from_another_window(self):
        """Causes are counted over the clip, and sought in the window."""
        found = differences.differences(says(" a fox", " in the end"), says(" a dog", " on the top"))
        assert [(change.window, change.follows_from) for change in found] == [(0, None), (1, None), (1, 1)]

    def test_windows_that_only_one_side_has_are_passed_over(self):
        """Those that both have are compared, each with its own."""
        two = says(" a fox", " in the end")
        for other in (Trace(two.header, two.windows[1:]), Trace(two.header, two.windows[:1])):
            assert differences.differences(two, other) == differences.differences(other, two) == ()

    def test_without_windows_texts_are_compared(self):
        """As openai-whisper's transcribe gives them: no prompts, no ends, no flips."""
        whole = says(" ask not", prompt=SPANISH)
        (change,) = differences.differences(says(" ask"), Trace(whole.header, ()))
        assert (change.edit_class, change.candidate_text, change.window) == ("word", "not", 0)

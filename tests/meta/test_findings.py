"""Every named finding goes red: results and traces broken in one known way, in each of Whisper's vocabularies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import results
from tests.support.results import (
    FIRST,
    SECOND,
    SIZES,
    THIRD,
    WHOLE,
    encode,
    eot,
    ported,
    prompt,
    timestamp,
    transcribed,
)
from whisper_parity.compare.results import ResultComparison, compare_files
from whisper_parity.model.vocabulary import ENGLISH_ONLY, LARGE_V3, MULTILINGUAL

CLAUSE = " Nobody could agree"
THANKS = " Thank you for watching!"
INVENTED = "invented text: 'Thank you for watching!' (4 words)"
REST = "on the final figure, so they … y will meet again next week."


@pytest.fixture
def against(tmp_path):
    """Compare a candidate with the result of `whisper.transcribe` on three sentences."""

    def compare(candidate: Any, reference: Any = None, n_vocab: int = MULTILINGUAL) -> ResultComparison:
        ours = results.write(tmp_path, "r.json", transcribed(n_vocab) if reference is None else reference)
        return compare_files(ours, results.write(tmp_path, "c.json", candidate))

    return compare


def sentences(comparison: ResultComparison) -> list[str]:
    return [item.sentence for item in comparison.findings]


SIMPLIFIED = "the reference writes traditional Chinese, the candidate simplified"
START, TASK = "50258 <|startoftranscript|>", "50359 <|transcribe|>"
BROKEN = {
    WHOLE + THIRD * 11: [f"repetition loop: {THIRD!r} x 11 from step 30 (12 in a row, the other text has 1)"],
    FIRST + CLAUSE * 30: [
        f"repetition loop: {CLAUSE!r} x 29 from step 13 (30 in a row, the other text has 1)",
        f"lost end: {REST!r} (13 words) from step 13 of the reference",
    ],
    FIRST + " the" * 40 + SECOND + THIRD: [
        "repetition loop: ' the' x 39 from step 11 (40 in a row, the other text has 1)"
    ],
    FIRST + SECOND + THANKS + THIRD: [f"{INVENTED} at step 23, in a pause of the reference, 8.80 to 10.00 s"],
    FIRST + THANKS + SECOND + THIRD: [f"{INVENTED} at step 10, between two segments of the reference, at 4.20 s"],
    WHOLE + THANKS: [f"{INVENTED} at step 30, behind the end of the reference (12.50 s)"],
    THANKS + WHOLE: [f"{INVENTED} at step 0, in front of the reference's beginning"],
    FIRST.replace("met", "met again and again") + SECOND + THIRD: [
        "invented text: 'again and again' (3 words) at step 3, behind 'The committee met'"
    ],
    FIRST + THIRD: [f"lost text: {SECOND.strip()!r} (10 words) from step 10 of the reference"],
    FIRST + SECOND: [f"lost end: {THIRD.strip()!r} (6 words) from step 23 of the reference"],
    SECOND + THIRD: [f"lost beginning: {FIRST.strip()!r} (9 words) from step 0 of the reference"],
    WHOLE.replace("Thursday", "Friday"): ["changed words: 'Thursday' -> 'Friday' at step 4"],
    " A cat sat.": ["other text: none of the reference's 25 words is among the candidate's 3"],
}
"""What a candidate says in place of the three sentences, and every finding of it."""


@pytest.mark.parametrize("n_vocab", SIZES)
@pytest.mark.parametrize("text", BROKEN)
def test_loops_lost_and_invented_text_are_named(against, n_vocab, text):
    """With their size and their place, and exit code 1; never the decode policy."""
    comparison = against(ported(text, n_vocab), n_vocab=n_vocab)
    assert sentences(comparison) == BROKEN[text]
    assert (comparison.exit_code, comparison.edits_at_boundaries) == (1, ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            WHOLE + THIRD * 11,
            f"repetition loop: {THIRD.strip()!r} x 11 from word 25 (12 in a row, the other text has 1)",
        ),
        (FIRST + SECOND, f"lost end: {THIRD.strip()!r} (6 words)"),
        (FIRST + SECOND + THANKS + THIRD, f"{INVENTED}, in a pause of the reference, 8.80 to 10.00 s"),
        ("!" * 200, "repetition loop: '!' x 200 from character 0, blanks not counted"),
        (WHOLE + " ha" + "ha" * 20, "repetition loop: 'ha' x 21 from character 119, blanks not counted"),
    ],
)
def test_texts_alone_have_the_same_findings(against, text, expected):
    """By words; marks and syllables by characters."""
    assert expected in sentences(against({"text": text}))


def test_the_longest_loops_are_named_and_the_others_counted(against):
    """Four loops in one text, and one inside a sentence that repeats."""
    text = FIRST + "".join(f" {word}" * 9 for word in ("one", "two", "three", "four")) + SECOND + THIRD
    said = sentences(against(ported(text)))
    assert [line.partition(" from")[0] for line in said if "loop" in line] == [
        "repetition loop: ' one' x 9", "repetition loop: ' two' x 9", "repetition loop: ' three' x 9",
        "repetition loop: 1 more, 9 repetitions in all",
    ]  # fmt: skip
    nested = sentences(against(ported(FIRST + (" bye" * 4 + SECOND) * 4 + THIRD)))
    assert nested[0].startswith(
        "repetition loop: 'bye Nobody could agree on th … l figure, so they adjourned.' x 4 from"
    )
    assert nested[1] == "repetition loop: ' bye' x 4 from step 10"


def test_a_loop_of_the_reference_makes_it_doubtful(against):
    """Two files given in the wrong order, or a reference that hallucinates."""
    (line,) = sentences(against(ported(WHOLE), reference=ported(WHOLE + THIRD * 11)))
    assert line == (
        f"repetition loop: {THIRD!r} x 11 from step 30 of the reference, and not in the candidate: is it the right "
        "reference? (12 in a row, the other text has 1)"
    )


@pytest.mark.parametrize("repeated", [" No, no, no, no, please.", " Bye bye.", " very very very"])
def test_what_both_repeat_is_no_loop(against, repeated):
    """Real speech repeats itself."""
    both = ported(FIRST + repeated + SECOND)
    comparison = against({**both, "tokens": both["tokens"]}, reference=both)
    assert (sentences(comparison), comparison.exit_code) == ([], 0)


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        ({"text": " Thank you."}, "invented text: 'Thank you.' (2 words), in silence: the reference hears nothing"),
        ({"text": ""}, None),
    ],
)
def test_text_in_silence_is_invented(against, candidate, expected):
    """The reference hears nothing."""
    comparison = against(candidate, reference={"segments": [], "language": "en"})
    assert sentences(comparison) == ([expected] if expected else [])


@pytest.mark.parametrize("n_vocab", SIZES)
@pytest.mark.parametrize("other", SIZES)
def test_a_prompt_of_another_vocabulary_is_wrong(against, n_vocab, other):
    """Every pair of vocabularies; the right one is not."""
    ids = [*prompt(other), *encode(WHOLE, n_vocab), eot(n_vocab)]
    comparison = against({"text": WHOLE, "tokens": ids}, n_vocab=n_vocab)
    kinds = {item.kind for item in comparison.findings} - {"end-of-text passed"}
    assert kinds == (set() if n_vocab == other else {"wrong prompt"})
    assert comparison.exit_code == int(n_vocab != other)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ([50258, 50265, 50359, 50363], f"{START} 50265 <|fr|> {TASK} 50363 <|notimestamps|> in a vocabulary of 51865"),
        ([50258, 50359, 50363], f"{START} {TASK} 50363 <|notimestamps|> in a vocabulary of 51865, where {START} 50259"),
        ([50258, 50259, 50359, 50362], f"{START} 50259 <|en|> {TASK} 50362 <|nospeech|> in a vocabulary of 51865"),
        ([50258], f"{START} in a vocabulary of 51865, where {START} 50259 <|en|> {TASK} 50363 <|notimestamps|> is"),
        ([50258, 50259, 50359, 50363, 50364], "it asks for no timestamps, and 50364 <|0.00|> follows"),
    ],
)  # fmt: skip
def test_a_prompt_that_is_not_whole_is_wrong(against, head, expected):
    """Language, task or no-timestamps are missing, swapped or contradicted."""
    comparison = against({"text": WHOLE, "tokens": [*head, *encode(WHOLE), 50257]})
    (line,) = sentences(comparison)
    assert line.startswith("wrong prompt: c.json: ")
    assert expected in line


@pytest.mark.parametrize(
    "head",
    [[], prompt(), prompt()[:3], [50361, *encode(" Earlier words."), *prompt()], [*prompt()[:3], 50364]],
)
def test_a_sound_prompt_is_not_wrong(against, head):
    """None, whole, with timestamps, with text of an earlier window."""
    comparison = against({"text": WHOLE, "tokens": [*head, *encode(WHOLE), 50257]})
    assert (sentences(comparison), comparison.exit_code) == ([], 0)


def test_a_translation_is_asked_for_by_the_prompt(against):
    """The reference's prompt does not; a pair that both translate is sound."""
    german = " Das Komitee traf sich am Donnerstag."
    asked = {"text": german, "tokens": [*prompt(task="translate"), *encode(german), 50257]}
    assert sentences(against(asked))[0] == "wrong prompt: c.json: it asks for a translation, the reference does not"
    assert sentences(against(asked, reference=asked)) == []


@pytest.mark.parametrize("n_vocab", SIZES)
def test_an_end_of_text_that_is_passed_is_counted(against, n_vocab):
    """Not the one at the end, nor what fills a batch behind it, nor one a window."""
    ids, end = ported(WHOLE, n_vocab)["tokens"], eot(n_vocab)
    length = len(ids)
    passed = against(
        {"text": WHOLE, "tokens": [*ids, *encode(" and", n_vocab), end, end, *encode(" so", n_vocab)]}, n_vocab=n_vocab
    )
    assert sentences(passed)[0] == f"end-of-text passed: c.json: 3 times, first at token {length - 1} of {length + 4}"
    windows = [*ported(FIRST, n_vocab)["tokens"], *ported(SECOND + THIRD, n_vocab)["tokens"]]
    for sound in ([*ids, *[end] * 9], windows):
        assert sentences(against({"text": WHOLE, "tokens": sound}, n_vocab=n_vocab)) == []


@pytest.mark.parametrize("length", [448, 444])
def test_a_list_as_long_as_the_context_stopped_at_the_limit(against, length):
    """With its prompt, and no end-of-text."""
    words = [token for i in range(200) for token in encode(f" word {i}")]
    ids = [*prompt(), *encode(WHOLE), *words][:length]
    said = sentences(against({"tokens": ids}))
    assert (
        f"token limit: c.json: stops after {length} tokens, the decoder's context of 448, without end-of-text" in said
    )


def test_a_window_of_openai_whispers_limit_stopped_there(against):
    """224 sampled tokens: in one list behind a prompt, or in the segments of one window."""
    words = [token for i in range(200) for token in encode(f" word {i}")]
    body = [*encode(WHOLE), *words][:224]
    expected = "token limit: c.json: stops after 224 tokens, Whisper's limit for a window, without end-of-text"
    parts = [{"seek": 0, "tokens": body[:100], "text": ""}, {"seek": 0, "tokens": body[100:], "text": ""}]
    assert expected in sentences(against({"tokens": [*prompt(), *body]}))
    assert expected in sentences(against({"segments": parts}))
    assert expected not in sentences(against({"tokens": [*prompt(), *body, 50257]}))


@pytest.mark.parametrize("n_vocab", SIZES)
def test_a_text_that_its_tokens_do_not_say_comes_first(against, n_vocab):
    """A word that was changed afterwards, and a text of its own."""
    edited = sentences(against(ported(WHOLE, n_vocab) | {"text": WHOLE.replace("Thursday", "Friday")}, n_vocab=n_vocab))
    assert edited[0].startswith("text against tokens: c.json: its text says 'Friday to discuss")
    other = against(ported(WHOLE, n_vocab) | {"text": "something else"}, n_vocab=n_vocab)
    assert sentences(other)[0].startswith("text against tokens: c.json: its text says 'something else'")
    assert other.exit_code == 1


def test_languages_that_differ_are_a_finding_and_spellings_of_one_are_not(against):
    """An unknown one is a remark."""
    assert sentences(against(ported(WHOLE, language="en") | {"language": "English"})) == []
    assert sentences(against({"text": WHOLE, "language": "fr-CA"})) == [
        "language: the reference says en, the candidate fr"
    ]
    unknown = against({"text": WHOLE, "language": "klingon"})
    assert unknown.findings[0].sentence == (
        "language: c.json says klingon, which is none of Whisper's languages and is not used"
    )
    assert (unknown.findings[0].is_fault, unknown.exit_code) == (False, 0)


@pytest.mark.parametrize(
    ("language", "reference", "candidate", "expected"),
    [
        ("zh", "對我做了介紹，我想說的是", "对我做了介绍，我想说的是", SIMPLIFIED),
        ("zh", "对我做了介绍", "對我做了介紹", "the reference writes simplified Chinese, the candidate traditional"),
        ("yue", "對我做了介紹", "对我做了介绍", SIMPLIFIED),
        (None, "對我做了介紹", "对我做了介绍", SIMPLIFIED),
        ("sr", "Dobar dan svima", "Добар дан свима",
         "the reference is written in Latin letters, the candidate in Cyrillic"),
        ("ja", "ﾃﾚﾋﾞを見る", "テレビを見る",
         "the same characters, full width in one text and half width (or another form) in the other"),
        ("de", "schön grün", "scho\u0308n gru\u0308n",
         "the same characters, composed in one text and decomposed in the other"),
    ],
)  # fmt: skip
def test_another_writing_is_named_and_is_no_other_word(against, language, reference, candidate, expected):
    """As a remark: the texts differ, and the words do not."""
    comparison = against({"text": candidate, "language": language}, reference={"text": reference, "language": language})
    assert sentences(comparison) == [f"script variant: {expected}"]
    assert (comparison.exit_code, comparison.text.equal) == (1, False)


def test_words_lost_under_another_writing_are_found(against):
    """Simplified characters in place of traditional ones hide nothing."""
    said = sentences(
        against(
            {"text": "对我做了介绍", "language": "zh"}, reference={"text": "對我做了介紹我想說的是", "language": "zh"}
        )
    )
    assert said[0].startswith("lost end: '我想說的是' (5 words)")
    assert said[1].startswith("script variant: ")


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        (" Mr. Brown's colour was ten percent, it's okay.", " Mister Brown's color was 10%, it is okay."),
        (" Well-known facts.", " Well known facts"),
        (" every day, anyone", " everyday any one"),
        (" Hello there", " hello, THERE!"),
    ],
)
def test_marks_case_numbers_and_spelling_are_no_finding(against, reference, candidate):
    """What openai-whisper's normaliser makes equal, and blanks."""
    comparison = against({"text": candidate, "language": "en"}, reference={"text": reference, "language": "en"})
    assert (sentences(comparison), comparison.exit_code) == ([], 1)


@pytest.mark.parametrize("n_vocab", SIZES)
def test_a_policy_moves_marks_at_a_boundary_and_nothing_else(against, n_vocab):
    """A mark, and the case of the word behind it; a word there is a word."""
    marks = FIRST[:-1] + "," + SECOND.replace(" Nobody", " nobody") + THIRD
    assert against(ported(marks, n_vocab), n_vocab=n_vocab).edits_at_boundaries == (0,)
    assert against(ported(FIRST + " So" + SECOND + THIRD, n_vocab), n_vocab=n_vocab).edits_at_boundaries == ()
    assert against(ported(FIRST + " and" + SECOND + THIRD, n_vocab), n_vocab=n_vocab).edits_at_boundaries == ()


def test_edits_never_cut_a_character(against):
    """Of characters that are several tokens, in Chinese and in emoji."""
    pairs = (("對我做了介紹，說的是", "对我做了介绍，说的是"), (" fine 👍🏽 yes", " fine 👎🏽 yes"), (" ᚠᚢᚦ", " ᚠᚢᚱ"))
    for ours, theirs in pairs:
        tokens = against(ported(theirs, language="zh"), reference=ported(ours, language="zh")).tokens
        assert tokens is not None
        assert tokens.edits
        assert "\ufffd" not in "".join(edit.reference_text + edit.candidate_text for edit in tokens.edits)


def test_a_candidate_of_large_v3_with_the_prompt_of_base_is_named_by_the_reference(against):
    """As a port does that keeps base's ids: nothing in its own list tells; the reference's times do."""
    ids = [*prompt(MULTILINGUAL), *encode(WHOLE, LARGE_V3), 50257]
    (line,) = sentences(against({"text": WHOLE, "tokens": ids}, n_vocab=LARGE_V3))
    assert "50359 <|translate|> 50363 <|nospeech|> in a vocabulary of 51866" in line
    assert line.endswith("is expected; 50258 50259 50359 50363 is the prompt of a vocabulary of 51865")


@pytest.mark.parametrize("n_vocab", SIZES)
def test_ids_without_text_or_prompt_are_read_as_the_other_files(against, n_vocab):
    """Marks alone are the same ids in every vocabulary; ids alone say nothing of it."""
    for candidate in (encode(WHOLE, n_vocab), {"tokens": encode(WHOLE, n_vocab)}):
        comparison = against(candidate, n_vocab=n_vocab)
        assert (comparison.exit_code, comparison.candidate.n_vocab) == (0, n_vocab)
    marks = against({"text": "!" * 30, "tokens": [0] * 30}, n_vocab=n_vocab)
    assert (marks.candidate.n_vocab, sentences(marks)[0][:28]) == (n_vocab, "repetition loop: '!' x 30 fr")


def test_ids_of_no_text_are_not_compared(against):
    """Rubble in every vocabulary: texts alone, and that the two disagree comes first."""
    comparison = against({"text": WHOLE, "tokens": list(range(1000, 1400, 7))})
    assert (comparison.tokens, comparison.exit_code) == (None, 1)
    reason = "none of Whisper's vocabularies decodes its tokens to its text; texts alone are compared"
    assert sentences(comparison) == [f"text against tokens: c.json: {reason}"]


def test_ids_of_another_kind_of_model_are_not_compared(against):
    """English-only against multilingual: texts alone, and why."""
    comparison = against(ported(WHOLE, ENGLISH_ONLY), n_vocab=MULTILINGUAL)
    assert (comparison.tokens, comparison.exit_code) == (None, 0)
    assert comparison.not_compared == "r.json has the vocabulary 51865, c.json 51864"
    assert sentences(comparison) == [
        "vocabulary: r.json is of 51865 tokens, c.json of 51864: are they results of one model?"
    ]


def test_a_vocabulary_that_the_user_names_wrongly_is_a_finding(tmp_path):
    """And nothing is said of prompts and ends under it."""
    paths = [results.write(tmp_path, name, ported(WHOLE)) for name in ("r.json", "c.json")]
    comparison = compare_files(paths[0], paths[1], ENGLISH_ONLY)
    assert sentences(comparison) == [
        f"vocabulary: {name}.json: its tokens give its text in the vocabulary 51865, not in 51864" for name in "rc"
    ]
    assert comparison.exit_code == 1


def test_a_vocabulary_of_the_same_texts_is_told_by_its_timestamps(tmp_path):
    """Base under the ids of large-v3: the text is the same, the times are not."""
    paths = [results.write(tmp_path, f"{name}.json", transcribed()) for name in "rc"]
    said = sentences(compare_files(paths[0], paths[1], LARGE_V3))
    assert said[0] == "vocabulary: r.json: its tokens give its text in the vocabulary 51865, not in 51866"


def test_a_text_that_its_segments_do_not_say_is_found(against):
    """Where no ids tell which one was decoded."""
    parts = [{"start": 0, "text": FIRST}, {"start": 4.2, "text": SECOND}]
    (first, *_) = sentences(against({"text": WHOLE, "segments": parts}))
    assert first == (f"text against tokens: c.json: its text says {THIRD.strip()!r} where its segments say ''")
    assert sentences(against({"text": FIRST + SECOND, "segments": parts}))[0].startswith("lost end: ")


def test_special_tokens_in_a_text_are_a_remark(against):
    """Names of tokens that a detokeniser left there are no words."""
    comparison = against({"text": f"<|en|>{WHOLE}<|endoftext|>"})
    assert sentences(comparison) == ["special tokens: c.json: its text holds <|en|>, <|endoftext|>"]
    assert comparison.exit_code == 1


def test_a_prompt_in_a_field_of_its_own_is_looked_at(against):
    """As ports write their settings beside the result."""
    ids = {"text": WHOLE, "tokens": encode(WHOLE)}
    assert sentences(against({**ids, "prompt_tokens": prompt()})) == []
    assert sentences(against({**ids, "prompt_tokens": prompt(LARGE_V3)}))[0].startswith("wrong prompt: c.json: 50258")
    assert sentences(against({**ids, "prompt": "Earlier words."})) == []


def test_segments_without_timestamps_have_boundaries_too(against):
    """faster-whisper writes ids of text alone, one list a segment."""
    bare = [{"text": text, "tokens": encode(text)} for text in (FIRST, SECOND, THIRD)]
    comma = ported(FIRST[:-1] + "," + SECOND + THIRD)
    assert against(comma, reference={"segments": bare}).edits_at_boundaries == (0,)


def test_times_are_those_of_a_segment(against):
    """A segment that lost its times names the words in front instead."""
    reference = transcribed()
    bare = [
        {key: value for key, value in part.items() if key not in ("start", "end")} for part in reference["segments"]
    ]
    invented = FIRST + " Thank you for watching!" + SECOND + THIRD
    (line,) = sentences(against(ported(invented), reference=reference | {"segments": bare}))
    assert line.endswith("at step 10, behind 'discuss the budget.'")


def test_the_timestamps_of_a_port_are_no_text(against):
    """A port that decodes with timestamps."""
    ids = [*prompt()[:3], timestamp(0), *encode(FIRST), timestamp(4.2), timestamp(4.2), *encode(SECOND + THIRD), 50257]
    comparison = against({"text": WHOLE, "tokens": ids})
    assert (sentences(comparison), comparison.exit_code) == ([], 0)

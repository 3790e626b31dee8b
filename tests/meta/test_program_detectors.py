"""Each fault of a program's prompt, detokeniser and end is seeded, and named by its kind and its cause."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable

import pytest

from tests.support.traces import PROMPT, TEXT, TOKENS, tokens, trace, trace_header
from whisper_parity.backend.account import Account, AccountWindow
from whisper_parity.compare import detokenisers, detokenising, ending, prompting, recorded
from whisper_parity.compare.finding import Finding
from whisper_parity.model import vocabulary
from whisper_parity.model.vocabulary import ENGLISH_ONLY, LARGE_V3, MULTILINGUAL
from whisper_parity.trace.trace import Trace

JAPANESE = "すみません。 駅はどこですか? 鶮"
JA = (50258, 50266, 50359, 50363)
LIMIT = 444


def account(text: str | None = TEXT, *windows: tuple[int, ...] | None, **fields) -> Account:
    """Of a program with these tokens, one window each."""
    return Account(text, tuple(AccountWindow(None, said, fields.pop("ended", "")) for said in windows), **fields)


def fed(*prompts: tuple[int, ...] | None, language: str | None = None) -> Account:
    return Account("", tuple(AccountWindow(prompt) for prompt in prompts), language)


def kinds(findings: tuple[Finding, ...]) -> list[str]:
    return [item.kind for item in findings]


PROMPTS: dict[str, tuple[tuple[int, ...], int, str, tuple[int, ...]]] = {
    "silently English, language en for ja": ((50258, 50259, 50359, 50363), MULTILINGUAL, "ja", JA),
    "language de for ja": ((50258, 50261, 50359, 50363), MULTILINGUAL, "ja", JA),
    "language missing for ja": ((50258, 50359, 50363), MULTILINGUAL, "ja", JA),
    "task translate for transcribe": ((50258, 50266, 50358, 50363), MULTILINGUAL, "ja", JA),
    "task missing for transcribe": ((50258, 50266, 50363), MULTILINGUAL, "ja", JA),
    "timestamps asked for": (JA[:3], MULTILINGUAL, "ja", JA),
    "no timestamps asked for": (JA, MULTILINGUAL, "ja", JA[:3]),
    "it is the prompt of a vocabulary of 51866; task missing for transcribe; timestamps asked for": (
        (50258, 50266, 50360, 50364), MULTILINGUAL, "ja", JA),
    "it is the prompt of a vocabulary of 51865; task translate for transcribe; timestamps asked for": (
        PROMPT, LARGE_V3, "en", (50258, 50259, 50360, 50364)),
    "it is the prompt of a vocabulary of 51864": ((50257, 50362), MULTILINGUAL, "ja", JA),
    "it is the prompt of a vocabulary of 51865": (PROMPT, ENGLISH_ONLY, "en", (50257, 50362)),
    "no start-of-transcript": (JA[1:], MULTILINGUAL, "ja", JA),
    "start-of-transcript 2 times": ((50258, *JA), MULTILINGUAL, "ja", JA),
    "50266 <|ja|> in front of start-of-transcript": ((50266, 50258, 50359, 50363), MULTILINGUAL, "ja", JA),
    "50266 <|ja|> doubled": ((50258, 50266, *JA[1:]), MULTILINGUAL, "ja", JA),
    "50364 <|0.00|> too much": ((*JA, 50364), MULTILINGUAL, "ja", JA),
    "51900 is outside the vocabulary": ((*JA, 51900), MULTILINGUAL, "ja", JA),
    "-1 is outside the vocabulary": ((*JA, -1), MULTILINGUAL, "ja", JA),
    "its ids are in another order": ((50258, 50359, 50266, 50363), MULTILINGUAL, "ja", JA),
    "no prompt is fed": ((), MULTILINGUAL, "ja", JA),
    "no text in front of start-of-transcript": (JA, MULTILINGUAL, "ja", (50361, 400, 370, *JA)),
    "another text in front of start-of-transcript": ((50361, 11, *JA), MULTILINGUAL, "ja", (50361, 400, 370, *JA)),
}  # fmt: skip


@pytest.mark.parametrize("cause", PROMPTS)
def test_each_wrong_prompt_is_named_with_its_cause(cause: str):
    """Found and expected ids stand in the sentence with their names."""
    prompt, n_vocab, language, expected = PROMPTS[cause]
    (named,) = prompting.findings(fed(prompt), n_vocab, language, expected)
    assert named.kind == "wrong prompt"
    assert named.is_fault
    assert named.sentence.startswith(f"wrong prompt: {cause}: ")
    assert named.sentence.endswith(f"where {prompting.names(expected, n_vocab)} is expected")
    assert prompting.findings(fed(expected), n_vocab, language, expected) == ()


def test_a_window_is_named_and_the_others_are_counted():
    wrong = (50258, 50259, 50359, 50363)
    (named,) = prompting.findings(fed(JA, wrong, wrong), MULTILINGUAL, "ja", JA)
    assert named.sentence.startswith("wrong prompt: window 1 (and 1 more): silently English")
    assert named.count == 2


def test_text_of_an_earlier_window_is_no_wrong_prompt():
    """Nor the policy's own text; where the language is detected, the program's choice is taken."""
    assert prompting.findings(fed(JA, (50361, 400, 370, *JA)), MULTILINGUAL, "ja", JA) == ()
    with_text = (50361, 400, 370, *JA)
    assert prompting.findings(fed(with_text, JA), MULTILINGUAL, "ja", with_text) == ()
    assert prompting.findings(fed(JA), MULTILINGUAL, None, PROMPT) == ()


@pytest.mark.parametrize(("said", "prompt", "expected"), [
    ("en", None, ("language: silently English: it says that it decodes en where the run decodes ja", True)),
    ("German", None, ("language: it says that it decodes de where the run decodes ja", True)),
    ("en", JA, ("language: it says that it decodes en, and feeds ja, which is right", False)),
    ("ja", None, None), ("auto", None, None), (None, None, None),
])  # fmt: skip
def test_the_language_that_a_program_says(said, prompt, expected):
    """Its ids are better evidence than its words."""
    named = prompting.findings(fed(prompt, language=said), MULTILINGUAL, "ja", JA)
    assert [(item.sentence, item.is_fault) for item in named] == ([expected] if expected else [])
    assert prompting.findings(fed((50257, 50362), language="ja"), ENGLISH_ONLY, "en", (50257, 50362)) == ()


def apart(said: tuple[int, ...], errors: str = "replace") -> str:
    return "".join(vocabulary.token_bytes(MULTILINGUAL, [token]).decode("utf-8", errors) for token in said)


def encoded(said: tuple[int, ...]) -> str:
    return "".join(base64.b64encode(vocabulary.token_bytes(MULTILINGUAL, [token])).decode() for token in said)


def spread(said: tuple[int, ...]) -> str:
    return " ".join(" ".join(vocabulary.token_text(MULTILINGUAL, [token]) for token in said).split())


def gpt2(text: str) -> str:
    return "".join(detokenisers.alphabet()[byte] for byte in text.encode())


EN = tokens(" And so, my fellow\nAmericans & all: ask <not> what")
JP = tokens(f" {JAPANESE}")
ENGLISH_TEXT, JAPANESE_TEXT = (vocabulary.token_text(MULTILINGUAL, side) for side in (EN, JP))

TEXTS: dict[str, tuple[tuple[int, ...], Callable[[tuple[int, ...]], str]]] = {
    "bytes of its tokens decoded apart, so that characters of several tokens break": (JP, apart),
    "bytes of its tokens decoded apart, characters of several tokens dropped": (JP, lambda t: apart(t, "ignore")),
    "UTF-8 read as Latin-1": (JP, lambda t: JAPANESE_TEXT.encode().decode("latin-1")),
    "UTF-8 read as Windows-1252": (JP, lambda t: JAPANESE_TEXT.encode().decode("cp1252", "replace")),
    "characters outside ASCII dropped": (JP, lambda t: JAPANESE_TEXT.encode("ascii", "ignore").decode()),
    "U+0120 left in place of blanks": (JP, lambda t: JAPANESE_TEXT.replace(" ", "Ġ")),
    "GPT-2's alphabet for bytes left as it is, U+0120 for a blank": (EN, lambda t: gpt2(ENGLISH_TEXT)),
    "GPT-2's alphabet for bytes left as it is, but for its blanks": (
        JP, lambda t: gpt2(JAPANESE_TEXT).replace("Ġ", " ")),
    "base64 of its tokens not decoded": (EN, encoded),
    "newlines removed": (EN, lambda t: ENGLISH_TEXT.replace("\n", "")),
    "escapes of JSON left in the text": (EN, lambda t: ENGLISH_TEXT.replace("\n", "\\n")),
    "escapes of HTML left in the text": (
        EN, lambda t: ENGLISH_TEXT.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")),
    "written in lower case": (EN, lambda t: ENGLISH_TEXT.lower()),
    "a blank between all tokens": (EN, spread),
    "the table of another vocabulary, the English one": (EN, lambda t: vocabulary.token_text(ENGLISH_ONLY, t)),
    "a table shifted by one: each id read as id +1": (
        EN, lambda t: vocabulary.token_text(MULTILINGUAL, [token + 1 for token in t])),
    "a table shifted by one: each id read as id -1": (
        EN, lambda t: vocabulary.token_text(MULTILINGUAL, [token - 1 for token in t])),
    "id 50256, which is empty, decoded as '='": (
        (*EN[:3], 50256, *EN[3:]), lambda t: apart(t[:3]) + "=" + apart(t[4:])),
    "tokens that repeat written once": ((*EN[:3], EN[2], *EN[3:]), lambda t: ENGLISH_TEXT),
    "blanks lost in 6 place(s)": (tokens(" a b c d e f g"), lambda t: "abcdefg"),
    "blanks added in 1 place(s)": (TOKENS, lambda t: TEXT.replace("Americans", "Ameri cans")),
    "blanks doubled, 6 too many": (TOKENS, lambda t: TEXT.replace(" ", "  ")),
    "bytes of its tokens decoded apart, so that characters of several tokens break, and other blanks": (
        JP, lambda t: apart(t).replace(" ", "")),
    "special tokens in the text: <|en|>, <|endoftext|>": (TOKENS, lambda t: f"<|en|>{TEXT}<|endoftext|>"),
    "ids in place of a text, 3 of 8: '[Tokens: 400 370 452'": (TOKENS, lambda t: "[Tokens: 400 370 452"),
    "the text is cut after 5 of 8 tokens, 26 of 35 bytes: 'd so my fellow Americans' is its end": (
        TOKENS, lambda t: "And so my fellow Americans"),
    "the text is cut inside a token, 19 of 35 bytes: 'And so my fellow Am' is its end": (TOKENS, lambda t: TEXT[:19]),
    "its beginning is lost: 'And so ', 7 characters": (TOKENS, lambda t: TEXT[6:]),
    "the text goes on behind its tokens: ' what'": (TOKENS, lambda t: f"{TEXT} what"),
    "the text begins before its tokens: 'Oh. '": (TOKENS, lambda t: f"Oh. {TEXT}"),
    f"no text, where its tokens say {TEXT!r}": (TOKENS, lambda t: " "),
}  # fmt: skip


@pytest.mark.parametrize("cause", TEXTS)
@pytest.mark.parametrize("blank", ["", " "])
def test_each_wrong_detokeniser_is_named_with_its_cause(cause: str, blank: str):
    """Whether the blank in front is kept or not; tokens with and without end-of-text."""
    said, decode = TEXTS[cause]
    for ids in (said, (*said, 50257)):
        (named,) = detokenising.findings(account(blank + decode(said).strip(), ids), MULTILINGUAL)
        assert (named.kind, named.is_fault) == ("detokeniser", True)
        rest = named.sentence.removeprefix(f"detokeniser: {cause}")
        assert rest == "" or rest.startswith(": it says"), named.sentence


def test_the_alphabet_is_gpt2s():
    """As the vocab.json of Hugging Face's Whisper writes these."""
    assert gpt2(" And") == "ĠAnd"
    assert gpt2("すみません。") == "ãģĻãģ¿ãģ¾ãģĽãĤĵãĢĤ"


def test_the_multilingual_table_for_ids_of_the_english_vocabulary():
    said = tuple(vocabulary.tokenizer(ENGLISH_ONLY).encoding.encode(" And so my fellow Americans"))
    text = vocabulary.token_text(MULTILINGUAL, said)
    (named,) = detokenising.findings(account(text, said), ENGLISH_ONLY)
    assert named.sentence.startswith("detokeniser: the table of another vocabulary, the multilingual one: it says")


def test_a_text_without_proof_of_its_cause_has_its_first_difference():
    """And one of other tokens is said to be of other tokens."""
    (named,) = detokenising.findings(account(TEXT.replace("fellow", "yellow"), TOKENS), MULTILINGUAL)
    expected = "it says 'And so my yellow Americans, ask no' where its tokens say 'And so my fellow Americans, ask no'"
    assert named.sentence == f"text against tokens: {expected}"
    (other,) = detokenising.findings(account("駅はどこですか", TOKENS), MULTILINGUAL)
    assert other.sentence.startswith("text against tokens: its text is not of its tokens: it says '駅はどこですか'")
    (outside,) = detokenising.findings(account(TEXT, (*TOKENS, 60000)), MULTILINGUAL)
    assert outside.sentence == "text against tokens: token 60000 is outside a vocabulary of 51865"


def test_blanks_that_are_remarks():
    """The blank in front of the first word, none between windows, a newline between them."""
    for text, windows in [
        (f" {TEXT}", (TOKENS,)),
        (TEXT + TEXT, (TOKENS, TOKENS)),
        (f"{TEXT}\n{TEXT}", (TOKENS, TOKENS)),
    ]:
        (named,) = detokenising.findings(account(text, *windows), MULTILINGUAL)
        assert (named.kind, named.is_fault) == ("detokeniser", False)
    for text in (f"{TEXT} {TEXT}", f"{TEXT} {TEXT}\n"):
        assert detokenising.findings(account(text, TOKENS, TOKENS), MULTILINGUAL) == ()


def test_text_behind_a_passed_end_may_be_in_the_text_or_not():
    said = (*TOKENS, 50257, *TOKENS)
    for text in (TEXT, f"{TEXT} {TEXT}"):
        assert detokenising.findings(account(text, said), MULTILINGUAL) == ()


def test_nothing_is_said_without_evidence():
    """Text without tokens, tokens without text."""
    assert detokenising.findings(account(TEXT, None), MULTILINGUAL) == ()
    assert detokenising.findings(account(None, TOKENS), MULTILINGUAL) == ()
    assert not detokenising.shows(account(TEXT, None))
    assert not prompting.shows(fed(None))
    assert not ending.shows(account(TEXT, None))


def test_an_end_that_is_chosen_again_and_again():
    """A loop that went on to its limit passed its end; the same list, padded, did not."""
    said = (*TOKENS, 50257, 50257, 50257)
    (named,) = ending.findings(account(TEXT, said, ended="length"), MULTILINGUAL, LIMIT, TOKENS)
    assert named.sentence == "end-of-text passed: 2 times, first at token 8 of 11"
    assert ending.findings(account(TEXT, said), MULTILINGUAL, LIMIT, TOKENS) == ()


def test_an_end_that_is_passed():
    """Filling at the end is sound."""
    (named,) = ending.findings(account(TEXT, (*TOKENS, 50257, 11, 50257, 50257)), MULTILINGUAL, LIMIT, TOKENS)
    assert named.sentence == "end-of-text passed: once, first at token 8 of 12"
    assert ending.findings(account(TEXT, (*TOKENS, 50257, 50257)), MULTILINGUAL, LIMIT, TOKENS) == ()


@pytest.mark.parametrize(("count", "max_steps", "name"), [
    (448, 100, "a context of 448"), (444, 100, "a context of 448 less a prompt of 4"),
    (224, 100, "Whisper's limit for a window"), (196, 100, "a context of 200 less a prompt of 4"),
    (100, 100, "the limit of the run's policy"),
])  # fmt: skip
def test_a_window_that_stops_at_a_limit(count: int, max_steps: int, name: str):
    """Without a word of the program; where it ended by end-of-text, or the reference says the same, it is no fault."""
    said = tuple(range(300, 300 + count))
    (named,) = ending.findings(account(None, said), MULTILINGUAL, max_steps, TOKENS)
    assert (named.kind, named.is_fault) == ("token limit", True)
    assert named.sentence == f"token limit: stops after {count} tokens, {name}, without end-of-text"
    assert ending.findings(account(None, said, ended="eot"), MULTILINGUAL, max_steps, TOKENS) == ()
    (same,) = ending.findings(account(None, said), MULTILINGUAL, max_steps, said)
    assert not same.is_fault


def test_a_limit_of_its_own_and_one_without_tokens():
    """Where the program says that it stopped."""
    (named,) = ending.findings(account(None, TOKENS, ended="length"), MULTILINGUAL, LIMIT, (*TOKENS, 13))
    assert named.sentence == "token limit: stops after 8 tokens, its own limit, without end-of-text"
    (bare,) = ending.findings(account(TEXT, None, ended="length"), MULTILINGUAL, LIMIT, TOKENS)
    assert bare.sentence == "token limit: it stops at its limit, without end-of-text"
    assert ending.findings(account(TEXT, TOKENS), MULTILINGUAL, LIMIT, TOKENS) == ()


def test_a_loop_and_the_symptom_of_nan():
    """A loop that the reference has, too, is none."""
    looped = (*TOKENS, *TOKENS[-2:] * 20)
    (named,) = ending.findings(account(None, looped, ended="eot"), MULTILINGUAL, LIMIT, TOKENS)
    assert named.kind == "repetition loop"
    assert named.sentence.startswith("repetition loop: ' ask not' x 20 from step 8")
    assert ending.findings(account(None, looped, ended="eot"), MULTILINGUAL, LIMIT, looped) == ()
    assert ending.findings(account(None, looped, ended="eot"), MULTILINGUAL, LIMIT, None) == ()
    stuck = ending.findings(account("!" * 444, (0,) * 444), MULTILINGUAL, LIMIT, TOKENS)
    assert kinds(stuck) == ["repetition loop", "token limit"]
    assert stuck[0].sentence == (
        "repetition loop: id 0, '!', x 444 from step 0 to the end: what a search for the largest logit gives where all "
        "are NaN"
    )


@pytest.mark.parametrize("empty", [account("", ()), account(" ", (50257,)), account("", None)])
def test_an_empty_result(empty: Account):
    named = ending.findings(empty, MULTILINGUAL, LIMIT, TOKENS)
    assert kinds(named) == (["empty result"] if empty.tokens != (50257,) else [])
    assert ending.findings(empty, MULTILINGUAL, LIMIT, ()) == ()


def test_what_a_program_prints():
    """Errors are faults, whatever its exit code; warnings are remarks, each once."""
    printed = account(TEXT, None, warnings=("[WARN] filters 0.01", "[WARN] filters 0.01 "), errors=("[ERROR] x" * 99,))
    first, second = ending.warnings(printed)
    assert (first.kind, first.is_fault, len(first.sentence)) == ("program error", True, 174)
    assert second.sentence == "program warning: [WARN] filters 0.01 (x 2)"
    assert not second.is_fault
    (failed,) = ending.warnings(account(TEXT, None, exit_code=139))
    assert failed.sentence == "program error: it ended with exit code 139 and gave a result all the same"
    assert ending.warnings(account(TEXT, None, exit_code=0)) == ()


def test_what_a_program_does_by_itself_is_not_named_on_its_edge_too():
    """A loop of text alone stays a finding of the texts."""
    looped = (*TOKENS, *TOKENS[-2:] * 20)
    text = vocabulary.token_text(MULTILINGUAL, looped).strip()
    for said, expected in ((looped, []), (None, ["repetition loop"])):
        header = dataclasses.replace(
            trace_header("app"), text=text, tokens=said or (), timestamped_tokens=(*PROMPT[:2], *(said or ())),
            language="de", account=account(text, said),
        )  # fmt: skip
        assert kinds(recorded.of_traces(trace(), Trace(header, ()))) == expected

"""A right account raises no finding: any tokens, any vocabulary, language, task and policy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisper_parity.backend.account import Account, AccountWindow
from whisper_parity.compare import detokenising, ending, prompting
from whisper_parity.decode import policy
from whisper_parity.decode.policy import Policy
from whisper_parity.model import vocabulary
from whisper_parity.model.dims import Dims
from whisper_parity.model.vocabulary import ENGLISH_ONLY, LARGE_V3, MULTILINGUAL

SIZES = (ENGLISH_ONLY, MULTILINGUAL, LARGE_V3)
POLICIES = {
    "whisper": policy.BUILT_IN["whisper"],
    "plain": policy.BUILT_IN["plain"],
    "timestamps": Policy("timestamps", {**policy.BUILT_IN["whisper"].options, "without_timestamps": False}),
    "text": Policy("text", {**policy.BUILT_IN["plain"].options, "prompt": "Glossary: NPU, DLA"}),
}
LANGUAGES = ("en", "ja", "de", "zh", "yue")


def prompt(name: str, n_vocab: int, language: str) -> tuple[int, ...]:
    dims = Dims(80, 1500, 512, 8, 6, n_vocab, 448, 512, 8, 6)
    return policy.concrete(POLICIES[name], dims, language).prompt


@pytest.mark.parametrize("n_vocab", SIZES)
@pytest.mark.parametrize("name", POLICIES)
def test_the_prompt_of_every_policy_and_language_is_right(n_vocab: int, name: str):
    """What the policy feeds is what it expects; behind text of an earlier window, too."""
    sot_prev = vocabulary.tokenizer(n_vocab).sot_prev
    for language in LANGUAGES if n_vocab == LARGE_V3 else LANGUAGES[:-1]:
        language = "en" if n_vocab == ENGLISH_ONLY else language
        right = prompt(name, n_vocab, language)
        later = right if right[0] == sot_prev else (sot_prev, 11, 400, *right)
        account = Account("", (AccountWindow(right), AccountWindow(later)), language)
        assert prompting.findings(account, n_vocab, language, right) == ()
        assert prompting.findings(account, n_vocab, None, prompt(name, n_vocab, "en")) == ()


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("n_vocab", SIZES)
def test_a_text_of_its_tokens_is_right(n_vocab: int, data: st.DataObject):
    """Broken characters, special tokens, timestamps, empty windows; joined with a blank or with none."""
    eot, count = vocabulary.eot_of(n_vocab), data.draw(st.integers(1, 3))
    ids = st.one_of(st.integers(0, eot - 1), st.integers(eot + 1, n_vocab - 1))
    windows = [tuple(data.draw(st.lists(ids, max_size=30))) for _ in range(count)]
    texts = [vocabulary.token_text(n_vocab, vocabulary.spoken(n_vocab, window)) for window in windows]
    joined = data.draw(st.sampled_from((" ".join(filter(None, (text.strip() for text in texts))), "".join(texts))))
    ended = data.draw(st.booleans())
    said = tuple(AccountWindow(None, (*window, eot) if ended else window, "eot") for window in windows)
    spoken = vocabulary.spoken(n_vocab, [token for window in windows for token in window])
    account = Account(joined, said)
    assert [item.sentence for item in detokenising.findings(account, n_vocab) if item.is_fault] == []
    assert detokenising.findings(Account(joined.lstrip(), said), n_vocab) == ()
    assert ending.findings(account, n_vocab, 444, spoken) == ()


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.lists(st.integers(-5, 60_000), max_size=12), st.sampled_from(SIZES))
def test_no_account_stops_the_detectors(text: str, ids: list[int], n_vocab: int):
    """Whatever a program writes."""
    account = Account(text, (AccountWindow(tuple(ids), tuple(ids)),), text, (text,), (text,), exit_code=3)
    right = prompt("whisper", n_vocab, "en")
    found = [
        *prompting.findings(account, n_vocab, "en", right), *detokenising.findings(account, n_vocab),
        *ending.findings(account, n_vocab, 444, (11, 13)), *ending.warnings(account),
    ]  # fmt: skip
    assert all(item.sentence.startswith(f"{item.kind}: ") for item in found)

"""Languages as other programs write them."""

from __future__ import annotations

import pytest

from whisper_parity.compare import languages


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("en", "en"), ("EN", "en"), ("English", "en"), ("english", "en"), ("en-US", "en"), ("en_GB.UTF-8", "en"),
        ("<|en|>", "en"), (" en ", "en"), ("English (United States)", "en"), ("eng", "en"),
        ("zh", "zh"), ("zh-Hant-TW", "zh"), ("Chinese, Simplified", "zh"), ("cmn-Hans", "zh"), ("mandarin", "zh"),
        ("yue", "yue"), ("cantonese", "yue"), ("pt-BR", "pt"), ("Portuguese", "pt"), ("castilian", "es"),
        ("Haitian Creole", "ht"), ("iw", "he"), ("jv", "jw"), ("nb-NO", "no"), ("日本語", "ja"), ("Deutsch", "de"),
        ("klingon", None), ("xx", None), ("", None), ("auto", None), (None, None), ("none", None),
    ],
)  # fmt: skip
def test_codes_names_regions_and_tokens_are_one_language(name, code):
    """Or none of Whisper's."""
    assert languages.code(name) == code


@pytest.mark.parametrize(
    ("name", "said"), [("klingon", True), ("en", True), ("auto", False), ("", False), (None, False)]
)
def test_a_value_that_names_no_language_is_not_an_unknown_one(name, said):
    """`auto` says nothing."""
    assert languages.is_named(name) is said

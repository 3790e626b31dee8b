"""Languages as other programs write them."""

from __future__ import annotations

import pytest

from whisper_parity.clips import languages


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
    ("text", "language"),
    [
        ("對我做了介紹", "zh"), ("今日は天気がいい", "ja"), ("สวัสดี", "th"), ("OK 你好嗎朋友", "zh"),
        ("hello there", None),
        ("여보세요 여러분", None), ("", None), ("123 ...", None), ("hello 你", None),
    ],
)  # fmt: skip
def test_a_text_without_blanks_is_measured_by_characters(text, language):
    """Where no file says the language; Korean has blanks."""
    assert languages.by_script(text) == language


@pytest.mark.parametrize(
    ("name", "said"), [("klingon", True), ("en", True), ("auto", False), ("", False), (None, False)]
)
def test_a_value_that_names_no_language_is_not_an_unknown_one(name, said):
    """`auto` says nothing."""
    assert languages.is_named(name) is said

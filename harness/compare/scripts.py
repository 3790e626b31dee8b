"""Variants of writing: the same words in another script, which are no other words."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache
from typing import Any

from whisper_parity.compare.result import SPECIAL

CHINESE = frozenset({"zh", "yue"})
KANA = ("HIRAGANA", "KATAKANA")
LEAST_LETTERS = 8
"""Letters that a text needs before its script is named."""


def simplified(text: str) -> str:
    """Traditional Chinese characters replaced by their simplified form."""
    return str(_converter("t2s").convert(text))


def may_be_chinese(text: str, language: str | None) -> bool:
    """Whether traditional and simplified characters may stand for each other in this text."""
    if language is not None:
        return language in CHINESE
    return "CJK" in (names := _alphabets(text)) and not any(name in names for name in KANA)


def variant(reference: str, candidate: str, language: str | None) -> str:
    """How two texts differ in writing alone, in words; "" when they do not."""
    ours, theirs = (SPECIAL.sub("", text) for text in (reference, candidate))
    if may_be_chinese(ours + theirs, language):
        forms = [_form(text) for text in (ours, theirs)]
        if all(forms) and forms[0] != forms[1]:
            return f"the reference writes {forms[0]} Chinese, the candidate {forms[1]}"
    alphabets = [_alphabet(text) for text in (ours, theirs)]
    if all(alphabets) and alphabets[0] != alphabets[1]:
        return f"the reference is written in {alphabets[0]} letters, the candidate in {alphabets[1]}"
    if ours != theirs and (form := _composition(ours, theirs)):
        return form
    return ""


def _composition(ours: str, theirs: str) -> str:
    if _bare(unicodedata.normalize("NFC", ours)) == _bare(unicodedata.normalize("NFC", theirs)):
        same = _bare(ours) == _bare(theirs)
        return "" if same else "the same characters, composed in one text and decomposed in the other"
    if _bare(unicodedata.normalize("NFKC", ours)) == _bare(unicodedata.normalize("NFKC", theirs)):
        return "the same characters, full width in one text and half width (or another form) in the other"
    return ""


def _bare(text: str) -> str:
    return "".join(text.split())


def _form(text: str) -> str:
    """By the characters that only one of the two has, traditional or simplified; "" where neither has the majority."""
    traditional = sum(c != other for c, other in zip(text, simplified(text)))
    simple = sum(c != other for c, other in zip(text, str(_converter("s2t").convert(text))))
    if traditional == simple:
        return ""
    return "traditional" if traditional > simple else "simplified"


def _alphabet(text: str) -> str:
    """The script of most letters, as Unicode's names of letters begin; "" for a short text."""
    counts = _alphabets(text)
    if sum(counts.values()) < LEAST_LETTERS:
        return ""
    name = max(counts, key=lambda key: counts[key])
    return "" if name in ("CJK", *KANA) else name.capitalize()


def _alphabets(text: str) -> Counter[str]:
    return Counter(unicodedata.name(c, "?").split()[0].split("-")[0] for c in text if c.isalpha())


@cache
def _converter(kind: str) -> Any:
    from opencc import OpenCC

    return OpenCC(kind)

"""Languages as files write them: codes, names, with a region, as a token."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

UNNAMED = frozenset({"", "auto", "detect", "none", "null", "unknown", "und", "multilingual"})
"""Values that say no language."""

ALIASES = {
    "jv": "jw", "iw": "he", "in": "id", "nb": "no", "fil": "tl", "cmn": "zh", "mandarin": "zh", "cantonese": "yue",
    "eng": "en", "zho": "zh", "chi": "zh", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "por": "pt",
    "ita": "it", "rus": "ru", "jpn": "ja", "kor": "ko", "nld": "nl", "dut": "nl", "pol": "pl", "tur": "tr", "ara": "ar",
    "hin": "hi", "ukr": "uk", "vie": "vi", "swe": "sv", "ces": "cs", "cze": "cs", "ell": "el", "gre": "el",
    "deutsch": "de", "français": "fr", "español": "es", "italiano": "it", "português": "pt", "русский": "ru",
    "中文": "zh", "日本語": "ja", "한국어": "ko",
}  # fmt: skip
"""Names beside openai-whisper's own: ISO 639-2 of common languages, replaced codes, languages by their own name."""

UNSPACED = {"CJK": "zh", "THAI": "th", "LAO": "lo", "MYANMAR": "my"}
"""A language of each script that is written without blanks."""
SOME, MOST = 0.1, 0.5
"""Shares of a text's letters."""


def is_named(name: str | None) -> bool:
    """Whether a file says a language at all."""
    return name is not None and _plain(name) not in UNNAMED


def code(name: str | None) -> str | None:
    """Whisper's code of a language, "en" for "English", "en-US" and "<|en|>"; None for none of Whisper's languages."""
    if name is None or not is_named(name):
        return None
    from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE  # which imports torch

    plain = _plain(name)
    first = re.split(r"[-_,(./\s]", plain, maxsplit=1)[0]
    for spelling in (plain, first):
        for known in (spelling, ALIASES.get(spelling, ""), TO_LANGUAGE_CODE.get(spelling, "")):
            if known in LANGUAGES:
                return str(known)
    return None


def by_script(text: str) -> str | None:
    """The language in whose way a text is measured where no file names one: by letters that are written unspaced."""
    names = Counter(unicodedata.name(c, "").split(" ")[0].split("-")[0] for c in text if c.isalpha())
    if names.total() == 0:
        return None
    if names["HIRAGANA"] + names["KATAKANA"] > SOME * names.total():
        return "ja"
    return next((language for name, language in UNSPACED.items() if names[name] > MOST * names.total()), None)


def _plain(name: str) -> str:
    return name.strip().removeprefix("<|").removesuffix("|>").strip("_ ").casefold()

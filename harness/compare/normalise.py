"""openai-whisper's text normalisers, by language."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache

from whisper_parity.compare import text
from whisper_parity.compare.text import TextDiff

Normaliser = Callable[[str], str]

BRACKETS = re.compile(r"[<\[(]")
MOST_BRACKETS = 500
"""Opening brackets in a text; from each that is not closed the normalisers' patterns search to the end of the text."""
LONG_NUMBER = re.compile(r"\d{1000,}")
"""Digits that the English normaliser would turn into one number; Python stops at 4300 of them."""


def compare_texts(*, reference: str, hypothesis: str, language: str | None) -> TextDiff:
    """Compare two texts raw, normalised and edit by edit."""
    reference, hypothesis = reference.strip(), hypothesis.strip()
    name, _ = for_language(language)
    plain_reference, plain_hypothesis = _normalised(language, reference), _normalised(language, hypothesis)
    return TextDiff(
        equal=reference == hypothesis,
        reference=reference,
        hypothesis=hypothesis,
        wer=text.word_errors(reference=reference, hypothesis=hypothesis),
        cer=text.character_errors(reference=reference, hypothesis=hypothesis),
        wer_normalised=text.word_errors(reference=plain_reference, hypothesis=plain_hypothesis),
        cer_normalised=text.character_errors(reference=plain_reference, hypothesis=plain_hypothesis),
        normaliser=name,
        leading="cer" if language in text.UNSPACED else "wer",
        edits=text.classify(reference=reference, hypothesis=hypothesis, language=language),
    )


@cache
def for_language(language: str | None) -> tuple[str, Normaliser]:
    """Name and function of the normaliser: English for "en", Basic otherwise, without spaces in unspaced scripts."""
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

    if language == "en":
        english = EnglishTextNormalizer()
        return "whisper.EnglishTextNormalizer", lambda value: str(english(_tamed(value)))
    basic = BasicTextNormalizer()
    if language in text.UNSPACED:
        return "whisper.BasicTextNormalizer, spaces removed", lambda value: "".join(basic(_tamed(value)).split())
    return "whisper.BasicTextNormalizer", lambda value: str(basic(_tamed(value))).strip()


@lru_cache(maxsize=256)
def _normalised(language: str | None, value: str) -> str:
    """A text, normalised once: a clip's is compared with those of its parent, of the root and of its transcript."""
    return for_language(language)[1](value)


def _tamed(value: str) -> str:
    """A text on which the normalisers neither fail nor take hours: a loop can say a bracket or a digit for ever.

    Blanks are single. Of hundreds of brackets none is left, and of a number of a thousand digits every digit is a word.
    """
    value = " ".join(value.split())
    if len(BRACKETS.findall(value)) > MOST_BRACKETS:
        value = BRACKETS.sub(" ", value)
    return LONG_NUMBER.sub(lambda match: " ".join(match[0]), value)

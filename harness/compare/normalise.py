"""openai-whisper's text normalisers, by language."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from whisper_parity.compare import text
from whisper_parity.compare.text import TextDiff


def compare_texts(*, reference: str, hypothesis: str, language: str | None) -> TextDiff:
    """Compare two texts raw, normalised and edit by edit."""
    reference, hypothesis = reference.strip(), hypothesis.strip()
    name, normalise = for_language(language)
    plain_reference, plain_hypothesis = normalise(reference), normalise(hypothesis)
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
def for_language(language: str | None) -> tuple[str, Callable[[str], str]]:
    """Name and function of the normaliser: English for "en", Basic otherwise, without spaces in unspaced scripts."""
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

    if language == "en":
        return "whisper.EnglishTextNormalizer", EnglishTextNormalizer()
    basic = BasicTextNormalizer()
    if language in text.UNSPACED:
        return "whisper.BasicTextNormalizer, spaces removed", lambda value: "".join(basic(value).split())
    return "whisper.BasicTextNormalizer", lambda value: str(basic(value)).strip()

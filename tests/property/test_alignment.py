"""Whatever the texts are, an alignment holds them whole and in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from whisper_parity.compare.text import units
from whisper_parity.report.html.alignment import align
from whisper_parity.report.html.names import clip_anchor, shown

TEXTS = st.one_of(
    st.text(max_size=60), st.lists(st.sampled_from(["a", "A", "b,", ".", "12", "是", "，"])).map(" ".join)
)


@given(st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from(["en", "zh", None]))
def test_each_line_reads_as_its_text_and_as_the_reference(texts, language):
    """No unit is lost, doubled or moved, on either side; whatever says the same as the reference is no line."""
    found = align({str(i): text for i, text in enumerate(texts)}, language)
    reference = units(texts[0].strip(), language)
    named = {name: line for line in found.lines for name in line.names}
    for i, text in enumerate(texts):
        if str(i) in found.reference:
            assert text.strip() == texts[0].strip()
            continue
        pieces = named[str(i)].pieces
        ours = [unit for piece in pieces for unit in units(piece.was, language)]
        theirs = [unit for piece in pieces for unit in units(piece.text, language)]
        assert ("".join(theirs), "".join(ours)) == ("".join(units(text, language)), "".join(reference))
        assert all(piece.edit_class or piece.was == piece.text for piece in pieces)


@given(st.text(max_size=80))
def test_an_anchor_is_plain(name):
    """Nothing of a name can leave an attribute or a link."""
    assert all(character.isascii() and (character.isalnum() or character in "-._") for character in clip_anchor(name))


@given(st.text(max_size=80))
def test_what_is_shown_is_one_line_of_text_that_can_be_written(text):
    """No control characters, no surrogates, no direction overrides; everything else stays."""
    found = shown(text)
    found.encode()
    assert not any(character in found for character in "\n\r\x00\x1b\u2028\u202e\u2066")
    assert text.isprintable() is False or found == text

"""Parts of the page without a browser: alignment, escaping, room for sounds, the policy."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re

import pytest

from tests.support.checkout import CHECKOUT
from whisper_parity.clips.clip import Clip
from whisper_parity.report.html import engine, names, page, plots, sound, strip
from whisper_parity.report.html.alignment import LINE_WIDTH, MAX_UNITS, align

HOSTILE = "</script><!--<script>\u2028\u2029'\"&{{7*7}}"


def marked(texts: dict[str, str], language: str = "en") -> list[tuple[str, str, str]]:
    """(name, text, class) of every unit that differs, in order."""
    return [
        (line.names[0], unit.text, unit.edit_class)
        for block in align(texts, language).blocks
        for line in block
        for unit in line.units
        if unit.edit_class
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("my fellow Americans ask not", "my fellow Americans, ask not", [(",", "punctuation")]),
        ("my fellow Americans, ask", "my fellow americans ask", [("americans", "case"), ("", "punctuation")]),
        ("at 25 today", "at 26 today", [("26", "number")]),
        ("a car here", "a carry here", [("carry", "word")]),
        ("so he, said", "so, he said", [(",", "punctuation"), ("", "punctuation")]),
        ("the end", "the end", []),
        ("", "well", [("well", "word")]),
    ],
)
def test_edits_are_marked_by_class(before, after, expected):
    """In the column in which they stand, deletions as an empty unit."""
    found = marked({"a": before, "b": after})
    assert [each[1:] for each in found if each[0] == "b"] == expected
    assert all(each[0] == "b" for each in found)


def test_chinese_is_aligned_by_character():
    """One comma more, one column."""
    assert marked({"a": "我想说的是大家", "b": "我想说的是，大家"}, "zh") == [("b", "，", "punctuation")]


def test_equal_texts_share_a_line():
    """Five stages that agree are one line to read."""
    found = align({"pytorch": "One.", "tflite": " One. ", "int8": "Two."}, "en")
    assert [line.names for line in found.blocks[0]] == [("pytorch", "tflite"), ("int8",)]


def test_long_texts_go_on_in_blocks_and_end():
    """No block is wider than a line, CJK characters counted twice, and an endless text is cut with a word about it."""
    found = align({"a": "好" * 2000}, "zh")
    assert all(sum(2 + 1 for _ in block[0].units) <= LINE_WIDTH for block in found.blocks)
    assert sum(len(block[0].units) for block in found.blocks) == MAX_UNITS
    assert found.cut == 2000 - MAX_UNITS


def test_every_template_escapes():
    """Whatever the template's name is."""
    assert page.environment().autoescape is True
    rendered = page.environment().from_string('<p title="{{ x }}">{{ x|shown }}</p>').render(x=HOSTILE)
    assert (rendered.count("<"), rendered.count(">"), rendered.count('"'), rendered.count("'")) == (2, 2, 2, 0)


def test_data_in_a_script_tag_cannot_end_it():
    """And it reads back as it was."""
    rendered = page.environment().from_string("{{ data|tojson }}").render(data={"x": HOSTILE})
    assert not re.search("[<>&\u2028\u2029']", rendered)
    assert json.loads(rendered) == {"x": HOSTILE}


def test_what_has_no_shape_is_written_out():
    """Controls, halves of pairs, overrides; joiners of emoji stay."""
    assert page.shown("a\x00\u202eb\ud800\n👩‍👧 ‏") == "a\\u0000\\u202eb\\ud800\\u000a👩‍👧 ‏"
    assert page.token(" car\n") == "␣car\\u000a"


def test_the_policy_names_every_script_and_no_address():
    """Scripts by the hash of their text; nothing from anywhere; no eval."""
    found = page._policy("one();", "two();")
    for script in ("one();", "two();"):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in found
    assert found.startswith("default-src 'none'; ")
    assert not re.search("https?:|\\*|unsafe-eval|script-src[^;]*unsafe", found)


def test_places_are_told_from_the_project_where_they_lie_inside():
    """A page is sent to others: what is inside the project has no path of this machine in it."""
    assert names.place(CHECKOUT / "fixtures" / "clips" / "a.flac") == "fixtures/clips/a.flac"
    assert names.place("/elsewhere/a.flac") == "/elsewhere/a.flac"


def test_sounds_are_inlined_as_far_as_there_is_room(tmp_path):
    """Those asked for first come first; one too large, or of no known kind, is named with its place."""
    sizes = {"a.wav": 3000, "b.wav": 3000, "c.flac": 500, "d.wav": sound.CLIP_LIMIT + 1, "e.xyz": 10}
    clips = {}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(b"x" * size)
        clips[name] = Clip(name, tmp_path / name)
    recorded = {name: hashlib.sha256(clip.path.read_bytes()).hexdigest() for name, clip in clips.items()}
    found = sound.inlined([*sizes, "gone"], clips, recorded, room=6000)
    other = sound.inlined(["a.wav"], clips, {"a.wav": recorded["c.flac"]}, room=6000)
    assert "not the audio that this run recorded" in other["a.wav"].note
    assert found["a.wav"].uri.startswith("data:audio/wav;base64,")
    assert found["c.flac"].uri.startswith("data:audio/flac;base64,")
    assert "room for audio is used up" in found["b.wav"].note
    assert "larger than the page inlines" in found["d.wav"].note
    assert "browsers may not play .xyz" in found["e.xyz"].note
    assert found["gone"].note == "the audio file was not found"
    assert sum(len(each.uri) for each in found.values()) <= 6000


def test_the_scale_of_a_strip():
    """Higher is above, what is off the scale lies on its edge, and nothing is lost to a logarithm of zero."""
    heights = [strip.height(value) for value in (0.0, -1.0, 1e-9, 1e-6, 1e-3, 1.0, 100.0, math.inf)]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] == heights[3] == strip.TOP + strip.HEIGHT
    assert heights[-1] == heights[-2] == strip.TOP


def test_plots_have_no_data_and_no_address_to_fetch():
    """So that one description serves every edge."""
    for spec in plots.specifications().values():
        text = json.dumps(spec)
        assert '"url"' not in text
        assert "datasets" not in spec
        assert plots.DATA in text


def test_a_script_that_would_end_its_tag_is_refused(monkeypatch):
    """The library is pinned; another version must not break the page silently."""
    import vl_convert

    from whisper_parity.errors import BuildError

    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda _: "x = '</script>'")
    with pytest.raises(BuildError, match="holds an end of script"):
        engine.engine(None)


def test_the_engine_is_kept(tmp_path, monkeypatch):
    """Made once for a version; a damaged file is made again."""
    import vl_convert

    calls: list[str] = []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: calls.append(snippet) or "window.x = 1")
    first = engine.engine(tmp_path)
    assert engine.engine(tmp_path) == first
    assert len(calls) == 1
    next((tmp_path / "pages").iterdir()).write_text("{")
    assert engine.engine(tmp_path) == first
    assert len(calls) == 2

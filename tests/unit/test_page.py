"""Parts of the page without a browser: alignment, escaping, room for sounds, the policy."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import zlib

import numpy as np
import pytest

from tests.support import sound as tones
from tests.support.checkout import CHECKOUT
from whisper_parity.clips import audio
from whisper_parity.clips.clip import Clip
from whisper_parity.report.html import engine, later, names, page, plots, sound, strip
from whisper_parity.report.html.alignment import NEAR, align
from whisper_parity.report.html.timing import Times

HOSTILE = "</script><!--<script>\u2028\u2029'\"&{{7*7}}"


def edited(texts: dict[str, str], language: str = "en") -> list[tuple[str, str, str]]:
    """(reference's text, candidate's text, class) of every edit, in order."""
    pieces = [piece for line in align(texts, language).lines for piece in line.pieces]
    return [(piece.was, piece.text, piece.edit_class) for piece in pieces if piece.edit_class]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("my fellow Americans ask not", "my fellow Americans, ask not", [("", ",", "punctuation")]),
        ("my fellow Americans, ask", "my fellow americans ask", [("Americans,", "americans", "case")]),
        ("at 25 today", "at 26 today", [("25", "26", "number")]),
        ("a car here", "a carry here", [("car", "carry", "word")]),
        ("get comfortable, and let", "get comfortable,", [("and let", "", "word")]),
        ("so he, said", "so he said.", [(",", "", "punctuation"), ("", ".", "punctuation")]),
        ("the end", "the end", []),
        ("", "well", [("", "well", "word")]),
    ],
)
def test_edits_stand_in_place_with_both_texts(before, after, expected):
    """Reference first; what both say is no edit; of a stretch that changed, the gravest class."""
    assert edited({"a": before, "b": after}) == expected


def test_chinese_is_aligned_by_character_and_has_no_blanks():
    """One comma more, one edit, and no blank that is not in the text."""
    assert edited({"a": "我想说的是大家", "b": "我想说的是，大家"}, "zh") == [("", "，", "punctuation")]
    (line,) = align({"a": "我想说的是大家", "b": "我想说的是，大家"}, "zh").lines
    assert [piece.text for piece in line.pieces] == ["我想说的是", "，", "大家"]
    assert not any(piece.blank for piece in line.pieces)


def test_only_lines_that_differ_are_lines():
    """Five stages that say what the reference says are named with it; equal ones share a line."""
    found = align({"pytorch": "One.", "tflite": " One. ", "int8": "Two.", "dla": "Two."}, "en")
    assert found.reference == ("pytorch", "tflite")
    assert [line.names for line in found.lines] == [("int8", "dla")]


def test_what_is_far_from_an_edit_is_folded():
    """Of an hour of speech the words around the edit stay in sight, and no word is lost."""
    words = [f"w{i}" for i in range(200)]
    other = [*words[:100], "new", *words[101:]]
    (line,) = align({"a": " ".join(words), "b": " ".join(other)}, "en").lines
    assert [piece.is_far for piece in line.pieces] == [True, False, False, False, True]
    assert " ".join(piece.text for piece in line.pieces) == " ".join(other)
    assert line.pieces[1].text.split() == words[100 - NEAR : 100]


def test_an_edit_has_the_second_at_which_the_reference_says_it():
    """By the characters in front of it, blanks left out; what follows the end is at its end."""
    times = Times("segments", {}, tuple(float(i) for i in range(9)))
    (line,) = align({"a": "one two end", "b": "one 2 end more"}, "en", times).lines
    assert [piece.second for piece in line.pieces if piece.edit_class] == [3.0, 8.0]


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
    assert names.shown("a\x00\u202eb\ud800\n👩‍👧 ‏") == "a\\u0000\\u202eb\\ud800\\u000a👩‍👧 ‏"
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


def test_sounds_are_compressed_and_inlined_as_far_as_there_is_room(tmp_path):
    """Those asked for first come first; one that was changed, is gone or no sound is named; a long one is cut."""
    clips, recorded = {}, {}
    for name, length in (("a", 4.0), ("b", 30.0), ("c", 30.0), ("changed", 1.0), ("noise", 0.0)):
        path = tmp_path / f"{name}.wav"
        path.write_bytes(b"RIFF no sound") if name == "noise" else tones.write_wav(path, tones.warble(length))
        clips[name] = Clip(name, path)
        recorded[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    recorded["changed"] = recorded["a"]
    lengths = {"changed": 1.0, "noise": 1.0, "gone": 1.0, "a": 4.0, "b": 30.0, "c": 30.0}
    found = sound.inlined(lengths, clips, recorded, room=40_000)
    assert found["a"].uri.startswith("data:audio/webm;base64,")
    assert found["a"].note == ""
    assert re.fullmatch(r"the first \d\d s of 30 s: .*b.wav", found["b"].note)
    assert "the page's room for sound is used up" in found["c"].note
    assert "not the audio that this run recorded" in found["changed"].note
    assert "cannot be decoded" in found["noise"].note
    assert found["gone"].note == "the audio file was not found"
    assert sum(len(one.uri) for one in found.values()) <= 40_000
    everything = sound.inlined(lengths, clips, recorded, room=400_000)
    assert [name for name, one in everything.items() if one.uri and not one.note] == ["a", "b", "c"]


def test_a_sound_is_as_it_was(tmp_path):
    """As long, and as loud where it was loud: Opus loses detail and no time."""
    samples = tones.warble(3.0)
    path = tmp_path / "sound.webm"
    path.write_bytes(sound.compressed((samples * 32767).astype(np.int16)))
    heard = audio.load(path)
    assert len(heard) == pytest.approx(len(samples), abs=1600)
    size = min(len(heard), len(samples)) // 1600
    loudness = [one[: size * 1600].reshape(size, 1600).std(axis=1) for one in (heard, samples)]
    assert np.corrcoef(*loudness)[0, 1] > 0.95


def test_what_is_packed_reads_back():
    """As a browser does it; a few clips share a pack."""
    bodies = {f"clip-{i}": f"<p>ü {i} {HOSTILE}</p>" for i in range(later.TOGETHER + 2)}
    found = later.packed(bodies)
    assert len(found["packs"]) == 2
    for anchor, text in bodies.items():
        pack = zlib.decompress(base64.b64decode(found["packs"][found["at"][anchor]]), later.RAW)
        assert json.loads(pack)[anchor] == text


def test_identical_is_drawn_as_identical_and_the_scale_is_that_of_the_figures():
    """In a band of its own above all figures; what is not finite below them; a line breaks at both."""
    points = [{"db": db, "clip": "a"} for db in (20.0, 30.0, math.inf, math.nan, -math.inf)]
    drawn, rules = plots._banded(points, [{"db": 35.0, "limit": "pass from 35 dB"}])
    assert [point["line"] for point in drawn] == [20.0, 30.0, None, None, None]
    assert [point["db"] for point in drawn[:2]] == [20.0, 30.0]
    assert 35 < drawn[2]["db"] < 40
    assert drawn[3]["db"] == drawn[4]["db"] < 20
    assert [rule["limit"] for rule in rules] == ["pass from 35 dB", "identical", "not finite"]
    assert json.dumps([drawn, rules], allow_nan=False)


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

"""A bad line of a manifest is a row with its number; a manifest that cannot be used is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import sound
from tests.support.commands import RUN, STAGES, Finished
from tests.support.damage import content
from tests.support.refusals import require_line, require_no_traceback, rows_of
from whisper_parity.judge.verdict import Outcome

ELSEWHERE = "points outside the manifest's folder. Put the file inside it"
BAD_LINES: dict[str, tuple[str, str]] = {
    "not JSON": ("good.wav", "not JSON ("),
    "cut short": ('{"audio_filepath": "good.wa', "not JSON ("),
    "a list": ('["good.wav"]', "expected a JSON object, found list. "),
    "nested without end": ("[" * 100_000, "not JSON ("),
    "a number of 5000 digits": ('{"audio_filepath": "good.wav", "seconds": ' + "9" * 5000 + "}", "not JSON ("),
    "half a surrogate pair": (r'{"audio_filepath": "good.wav", "name": "other", "text": "\ud800"}', "not JSON ("),
    "no path": ('{"text": "hello"}', '"audio_filepath" is missing. Add the audio file\'s path'),
    "empty path": ('{"audio_filepath": ""}', "\"audio_filepath\" must be a path, found ''. Add"),
    "path of a wrong type": (
        '{"audio_filepath": ["good.wav"]}',
        "must be a path, found ['good.wav']. Add",
    ),
    "text of a wrong type": ('{"audio_filepath": "good.wav", "text": 5}', '"text" must be a str. Found 5'),
    "language of a wrong type": ('{"audio_filepath": "good.wav", "lang": ["en"]}', '"lang" must be a str. Found'),
    "tags of a wrong type": ('{"audio_filepath": "good.wav", "tags": "default"}', '"tags" must be a list. Found'),
    "name of a wrong type": ('{"audio_filepath": "good.wav", "name": {}}', '"name" must be a str. Found {}'),
    "the same name again": (
        '{"audio_filepath": "twin.wav", "name": "good"}',
        'a second clip named good. Give it a "name"',
    ),
    "above its folder": ('{"audio_filepath": "../secret.wav"}', f"'../secret.wav' {ELSEWHERE}"),
    "above by a detour": ('{"audio_filepath": "sub/../../secret.wav"}', ELSEWHERE),
    "absolute": ('{"audio_filepath": "/etc/passwd"}', f"'/etc/passwd' {ELSEWHERE}"),
    "through a link": ('{"audio_filepath": "link.wav"}', f"'link.wav' {ELSEWHERE}"),
    "through a linked folder": ('{"audio_filepath": "linked/secret.wav"}', ELSEWHERE),
    "links in a circle": ('{"audio_filepath": "circle.wav"}', "'circle.wav' is no usable path ("),
    "with a zero byte": (r'{"audio_filepath": "good\u0000.wav"}', "is no usable path ("),
    "too long for a file": ('{"audio_filepath": "' + "x" * 300 + '.wav"}', "is no usable path ("),
}


@pytest.fixture(scope="module")
def bad_manifest(parity_in, tmp_path_factory) -> Finished:
    """One run over all of BAD_LINES, with a good line first and one of an unknown language last."""
    folder = tmp_path_factory.mktemp("outside") / "clips"
    folder.mkdir()
    for path in (folder / "good.wav", folder / "twin.wav", folder.parent / "secret.wav"):
        sound.write_wav(path, sound.warble(1.0))
    (folder / "link.wav").symlink_to(folder.parent / "secret.wav")
    (folder / "linked").symlink_to(folder.parent, target_is_directory=True)
    (folder / "circle.wav").symlink_to("circle.wav")
    first = json.dumps({"audio_filepath": "good.wav", "text": "first\u2028second"}, ensure_ascii=False)
    last = json.dumps({"audio_filepath": "twin.wav", "lang": "klingon"})
    manifest = folder / "manifest.jsonl"
    lines = [first, *(line for line, _ in BAD_LINES.values()), "", last]
    manifest.write_text("\n".join(lines) + "\n", "utf-8")
    result = parity_in(folder)(*RUN, "--manifest", manifest, "--run-id", "bad-manifest")
    return Finished(folder, result, folder / "reports" / "bad-manifest")


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_of_a_manifest_is_a_row_with_its_number(bad_manifest: Finished, case: str):
    """Which file, which line, what is wrong with it and what to do; nothing outside the folder is opened."""
    number = 2 + list(BAD_LINES).index(case)
    row = rows_of(bad_manifest.run)[f"line-{number}", ""]
    assert row.verdict.outcome is Outcome.INVALID_INPUT
    assert row.verdict.reason.startswith(f"{bad_manifest.folder / 'manifest.jsonl'}:{number}: ")
    assert BAD_LINES[case][1] in row.verdict.reason
    assert len(row.verdict.reason) < 600
    require_line(bad_manifest.result, row)


def test_a_line_of_an_unknown_language_is_a_row_of_every_stage(bad_manifest: Finished):
    """The reason names the language, and says what one looks like."""
    for stage in STAGES:
        row = rows_of(bad_manifest.run)["twin", stage]
        assert row.verdict.outcome is Outcome.INVALID_INPUT
        assert row.verdict.reason == "unknown language 'klingon'. Use a Whisper code such as en, zh or de"
        require_line(bad_manifest.result, row)


def test_the_good_line_of_a_bad_manifest_runs(bad_manifest: Finished):
    """A line separator inside its text does not end the line."""
    require_no_traceback(bad_manifest.result, 2)
    rows = rows_of(bad_manifest.run)
    assert [rows["good", stage].verdict.outcome for stage in STAGES] == [Outcome.REFERENCE, Outcome.PASS]
    assert rows["good", "pytorch"].vs_transcript.reference == "first\u2028second"
    assert len(rows) == len(BAD_LINES) + 2 * len(STAGES)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "cannot be read (No such file or directory)"),
        (Path.mkdir, "no sound in this folder. Looked for sounds, "),
        (Path.touch, 'holds no clip. Write one JSON object per line with "audio_filepath"'),
        (content(b"\n \n"), "holds no clip. Write one JSON object per line"),
        (content(b"\xff\xfe{}\n"), "not UTF-8 text ('utf-8' codec"),
    ],
    ids=["missing", "a folder", "empty", "blank lines", "not UTF-8"],
)
def test_a_manifest_that_cannot_be_used(refuse, tmp_path, write, said):
    """Nothing runs; the line names the file and says what belongs there."""
    manifest = tmp_path / "clips.jsonl"
    write(manifest)
    line = refuse("--clips", "all", "--manifest", manifest)
    assert line.startswith(f"{manifest}: {said}")
    assert "JSON" in line


def test_a_manifest_of_bad_lines_alone_is_reported(parity, tmp_path):
    """A report is written even where no clip can run."""
    (tmp_path / "clips.jsonl").write_text("{}\n", "utf-8")
    result = parity(*RUN, "--manifest", "clips.jsonl", "--run-id", "none")
    require_no_traceback(result, 2)
    assert list(rows_of(tmp_path / "reports" / "none")) == [("line-1", "")]

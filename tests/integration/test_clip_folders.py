"""A folder as clips: what FFmpeg reads runs, each file under a name of its own, and what is no sound is listed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import sound
from tests.support.commands import RUN
from tests.support.refusals import line_of, require_no_traceback, rows_of
from whisper_parity.clips import selection
from whisper_parity.clips.selection import EMBEDDED
from whisper_parity.errors import UsageError
from whisper_parity.judge.verdict import Outcome

KINDS = {
    "a.mkv": "aac fltp", "b.mov": "aac fltp", "c.3gp": "aac fltp", "d.aiff": "pcm_s16be s16", "e.au": "pcm_s16be s16",
    "f.caf": "pcm_s16le s16", "h.wv": "wavpack s16p", "i.mka": "libopus s16", "j.mp2": "mp2 s16",
}  # fmt: skip
"""Sounds by kinds that are not in every list of suffixes."""


def names(*words: object) -> list[str]:
    return [clip.name for clip in selection.select([str(word) for word in words], EMBEDDED).clips]


def wav(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return sound.write_wav(path, sound.warble(0.2))


def test_every_sound_in_a_folder_is_a_clip(tmp_path):
    """Whatever its suffix says, or without one."""
    for name, kind in KINDS.items():
        sound.write(tmp_path / name, sound.warble(1.0, 48_000), 48_000, *kind.split())
    wav(tmp_path / "k.wav").rename(tmp_path / "k")
    assert names(tmp_path) == list("abcdefhijk")


def test_what_is_no_sound_is_listed_and_not_refused(parity, tmp_path):
    """One line at the terminal, in the report and on the page; a pipe among the files does not stop the run."""
    folder = tmp_path / "clips"
    wav(folder / "good.wav")
    (folder / "good.txt").write_text("what is said", "utf-8")  # the transcript of good.wav
    (folder / "notes.txt").write_text("recorded on a Tuesday", "utf-8")
    (folder / "subtitles.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nwhat is said\n", "utf-8")
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    result = parity(*RUN, "--clips", folder, "--run-id", "listed")
    require_no_traceback(result, 0)
    note = f"{folder}: left out, since it is no sound: notes.txt, pipe, sub/, subtitles.srt"
    assert f"note: {note}" in result.stdout.splitlines()
    page = (tmp_path / "reports" / "listed" / "index.html").read_text("utf-8")
    assert "left out, since it is no sound" in page


def test_a_file_that_claims_to_be_sound_is_a_row(parity, tmp_path):
    """It is never among what was left out: somebody meant it to be heard."""
    folder = tmp_path / "clips"
    wav(folder / "good.wav")
    (folder / "broken.wav").write_bytes(b"RIFF")
    result = parity(*RUN, "--clips", folder, "--run-id", "broken")
    require_no_traceback(result, 2)
    rows = rows_of(tmp_path / "reports" / "broken")
    assert rows["broken", "pytorch"].verdict.outcome is Outcome.INVALID_INPUT
    assert rows["good", "torchscript"].verdict.outcome is Outcome.PASS


def test_a_long_list_of_what_is_no_sound_is_folded(tmp_path):
    """Five names and a number."""
    wav(tmp_path / "z.wav")
    for number in range(8):
        (tmp_path / f"{number}.txt").write_text("words", "utf-8")
    (note,) = selection.select([str(tmp_path)], EMBEDDED).notes
    assert note.endswith(": 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 3 more")


def test_a_folder_without_sound_is_refused(parity, tmp_path):
    """With what lies there."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("words", "utf-8")
    line = line_of(parity(*RUN, "--clips", tmp_path / "texts"), 2)
    assert line.startswith(f"{tmp_path / 'texts'}: no sound in this folder: a.txt. Looked for sounds, ")
    assert "LibriSpeech (*.trans.txt beside the sounds that it names)" in line


def test_two_files_of_one_stem_both_run(parity, tmp_path):
    """Named by their whole file names; others keep their stems."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, codec in {"a.m4a": "aac fltp", "a.opus": "libopus s16", "b.opus": "libopus s16"}.items():
        sound.write(folder / name, sound.warble(1.0, 48_000), 48_000, *codec.split())
    result = parity(*RUN, "--clips", folder, "--run-id", "both")
    require_no_traceback(result, 0)
    rows = rows_of(tmp_path / "reports" / "both")
    assert {clip for clip, _ in rows} == {"a.m4a", "a.opus", "b"}
    assert {row.verdict.outcome for row in rows.values()} == {Outcome.REFERENCE, Outcome.PASS}


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path):
    """By as much of their folders as it takes; a file that is named twice runs once."""
    first, second = wav(tmp_path / "x" / "a.wav"), wav(tmp_path / "y" / "a.wav")
    one, other = names(first, tmp_path / "y", first)
    assert (one.rpartition("-")[0], other.rpartition("-")[0]) == ("x-a.wav", "y-a.wav")
    assert names(first, second) == [one, other]


def test_a_file_does_not_take_the_name_of_a_clip_in_the_manifest(tmp_path):
    """The manifest's clip keeps it."""
    assert names("en-stereo-01", wav(tmp_path / "en-stereo-01.wav")) == ["en-stereo-01", "en-stereo-01.wav"]


@pytest.mark.parametrize("word", ["nothing", "nothing.wav"])
def test_what_is_not_there_is_refused(word):
    """With what there is."""
    with pytest.raises(UsageError, match="no clip, tag or audio file called"):
        names(word)

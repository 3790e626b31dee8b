"""Clips under hostile file names run or are refused like any other, and nothing is executed."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import sound
from tests.support.commands import Finished
from tests.support.refusals import besides_progress, require_line, require_no_traceback, rows_of
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder

HOSTILE = (
    "two words.wav",
    'it\'s "quoted".wav',
    "$(touch executed).wav",
    "`touch executed`; touch executed.wav",
    "two\nlines.wav",
    "\x1b[31mred\x1b[0m.wav",
    "-n.wav",
    "--policy=plain.wav",
    "12:30.wav",
    "[bold]a,b[] .wav",
    "100%s {0}.wav",
    "..hidden..wav",
    "会議 ✓.wav",
    "default.wav",
    "latin-\udce9.wav",
    "x" * 240 + ".wav",
)


@pytest.fixture(scope="module")
def hostile(parity_in, tmp_path_factory) -> Finished:
    """A folder of clips under all of HOSTILE, with the same sound, run by the root alone."""
    folder = tmp_path_factory.mktemp("hostile")
    good = sound.write_wav(folder / "clip.wav", sound.warble(1.0)).read_bytes()
    (folder / "clips").mkdir()
    for name in HOSTILE:
        (folder / "clips" / name).write_bytes(good)
    words = ("run", "--language", "en", "--stages", "pytorch", "--clips", folder / "clips", "--run-id", "hostile")
    return Finished(folder, parity_in(folder)(*words), folder / "reports" / "hostile")


def test_hostile_file_names_run(hostile: Finished):
    """Each is a row of its own under a name that is safe everywhere, on a line of its own; nothing is executed."""
    require_no_traceback(hostile.result, 1)  # one stage alone: nothing is compared
    report = records.load(RunFolder(hostile.run))
    assert {row.verdict.outcome for row in report.rows} == {Outcome.REFERENCE}
    names = {row.clip for row in report.rows}
    assert len(names) == len(HOSTILE)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) for name in names)
    assert all(line.isprintable() for line in hostile.result.output.splitlines())
    assert not list(hostile.folder.rglob("executed"))


def test_hostile_file_names_survive_the_shell(hostile: Finished):
    """The command that repeats a row is one line that a shell splits into the words that were meant."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    commands = [row.reproduce for row in records.load(RunFolder(hostile.run)).rows]
    assert all(command.isprintable() for command in commands)
    script = "\n".join(f"printf '%s\\0' {command}" for command in commands)
    found = subprocess.run([bash, "-c", script], capture_output=True, check=True).stdout.split(b"\0")
    clips = {os.fsdecode(after) for word, after in itertools.pairwise(found) if word == b"--clips"}
    assert clips == {str(hostile.folder / "clips" / name) for name in HOSTILE}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_a_hostile_name_is_read(hostile: Finished, monkeypatch, name):
    """Given by its name alone, from its own folder: "12:30.wav" is not a protocol called 12."""
    from whisper_parity.clips import audio

    monkeypatch.chdir(hostile.folder / "clips")
    assert len(audio.load(Path(name))) == 16_000


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_a_hostile_name_is_refused_on_one_printable_line(hostile: Finished, parity, monkeypatch, name):
    """Given by its name alone, from its own folder: the row says which file, and the terminal is safe."""
    folder = hostile.folder / "empty"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    Path(name).touch()
    result = parity("run", "--stages", "pytorch", "--clips", name, "--run-id", "one")
    require_no_traceback(result, 2)
    _, report, page = besides_progress(result.stderr)
    assert page.startswith("page: ")
    (row,) = rows_of(Path(report.removeprefix("report: ")).parent).values()
    assert row.verdict.reason.endswith("the file is empty (0 bytes). Copy it again")
    require_line(result, row)

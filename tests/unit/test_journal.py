"""The journal of a run: what was appended is read back, whoever wrote it, and damage is named."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from whisper_parity.errors import OutputError, RecordError
from whisper_parity.run import journal as journals
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.journal import Journal, Record


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run's folder."""
    return RunFolder(tmp_path / "run")


def cell(number: int, text: str = "") -> Record:
    """A record of a cell."""
    return Record("cell", (f"clip {number}", "tflite"), f'{{"text":"{text}"}}')


def test_records_come_back_and_the_last_of_a_key_wins(folder: RunFolder):
    """Whatever a name holds; in the order in which they were written."""
    odd = Record("order", ('a "],"value":1', "\u2028\n\udcff"), "[1,2]")
    with Journal.open(folder) as journal:
        for record in (cell(1, "before"), odd, cell(2), cell(1, "after")):
            journal.append(record)
    again = Journal.open(folder)
    assert list(again.records()) == [odd, cell(2), cell(1, "after")]
    assert again.keys("cell") == [cell(2).key, cell(1).key]
    assert again.find("cell", *cell(1).key) == cell(1, "after")
    assert again.find("order", *cell(1).key) is None
    assert Journal(RunFolder(folder.path / "none").journal).keys("cell") == []


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(folder: RunFolder):
    """Nothing is written or dropped; without the line the others are there."""
    with Journal.open(folder) as journal:
        for number in range(4):
            journal.append(cell(number))
    whole = folder.journal.read_bytes()
    folder.journal.write_bytes(whole.replace(b"clip 1", b"clip X"))
    with pytest.raises(RecordError, match=r"journal.jsonl: line 2 is damaged.*Delete that line: its work"):
        Journal.open(folder)
    assert folder.journal.stat().st_size == len(whole)
    folder.journal.write_bytes(b"".join(whole.splitlines(keepends=True)[i] for i in (0, 2, 3)))
    assert len(Journal.open(folder).keys("cell")) == 3


def test_two_processes_and_a_fork_append_whole_lines(folder: RunFolder):
    """Each sees what the others wrote."""
    words = (
        "import sys; from pathlib import Path; from whisper_parity.run.folder import RunFolder\n"
        "from whisper_parity.run.journal import Journal, Record\n"
        "with Journal.open(RunFolder(Path(sys.argv[1]))) as journal:\n"
        "    for i in range(200): journal.append(Record('cell', (sys.argv[2], str(i)), '\"' + 'x' * i * 40 + '\"'))\n"
    )
    with Journal.open(folder) as journal:
        others = [subprocess.Popen([sys.executable, "-c", words, str(folder.path), name]) for name in "ab"]
        if not (child := os.fork()):
            for number in range(200):
                journal.append(cell(number))
            os._exit(0)
        for number in range(200, 400):
            journal.append(cell(number))
        os.waitpid(child, 0)
        assert [other.wait() for other in others] == [0, 0]
        assert len(list(journal.records())) == 800


def test_a_full_disk_leaves_no_half_line(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    """The error says what to do, and the next line is written where the last whole one ended."""
    write = os.write

    def full(file: int, line: bytes) -> int:
        if len(line) < 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, line[: len(line) // 2])

    with Journal.open(folder) as journal:
        journal.append(cell(1))
        with monkeypatch.context() as patched:
            patched.setattr(journals.os, "write", full)
            with pytest.raises(OutputError, match=r"No space left on device.*Free some space"):
                journal.append(cell(2))
        journal.append(cell(3))
    assert Journal.open(folder).keys("cell") == [cell(1).key, cell(3).key]


def test_lines_reach_the_disk_in_groups(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    """By their number, by the time, and at the end."""
    synced: list[int] = []
    monkeypatch.setattr(journals.os, "fsync", synced.append)
    with Journal.open(folder) as journal:
        for number in range(2 * journals.GROUP + 1):
            journal.append(cell(number))
        assert len(synced) == 2
        monkeypatch.setattr(journals, "GROUP_S", 0.0)
        journal.append(cell(0))
        assert len(synced) == 3
        journal.append(cell(1))
    assert len(synced) == 4


def test_what_is_no_journal_is_refused(folder: RunFolder, tmp_path: Path):
    """A link leads nowhere else, and a line of another program is no record."""
    folder.path.mkdir()
    (tmp_path / "other").write_text("mine", "utf-8")
    folder.journal.symlink_to(tmp_path / "other")
    with pytest.raises(OutputError, match=r"journal.jsonl: cannot be written"):
        Journal.open(folder)
    assert (tmp_path / "other").read_text("utf-8") == "mine"

"""What processes side by side need: whole files, one maker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from whisper_parity.errors import OutputError
from whisper_parity.system.files import locked, replacing

WRITER = """
import sys
from pathlib import Path
from whisper_parity.system.files import replacing
for _ in range(200):
    with replacing(Path(sys.argv[1])) as partial:
        partial.write_text(sys.argv[2] * 1000)
"""
MAKER = """
import sys, time
from pathlib import Path
from whisper_parity.system.files import locked, replacing
path = Path(sys.argv[1])
with locked(path.with_name('.lock')):
    if not path.exists():
        with replacing(path) as partial:
            time.sleep(0.3)
            partial.write_text(sys.argv[2])
        print('made')
"""


def together(code: str, path: Path) -> list[str]:
    """Run two processes at the same time, one with the letter a, one with b, and return what they printed."""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, path, letter], cwd=CHECKOUT, text=True, stdout=subprocess.PIPE)
        for letter in "ab"
    ]
    printed = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return printed


def test_two_writers_of_one_file_never_meet(tmp_path: Path):
    together(WRITER, tmp_path / "file.txt")
    assert (tmp_path / "file.txt").read_text() in ("a" * 1000, "b" * 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_two_who_ask_for_the_same_thing_make_it_once(tmp_path: Path):
    assert sorted(together(MAKER, tmp_path / "made.txt")) == ["", "made"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half of the n")
            raise RuntimeError("the pen broke")

    with pytest.raises(RuntimeError, match="the pen broke"):
        fail()
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["file.txt"]


def test_the_name_is_kept_and_no_pattern_of_the_folder_finds_it(tmp_path: Path):
    """Writers look at the name they are given; readers of the folder must not take what is not finished."""
    path = tmp_path / "new" / "row.json"
    with replacing(path) as partial:
        partial.write_text("{}")
        assert partial.name == "row.json"
        assert list(path.parent.glob("*.json")) == []
    assert path.read_text() == "{}"


def test_a_lock_that_cannot_be_made_says_so(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), locked(tmp_path / "file" / "lock"):
        pass

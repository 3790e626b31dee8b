"""The cache as a whole: what is found in it, what goes, and what stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from whisper_parity.system import amounts, cache

DAY = 86400.0


def put(path: Path, size: int, days: float) -> Path:
    """A file of that size that was used so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    used = time.time() - days * DAY
    os.utime(path, (used, used))
    return path


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """An old artifact of 3 files, a trace of last week, features of yesterday, and what is nobody's business here."""
    for name in ("encoder.pt", "decoder.pt", "torchscript.lineage.json"):
        put(tmp_path / "micro-torchscript-1" / name, 100, 30)
    put(tmp_path / "traces" / "a.safetensors", 200, 7)
    put(tmp_path / "features" / "b.safetensors", 50, 1)
    put(tmp_path / "features" / ".partial-c" / "c.safetensors", 10, 90)
    put(tmp_path / "holiday" / "photo.jpg", 5000, 400)
    put(tmp_path / "note.txt", 10, 400)
    return tmp_path


def names(entries: list[cache.Entry]) -> list[str]:
    return [entry.path.name for entry in entries]


def test_what_is_there_is_told_by_kind_and_what_is_not_ours_is_left_alone(full):
    """Sizes are those of all files of an entry; what is being written is no entry."""
    found = {entry.kind: (entry.path.name, entry.size_bytes) for entry in cache.entries(full)}
    assert found == {
        "artifacts": ("micro-torchscript-1", 300), "features": ("b.safetensors", 50), "traces": ("a.safetensors", 200),
    }  # fmt: skip
    assert names(cache.prune(full, 0)) == ["micro-torchscript-1", "a.safetensors", "b.safetensors"]
    assert cache.entries(full) == []
    assert (full / "holiday" / "photo.jpg").is_file()
    assert (full / "note.txt").is_file()


def test_what_was_used_longest_ago_goes_first_and_no_more_than_must(full):
    """550 bytes are too many for 250: the artifact alone goes; of 250 nothing goes."""
    assert names(cache.prune(full, 250)) == ["micro-torchscript-1"]
    assert cache.prune(full, 250) == []
    assert sorted(names(cache.entries(full))) == ["a.safetensors", "b.safetensors"]


def test_use_is_noted_without_changing_the_file(full):
    """A touched artifact is the newest; the time of modification stays."""
    lineage = full / "micro-torchscript-1" / "torchscript.lineage.json"
    before = 1_795_000_000_123_456_789  # a float holds it to 200 ns only
    os.utime(lineage, ns=(0, before))
    cache.touch(lineage)
    assert lineage.stat().st_mtime_ns == before
    assert names(cache.prune(full, 300)) == ["a.safetensors", "b.safetensors"]


def test_what_was_not_used_for_a_time_goes_though_there_is_room(full):
    """Older than five days: artifact and trace."""
    assert names(cache.prune(full, 10**9, 5 * DAY)) == ["micro-torchscript-1", "a.safetensors"]


def test_what_a_running_command_used_stays_until_it_ends_or_is_killed(full):
    """The other process notes its use of the trace; it is killed, and nothing of it stands in the way."""
    code = (
        "import sys, time; from pathlib import Path; from whisper_parity.system import cache\n"
        "folder = Path(sys.argv[1])\n"
        "with cache.in_use(folder):\n"
        "    cache.touch(folder / 'traces' / 'a.safetensors'); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(full)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        assert names(cache.prune(full, 0)) == ["micro-torchscript-1", "b.safetensors"]
        other.kill()
    assert list(full.glob(f"{cache.LIVE}*")) != []
    assert names(cache.prune(full, 0)) == ["a.safetensors"]
    assert list(full.glob(f"{cache.LIVE}*")) == []


def test_an_artifact_that_is_being_built_or_read_stays(full):
    """Its lock is held."""
    with FileLock(cache.lock_of(full / "micro-torchscript-1")):
        assert names(cache.prune(full, 0)) == ["a.safetensors", "b.safetensors"]
    assert names(cache.prune(full, 0)) == ["micro-torchscript-1"]


def test_a_removal_that_was_killed_is_finished_by_the_next(full):
    """The folder had lost its name already: nobody takes it for an artifact."""
    (full / "micro-torchscript-1").rename(full / f"{cache.DOOMED}1")
    assert "artifacts" not in {entry.kind for entry in cache.entries(full)}
    cache.prune(full, 10**9)
    assert not (full / f"{cache.DOOMED}1").exists()


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(full):
    """By the age of its folder."""
    begun, left = full / "features" / ".partial-new", full / "features" / ".partial-c"
    begun.mkdir()
    os.utime(left, (0, 0))
    cache.prune(full, 10**9)
    assert begun.is_dir()
    assert not left.exists()


@pytest.mark.parametrize(
    ("text", "count"), [("0", 0), ("16GiB", 16 * 2**30), ("500 MB", 500 * 2**20), ("1.5k", 1536), ("7B", 7)]
)
def test_sizes_as_people_write_them(text, count):
    assert amounts.size(text) == count


@pytest.mark.parametrize(("text", "count"), [("90s", 90), ("2 min", 120), ("12h", 43200), ("30d", 30 * DAY)])
def test_times_as_people_write_them(text, count):
    assert amounts.seconds(text) == count


@pytest.mark.parametrize("text", ["", "many", "-1GiB", "1 XB", "1e9", "5"])
def test_what_is_no_size_or_time_is_refused(text):
    """The message names what was found."""
    with pytest.raises(ValueError, match="expected one as"):
        amounts.seconds(text)
    if text != "5":
        with pytest.raises(ValueError, match="is no size"):
            amounts.size(text)


def test_sizes_and_ages_are_shown_in_the_largest_unit():
    assert [amounts.shown(count) for count in (0, 1023, 1024, 1536, 16 * 2**30)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "16.0 GiB",
    ]  # fmt: skip
    assert [amounts.age(seconds) for seconds in (0.2, 59, 3600, 3 * DAY)] == ["0 s", "59 s", "1 h", "3 d"]

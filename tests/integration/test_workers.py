"""The fork server and its workers: real processes, without a converter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from whisper_parity.backends.tflite import TFLiteBackend, settings
from whisper_parity.errors import BuildError
from whisper_parity.system import workers as pool
from whisper_parity.system.workers import Job, Workers, workers

MODULE = "tests.support.tasks"

HARNESS = f"""
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from whisper_parity.system.workers import Job, workers

def work():
    with workers() as found, found.doing([Job("file", Path(sys.argv[1]), ["{MODULE}", "hang", sys.argv[1]])]):
        pass

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores Ctrl-C
with ThreadPoolExecutor() as pool:
    pool.submit(work).result()
"""


@pytest.fixture(autouse=True)
def tasks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server and its workers, which import nothing from the working folder."""
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))


def job(path: Path, *task: str) -> Job:
    return Job(f"{path.stem} file", path, [MODULE, *task])


def failure(*jobs: Job) -> str:
    """What is said of jobs of which one fails."""
    with pytest.raises(BuildError) as caught, workers() as found, found.doing(jobs):
        pass
    return str(caught.value)


def interrupted(path: Path) -> None:
    """Something else fails while a worker works."""
    with workers() as found, found.doing([job(path, "hang", str(path))]):
        written(path)
        raise ZeroDivisionError


def gone(process: int) -> bool:
    """Whether a process ends within five seconds."""
    for _ in range(500):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def written(path: Path) -> int:
    """The process number in a file, as soon as it is there."""
    for _ in range(1000):
        if path.is_file() and path.read_text():
            return int(path.read_text())
        time.sleep(0.01)
    raise AssertionError(f"{path} was never written")


def test_workers_are_forked_from_a_process_that_imported_what_they_need(tmp_path):
    """Each prepares the server in its turn; what one did is there for the next."""
    first, second = tmp_path / "first", tmp_path / "second"
    with workers() as found:
        found.prepare([MODULE, "early"])
        with found.doing([job(first, "write", str(first))]):
            pass
        with found.doing([job(second, "write", str(second))]):
            pass
    assert (first.read_text(), second.read_text()) == ("early write", "early write write")


def test_jobs_are_done_side_by_side(tmp_path):
    """Two that wait for each other end."""
    one, two = tmp_path / "one", tmp_path / "two"
    with workers() as found, found.doing([job(one, "meet", str(one), str(two)), job(two, "meet", str(two), str(one))]):
        pass
    assert one.exists()
    assert two.exists()


def test_users_in_other_threads_share_a_server_until_the_last_one_leaves():
    """It is stopped then, and the next one starts afresh."""
    found: list[Workers] = []

    def use() -> None:
        with workers() as each:
            found.append(each)

    with workers() as outer:
        other = threading.Thread(target=use)
        other.start()
        other.join()
        assert found == [outer]
        assert outer._server.poll() is None
    assert outer._server.poll() is not None
    use()
    assert found[1] is not outer


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (["fail"], "converting the out file failed (exit code 1): no more"),
        (["die"], "converting the out file failed (signal 9, Killed): it printed nothing"),
        (["nothing"], "converting the out file failed (exit code 0): it printed nothing"),
        (["cannot-prepare"], "converting the out file failed (exit code 1): ImportError: no such converter"),
    ],
)
def test_a_worker_that_fails_is_a_line(tmp_path, task, said):
    """Its exit code, and the last thing that it printed."""
    assert failure(job(tmp_path / "out", *task)) == said


def test_a_module_that_cannot_be_imported_is_a_line(tmp_path):
    """The server goes on; the worker says why."""
    out = tmp_path / "out"
    said = failure(Job("out file", out, ["tests.no_such_tasks"]))
    assert said == (
        "converting the out file failed (exit code 1): ModuleNotFoundError: No module named 'tests.no_such_tasks'"
    )


def test_what_workers_print_and_read_reaches_nobody(tmp_path):
    """Not the channel of answers, not the commands."""
    out = tmp_path / "out"
    with workers() as found, found.doing([job(out, "chatter", str(out))]):
        pass
    assert out.read_text() == "0 b''"


def test_a_worker_past_its_time_is_killed(tmp_path, monkeypatch):
    """One line, and no process is left."""
    first, out = tmp_path / "first", tmp_path / "out"
    with workers() as found:
        with found.doing([job(first, "write", str(first))]):  # the server's start is not part of the two seconds
            pass
        monkeypatch.setattr(pool, "TIME_LIMIT_S", 2.0)
        said = failure(job(out, "hang", str(out)))
        assert gone(written(out))
    assert said.startswith("converting the out file took more than 2 s")


def test_where_one_fails_the_others_are_killed(tmp_path):
    """Also when something else fails meanwhile."""
    out, process = tmp_path / "out", tmp_path / "process"
    assert failure(job(out, "fail", "", str(process)), job(process, "hang", str(process))).endswith("no more")
    assert gone(written(process))
    process.unlink()
    with pytest.raises(ZeroDivisionError):
        interrupted(process)
    assert gone(written(process))


def test_a_server_that_dies_fails_what_it_was_asked_and_what_it_is_asked_then(tmp_path):
    """Nothing waits for a server that is gone."""
    out = tmp_path / "out"
    with workers() as found:
        found._server.send_signal(signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(BuildError, match=r"\(signal 9, Killed\)"), found.doing([job(out, "write", str(out))]):
                pass
    assert not out.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_die_with_the_harness(tmp_path, how):
    """One that is killed closes the server's stdin. Ctrl-C reaches the server too: another thread may wait for it."""
    process = tmp_path / "process"
    harness = subprocess.Popen([sys.executable, "-c", HARNESS, str(process)], cwd=CHECKOUT, start_new_session=True)
    worked = written(process)
    if how == signal.SIGINT:
        os.killpg(harness.pid, how)
    else:
        harness.send_signal(how)
    assert harness.wait(20) != 0
    assert gone(worked)


def test_litert_s_converter_is_imported_ahead_and_mediatek_s_is_not():
    """MediaTek's has a process of its own, under its own interpreter."""
    with TFLiteBackend(settings.read({})).prepared():
        (server,) = set(pool._shared)
    assert server._server.poll() is not None
    with TFLiteBackend(settings.read({"converter": "mtk", "mtk_python": sys.executable})).prepared():
        assert not pool._shared

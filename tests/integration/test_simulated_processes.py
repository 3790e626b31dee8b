"""Processes of a simulated device end with their client, unless they are daemons, and leave nothing behind."""

from __future__ import annotations

import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from tests.support.simulated import LIMIT_S, bench_of, until


@pytest.mark.parametrize("kind", ["shell", "exec-out"])
@pytest.mark.parametrize("command", ["sleep 97 & sleep 97", "trap '' HUP; sleep 97 & while :; do sleep 0.1; done"])
def test_a_client_that_hangs_up_takes_its_processes_along(bench, kind, command):
    """By SIGHUP to the group, and by SIGKILL where that is ignored."""
    client = bench.started(kind, command)
    assert until(lambda: len(bench.device.processes) >= 2)
    client.kill()
    client.communicate()
    assert until(lambda: not bench.device.processes)


@pytest.mark.parametrize("disposition", [signal.SIG_DFL, signal.SIG_IGN], ids=["as usual", "under nohup"])
def test_a_command_hears_of_the_hang_up(bench, disposition, request):
    """It gets SIGHUP first and has time to clean up."""
    request.addfinalizer(partial(signal.signal, signal.SIGHUP, signal.signal(signal.SIGHUP, disposition)))
    client = bench.started(
        "shell", f"trap 'echo bye > {bench.remote('bye')}; exit' HUP; echo on; while :; do sleep 0.02; done"
    )
    assert client.stdout.readline() == b"on\n"
    client.kill()
    client.communicate()
    assert until((bench.device.work_folder / "bye").exists)


def test_a_daemon_outlives_its_shell_and_the_link_but_not_the_device(adb_server):
    """As the runner does: setsid, all descriptors redirected; the shell returns at once."""
    with bench_of(adb_server) as bench:
        start = time.monotonic()
        assert bench.run("shell", "setsid sleep 97 < /dev/null > /dev/null 2>&1 &").code == 0
        assert time.monotonic() - start < 2
        assert until(lambda: len(bench.device.processes) == 1)
        bench.device.unplug()
        assert until(lambda: bench.state() != "device")
        bench.device.plug_in()
        assert bench.back()
        device, alive = bench.device, bench.device.processes
        assert len(alive) == 1
    assert device.processes == ()
    assert not device.root.exists()


def test_processes_are_killed_on_demand(modern):
    """A running command's and daemons alike."""
    client = modern.started("shell", "setsid sleep 97 < /dev/null > /dev/null 2>&1 & sleep 97")
    assert until(lambda: len(modern.device.processes) >= 3)
    modern.device.kill_processes()
    assert modern.device.processes == ()
    assert client.wait(LIMIT_S) == 128 + 9
    client.communicate()


def test_leaving_in_the_middle_of_everything_leaks_nothing(adb_server):
    """There are as many threads and descriptors as before."""
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    with bench_of(adb_server) as bench:
        clients = [
            bench.started("shell", "cat; sleep 97"),
            bench.started("exec-out", "yes"),
            bench.started("shell", "yes"),
        ]
        assert until(lambda: len(bench.device.processes) >= 3)
    for client in clients:
        client.communicate(timeout=LIMIT_S)
    assert until(lambda: threading.active_count() <= threads)
    assert until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors)


def test_a_given_root_is_kept(adb_server, tmp_path):
    """It is kept after the device ends, with what was pushed to it."""
    with bench_of(adb_server, root=tmp_path / "board") as bench:
        assert bench.run("push", __file__, bench.remote("kept.py")).code == 0
    assert (tmp_path / "board/data/local/tmp/kept.py").is_file()

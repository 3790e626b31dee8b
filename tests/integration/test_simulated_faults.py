"""Each fault of the link to a simulated device strikes where and as often as it says, and heals."""

from __future__ import annotations

import socket
import time

import pytest

from tests.support.simulated import LIMIT_S, bench_of, echo, until
from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.simulator.fault import Kind, LinkFault


@pytest.mark.parametrize("kind", [Kind.UNPLUG_IN_PUSH, Kind.UNPLUG_IN_PULL])
@pytest.mark.parametrize("legacy", [False, True])
def test_unplugged_in_the_middle_of_a_file(adb_server, tmp_path, kind, legacy):
    """At the given file, after the given number of bytes; the next try gets through."""
    size = 24_000_000  # far more than what is under way when the device strikes
    (tmp_path / "local").write_bytes(bytes(size))
    fault = LinkFault(kind, after_bytes=1_000_000, after_s=0.1, service="victim")
    with bench_of(adb_server, fault, legacy=legacy) as bench:
        words = [("push", str(tmp_path / "local"), bench.remote(name)) for name in ("other", "victim")]
        if kind is Kind.UNPLUG_IN_PULL:
            for name in ("other", "victim"):
                (bench.device.work_folder / name).write_bytes(bytes(size))
            words = [("pull", bench.remote(name), str(tmp_path / name)) for name in ("other", "victim")]
        assert bench.run(*words[0]).code == 0
        before = bench.device.received_bytes + bench.device.sent_bytes
        assert bench.run(*words[1]).code != 0
        assert 1_000_000 <= bench.device.received_bytes + bench.device.sent_bytes - before < size
        assert bench.back()
        assert bench.run(*words[1]).code == 0


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", [Kind.UNPLUG_IN_RUN, Kind.ADBD_RESTART, Kind.REBOOT])
def test_the_link_drops_in_the_middle_of_a_run(adb_server, kind, legacy):
    """The command dies; a daemon lives on unless the device rebooted."""
    fault = LinkFault(kind, service="victim", wait_s=0.2, after_s=0.2)
    with bench_of(adb_server, fault, legacy=legacy) as bench:
        bench.run("shell", "setsid sleep 97 < /dev/null > /dev/null 2>&1 &")
        booted = bench.device.boot_id
        start = time.monotonic()
        found = bench.run("shell", "echo on; sleep 97; echo victim")
        assert time.monotonic() - start < 5
        assert found.out == b"on\n"
        assert bench.back()
        assert until(lambda: len(bench.device.processes) == (kind is not Kind.REBOOT))
        assert (bench.device.boot_id != booted) == (kind is Kind.REBOOT)
        assert bench.run("shell", "echo victim").out == b"victim\n"


def test_a_local_stream_drops_after_so_many_bytes(adb_server):
    """Counted in both directions; unplugged for good until somebody plugs it in."""
    with bench_of(adb_server, LinkFault(Kind.UNPLUG_IN_RUN, after_bytes=30_000, service="local")) as bench:
        with echo(socket.AF_UNIX) as service, bench.adb.stream(bench.device.serial, service, LIMIT_S) as opened:
            opened.sendall(bytes(10_000))
            assert adb.exactly(opened, 10_000) == bytes(10_000)
            opened.sendall(bytes(10_000))
            assert len(adb.exactly(opened, 10_000)) <= 10_000
            assert opened.recv(1) == b""
        assert until(lambda: bench.state() != "device")
        bench.device.plug_in()
        assert bench.back()


def test_garbage_on_a_local_stream(adb_server):
    """It begins at the given byte; the next stream is clean."""
    with bench_of(adb_server, LinkFault(Kind.GARBAGE, after_bytes=100)) as bench:
        for is_clean in (False, True):
            with echo(socket.AF_UNIX) as service, bench.adb.stream(bench.device.serial, service, LIMIT_S) as opened:
                opened.sendall(bytes(1000))
                received = adb.exactly(opened, 1000)
                assert received[:100] == bytes(100)
                assert (received == bytes(1000)) == is_clean


def test_a_device_that_never_answers_is_offline(adb_server):
    """`adb connect` waits in vain until the device is healed."""
    with bench_of(adb_server, LinkFault(Kind.OFFLINE), connect=False) as bench:
        client = bench.started("connect", bench.device.serial)
        assert until(lambda: bench.state() == "offline")
        client.kill()
        client.communicate()
        bench.device.heal()
        bench.device.unplug()
        bench.device.plug_in()
        assert bench.back()


def test_a_device_that_accepts_no_key_is_unauthorized(adb_server):
    """It stays so until somebody accepts the key."""
    with bench_of(adb_server, LinkFault(Kind.UNAUTHORIZED), connect=False) as bench:
        said = bench.reconnect()
        assert "failed to authenticate" in said.out.decode() + said.err
        assert bench.state() == "unauthorized"
        assert "unauthorized" in bench.run("shell", "true").err
        bench.device.heal()
        assert bench.back()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_full_disk(adb_server, tmp_path, legacy):
    """What fits is taken, then pushes fail and leave nothing, and df shows why."""
    (tmp_path / "local").write_bytes(bytes(300_000))
    with bench_of(adb_server, LinkFault(Kind.DISK_FULL, after_bytes=400_000), legacy=legacy) as bench:
        free = ("shell", f"df -Pk {bench.remote('')} | tail -n 1")
        assert bench.run("push", str(tmp_path / "local"), bench.remote("first")).code == 0
        assert int(bench.run(*free).out.split()[3]) > 0
        for _ in range(2):
            found = bench.run("push", str(tmp_path / "local"), bench.remote("second"))
            assert found.code == 1
            assert "No space left on device" in found.err
        assert int(bench.run(*free).out.split()[3]) == 0
        assert [each.name for each in bench.device.work_folder.iterdir()] == ["first"]
        bench.device.heal()
        assert bench.run("push", str(tmp_path / "local"), bench.remote("second")).code == 0
        assert int(bench.run(*free).out.split()[3]) > 0


def test_a_read_only_file_system(modern, tmp_path):
    """Pushes and commands cannot write; reading goes on."""
    (modern.device.work_folder / "old").write_text("old")
    modern.device.add_fault(LinkFault(Kind.READ_ONLY))
    assert "Read-only file system" in modern.run("push", __file__, modern.remote()).err
    for command in ("mkdir x", "mkdir -p x/y", "rm old", "mv old new", "touch new", "chmod 755 old"):
        found = modern.run("shell", f"cd $TMPDIR; {command}")
        assert found.code == 1
        assert "Read-only file system" in found.err
    assert modern.run("shell", "cat $TMPDIR/old; mkdir -p $TMPDIR; rm -f $TMPDIR/none").out == b"old"
    assert [each.name for each in modern.device.work_folder.iterdir()] == ["old"]
    modern.device.heal()
    assert modern.run("push", __file__, modern.remote()).code == 0
    assert modern.run("shell", "mkdir $TMPDIR/x").code == 0


def test_a_clock_in_1970(adb_server):
    """It shows in `date`, in files pushed and in files made; a later file stays later."""
    with bench_of(adb_server, LinkFault(Kind.WRONG_CLOCK)) as bench:
        assert bench.run("shell", "date +%Y").out == b"1970\n"
        assert int(bench.run("shell", "date +%s").out) < 1000
        bench.run("push", __file__, bench.remote("pushed"))
        bench.run("shell", "sleep 0.02; touch $TMPDIR/made")
        said = bench.run("shell", "stat -c %Y $TMPDIR/pushed $TMPDIR/made; test $TMPDIR/made -nt $TMPDIR/pushed")
        assert all(int(each) < 1000 for each in said.out.split())
        assert said.code == 0
        bench.device.heal()
        assert bench.run("shell", "date +%Y").out != b"1970\n"


def test_a_fault_strikes_as_often_as_it_says(adb_server):
    """Twice, then no more."""
    with bench_of(adb_server, LinkFault(Kind.ADBD_RESTART, times=2, service="victim", after_s=0.05)) as bench:
        codes = []
        for _ in range(3):
            codes.append(bench.run("shell", "sleep 0.2; exit 42; victim").code == 42)
            assert bench.back()
        assert codes == [False, False, True]


@pytest.mark.parametrize("wrong", [{"times": 0}, {"after_bytes": -1}, {"after_s": -1.0}, {"wait_s": -0.1}])
def test_impossible_faults_are_refused(wrong):
    """They are refused when they are made, not when they should strike; a standing fault has no count."""
    with pytest.raises(ValueError, match="unplug_in_run"):
        LinkFault(Kind.UNPLUG_IN_RUN, **wrong)
    with pytest.raises(ValueError, match="read_only"):
        LinkFault(Kind.READ_ONLY, times=2)

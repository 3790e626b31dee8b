"""The link to a simulated device is counted and can be slowed down, unplugged and plugged in again."""

from __future__ import annotations

import time

import pytest

from tests.support.simulated import LIMIT_S, bench_of, until


def test_bytes_are_counted_in_each_direction(bench, tmp_path):
    """The payload, and little more; the services are in the log."""
    (tmp_path / "local").write_bytes(bytes(500_000))
    before = bench.device.received_bytes, bench.device.sent_bytes
    bench.run("push", str(tmp_path / "local"), bench.remote())
    pushed = bench.device.received_bytes - before[0], bench.device.sent_bytes - before[1]
    assert 500_000 <= pushed[0] < 502_000
    assert pushed[1] < 2_000
    bench.run("pull", bench.remote(), str(tmp_path / "again"))
    assert 500_000 <= bench.device.sent_bytes - before[1] - pushed[1] < 502_000
    assert any(line.startswith(f"sync:SEND {bench.remote()}") for line in bench.device.log)
    assert "sync:" in bench.device.log


@pytest.mark.parametrize("legacy", [False, True])
def test_the_throttle_holds_its_rate(adb_server, tmp_path, legacy):
    """3 MB each way at 6 MB/s take a second, neither half nor twice that."""
    (tmp_path / "local").write_bytes(bytes(3_000_000))
    with bench_of(adb_server, legacy=legacy, rate_bytes_per_s=6e6) as bench:
        start = time.monotonic()
        bench.run("push", str(tmp_path / "local"), bench.remote())
        bench.run("pull", bench.remote(), str(tmp_path / "again"))
        assert 0.9 < time.monotonic() - start < 3


def test_latency_is_added_to_each_message(adb_server):
    """One round trip takes at least that long."""
    with bench_of(adb_server, latency_s=0.15) as bench:
        start = time.monotonic()
        assert bench.run("shell", "echo x").out == b"x\n"
        assert time.monotonic() - start > 0.15


def test_unplugged_and_plugged_in_again(modern):
    """The running command fails at the host, the device is gone, and comes back on its port."""
    client, serial = modern.started("shell", "echo on; sleep 97"), modern.device.serial
    assert client.stdout.readline() == b"on\n"
    modern.device.unplug()
    client.communicate(timeout=LIMIT_S)
    assert client.returncode != 0
    assert until(lambda: not modern.device.processes)
    assert "failed" in modern.reconnect().out.decode() or modern.state() != "device"
    modern.device.plug_in()
    assert modern.back()
    assert modern.device.serial == serial
    assert modern.run("shell", "echo again").out == b"again\n"


def test_a_reboot_changes_the_boot_id_and_kills_daemons(bench):
    """By the host's command and by pulling the power."""
    ids = [bench.run("shell", "getprop ro.parity.boot_id").out]
    for pull in (lambda: bench.run("reboot"), lambda: bench.device.reboot(0.1)):
        bench.run("shell", "setsid sleep 97 < /dev/null > /dev/null 2>&1 &")
        assert until(lambda: bench.device.processes)
        pull()
        assert until(lambda: not bench.device.processes)
        assert until(lambda: bench.state() != "device")
        assert bench.back()
        ids.append(bench.run("shell", "getprop ro.parity.boot_id").out)
    assert len(set(ids)) == 3

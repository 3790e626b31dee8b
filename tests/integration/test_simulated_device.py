"""The simulated device, reached by a real adb client and server: what a device does, and each fault of the link."""

from __future__ import annotations

import os
import re
import secrets
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.link.adb import Adb, Completed
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.dla.simulator.fault import Kind, LinkFault
from whisper_parity.backends.dla.simulator.packet import CNXN, HEADER, OPEN, VERSION_SKIP_CHECKSUMS, WRTE, pack
from whisper_parity.errors import UnavailableError

LIMIT_S = 15.0
SIZES = (0, 65535, 65536, 65537, (1 << 20) + 1, 3_000_000)
NAMES = ("with space", "quote'\"s", "$(touch pwned)", "two\nlines", "back\\slash", "ünï", "-dash")
NOISE = bytes(range(256)) * 256


@dataclass(frozen=True)
class Bench:
    """A simulated device that a real adb server is connected to."""

    adb: Adb
    device: SimulatedDevice

    def run(self, *words: str, stdin: bytes | None = None) -> Completed:
        return self.adb.run("-s", self.device.serial, *words, limit_s=LIMIT_S, stdin=stdin)

    def started(self, *words: str) -> subprocess.Popen[bytes]:
        command = [str(self.adb.binary), "-P", str(self.adb.port), "-s", self.device.serial, *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def reconnect(self) -> Completed:
        self.adb.run("disconnect", self.device.serial, limit_s=LIMIT_S)
        return self.adb.run("connect", self.device.serial, limit_s=LIMIT_S)

    def back(self) -> bool:
        return until(lambda: "connected to" in self.reconnect().out.decode() and self.run("get-state").code == 0)

    def state(self) -> str:
        return next((each.state for each in self.adb.devices() if each.serial == self.device.serial), "absent")

    def remote(self, name: str = "file") -> str:
        return f"{self.device.work_folder}/{name}"


def until(holds: Callable[[], object], limit_s: float = 5.0) -> bool:
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def server() -> Iterator[Adb]:
    try:
        binary = adb.find(os.environ.get("ADB"))
    except UnavailableError as error:
        pytest.skip(str(error))
    with adb.private_server(binary, usb=False) as found:
        yield found


@contextmanager
def bench_of(server: Adb, *faults: LinkFault, connect: bool = True, **settings: object) -> Iterator[Bench]:
    with SimulatedDevice(faults=faults, **settings) as device:
        bench = Bench(server, device)
        if connect:
            assert bench.back()
        yield bench
        server.run("disconnect", device.serial, limit_s=LIMIT_S)


@pytest.fixture(params=["modern", "legacy"])
def bench(server: Adb, request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench_of(server, legacy=request.param == "legacy") as found:
        yield found


@pytest.fixture
def modern(server: Adb) -> Iterator[Bench]:
    with bench_of(server) as found:
        yield found


# What a device does


def test_it_is_listed_by_its_name_and_says_what_it_can(bench):
    """State "device" and the model; features in the modern mode only."""
    (line,) = [each for each in bench.adb.devices() if each.serial == bench.device.serial]
    assert line.state == "device"
    assert "model:Simulated_Genio_520" in line.details
    expected = [] if bench.device.settings.legacy else ["shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir"]
    assert bench.run("features").out.decode().split() == expected


def test_properties_tell_the_model_and_that_it_is_simulated(bench):
    """The stand-in getprop, alone and with names; an unknown one is empty."""
    said = bench.run(
        "shell", "getprop ro.product.model; getprop ro.soc.model; getprop ro.parity.simulated; getprop x.y"
    )
    assert said.out.decode().splitlines() == ["Simulated Genio 520", "MT8371", "1", ""]
    assert b"[ro.serialno]: [SIM" in bench.run("shell", "getprop").out


def test_exit_codes_come_back(modern):
    """0 and 255 and what lies between; a signal is 128 + n."""
    for code in (0, 1, 2, 3, 42, 126, 127, 128, 200, 254, 255):
        assert modern.run("shell", f"exit {code}").code == code
    assert modern.run("shell", "kill -SEGV $$").code == 128 + 11


def test_output_and_errors_come_apart(modern):
    """As two pipes."""
    found = modern.run("shell", "echo out; echo err >&2; exit 3")
    assert (found.code, found.out, found.err) == (3, b"out\n", "err\n")


def test_an_old_adbd_loses_exit_codes_and_joins_the_outputs(server):
    """What a harness must cope with; the client refuses -T there."""
    with bench_of(server, legacy=True) as bench:
        found = bench.run("shell", "echo out; echo err >&2; exit 3")
        assert (found.code, found.out, found.err) == (0, b"out\nerr\n", "")
        refused = bench.run("shell", "-T", "echo out")
        assert refused.code == 1
        assert "only supports allocating a pty" in refused.err


def test_input_reaches_a_command_and_ends(modern):
    """Closing stdin ends `cat` (packet 4, not 3), and nothing is lost on the way."""
    assert modern.run("shell", "cat", stdin=NOISE * 20).out == NOISE * 20
    assert modern.run("shell", "cat; exit 7", stdin=b"").code == 7
    assert modern.run("shell", "head -c 3; exit 8", stdin=NOISE * 20).code == 8


def test_input_reaches_a_command_of_an_old_adbd(server):
    """Which never learns that the input has ended."""
    with bench_of(server, legacy=True) as bench:
        assert bench.run("shell", "head -c 5000 | wc -c", stdin=bytes(5000)).out.strip() == b"5000"


def test_exec_is_clean_for_any_bytes(bench, tmp_path):
    """exec-out byte for byte; exec-in lets the command finish its input."""
    (bench.device.work_folder / "noise").write_bytes(NOISE * 3)
    assert bench.run("exec-out", f"cat {bench.remote('noise')}").out == NOISE * 3
    assert bench.run("exec-in", f"cat > {bench.remote('taken')}", stdin=NOISE).code == 0
    taken = bench.device.work_folder / "taken"
    assert until(lambda: taken.exists() and taken.read_bytes() == NOISE)


def test_the_environment_is_made_from_scratch(server, monkeypatch):
    """Only what the device has, and what it was given."""
    monkeypatch.setenv("OF_THE_HOST", "1")
    with bench_of(server, environment={"PARITY_SIM_FAULT": "hang"}) as bench:
        said = bench.run("shell", "pwd; echo $HOME $TMPDIR $LANG $PARITY_SIM_FAULT:$OF_THE_HOST; command -v neuronrt")
        root, work = bench.device.root, bench.device.work_folder
        assert said.out.decode().splitlines() == [str(root), f"{root} {work} C hang:", f"{root}/bin/neuronrt"]


@pytest.mark.parametrize("size", SIZES)
def test_files_arrive_whole_in_both_directions(bench, tmp_path, size):
    """At every border of a message, with mode and time."""
    local, again = tmp_path / "local", tmp_path / "again"
    local.write_bytes((NOISE * 50)[:size])
    local.chmod(0o750)
    os.utime(local, (1_600_000_000, 1_600_000_000))
    assert bench.run("push", str(local), bench.remote()).code == 0
    there = bench.device.work_folder / "file"
    assert there.read_bytes() == local.read_bytes()
    assert (there.stat().st_mode & 0o777, there.stat().st_mtime) == (0o750, 1_600_000_000)
    assert bench.run("pull", "-a", bench.remote(), str(again)).code == 0
    assert again.read_bytes() == local.read_bytes()


def test_trees_and_names_of_any_kind(bench, tmp_path):
    """Quotes, line breaks and command substitutions are names and nothing else."""
    tree = tmp_path / "tree"
    for index, name in enumerate(NAMES):
        (tree / name / "deeper").mkdir(parents=True)
        (tree / name / "deeper" / name).write_bytes(NOISE[: 1000 * index])
    assert bench.run("push", str(tree), bench.remote("tree")).code == 0
    assert bench.run("pull", bench.remote("tree"), str(tmp_path / "again")).code == 0
    for index, name in enumerate(NAMES):
        assert (tmp_path / "again" / name / "deeper" / name).read_bytes() == NOISE[: 1000 * index]
    assert not list(bench.device.root.rglob("pwned"))
    listed = bench.run("ls", bench.remote("tree")).out.decode()
    assert all(name in listed for name in NAMES)


def test_a_missing_file_is_missing(bench, tmp_path):
    """As adb says it."""
    found = bench.run("pull", bench.remote("nothing"), str(tmp_path / "x"))
    assert found.code == 1
    assert re.search("does not exist|No such file", found.err)


def test_paths_outside_the_root_are_refused(bench, tmp_path):
    """Absolute, through "..", and through links; in both directions and in listings."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (bench.device.work_folder / "link").symlink_to(outside)
    for path in (
        f"{outside}/secret",
        bench.remote("../../../../" + f"{outside}/secret"[1:]),
        bench.remote("link/secret"),
    ):
        pulled = bench.run("pull", path, str(tmp_path / "got"))
        assert pulled.code == 1
        assert not (tmp_path / "got").exists()
        pushed = bench.run("push", __file__, path)
        assert "Permission denied" in pushed.err
        assert (outside / "secret").read_text() == "secret"
    assert b"secret" not in bench.run("ls", str(outside)).out


def test_unknown_services_are_refused(bench):
    """adb root, and a socket that nobody listens on."""
    assert bench.run("root").code == 1
    for service in (f"localabstract:nobody-{secrets.token_hex(4)}", "tcp:1", "tcp:70000", "tcp:x", "nonsense:"):
        with pytest.raises(adb.DeviceError, match=r"closed|failed|error"):
            bench.adb.stream(bench.device.serial, service, LIMIT_S)


@contextmanager
def echo(family: socket.AddressFamily) -> Iterator[str]:
    """A service that gives everything back, to one client; the name of its adb service."""
    name = f"parity-echo-{secrets.token_hex(8)}"
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(f"\0{name}" if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                while data := client.recv(1 << 16):
                    client.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"localabstract:{name}" if family == socket.AF_UNIX else f"tcp:{listener.getsockname()[1]}"
        thread.join(LIMIT_S)
        assert not thread.is_alive(), "the service never saw the host hang up"


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_streams_to_a_service_of_the_device(bench, family):
    """Round trips through adb's own socket; a message comes back in milliseconds, and a hang-up reaches the service."""
    with echo(family) as service, bench.adb.stream(bench.device.serial, service, LIMIT_S) as opened:
        for size in (1, 4095, 4096, 4097, 100_000):
            opened.sendall(NOISE[:size] if size <= len(NOISE) else bytes(size))
            assert adb.exactly(opened, size) == (NOISE[:size] if size <= len(NOISE) else bytes(size))
        took_s = []
        for _ in range(20):
            start = time.monotonic()
            opened.sendall(b"x" * 100)
            adb.exactly(opened, 100)
            took_s.append(time.monotonic() - start)
        assert sorted(took_s)[10] < 0.02


def test_many_commands_at_once(modern):
    """Streams do not mix."""
    running = [modern.started("shell", f"sleep 0.1; seq {n} {n + 5000}; exit {n}") for n in range(12)]
    for n, process in enumerate(running):
        out, _ = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, out.split()) == (n, [str(x).encode() for x in range(n, n + 5001)])


# Processes


@pytest.mark.parametrize("kind", ["shell", "exec-out"])
@pytest.mark.parametrize("command", ["sleep 97 & sleep 97", "trap '' HUP; sleep 97 & while :; do sleep 0.1; done"])
def test_a_client_that_hangs_up_takes_its_processes_along(bench, kind, command):
    """By SIGHUP to the group, and by SIGKILL where that is ignored."""
    client = bench.started(kind, command)
    assert until(lambda: len(bench.device.processes) >= 2)
    client.kill()
    client.communicate()
    assert until(lambda: not bench.device.processes)


def test_a_command_hears_of_the_hang_up(bench):
    """It may clean up in the grace."""
    client = bench.started(
        "shell", f"trap 'echo bye > {bench.remote('bye')}; exit' HUP; echo on; while :; do sleep 0.02; done"
    )
    assert client.stdout.readline() == b"on\n"
    client.kill()
    client.communicate()
    assert until((bench.device.work_folder / "bye").exists)


def test_a_daemon_outlives_its_shell_and_the_link_but_not_the_device(server):
    """As the runner does: setsid, all descriptors redirected; the shell returns at once."""
    with bench_of(server) as bench:
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
    """Those of a running command and daemons."""
    client = modern.started("shell", "setsid sleep 97 < /dev/null > /dev/null 2>&1 & sleep 97")
    assert until(lambda: len(modern.device.processes) >= 3)
    modern.device.kill_processes()
    assert modern.device.processes == ()
    assert client.wait(LIMIT_S) == 128 + 9
    client.communicate()


def test_leaving_in_the_middle_of_everything_leaks_nothing(server):
    """Threads and descriptors as before."""
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    with bench_of(server) as bench:
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


def test_a_given_root_is_kept(server, tmp_path):
    """With what was pushed to it."""
    with bench_of(server, root=tmp_path / "board") as bench:
        assert bench.run("push", __file__, bench.remote("kept.py")).code == 0
    assert (tmp_path / "board/data/local/tmp/kept.py").is_file()


# The link


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
def test_the_throttle_holds_its_rate(server, tmp_path, legacy):
    """3 MB each way at 6 MB/s take a second, neither half nor twice that."""
    (tmp_path / "local").write_bytes(bytes(3_000_000))
    with bench_of(server, legacy=legacy, rate_bytes_per_s=6e6) as bench:
        start = time.monotonic()
        bench.run("push", str(tmp_path / "local"), bench.remote())
        bench.run("pull", bench.remote(), str(tmp_path / "again"))
        assert 0.9 < time.monotonic() - start < 3


def test_latency_is_added_to_each_message(server):
    """Seen in one round trip."""
    with bench_of(server, latency_s=0.15) as bench:
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


# Faults of the link


@pytest.mark.parametrize("kind", [Kind.UNPLUG_IN_PUSH, Kind.UNPLUG_IN_PULL])
@pytest.mark.parametrize("legacy", [False, True])
def test_unplugged_in_the_middle_of_a_file(server, tmp_path, kind, legacy):
    """At the file that was named, after the bytes that were named; the next try gets through."""
    size = 24_000_000  # far more than what is under way when the device strikes
    (tmp_path / "local").write_bytes(bytes(size))
    fault = LinkFault(kind, after_bytes=1_000_000, after_s=0.1, service="victim")
    with bench_of(server, fault, legacy=legacy) as bench:
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
def test_the_link_drops_in_the_middle_of_a_run(server, kind, legacy):
    """The command dies; a daemon lives on unless the device rebooted."""
    fault = LinkFault(kind, service="victim", wait_s=0.2, after_s=0.2)
    with bench_of(server, fault, legacy=legacy) as bench:
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


def test_a_local_stream_drops_after_so_many_bytes(server):
    """Counted in both directions; unplugged for good until somebody plugs it in."""
    with bench_of(server, LinkFault(Kind.UNPLUG_IN_RUN, after_bytes=30_000, service="local")) as bench:
        with echo(socket.AF_UNIX) as service, bench.adb.stream(bench.device.serial, service, LIMIT_S) as opened:
            opened.sendall(bytes(10_000))
            assert adb.exactly(opened, 10_000) == bytes(10_000)
            opened.sendall(bytes(10_000))
            assert len(adb.exactly(opened, 10_000)) <= 10_000
            assert opened.recv(1) == b""
        assert until(lambda: bench.state() != "device")
        bench.device.plug_in()
        assert bench.back()


def test_garbage_on_a_local_stream(server):
    """From the byte that was named; the next stream is clean."""
    with bench_of(server, LinkFault(Kind.GARBAGE, after_bytes=100)) as bench:
        for is_clean in (False, True):
            with echo(socket.AF_UNIX) as service, bench.adb.stream(bench.device.serial, service, LIMIT_S) as opened:
                opened.sendall(bytes(1000))
                received = adb.exactly(opened, 1000)
                assert received[:100] == bytes(100)
                assert (received == bytes(1000)) == is_clean


def test_a_device_that_never_answers_is_offline(server):
    """adb connect waits for it in vain."""
    with bench_of(server, LinkFault(Kind.OFFLINE), connect=False) as bench:
        client = bench.started("connect", bench.device.serial)
        assert until(lambda: bench.state() == "offline")
        client.kill()
        client.communicate()
        bench.device.heal()
        bench.device.unplug()
        bench.device.plug_in()
        assert bench.back()


def test_a_device_that_accepts_no_key_is_unauthorized(server):
    """Until somebody accepts it."""
    with bench_of(server, LinkFault(Kind.UNAUTHORIZED), connect=False) as bench:
        said = bench.reconnect()
        assert "failed to authenticate" in said.out.decode() + said.err
        assert bench.state() == "unauthorized"
        assert "unauthorized" in bench.run("shell", "true").err
        bench.device.heal()
        assert bench.back()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_full_disk(server, tmp_path, legacy):
    """What fits is taken, then pushes fail and leave nothing, and df shows why."""
    (tmp_path / "local").write_bytes(bytes(300_000))
    with bench_of(server, LinkFault(Kind.DISK_FULL, after_bytes=400_000), legacy=legacy) as bench:
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
    """For pushes and for commands; reading goes on."""
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


def test_a_clock_in_1970(server):
    """`date`, files pushed and files made; a later file stays later."""
    with bench_of(server, LinkFault(Kind.WRONG_CLOCK)) as bench:
        assert bench.run("shell", "date +%Y").out == b"1970\n"
        assert int(bench.run("shell", "date +%s").out) < 1000
        bench.run("push", __file__, bench.remote("pushed"))
        bench.run("shell", "sleep 0.02; touch $TMPDIR/made")
        said = bench.run("shell", "stat -c %Y $TMPDIR/pushed $TMPDIR/made; test $TMPDIR/made -nt $TMPDIR/pushed")
        assert all(int(each) < 1000 for each in said.out.split())
        assert said.code == 0
        bench.device.heal()
        assert bench.run("shell", "date +%Y").out != b"1970\n"


def test_a_fault_strikes_as_often_as_it_says(server):
    """Twice, then no more."""
    with bench_of(server, LinkFault(Kind.ADBD_RESTART, times=2, service="victim", after_s=0.05)) as bench:
        codes = []
        for _ in range(3):
            codes.append(bench.run("shell", "sleep 0.2; exit 42; victim").code == 42)
            assert bench.back()
        assert codes == [False, False, True]


@pytest.mark.parametrize("wrong", [{"times": 0}, {"after_bytes": -1}, {"after_s": -1.0}, {"wait_s": -0.1}])
def test_impossible_faults_are_refused(wrong):
    """When they are written down, not when they should strike; a standing fault has no count."""
    with pytest.raises(ValueError, match="unplug_in_run"):
        LinkFault(Kind.UNPLUG_IN_RUN, **wrong)
    with pytest.raises(ValueError, match="read_only"):
        LinkFault(Kind.READ_ONLY, times=2)


# Bytes that are not adb

HELLO = pack(CNXN, VERSION_SKIP_CHECKSUMS, 1 << 20, b"host::features=shell_v2", summed=True)


def header(command: int, size: int, magic: int | None = None) -> bytes:
    return HEADER.pack(command, 1, 0, size, 0, command ^ 0xFFFFFFFF if magic is None else magic)


WRONG = {
    "not adb at all": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "random": bytes(range(100, 200)),
    "wrong magic": header(CNXN, 0, magic=5),
    "unknown command": header(0x12345678, 0),
    "huge length": header(CNXN, 0xFFFFFFFF),
    "a byte too long": header(CNXN, (1 << 20) + 1),
    "wrong checksum": header(CNXN, 4) + b"host",
    "OPEN before CNXN": header(OPEN, 0),
    "second CNXN": HELLO + HELLO,
    "huge OPEN": HELLO + header(OPEN, 0x7FFFFFFF),
}


@pytest.mark.parametrize("name", WRONG)
def test_bytes_that_are_not_adb_close_the_connection(name):
    """At once, without waiting for more, and the next host is served."""
    with SimulatedDevice() as device:
        assert closes(device, WRONG[name])
        assert greets(device)


def test_a_message_that_stops_closes_the_connection(monkeypatch):
    """Whether the host hangs up or just says no more, at every length; silence between messages is fine."""
    monkeypatch.setattr("whisper_parity.backends.dla.simulator.device.STALL_S", 0.3)
    with SimulatedDevice() as device:
        for length in (*range(1, len(HELLO), 7), len(HELLO) - 1):
            assert closes(device, HELLO[:length], hang_up=True)
        assert closes(device, HELLO[:10])
        assert closes(device, HELLO[:-1])
        assert greets(device, after_s=0.6)


def test_mutated_messages_never_hang_the_device():
    """Each byte of a conversation flipped in turn: answered or closed, and it serves on."""
    talk = HELLO + pack(OPEN, 1, 0, b"shell,v2,raw:true\0", summed=False)
    with SimulatedDevice() as device:
        for place in range(len(talk)):
            mutated = bytearray(talk)
            mutated[place] ^= 1 << (place % 8)
            assert closes(device, bytes(mutated), hang_up=True)
        assert greets(device)
        assert until(lambda: not device.processes)


@pytest.mark.parametrize(
    "request_", [b"SEND" + b"\xff" * 4, b"DATA\x04\0\0\0abcd", b"SND2\x01\0\0\0x", b"STAT\x01\x04\0\0"]
)
def test_sync_requests_that_are_none_end_the_stream(request_):
    """With FAIL, then CLSE; nothing is allocated by a length."""
    with SimulatedDevice() as device, socket.create_connection(address(device), timeout=5) as opened:
        opened.sendall(HELLO + pack(OPEN, 7, 0, b"sync:\0", summed=False))
        commands = []
        while not commands or commands[-1] != b"CLSE":
            head = adb.exactly(opened, HEADER.size)
            payload = adb.exactly(opened, struct.unpack_from("<I", head, 12)[0])
            commands.append(head[:4])
            if commands[-1] == b"OKAY" and b"WRTE" not in commands:
                opened.sendall(pack(WRTE, 7, 1, request_, summed=False)) if commands.count(b"OKAY") == 1 else None
            if commands[-1] == b"WRTE":
                assert payload[:4] == b"FAIL"
        assert b"WRTE" in commands


def address(device: SimulatedDevice) -> tuple[str, int]:
    host, _, port = device.serial.partition(":")
    return host, int(port)


def closes(device: SimulatedDevice, sent: bytes, *, hang_up: bool = False) -> bool:
    """Send bytes; whether the device closes the connection within five seconds."""
    with socket.create_connection(address(device), timeout=5) as opened:
        try:
            opened.sendall(sent)
            if hang_up:
                opened.shutdown(socket.SHUT_WR)
            while opened.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:  # closed before we had sent everything
            return True
    return True


def greets(device: SimulatedDevice, after_s: float = 0.0) -> bool:
    with socket.create_connection(address(device), timeout=5) as opened:
        time.sleep(after_s)
        opened.sendall(HELLO)
        return adb.exactly(opened, HEADER.size)[:4] == b"CNXN"


def test_what_nobody_reads_is_kept_up_to_a_limit():
    """A host that never waits for an acknowledgement is cut off, whatever it sends."""
    with SimulatedDevice() as device:
        flood = pack(WRTE, 7, 1, bytes(1 << 20), summed=False) * 40
        assert closes(device, HELLO + pack(OPEN, 7, 0, b"shell:sleep 97\0", summed=False) + flood)
        assert greets(device)

"""What a command on a simulated device tries outside its folder comes to nothing, and so do links that it plants."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.simulated import Bench, bench_of, until
from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.dla.simulator.sync import SyncService
from whisper_parity.system import landlock, seccomp

FILES, NETWORK, SIGNALS = "no writes outside its folder", "no connections (seccomp)", "no signals to processes outside"


@pytest.fixture(scope="module")
def server() -> Iterator[adb.Adb]:
    """A real adb server."""
    with adb.private_server(adb.find(None), usb=False) as found:
        yield found


@pytest.fixture
def bench(server: adb.Adb) -> Iterator[Bench]:
    """A device that the server is connected to."""
    with bench_of(server) as found:
        yield found


def granted(bench: Bench, measure: str) -> None:
    """Skip what this system does not offer: then the device does not claim it either."""
    if measure not in str(bench.device.confinement):
        pytest.skip(f"not in force here: {measure} (in force: {bench.device.confinement})")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the user's with a file, which must stay as they are."""
    folder = tmp_path / "outside"
    folder.mkdir(mode=0o700)
    (folder / "old").write_text("secret")
    return folder


WRITES = {
    "a new file": "echo x > {}/new",
    "over a file": "echo x > {}/old",
    "behind a file": "echo x >> {}/old",
    "a cut": f"{shlex.quote(sys.executable)} -c 'import os; os.truncate(\"{{}}/old\", 0)'",
    "a folder": "mkdir {}/new",
    "a link": "ln -s /etc {}/new",
    "a pipe": "mkfifo {}/new",
    "a removal": "rm -f {}/old",
    "another name": "mv -f {}/old {}/new",
    "out of its folder": "echo x > $TMPDIR/x; mv -f $TMPDIR/x {}/new",
    "through a link": "ln -s {} $TMPDIR/there; echo x > $TMPDIR/there/new",
    "through a second name": "ln {}/old $TMPDIR/second && echo x > $TMPDIR/second",
}
READS = {
    "a file": "cat {}/old",
    "a folder": "ls {}",
    "through a link": "ln -s {} $TMPDIR/there; cat $TMPDIR/there/old",
    "through a second name": "ln {}/old $TMPDIR/second && cat $TMPDIR/second",
    "into its folder": "mv -f {}/old $TMPDIR/taken && cat $TMPDIR/taken",
    "through a process": "cat /proc/@PID@/root{}/old; cat /proc/@PID@/cwd/*; cat /proc/@PID@/environ",
    "what a process has open": "cat /proc/@PID@/fd/*",
}


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_written_outside(bench: Bench, outside: Path, name: str):
    """The command fails, and everything is as it was."""
    granted(bench, FILES)
    assert bench.run("shell", WRITES[name].replace("{}", str(outside))).code != 0
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"old": "secret"}


@pytest.mark.parametrize("name", READS)
def test_nothing_is_read_outside(bench: Bench, outside: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    """Neither files of the user nor what belongs to processes outside."""
    granted(bench, FILES)
    monkeypatch.setenv("OF_THE_HOST", "secret")
    with (outside / "old").open(), subprocess.Popen(["sleep", "97"], cwd=outside) as process:
        command = READS[name].replace("{}", str(outside)).replace("@PID@", str(process.pid))
        found = bench.run("shell", command)
        process.kill()
    assert found.code != 0
    assert b"secret" not in found.out
    assert (outside / "old").read_text() == "secret"


def test_a_users_folder_is_closed(bench: Bench):
    """But for Python and this package, should they lie there."""
    granted(bench, FILES)
    assert "Permission denied" in bench.run("shell", f"ls {shlex.quote(str(Path.home()))}").err


CONNECTS = {
    "a port": "s=socket.create_connection(('127.0.0.1', {port}), 5)",
    "a datagram": "s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('127.0.0.1', {port}))",
    "a packet": "s=socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "a socket in a folder": "s=socket.socket(socket.AF_UNIX); s.connect('{path}')",
    "an abstract socket": "s=socket.socket(socket.AF_UNIX); s.connect('\\0{name}')",
    "a local datagram": "s=socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'x', '{path}')",
    "a datagram of a pair": "s=socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0]; s.sendto(b'x', '{path}')",
    "a port to be found at": "s=socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()",
}


@pytest.mark.parametrize("name", CONNECTS)
def test_nothing_is_connected_to(bench: Bench, name: str):
    """No port, no socket of another program of the user's: its session bus would start programs for it."""
    granted(bench, NETWORK)
    with (
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.socket(socket.AF_UNIX) as path,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        there = bench.device.work_folder / "socket"
        path.bind(str(there))
        abstract.bind(f"\0parity-{there.stat().st_ino}")
        for listener in (path, abstract):
            listener.listen()
        code = CONNECTS[name].format(
            port=port.getsockname()[1], path=there, name=abstract.getsockname()[1:].decode().strip("\0")
        )
        found = bench.run("shell", shlex.join([sys.executable, "-c", f"import socket; {code}"]))
    assert (found.code, "PermissionError" in found.err) == (1, True), found.err


def test_processes_outside_get_no_signal(bench: Bench):
    """Those of the same device do, from any of its commands."""
    granted(bench, SIGNALS)
    with subprocess.Popen(["sleep", "97"]) as process:
        assert "Operation not permitted" in bench.run("shell", f"kill {process.pid}").err
        assert process.poll() is None
        process.kill()
    bench.run("shell", "setsid sleep 97 < /dev/null > /dev/null 2>&1 &")
    assert until(lambda: len(bench.device.processes) == 1)
    assert bench.run("shell", f"kill {bench.device.processes[0]}").code == 0
    assert until(lambda: not bench.device.processes)


def test_what_a_command_needs_is_there(bench: Bench):
    """Python, pipes, files in its folder, /dev/null, and a socket that the host can reach through adb."""
    script = (
        "cd $TMPDIR; echo a | sort > b; cat <<E >> b\nmore\nE\nmv b c; chmod 600 c; cat c 2>/dev/null; df -Pk . >&2"
    )
    found = bench.run("shell", script)
    assert (found.code, found.out) == (0, b"a\nmore\n"), found.err
    code = "import socket; s=socket.socket(socket.AF_UNIX); s.bind('\\0parity-inside'); s.listen(); "
    code += "print('on', flush=True); c, _ = s.accept(); c.sendall(c.recv(9)[::-1])"
    listening = bench.started("shell", shlex.join([sys.executable, "-c", code]))
    assert listening.stdout.readline() == b"on\n"
    with bench.adb.stream(bench.device.serial, "localabstract:parity-inside", 5) as opened:
        opened.sendall(b"abc")
        assert adb.exactly(opened, 3) == b"cba"
    listening.communicate(timeout=5)


@pytest.mark.parametrize("heal", [False, True])
def test_links_that_it_plants_lead_the_device_nowhere(bench: Bench, outside: Path, heal: bool):
    """Its own files are written anew at a reboot, and removed at the end: inside, or not at all."""
    granted(bench, FILES)
    for name in ("getprop", "date", "rm"):
        (outside / name).write_text("the user's")
    outside.chmod(0o700)
    bench.run("shell", f"mv bin old; ln -s {outside} bin; mv data/local/tmp t; ln -s {outside} data/local/tmp")
    with pytest.raises(OSError, match=r"Permission denied|Not a directory|symbolic links"):
        bench.device.heal() if heal else bench.device._machine.reboot()
    assert {path.name: path.read_text() for path in outside.iterdir()} == {
        "old": "secret", **dict.fromkeys(("getprop", "date", "rm"), "the user's"),
    }  # fmt: skip
    assert outside.stat().st_mode & 0o777 == 0o700


def test_a_path_that_changes_behind_the_check_leads_nowhere(bench: Bench, outside: Path, tmp_path: Path, monkeypatch):
    """As if a command had put a link there just then: the check is taken away, and the kernel still refuses."""
    granted(bench, FILES)
    (bench.device.work_folder / "there").symlink_to(outside)
    monkeypatch.setattr(SyncService, "_resolve", lambda self, path, follow: Path(path.decode()))
    assert bench.run("push", __file__, bench.remote("there/new")).code != 0
    assert bench.run("push", __file__, bench.remote("there/old")).code != 0
    assert bench.run("pull", bench.remote("there/old"), str(tmp_path / "got")).code != 0
    assert b"old" not in bench.run("ls", bench.remote("there/")).out
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"old": "secret"}


def test_the_process_of_the_device_itself_stays_free(bench: Bench, tmp_path: Path):
    """Only the thread that starts its commands is confined."""
    (tmp_path / "new").write_text("x")
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append((tmp_path / "new").read_text()))
    thread.start()
    thread.join()
    assert results == ["x"]
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname(), 5):
        pass


def test_a_system_that_offers_nothing_promises_nothing(server: adb.Adb, monkeypatch: pytest.MonkeyPatch):
    """The device works, and says so."""
    monkeypatch.setattr(landlock, "restrict", lambda *_, **__: 0)
    monkeypatch.setattr(seccomp, "install_for_shells", lambda: False)
    with bench_of(server) as bench:
        assert not {FILES, NETWORK, SIGNALS} & {
            measure.partition(",")[0] for measure in bench.device.confinement.measures
        }
        assert bench.run("shell", "echo on").out == b"on\n"


READING = ", reads of it, Python's and the system's only"


@pytest.mark.parametrize(
    ("interface", "filtered", "said"),
    [
        (7, True, [f"{FILES}{READING} (Landlock 7)", NETWORK, f"{SIGNALS} (Landlock 7)"]),
        (4, False, [f"{FILES}{READING} (Landlock 4)", "no connections (Landlock 4, TCP only)"]),
        (2, True, [f"{FILES}{READING} (Landlock 2)", NETWORK]),
        (2, False, [f"{FILES} but to cut files{READING} (Landlock 2)"]),
        (0, True, [NETWORK]),
    ],
)
def test_no_more_is_said_than_is_in_force(
    monkeypatch: pytest.MonkeyPatch, interface: int, filtered: bool, said: list[str]
):
    """Older kernels guard less."""
    monkeypatch.setattr(landlock, "restrict", lambda *_, **__: interface)
    monkeypatch.setattr(seccomp, "install_for_shells", lambda: filtered)
    with SimulatedDevice() as device:
        assert [measure for measure in device.confinement.measures if measure != "no privileges"] == said

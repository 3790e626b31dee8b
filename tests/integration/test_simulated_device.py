"""What a simulated device does for a real adb client and server: properties, commands, files and streams."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time

import pytest

from tests.support.simulated import LIMIT_S, NOISE, bench_of, echo, until
from whisper_parity.backends.dla.link import adb

SIZES = (0, 65535, 65536, 65537, (1 << 20) + 1, 3_000_000)
NAMES = ("with space", "quote'\"s", "$(touch pwned)", "two\nlines", "back\\slash", "ünï", "-dash")


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
    """From 0 to 255; a signal gives 128 + n."""
    for code in (0, 1, 2, 3, 42, 126, 127, 128, 200, 254, 255):
        assert modern.run("shell", f"exit {code}").code == code
    assert modern.run("shell", "kill -SEGV $$").code == 128 + 11


def test_output_and_errors_come_apart(modern):
    """They are two pipes, not one."""
    found = modern.run("shell", "echo out; echo err >&2; exit 3")
    assert (found.code, found.out, found.err) == (3, b"out\n", "err\n")


def test_an_old_adbd_loses_exit_codes_and_joins_the_outputs(adb_server):
    """The harness must cope with that; the client refuses -T there."""
    with bench_of(adb_server, legacy=True) as bench:
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


def test_input_reaches_a_command_of_an_old_adbd(adb_server):
    """The command never learns that its input has ended."""
    with bench_of(adb_server, legacy=True) as bench:
        assert bench.run("shell", "head -c 5000 | wc -c", stdin=bytes(5000)).out.strip() == b"5000"


def test_exec_is_clean_for_any_bytes(bench, tmp_path):
    """exec-out byte for byte; exec-in lets the command finish its input."""
    (bench.device.work_folder / "noise").write_bytes(NOISE * 3)
    assert bench.run("exec-out", f"cat {bench.remote('noise')}").out == NOISE * 3
    assert bench.run("exec-in", f"cat > {bench.remote('taken')}", stdin=NOISE).code == 0
    taken = bench.device.work_folder / "taken"
    assert until(lambda: taken.exists() and taken.read_bytes() == NOISE)


def test_the_environment_is_made_from_scratch(adb_server, monkeypatch):
    """It holds only what the device has and what it was given."""
    monkeypatch.setenv("OF_THE_HOST", "1")
    with bench_of(adb_server, environment={"PARITY_SIM_FAULT": "hang"}) as bench:
        said = bench.run("shell", "pwd; echo $HOME $TMPDIR $LANG $PARITY_SIM_FAULT:$OF_THE_HOST; command -v neuronrt")
        root, work = bench.device.root, bench.device.work_folder
        assert said.out.decode().splitlines() == [str(root), f"{root} {work} C hang:", f"{root}/bin/neuronrt"]


@pytest.mark.parametrize("size", SIZES)
def test_files_arrive_whole_in_both_directions(bench, tmp_path, size):
    """With sizes on both sides of each message's limit, and with mode and time."""
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
    """Pulling it fails with adb's own words."""
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
    """Their streams do not mix."""
    running = [modern.started("shell", f"sleep 0.1; seq {n} {n + 5000}; exit {n}") for n in range(12)]
    for n, process in enumerate(running):
        out, _ = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, out.split()) == (n, [str(x).encode() for x in range(n, n + 5001)])

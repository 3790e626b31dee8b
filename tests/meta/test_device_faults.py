"""Every fault of a device is shown to go red, by its name: the table of docs/device-reference.md.

Real adb client and server; the device is simulated, and so are its faults.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support import sound
from tests.support.checkout import CHECKOUT
from tests.support.devices import Found, Prepared, prepare
from tests.support.simulated import users_server
from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.link.adb import Adb
from whisper_parity.backends.dla.link.device import Device, facts
from whisper_parity.backends.dla.link.faults import Fault
from whisper_parity.backends.dla.settings import read
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.dla.simulator.fault import Kind, LinkFault
from whisper_parity.backends.dla.simulator.outfit import keys_of, started

RUNNER, NEURONRT = {"mode": "runner"}, {"mode": "neuronrt"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, parity_in, scripted_checkpoint: Path, cache_dir: Path) -> Prepared:
    """Artifacts, clips, the traces of the other stages, and the row checks of both ways to run."""
    found = prepare(tmp_path_factory.mktemp("device"), parity_in, scripted_checkpoint, cache_dir)
    home = tmp_path_factory.mktemp("home")
    with users_server(home) as client, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANDROID_ADB_SERVER_PORT", client.address.partition(":")[2])
        for settings in (RUNNER, NEURONRT):
            folder = tmp_path_factory.mktemp("warm")
            patch.chdir(folder)
            with started(keys=keys_of(client)) as device:
                check(found.run(folder, [device.serial], **settings), "ppp", "")
    return found


@pytest.fixture
def client(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Adb]:
    """An adb server of the user's, as far as the harness knows."""
    with users_server(tmp_path_factory.mktemp("home")) as found:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", found.address.partition(":")[2])
        for key, value in (found.environment or {}).items():
            monkeypatch.setenv(key, value)
        yield found


@pytest.fixture
def run(prepared: Prepared, client: Adb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Found]:
    """Run three clips on serials."""
    monkeypatch.chdir(tmp_path)
    return lambda *serials, **settings: prepared.run(tmp_path, serials, **settings)


@dataclass(frozen=True)
class Case:
    """One fault and what becomes of the three clips."""

    name: str
    outcomes: str
    """A letter for each clip: p pass or drift, f failed, d diverged."""
    reason: str
    """In the reason of the first clip that failed or diverged; in a note when all passed."""
    device: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def link(kind: Kind, **values: Any) -> dict[str, Any]:
    """A scripted fault of the link or the file system."""
    return {"faults": (LinkFault(kind, **values),)}


def sim(fault: str) -> dict[str, str]:
    """A fault of the stand-in runtime or tool."""
    return {"PARITY_SIM_FAULT": fault}


STREAM = "localabstract:"
TABLE = [
    # what runs there (the third inference is the second clip's encoder)
    Case("inference error", "pfp", r"\[inference error\]", environment=sim("inference_error:3"), settings=RUNNER),
    Case("out of memory", "pfp", r"\[out of memory\]", environment=sim("out_of_memory:3"), settings=RUNNER),
    Case("hang", "pfp", r"\[hang\] .* after 5 s; the runner was killed", environment=sim("hang:3"),
         settings={**RUNNER, "run_limit_s": 5.0}),
    Case("crash", "pfp", r"\[crash\] .*the runner died", environment=sim("crash:3"), settings=RUNNER),
    Case("NaN output", "pdd", r"encoder_output: finiteness broken", environment=sim("nan_output:3"), settings=RUNNER),
    Case("wrong order of the output", "pdd", r"encoder_output SNR", environment=sim("swapped_output:3"),
         settings=RUNNER),
    Case("half an output", "pfp", r"\[short output\]", environment=sim("short_output:3"), settings=RUNNER),
    Case("wrong shape", "fff", r"\[wrong shape\]", environment=sim("wrong_shape"), settings=RUNNER),
    Case("DLA refused", "fff", r"\[DLA refused\]", environment=sim("bad_data"), settings=RUNNER),
    Case("runtime of another major version", "fff", r"\[runtime version\]",
         environment={"PARITY_SIM_RUNTIME_MAJOR": "7"}, settings=RUNNER),
    Case("library missing", "fff", r"\[library missing\]", environment={"LD_LIBRARY_PATH": ""}, settings=RUNNER),
    Case("library missing, neuronrt there", "ppp", r"neuronrt was used, since .*\[library missing\]",
         environment={"LD_LIBRARY_PATH": ""}),
    # neuronrt
    Case("neuronrt: inference error", "fff", r"\[inference error\] .*exit code 1", environment=sim("inference_error"),
         settings=NEURONRT),
    Case("neuronrt: out of memory", "fff", r"\[out of memory\]", environment=sim("out_of_memory"), settings=NEURONRT),
    Case("neuronrt: exit 0 and no output", "fff", r"\[no output\]", environment=sim("no_output"), settings=NEURONRT),
    Case("neuronrt: short output", "fff", r"\[short output\]", environment=sim("short_output"), settings=NEURONRT),
    Case("neuronrt: wrong shape", "fff", r"\[wrong shape\]", environment=sim("wrong_shape"), settings=NEURONRT),
    Case("neuronrt: NaN output", "ddd", r"finiteness broken", environment=sim("nan_output"), settings=NEURONRT),
    Case("neuronrt: crash", "fff", r"\[crash\] .*signal 11", environment=sim("crash"), settings=NEURONRT),
    Case("neuronrt: hang", "fff", r"\[hang\] .*the process on the device was killed", environment=sim("hang"),
         settings={**NEURONRT, "run_limit_s": 4.0}),
    Case("neuronrt: DLA refused", "fff", r"\[DLA refused\]", environment=sim("bad_data"), settings=NEURONRT),
    Case("neuronrt: other major version", "fff", r"\[runtime version\]",
         environment={"PARITY_SIM_RUNTIME_MAJOR": "9"}, settings=NEURONRT),
    Case("neuronrt missing", "fff", r"\[tool missing\]", settings={**NEURONRT, "neuronrt": "/nowhere/neuronrt"}),
    # the way there
    Case("unplugged in a push", "fff", r"\[unplugged\] .*not back within 3 s",
         device=link(Kind.UNPLUG_IN_PUSH, after_bytes=200_000)),
    Case("unplugged in a push, and back", "ppp", r"second try after: \[unplugged\]",
         device=link(Kind.UNPLUG_IN_PUSH, after_bytes=200_000, after_s=0.5)),
    Case("unplugged in a run", "fff", r"\[(unplugged|offline|runner gone)\] .*not back within 3 s",
         device=link(Kind.UNPLUG_IN_RUN, service=STREAM)),
    Case("unplugged in a pull, and back", "ppp", r"second try after: \[unplugged\]", settings=NEURONRT,
         device=link(Kind.UNPLUG_IN_PULL, after_bytes=100_000, after_s=0.5)),
    Case("adbd restarted, and back", "ppp", r"second try after: \[(unplugged|runner gone|offline)\]",
         device=link(Kind.ADBD_RESTART, service=STREAM, after_bytes=10_000)),
    Case("device rebooted", "ppp", r"was rebooted in between",
         device=link(Kind.REBOOT, service=STREAM, after_bytes=10_000)),
    Case("garbage on the socket", "ppp", r"second try after: \[garbage on the link\]",
         device=link(Kind.GARBAGE, service=STREAM, after_bytes=0)),
    Case("garbage on the socket, always", "fff", r"\[garbage on the link\]",
         device=link(Kind.GARBAGE, service=STREAM, after_bytes=0, times=99)),
    Case("unauthorized", "fff", r"\[unauthorized\]", device=link(Kind.UNAUTHORIZED)),
    Case("disk full", "fff", r"\[disk full\]", device=link(Kind.DISK_FULL, after_bytes=100_000)),
    Case("read-only folder", "fff", r"\[read-only folder\]", device=link(Kind.READ_ONLY)),
    Case("wrong clock", "ppp", r"its clock is wrong \(1970", device=link(Kind.WRONG_CLOCK)),
    # no fault at all
    Case("old adbd, runner", "ppp", "", device={"legacy": True}, settings=RUNNER),
    Case("old adbd, neuronrt", "ppp", "", device={"legacy": True}, settings=NEURONRT),
]  # fmt: skip


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_every_fault_has_a_named_verdict(run: Callable[..., Found], case: Case, client: Adb):
    """Other clips go on, and nothing that was recorded is lost."""
    with started(keys=keys_of(client), environment=case.environment, **case.device) as device:
        found = run(device.serial, **case.settings)
        check(found, case.outcomes, case.reason)
        left = [pid for pid in device.processes if Path(f"/proc/{pid}/stat").exists()]
        assert not [pid for pid in left if "neuronrt" in command_of(pid)]


def check(found: Found, outcomes: str, reason: str) -> None:
    """Outcomes by their first letters, and the reason."""
    assert found.report, found.result.output
    letters = "".join({"pass": "p", "drift": "p"}.get(outcome, outcome[0]) for outcome in found.outcomes)
    assert letters == outcomes, (found.reasons, found.notes)
    bad = next((text for text, letter in zip(found.reasons, letters) if letter != "p"), found.notes)
    assert re.search(reason, bad), bad
    assert found.result.exit_code == (3 if "f" in outcomes else 1 if "d" in outcomes else 0)
    others = [row for row in found.report["rows"] if row["stage"] != "dla"]
    assert {row["verdict"]["outcome"] for row in others} <= {"pass", "drift", "reference"}
    assert not re.search("Traceback", found.result.output)


def command_of(pid: int) -> str:
    """Command line of a process; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_no_device(run: Callable[..., Found]):
    """Neither named nor attached."""
    check(run(), "fff", r"\[no device\] device: adb sees none")


def test_a_named_device_that_is_not_there(run: Callable[..., Found]):
    """Its name is in the verdict."""
    check(run("127.0.0.1:9"), "fff", r"\[no device\] 127.0.0.1:9")


def test_two_devices_and_no_serial(run: Callable[..., Found], client: Adb):
    """Both are named, and how to choose."""
    with SimulatedDevice(keys=keys_of(client)) as one, SimulatedDevice(keys=keys_of(client)) as two:
        client.connect(one.serial)
        client.connect(two.serial)
        check(run(), "fff", r"\[several devices\] .* Name one or more: --set dla\.serial=SERIAL")


def test_one_device_needs_no_name(run: Callable[..., Found], client: Adb):
    """The only one that is attached is taken."""
    with started(keys=keys_of(client)) as device:
        client.connect(device.serial)
        check(run(), "ppp", "")


def test_offline(run: Callable[..., Found], client: Adb):
    """A device whose adbd does not answer."""
    with started(keys=keys_of(client), faults=(LinkFault(Kind.OFFLINE),)) as device:
        check(run(device.serial), "fff", r"\[(offline|no device)\]")


def test_the_adb_server_is_killed_in_a_run(run: Callable[..., Found], client: Adb):
    """The client starts another; the run goes on, and says so."""
    with started(keys=keys_of(client), environment={"PARITY_SIM_COMPUTE_MS": "300"}) as device:

        def kill_when_it_runs() -> None:
            while not any("localabstract" in line for line in device.log):
                time.sleep(0.01)
            time.sleep(0.2)
            client.run("kill-server", limit_s=10)

        killer = threading.Thread(target=kill_when_it_runs)
        killer.start()
        found = run(device.serial)
        killer.join()
        check(found, "ppp", r"second try after: \[(adb server lost|unplugged|runner gone)\]")


def test_a_second_harness_is_told_who_uses_the_device(run: Callable[..., Found], client: Adb):
    """The owner of the lock is named."""
    with started(keys=keys_of(client)) as device:
        lock = device.work_folder / "whisper-parity" / "lock"
        lock.mkdir(parents=True)
        (lock / "owner").write_text(f"ada@lab pid 7\n{device.boot_id}\n")
        check(run(device.serial), "fff", r"\[device busy\] .*used by ada@lab pid 7")


def test_a_lock_from_before_the_last_boot_is_taken_over(run: Callable[..., Found], client: Adb):
    """Its owner cannot hold anything any more."""
    with started(keys=keys_of(client)) as device:
        lock = device.work_folder / "whisper-parity" / "lock"
        lock.mkdir(parents=True)
        (lock / "owner").write_text("ada@lab pid 7\nan older boot\n")
        check(run(device.serial), "ppp", "")


def test_a_runner_that_was_left_behind_is_ended(run: Callable[..., Found], client: Adb, prepared: Prepared):
    """Of whatever build: it would hold the NPU."""
    with started(keys=keys_of(client)) as device:
        client.connect(device.serial)
        there = Device(client, device.serial, read({}))
        folder = facts(there).work_folder
        check(run(device.serial), "ppp", "")
        left = left_behind(client, device, folder)
        found = run_again(prepared, run, device.serial)
        check(found, "ppp", r"a runner that was left behind was ended")
        assert left.wait(10) is not None


def left_behind(client: Adb, device: SimulatedDevice, folder: str) -> subprocess.Popen[bytes]:
    """A process of the device that holds the runner's lock, as an older build would."""
    script = "import fcntl,sys,time,os\nf=open(sys.argv[1],'a+')\nfcntl.flock(f,fcntl.LOCK_EX)\nf.truncate(0)\n"
    script += "f.write(f'pid {os.getpid()}\\nbuild 0000000000000000\\nowner ada@lab\\n')\nf.flush()\n"
    script += "print('held',flush=True)\ntime.sleep(60)"
    words = shlex.join([sys.executable, "-c", script, f"{folder}/runner.lock"])
    process = subprocess.Popen([*client.command, "-s", device.serial, "shell", words], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    return process


def run_again(prepared: Prepared, run: Callable[..., Found], serial: str) -> Found:
    """A run whose device traces are not there yet."""
    folder = Path.cwd()
    for path in (folder / "reports/run/traces").glob("*--dla.safetensors"):
        path.unlink()
    return run(serial)


FAKE_RUNNER = """#!{python}
import os, socket, sys
sys.path.insert(0, {project!r})
from whisper_parity.backends.dla.sessions import protocol as p
name = sys.argv[sys.argv.index("--listen") + 1].partition(":")[2]
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0" + name)
listener.listen()
if os.fork():
    print("READY", os.getpid(), name, flush=True)
    os._exit(0)
os.setsid()
for fd in (0, 1, 2):
    os.close(fd)
listener.settimeout(20)
while True:
    link, _ = listener.accept()
    header = p.parse_header(link.recv(12, socket.MSG_WAITALL), 1 << 20)
    link.recv(header.length, socket.MSG_WAITALL)
    link.sendall(p.pack(p.ErrorReply({code}, 0, {text!r}), header.request_id))
    link.close()
"""


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (1, "runner speaks 9, harness 1", r"\[protocol version\] .*runner speaks 9"),
        (3, "encoder is another one", r"\[runner of another build\] .*encoder is another one"),
    ],
)
def test_a_runner_that_is_not_ours_is_refused(
    run: Callable[..., Found], client: Adb, tmp_path: Path, code: int, text: str, reason: str
):
    """Its own words are in the verdict."""
    fake = tmp_path / "fake-runner"
    fake.write_text(FAKE_RUNNER.format(python=sys.executable, project=str(CHECKOUT), code=code, text=text))
    with started(keys=keys_of(client)) as device:
        check(run(device.serial, mode="runner", runner=str(fake)), "fff", reason)


def test_a_library_that_the_linker_does_not_allow(run: Callable[..., Found], client: Adb, tmp_path: Path):
    """As Android's linker says it; neuronrt steps in where it is there, and the row says so."""
    words = 'dlopen failed: library \\"/vendor/lib64/x.so\\" is not accessible for the namespace \\"default\\"'
    fake = tmp_path / "fake-runner"
    fake.write_text(f'#!/bin/sh\necho "ERROR 7 {words}"\nexit 17\n')
    with started(keys=keys_of(client)) as device:
        check(run(device.serial, mode="runner", runner=str(fake)), "fff", r"\[library not allowed\]")
        check(run(device.serial, runner=str(fake)), "ppp", r"neuronrt was used, since .*\[library not allowed\]")


def test_without_a_compiler_neuronrt_runs_the_models(run: Callable[..., Found], client: Adb, monkeypatch):
    """The runner is then not built, and every row says so."""
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with started(keys=keys_of(client)) as device:
        check(
            run(device.serial), "ppp", r"neuronrt was used, since the runner could not be started: configuring runner"
        )


def test_an_old_output_that_cannot_be_removed(run: Callable[..., Found], client: Adb):
    """Deleting is what shows that an output is fresh: when it fails, nothing is believed."""
    with started(keys=keys_of(client)) as device:
        stand_in = device.root / "bin" / "rm"
        stand_in.write_text('#!/bin/sh\ncase "$*" in *run-*) exit 0;; esac\nexec /bin/rm "$@"\n')
        stand_in.chmod(0o755)
        check(run(device.serial, mode="neuronrt"), "pfp", r"\[stale output\]")


def test_names_that_a_shell_would_misread(prepared: Prepared, client: Adb, tmp_path: Path, monkeypatch):
    """Spaces, quotes, $(...) and a newline: no shell sees them, neither here nor there."""
    monkeypatch.chdir(tmp_path)
    clips = tmp_path / "clips $(touch pwned)"
    clips.mkdir()
    for number, name in enumerate(["it's", 'a "b" `touch pwned`', "two\nlines; touch pwned"]):
        sound.write_wav(clips / f"{name}.wav", sound.warble(1.0, seed=number))
    artifacts = tmp_path / "arte 'facts' $(touch pwned)"
    artifacts.symlink_to(prepared.artifacts)
    odd = Prepared(artifacts, clips, prepared.reports, prepared.cache, prepared.checkpoint)
    with started(keys=keys_of(client)) as device:
        found = odd.run(tmp_path, [device.serial], clips=clips)
        check(found, "ppp", "")
        assert not [*device.root.rglob("pwned"), *tmp_path.rglob("pwned")]


def test_other_devices_go_on_when_one_is_lost(run: Callable[..., Found], client: Adb):
    """All clips are judged, on the device that is left, and a note says why."""
    fault = LinkFault(Kind.UNAUTHORIZED)
    with started(keys=keys_of(client), faults=(fault,)) as bad, started(keys=keys_of(client)) as good:
        found = run(bad.serial, good.serial)
        check(found, "ppp", r"not used: \[unauthorized\]")
        assert {row["usage"]["device"].split()[-1] for row in found.rows} == {good.serial}


def test_a_simulated_device_that_does_not_know_the_key(run: Callable[..., Found], client: Adb):
    """Nothing of the run reaches it."""
    with started() as device:
        check(run(device.serial), "fff", r"\[unauthorized\] .*takes the key of the ADB_VENDOR_KEYS that it prints")
        assert device.log == ()


def test_a_device_that_refuses_the_files_does_not_take_the_clips_of_others(run: Callable[..., Found], client: Adb):
    """It is free again at once, and would be given all of them."""
    with (
        started(keys=keys_of(client), environment={"PARITY_SIM_RUNTIME_MAJOR": "7"}) as bad,
        started(keys=keys_of(client)) as good,
    ):
        found = run(bad.serial, good.serial)
        check(found, "ppp", r"not used: \[runtime version\]")


def test_the_server_of_a_run_outlives_ctrl_c():
    """A terminal interrupts the whole process group; the device's lock is given back over that server."""
    with adb.private_server(adb.find(None), usb=False) as client:
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*") if client.address in command_of(int(path.name))]
        assert pids
        assert all(os.getpgid(pid) != os.getpgid(0) for pid in pids)


def test_clips_are_shared_out_over_devices(run: Callable[..., Found], client: Adb):
    """Side by side, each clip on one of them."""
    with (
        started(keys=keys_of(client), environment={"PARITY_SIM_COMPUTE_MS": "200"}) as one,
        started(keys=keys_of(client), environment={"PARITY_SIM_COMPUTE_MS": "200"}) as two,
    ):
        found = run(one.serial, two.serial)
        check(found, "ppp", "")
        assert {row["usage"]["device"].split()[-1] for row in found.rows} == {one.serial, two.serial}


def test_a_row_says_that_a_simulator_ran(run: Callable[..., Found], client: Adb):
    """In the label, whatever the stage is called."""
    with started(keys=keys_of(client)) as device:
        found = run(device.serial)
        assert all("imulated" in row["label"] for row in found.rows)
        assert f"device Simulated Genio 520 (MT8371) {device.serial}: 3 clips" in found.result.output
        assert all(row["usage"]["device_s"] > 0 for row in found.rows)


OTHER_FAULTS = {
    "no device": test_no_device,
    "a named device that is not there": test_a_named_device_that_is_not_there,
    "two devices and no serial": test_two_devices_and_no_serial,
    "offline": test_offline,
    "adb server killed in a run": test_the_adb_server_is_killed_in_a_run,
    "a second harness": test_a_second_harness_is_told_who_uses_the_device,
    "a lock from before the last boot": test_a_lock_from_before_the_last_boot_is_taken_over,
    "a runner left behind": test_a_runner_that_was_left_behind_is_ended,
    "runner of another protocol": test_a_runner_that_is_not_ours_is_refused,
    "runner with other models": test_a_runner_that_is_not_ours_is_refused,
    "library not allowed": test_a_library_that_the_linker_does_not_allow,
    "no compiler for the runner": test_without_a_compiler_neuronrt_runs_the_models,
    "an old output that cannot be removed": test_an_old_output_that_cannot_be_removed,
    "names that a shell would misread": test_names_that_a_shell_would_misread,
    "one of several devices lost": test_other_devices_go_on_when_one_is_lost,
    "a simulated device that does not know the key": test_a_simulated_device_that_does_not_know_the_key,
    "one of several devices refuses the files": test_a_device_that_refuses_the_files_does_not_take_the_clips_of_others,
}
"""Faults of the manual that have a test of their own."""

NO_FAULTS = (
    test_every_fault_has_a_named_verdict,
    test_one_device_needs_no_name,
    test_the_server_of_a_run_outlives_ctrl_c,
    test_clips_are_shared_out_over_devices,
    test_a_row_says_that_a_simulator_ran,
)


def test_the_table_of_the_manual_is_this_one():
    """The manual names every fault that is tested here, and no other, with the words that the tests wait for."""
    text = (CHECKOUT / "docs" / "device-reference.md").read_text("utf-8")
    _, _, table = text.partition("| what happened | name | what you see | what to do |\n|---|---|---|---|\n")
    rows = [re.split(r" *\| *", line)[1:5] for line in table.partition("\n\n")[0].splitlines()]
    assert [name for name, *_ in rows] == [case.name for case in TABLE] + list(OTHER_FAULTS)
    tests = {test for name, test in globals().items() if name.startswith("test_")}
    assert tests == {*OTHER_FAULTS.values(), *NO_FAULTS, test_the_table_of_the_manual_is_this_one}
    known = {"-", *(f"`[{fault.value}]`" for fault in Fault)}
    assert {fault for _, fault, _, _ in rows} <= known
    for case, (_, fault, seen, _) in zip(TABLE, rows):
        assert re.search(case.reason, seen), (case.name, seen)
        assert fault == "-" or fault.strip("`") in seen

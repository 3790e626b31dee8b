"""`parity device ...` on a simulated device, each command as a user types it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.checkout import CHECKOUT
from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.simulator import auth
from whisper_parity.backends.dla.simulator.auth import PublicKey
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.dla.simulator.outfit import started


@pytest.fixture(scope="module", autouse=True)
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PublicKey, ...]]:
    """A key that every adb server shows here, in a HOME without any."""
    with pytest.MonkeyPatch.context() as patch:
        key = adb.new_key(adb.find(None), tmp_path_factory.mktemp("key"))
        patch.setenv("ADB_VENDOR_KEYS", str(key))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield (auth.read(key.with_suffix(".pub")),)


@pytest.fixture(scope="module")
def simulated(keys: tuple[PublicKey, ...]) -> Iterator[SimulatedDevice]:
    with started(keys=keys) as found:
        yield found


@pytest.fixture
def device(simulated: SimulatedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A command of the group, on that device."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Result:
        from whisper_parity.cli import main

        return CliRunner().invoke(main, ["device", *words, "--serial", simulated.serial])

    return call


def test_list(device: Callable[..., Result], simulated: SimulatedDevice):
    """Serial and state."""
    found = device("list")
    assert found.exit_code == 0
    assert found.output.startswith(f"{simulated.serial}\tdevice\t")


def test_info(device: Callable[..., Result]):
    """Model, SoC, space, adbd, runtime and what it loads; called simulated."""
    found = device("info")
    assert found.exit_code == 0
    assert "Simulated Genio 520 (MT8371)" in found.output
    for name in ("system", "work folder", "adbd features", "libneuron_runtime", "neuronrt", "loads"):
        assert f"\t{name}\t" in found.output
    assert "DLA files of major version 8" in found.output


def test_doctor(device: Callable[..., Result], simulated: SimulatedDevice, keys: tuple[PublicKey, ...]):
    """One line for each thing; exit code 3 when nothing there runs models."""
    found = device("doctor")
    assert (found.exit_code, "MISSING" in found.output) == (0, False)
    with started(keys=keys, environment={"LD_LIBRARY_PATH": ""}) as bare:
        (bare.root / "bin" / "neuronrt").unlink()
        from whisper_parity.cli import main

        missing = CliRunner().invoke(main, ["device", "doctor", "--serial", bare.serial])
    assert missing.exit_code == 3
    assert re.search(r"MISSING\tlibneuron_runtime\tnot found", missing.output)
    assert re.search(r"MISSING\tneuronrt\tnot found", missing.output)


def test_push_and_clean(device: Callable[..., Result], simulated: SimulatedDevice, tmp_path: Path):
    """By content, under a name that holds nothing of ours; cleaned without a trace."""
    file = tmp_path / "it's $(odd).dla"
    file.write_bytes(b"content" * 1000)
    first, second = device("push", str(file)), device("push", str(file))
    assert first.exit_code == 0, first.output
    remote = first.output.rstrip("\n").rpartition("\t")[2]
    assert re.fullmatch(r".*/store/[0-9a-f]{32}\.dla", remote)
    assert Path(remote).read_bytes() == file.read_bytes()
    assert second.output == first.output
    assert sum("sync:SEND" in line for line in simulated.log) == 1
    assert device("clean").exit_code == 0
    assert not Path(remote).parent.parent.exists()


def test_a_file_that_changed_on_the_device_is_pushed_again(device: Callable[..., Result], tmp_path: Path):
    """What is there is hashed, not believed."""
    file = tmp_path / "model.dla"
    file.write_bytes(b"right")
    remote = Path(device("push", str(file)).output.rstrip("\n").rpartition("\t")[2])
    remote.chmod(0o644)
    remote.write_bytes(b"wrong")
    assert device("push", str(file)).exit_code == 0
    assert remote.read_bytes() == b"right"


def test_no_device_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Exit code 3, no traceback."""
    from whisper_parity.cli import main

    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, ["device", "info", "--serial", "127.0.0.1:9"])
    assert found.exit_code == 3
    assert found.output.startswith("parity: [no device] 127.0.0.1:9")
    assert found.output.count("\n") == 1


def test_a_stand_in_sdk_serves_the_stage_dla(tmp_path: Path, simulated: SimulatedDevice, parity, monkeypatch):
    """`dla` itself, as a CI would run it, with neither SDK nor board; the lineage says what compiled."""
    from tests.support import sound
    from whisper_parity.backends.dla.simulator.outfit import write_sdk

    monkeypatch.setenv("MTK_NEURON_SDK", str(write_sdk(tmp_path / "s d k")))
    clip = sound.write_wav(tmp_path / "clip.wav", sound.warble(1.0))
    found = parity(
        "run", "--stages", "tflite,dla", "--clips", clip, "--set", f"dla.serial={simulated.serial}", "--run-id", "ci"
    )
    assert found.exit_code == 0, found.output
    stage = (tmp_path / "reports/ci/journal.jsonl").read_text()
    assert "stand-in of the simulator" in stage


def test_an_unknown_fault_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Or a trial with a misspelt one would pass."""
    from whisper_parity.cli import main

    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, ["device", "simulate", "--fault", "nonsense"])
    assert found.exit_code == 2
    assert "expected one of inference_error" in found.output


@pytest.fixture
def simulating(tmp_path: Path) -> Iterator[Callable[..., tuple[str, str]]]:
    """`parity device simulate` in a process of its own; its serial, and the rest of what it says."""
    processes = []

    def start(*words: str) -> tuple[str, str]:
        command = [sys.executable, "-m", "whisper_parity.cli", "device", "simulate", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT)
        processes.append(process)
        serial = re.match(r"simulated device: (127\.0\.0\.1:\d+)", process.stdout.readline())
        assert serial, process.stderr.read()
        said = [process.stderr.readline()]
        while said[-1] and not said[-1].startswith("in another terminal"):
            said.append(process.stderr.readline())
        return serial[1], "".join(said)

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        process.communicate()


def listed(serial: str) -> str:
    """The device's line of `parity device list`."""
    from whisper_parity.cli import main

    return CliRunner().invoke(main, ["device", "list", "--serial", serial]).stdout


def test_simulate_lasts_until_it_is_interrupted(simulating, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It serves whoever has the key that it names, which its user alone can read; nobody else."""
    serial, said = simulating("--root", str(tmp_path / "device"))
    key = Path(re.search(r"ADB_VENDOR_KEYS=(\S+) parity run", said)[1])
    assert key == tmp_path / "device" / "adbkey"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert listed(serial).startswith(f"{serial}\tunauthorized\t")
    monkeypatch.setenv("ADB_VENDOR_KEYS", str(key))
    assert listed(serial).startswith(f"{serial}\tdevice\t")


def test_without_the_key_the_line_says_where_it_is(simulating, tmp_path: Path):
    """Exit code 3, one line, and what to do next."""
    from whisper_parity.cli import main

    serial, _ = simulating()
    found = CliRunner().invoke(main, ["device", "info", "--serial", serial])
    assert found.exit_code == 3
    assert found.output.startswith(f"parity: [unauthorized] {serial}")
    assert "takes the key of the ADB_VENDOR_KEYS that it prints" in found.output


def test_simulate_takes_the_key_of_the_users_own_adb(simulating, monkeypatch: pytest.MonkeyPatch):
    """It is the same user; but not a key that others may have put there."""
    own = adb.new_key(adb.find(None), Path.home() / ".android")
    monkeypatch.setenv("ADB_VENDOR_KEYS", str(own))
    serial, said = simulating()
    assert "your own key is accepted too" in said
    assert listed(serial).startswith(f"{serial}\tdevice\t")
    own.with_suffix(".pub").chmod(0o620)
    serial, said = simulating()
    assert "your own key is not accepted: " in said
    assert listed(serial).startswith(f"{serial}\tunauthorized\t")


def test_a_folder_that_is_none_for_a_device_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file, and a folder that every user may write: the device would run what they put there."""
    from whisper_parity.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    refused = (
        ("file", 2, "is a file"),
        ("file/below", 3, "no folder for a device"),
        ("open", 3, "every user may write"),
    )
    for root, code, words in refused:
        found = CliRunner().invoke(main, ["device", "simulate", "--root", root])
        assert (found.exit_code, words in found.output) == (code, True), found.output


def test_a_key_is_not_written_through_a_link(simulating, tmp_path: Path):
    """A folder that was prepared by others overwrites nothing elsewhere."""
    board = tmp_path / "board"
    board.mkdir()
    for name in ("adbkey", "adbkey.pub"):
        (tmp_path / name).write_text("mine")
        (board / name).symlink_to(tmp_path / name)
    simulating("--root", str(board))
    assert [(tmp_path / name).read_text() for name in ("adbkey", "adbkey.pub")] == ["mine", "mine"]
    assert "PRIVATE KEY" in (board / "adbkey").read_text()

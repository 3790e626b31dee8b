"""The parts of the DLA stage that need neither a device nor a compiler."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from whisper_parity.backends.dla import compiler, settings, soc
from whisper_parity.backends.dla.backend import DLABackend
from whisper_parity.backends.dla.fleet import AGAIN_S, DeviceFleet
from whisper_parity.backends.dla.link import adb, faults, lock
from whisper_parity.backends.dla.link.adb import Completed, is_network
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.backends.dla.sessions import layout, neuronrt
from whisper_parity.errors import ConfigError


def test_the_profile_of_the_target_soc_is_the_public_command_line():
    """What public ports of Whisper to this SoC compile with, word for word."""
    assert settings.read({}).compile_flags("decoder") == (
        "--arch=mdla5.3,edma3.6", "--l1-size-kb=256", "--num-mdla=1",
        "--relax-fp32", "--opt-accuracy", "--opt-footprint",
    )  # fmt: skip


def test_every_profile_says_where_it_comes_from():
    """A profile without a source would be an invention."""
    for code in ("MT8371", "MT8391", "MT6899", "MT6991", "MT8390", "MT8370", "MT8395"):
        profile = soc.named(code)
        assert profile.source
        assert profile.flags[0] == f"--arch={profile.arch}"


def test_flags_can_differ_by_component_and_socs_can_be_added():
    """People compile the encoder differently, and have SoCs that nobody listed."""
    found = settings.read(
        {"soc": "MT0000", "arch": "mdla9.9", "l1_size_kb": 1, "encoder_flags": ["--opt-accuracy"], "num_mdla": 3}
    )
    assert found.compile_flags("encoder") == ("--arch=mdla9.9", "--l1-size-kb=1", "--num-mdla=3", "--opt-accuracy")
    assert "--relax-fp32" in found.compile_flags("decoder")


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"soc": "MT1"}, "MT1"),
        ({"soc": "../x"}, "../x"),
        ({"sok": 1}, "sok"),
        ({"mode": "telepathy"}, "mode"),
        ({"run_limit_s": "long"}, "run_limit_s"),
        ({"flags": 3}, "flags"),
        ({"serial": [1, {}]}, "serial"),
    ],
)
def test_settings_that_cannot_be_used_are_named(table: dict, named: str):
    """One line that names the key or the value."""
    with pytest.raises(ConfigError, match=named):
        settings.read(table)


def test_the_environment_lies_under_parity_toml(monkeypatch: pytest.MonkeyPatch):
    """MTK_NEURON_SDK and ANDROID_SERIAL count until the file says otherwise."""
    monkeypatch.setenv("MTK_NEURON_SDK", "/opt/sdk")
    monkeypatch.setenv("ANDROID_SERIAL", "0123")
    found = settings.read({"serial": ["4567"]})
    assert str(settings.compiler_path(found)) == "/opt/sdk/host/bin/ncc-tflite"
    assert settings.compiler_libraries(found) == "/opt/sdk/host/lib"
    assert found.serial == ("4567",)


def test_targets_of_an_execution_plan():
    """Each engine once, whatever stands around it."""
    assert compiler.targets_of("Step 0\n  Target: MDLA_5_3\nTarget : MDLA_5_3, CPU\nno target here") == (
        "MDLA_5_3",
        "CPU",
    )
    assert compiler.targets_of("nothing of the kind") == ()


def test_the_last_lines_of_a_compiler_tell_of_errors_first():
    """What a person would look for in the output."""
    text = "loading\nOP[3]: GELU unsupported operation\ncleaning up\ndone"
    assert compiler.last_lines(text) == "OP[3]: GELU unsupported operation"
    assert compiler.last_lines("one\ntwo") == "one | two"
    assert compiler.last_lines("") == "it printed nothing"


@pytest.mark.parametrize(
    ("size", "native", "stride"),
    [
        (448 * 51865 * 4, False, 51865),
        (448 * 51865 * 2, True, 51865),
        (448 * 51872 * 2, True, 51872),
        (448 * 51865 * 2, False, None),
        (448 * 51865 * 4, True, None),
        (448 * 51865, False, None),
        (448 * 51865 * 4 - 1, False, None),
        (448 * 51864 * 2, True, None),
        (448 * 60000 * 2, True, None),
        (0, False, None),
    ],
)
def test_layouts_by_size(size: int, native: bool, stride: int | None):
    """float32, or float16 with a little padding where compiled so; half an output is never taken for the other."""
    found = layout.of_size(size, 448, 51865, native=native)
    assert (found and found.stride) == stride


def test_padding_is_cut_off():
    """Rows come back without what lies between them."""
    found = layout.of_size(2 * 8 * 2, 2, 5, native=True)
    assert found is not None
    data = np.arange(16, dtype=np.float16).tobytes()
    np.testing.assert_array_equal(found.unpack(data, 2), [[0, 1, 2, 3, 4], [8, 9, 10, 11, 12]])


def test_the_io_map_of_neuronrt():
    """Shapes by handle, in both sections."""
    text = "Input:\n  Handle = 1, <1 x 1500 x 512>\n  Handle = 0, <1 x 448 x 512>\n"
    text += "Output :\n Handle = 0, <1 x 448 x 51865>"
    found = neuronrt.parse_map(text)
    assert found.inputs == ((1, 448, 512), (1, 1500, 512))
    assert found.outputs == ((1, 448, 51865),)
    assert neuronrt.parse_map("garbage") == neuronrt.IOMap((), ())


def test_neighbouring_rows_are_cut_together():
    """One dd for each run of neighbours."""
    assert neuronrt._consecutive([3, 4, 5, 9, 11, 12]) == [(3, 3), (9, 1), (11, 2)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", Fault.UNAUTHORIZED),
        ("error: more than one device/emulator", Fault.MANY_DEVICES),
        ("adb: error: failed to copy 'a' to 'b': remote No space left on device", Fault.DISK_FULL),
        ("adb: error: failed to copy: remote couldn't create file: Read-only file system", Fault.READ_ONLY),
        ("error: device offline", Fault.OFFLINE),
        ("error: device '0123' not found", Fault.UNPLUGGED),
        ("adb: error: failed to read copy response: EOF", Fault.UNPLUGGED),
        ("error: protocol fault (couldn't read status): Success", Fault.UNPLUGGED),
        ("* cannot connect to daemon at tcp:5037: Connection refused", Fault.ADB_SERVER),
        ("all went well", None),
    ],
)
def test_what_adb_says_has_a_name(text: str, fault: Fault | None):
    """Real messages of the client."""
    assert faults.of_adb(text) == fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[apusys][error]memAlloc: Cannot allocate memory\nERROR: BuildCmd() failed", Fault.OUT_OF_MEMORY),
        ("DLA file is V7, mismatching runtime V8", Fault.RUNTIME_VERSION),
        ("error while loading shared libraries: libneuron_runtime.so: cannot open shared object file", Fault.LIBRARY),
        ('dlopen failed: library "/vendor/lib64/x.so" is not accessible for the namespace "default"', Fault.NAMESPACE),
        ("ERROR: Fail to rewrite DLA", Fault.REFUSED),
        ("fine", None),
    ],
)  # fmt: skip
def test_what_the_tools_say_has_a_name(text: str, fault: Fault | None):
    """Messages that are public."""
    assert faults.of_tool(text) == fault


def test_a_device_error_names_fault_device_and_what_to_do():
    """The first words of every such verdict."""
    error = DeviceError(Fault.DISK_FULL, "0123", "12 MiB are missing")
    assert str(error) == (
        "[disk full] 0123: 12 MiB are missing. `parity device clean` frees what this project has put there"
    )


def test_serials_of_the_network():
    """HOST:PORT, and nothing else."""
    assert [is_network(s) for s in ("127.0.0.1:5555", "board:1", "0123456789ABCDEF", "usb:1-1", ":5")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_the_telling_line_of_an_adb_command():
    """Errors before talk, without adb's own prefix."""
    found = Completed(1, b"* daemon started\nadb: error: device offline\n", "")
    assert found.message == "device offline"


@pytest.mark.parametrize(
    ("other", "stale"),
    [
        (f"{lock.owner().partition(' pid ')[0]} pid 99999999\nboot-1", True),
        (f"{lock.owner()}\nboot-1", True),
        ("someone@elsewhere pid 1\nboot-1", False),
        ("someone@elsewhere pid 1\nboot-0", True),
        ("", False),
        ("garbage", False),
    ],
    ids=["process is gone", "device was restarted since", "somewhere else", "there, and restarted", "empty", "garbage"],
)
def test_a_lock_is_taken_over_only_when_its_owner_is_gone_for_sure(other: str, stale: bool):
    """A dead process of this machine, another boot of the device, or ourselves before the link was lost."""
    assert lock._is_stale(other, "boot-1") is stale


class _Session:
    def __init__(self, name: str, lost: bool = False) -> None:
        self.name, self.lost, self.lost_at = name, lost, time.monotonic()

    def ready(self) -> None:
        """It runs."""


def test_a_lost_device_is_leased_only_when_no_other_is_left():
    """Other devices go on."""
    fleet = DeviceFleet([_Session("a", lost=True), _Session("b")])  # type: ignore[list-item]
    with fleet.lease() as session:
        assert session.name == "b"  # type: ignore[attr-defined]
    only = DeviceFleet([_Session("a", lost=True)])  # type: ignore[list-item]
    with only.lease() as session:
        assert session.name == "a"  # type: ignore[attr-defined]


def test_a_lost_device_is_probed_again_after_a_minute():
    """A board that takes long to reboot is not missed for the rest of a night."""
    back = _Session("a", lost=True)
    back.lost_at -= AGAIN_S + 1
    with DeviceFleet([back, _Session("b")]).lease() as session:  # type: ignore[list-item]
        assert session.name == "a"  # type: ignore[attr-defined]


def test_a_device_that_may_not_be_opened_is_told_apart():
    """What a Linux user meets first: adb's state of two words."""
    line = "0123456789\tno permissions (missing udev rules? user is in the plugdev group); see [http://x] usb:1-1"
    assert adb._attached(line).state == "no permissions"
    assert adb._attached("0123 device product:x model:y") == adb.Attached("0123", "device", "product:x model:y")
    assert "udev" in str(DeviceError(Fault.NO_PERMISSIONS, "0123", "adb says no permissions"))


def test_a_port_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch):
    """Named, with what was expected."""
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "abc")
    with (
        pytest.raises(ConfigError, match="ANDROID_ADB_SERVER_PORT is 'abc': expected a port"),
        adb.server(Path("adb"), ()),
    ):
        pass


def test_an_arch_beside_a_known_soc_keeps_its_other_flags():
    """Only what is given changes."""
    found = settings.read({"arch": "mdla5.4"}).profile
    assert found.flags == ("--arch=mdla5.4", "--l1-size-kb=256", "--num-mdla=1")
    assert found.source.startswith("parity.toml, ")


@pytest.mark.parametrize(
    ("variant", "resource"), [("", "dla_MT8371"), ("kv", "dla_MT8371"), ("simulated", ""), ("simulated-kv", "")]
)
def test_a_simulated_device_is_no_resource_of_a_machine(variant: str, resource: str):
    """A cluster would look for a machine with a board."""
    assert DLABackend(settings.read({"soc": "MT8371"})).resource(variant) == resource

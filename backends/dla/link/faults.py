"""Faults between the harness and a device: their names, and how messages of adb and of the tools map to them."""

from __future__ import annotations

import re
from enum import Enum

from whisper_parity.errors import BackendError


class Fault(str, Enum):
    """The name of a fault; a verdict's reason starts with it."""

    NO_DEVICE = "no device"
    MANY_DEVICES = "several devices"
    UNAUTHORIZED = "unauthorized"
    NO_PERMISSIONS = "no permissions"
    OFFLINE = "offline"
    UNPLUGGED = "unplugged"
    ADB_SERVER = "adb server lost"
    BUSY = "device busy"
    DISK_FULL = "disk full"
    READ_ONLY = "read-only folder"
    CORRUPTED = "corrupted transfer"
    NO_TOOL = "tool missing"
    LIBRARY = "library missing"
    NAMESPACE = "library not allowed"
    RUNTIME_VERSION = "runtime version"
    REFUSED = "DLA refused"
    SHAPE = "wrong shape"
    OUT_OF_MEMORY = "out of memory"
    INFERENCE = "inference error"
    HANG = "hang"
    CRASH = "crash"
    NO_OUTPUT = "no output"
    SHORT_OUTPUT = "short output"
    STALE_OUTPUT = "stale output"
    GARBAGE = "garbage on the link"
    PROTOCOL = "protocol version"
    OTHER_MODELS = "runner of another build"
    LOST_RUNNER = "runner gone"
    FAILED = "tool failed"


LINK_FAULTS = frozenset(
    {Fault.UNPLUGGED, Fault.OFFLINE, Fault.ADB_SERVER, Fault.LOST_RUNNER, Fault.GARBAGE, Fault.CORRUPTED}
)
"""Faults of the link, worth one retry once the device is back. A fault of the model is not."""


AWAY = LINK_FAULTS | {Fault.NO_DEVICE, Fault.UNAUTHORIZED, Fault.BUSY}
"""Faults after which a device is not used while others are available."""


class DeviceError(BackendError):
    """A named fault on a device."""

    def __init__(self, fault: Fault, serial: str, message: str, *, hint: str = "") -> None:
        """Put the fault's name and the device in front of `message`."""
        self.fault = fault
        self.serial = serial
        self.message = message
        self.elsewhere = fault in AWAY | {Fault.HANG}
        super().__init__(f"[{fault.value}] {serial or 'device'}: {message}", hint=hint or HINTS.get(fault, ""))


_ADB = (
    (Fault.UNAUTHORIZED, r"unauthorized|failed to authenticate"),
    (Fault.MANY_DEVICES, r"more than one device"),
    (Fault.ADB_SERVER, r"cannot connect to daemon|failed to check server version|daemon not running|smartsocket"),
    (Fault.DISK_FULL, r"No space left on device|Disk quota exceeded"),
    (Fault.READ_ONLY, r"Read-only file system|Permission denied|Operation not permitted"),
    (Fault.OFFLINE, r"device offline|device still (connecting|authorizing)"),
    (
        Fault.UNPLUGGED,
        r"not found|no devices|disconnected|closed|protocol fault|reset by peer|failed to read|couldn't read|EOF",
    ),
)
"""Messages of the adb client, most specific first."""

_TOOLS = (
    (Fault.OUT_OF_MEMORY, r"Cannot allocate memory|out of memory|bad_alloc|OUT_OF_MEMORY"),
    (Fault.RUNTIME_VERSION, r"mismatching runtime|DLA file is V"),
    (Fault.NAMESPACE, r"not accessible for the namespace|linker namespace"),
    (Fault.LIBRARY, r"cannot open shared object|library .* not found|dlopen failed|error while loading shared"),
    (Fault.REFUSED, r"BAD_DATA|[Ff]ail to (load|rewrite)|cannot load|NEURON_BAD_STATE|UNMAPPABLE"),
    (Fault.DISK_FULL, r"No space left on device"),
    (Fault.READ_ONLY, r"Read-only file system"),
    (Fault.INFERENCE, r"[Ii]nference|BuildCmd|RUNTIME_ERROR|OP_FAILED"),
)
"""Messages that neuronrt and the runtime are known to print."""


def of_adb(text: str) -> Fault | None:
    """The fault that a message of the adb client means; None if none."""
    return _first(_ADB, text)


def of_tool(text: str) -> Fault | None:
    """The fault that the output of a tool on the device means; None if none."""
    return _first(_TOOLS, text)


HINTS = {
    Fault.UNAUTHORIZED: "Accept this computer's key on the device's screen, then try again; a simulated device takes "
    "the key of the ADB_VENDOR_KEYS that it prints",
    Fault.NO_PERMISSIONS: "Add a udev rule for the board, or join the group that may open it (plugdev)",
    Fault.OFFLINE: "Replug the cable, or restart adbd on the device",
    Fault.UNPLUGGED: "Check cable and power; the run can be continued by its name",
    Fault.ADB_SERVER: "Something stopped the adb server; run again",
    Fault.DISK_FULL: "`parity device clean` frees what this project has put there",
    Fault.READ_ONLY: "Set work_folder under [backends.dla] to a folder that can be written and executed from",
    Fault.OUT_OF_MEMORY: "Stop other programs that use the NPU, or compile with --opt-footprint",
    Fault.RUNTIME_VERSION: "A runtime loads only files of its own major version: use the SDK of that version",
    Fault.NAMESPACE: 'Set runtime_library to one that the shell may load, or use mode = "neuronrt"',
    Fault.LIBRARY: "Set runtime_library under [backends.dla] to where libneuron_runtime.so is",
    Fault.REFUSED: "Was it compiled for this SoC? See the log above, and `parity device doctor`",
}


def _first(table: tuple[tuple[Fault, str], ...], text: str) -> Fault | None:
    return next((fault for fault, pattern in table if re.search(pattern, text, re.IGNORECASE)), None)

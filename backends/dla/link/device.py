"""One device: commands, files and facts, over adb.

Every command ends with a sentinel that carries its exit code: an adbd without shell_v2 loses the code, and adb's own
failures look like an `exit 1` of the command. A missing sentinel means that the link failed.
"""

from __future__ import annotations

import secrets
import shlex
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from whisper_parity.backends.dla.link import faults
from whisper_parity.backends.dla.link.adb import NO_PERMISSIONS, Adb, Completed
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.backends.dla.settings import Settings

_STATES = {"unauthorized": Fault.UNAUTHORIZED, "absent": Fault.NO_DEVICE, NO_PERMISSIONS: Fault.NO_PERMISSIONS}
BYTES_PER_SECOND = 1_000_000
"""The slowest link on which a transfer is still given enough time."""


@dataclass
class Meter:
    """Traffic and inference time since the last `take`."""

    sent: int = 0
    received: int = 0
    device_s: float = 0.0
    """Inference time, as measured on the device."""

    def take(self) -> Meter:
        """Return the counts so far and reset them to 0."""
        counts = Meter(self.sent, self.received, self.device_s)
        self.sent = self.received = 0
        self.device_s = 0.0
        return counts


@dataclass(frozen=True)
class Device:
    """A device reachable through adb."""

    adb: Adb
    serial: str
    settings: Settings
    meter: Meter = field(default_factory=Meter)

    def shell(self, *words: str, limit_s: float | None = None) -> Completed:
        """Run a command, each word quoted for the device's shell; return its exit code and output.

        Raises:
            DeviceError: the link failed, or the command timed out.
        """
        return self.script(shlex.join(words), limit_s=limit_s)

    def script(self, text: str, limit_s: float | None = None) -> Completed:
        """Run shell code as it is; its arguments must be quoted already.

        Raises:
            DeviceError: the link failed, or the script timed out.
        """
        mark = f"rc-{secrets.token_hex(8)}-"
        try:
            completed = self.adb.run(
                "-s", self.serial, "shell", f"( {text}\n); printf '\\n%s%d\\n' {mark} $?",
                limit_s=self.settings.link_limit_s if limit_s is None else limit_s,
            )  # fmt: skip
        except DeviceError as error:
            raise DeviceError(error.fault, self.serial, f"no answer to `{text[:60]}`") from error
        out, sentinel, code = completed.out.replace(b"\r\n", b"\n").rpartition(f"\n{mark}".encode())
        if not sentinel or not code.strip().isdigit():
            raise self.link_error(completed)
        self.meter.sent += len(text)
        self.meter.received += len(completed.out) + len(completed.err)
        return Completed(int(code), out, completed.err)

    def push(self, local: Path, remote: str) -> None:
        """Copy a file to the device.

        Raises:
            DeviceError: link lost, disk full, folder not writable.
        """
        self._transfer("push", str(local.absolute()), remote, local.stat().st_size)
        self.meter.sent += local.stat().st_size

    def pull(self, remote: str, local: Path, size: int) -> None:
        """Copy a file of known size from the device.

        Raises:
            DeviceError: link lost, no such file, or a different size.
        """
        self._transfer("pull", remote, str(local.absolute()), size)
        arrived = local.stat().st_size if local.is_file() else None
        if arrived != size:
            raise DeviceError(Fault.CORRUPTED, self.serial, f"{remote}: expected {size} bytes, {arrived} arrived")
        self.meter.received += size

    def stream(self, service: str, limit_s: float) -> socket.socket:
        """Open a stream to a service of the device through adb's own socket.

        Raises:
            DeviceError: the device or the service is missing.
        """
        return self.adb.stream(self.serial, service, limit_s)

    def state(self) -> str:
        """The device's state at the server: "device", "offline", "unauthorized", "absent", ..."""
        return next((attached.state for attached in self.adb.devices() if attached.serial == self.serial), "absent")

    def require(self) -> None:
        """Connect if necessary, and wait until the device answers, at most `reconnect_s`.

        Raises:
            DeviceError: NO_DEVICE, UNAUTHORIZED or OFFLINE.
        """
        deadline = time.monotonic() + self.settings.reconnect_s
        while True:
            try:
                self.adb.connect(self.serial)
                self._require_state()
            except DeviceError as error:  # noqa: PERF203 - polls on purpose
                if time.monotonic() > deadline or error.fault is Fault.UNAUTHORIZED:
                    raise
                time.sleep(0.2)
            else:
                return

    def present(self) -> None:
        """Like `require`, without waiting.

        Raises:
            DeviceError: NO_DEVICE, UNAUTHORIZED or OFFLINE.
        """
        self.adb.connect(self.serial)
        self._require_state()

    def link_error(self, completed: Completed) -> DeviceError:
        """The error for an adb command that did not reach the device."""
        fault = faults.of_adb(completed.message) or faults.of_adb(completed.err) or Fault.UNPLUGGED
        return DeviceError(fault, self.serial, completed.message)

    def _require_state(self) -> None:
        state = self.state()
        if state == "device":
            return
        raise DeviceError(_STATES.get(state, Fault.OFFLINE), self.serial, f"adb says {state}")

    def _transfer(self, kind: str, source: str, target: str, size: int) -> None:
        limit_s = self.settings.link_limit_s + size / BYTES_PER_SECOND
        try:
            completed = self.adb.run("-s", self.serial, kind, source, target, limit_s=limit_s)
        except DeviceError as error:
            raise DeviceError(
                error.fault, self.serial, f"{kind} of {size} bytes not finished after {limit_s:.0f} s"
            ) from error
        if completed.code:
            raise self.link_error(completed)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device reports about itself; "" where it reports nothing."""

    model: str
    soc: str
    system: str
    """"Android 14" or the PRETTY_NAME of /etc/os-release."""
    machine: str
    """As `uname -m`: "aarch64"."""
    boot_id: str
    """Changes with every boot."""
    work_folder: str
    """This project's folder on the device."""
    free_bytes: int
    """Free space in `work_folder`; -1 when unknown."""
    clock_s: int
    """The device's clock, seconds since 1970; -1 when unknown."""
    simulated: bool

    @property
    def name(self) -> str:
        """Model and SoC in one phrase, marked if simulated."""
        model = self.model or self.machine or "device"
        name = f"{model} ({self.soc})" if self.soc and self.soc not in model else model
        return f"simulated {name}" if self.simulated and "simulat" not in name.lower() else name


def now() -> int:
    """Seconds since 1970 on this machine."""
    return int(time.time())


def date(clock_s: int) -> str:
    """Seconds since 1970 as YYYY-MM-DD."""
    return time.strftime("%Y-%m-%d", time.gmtime(max(0, clock_s)))


_FACTS_SCRIPT = r"""
prop() { getprop "$1" 2>/dev/null; echo; }
prop ro.product.model | head -n 1; prop ro.soc.model | head -n 1; prop ro.build.version.release | head -n 1
prop ro.parity.simulated | head -n 1
uname -m
boot=$(prop ro.parity.boot_id | head -n 1); echo "${boot:-$(cat /proc/sys/kernel/random/boot_id)}"
{ tr -d '\0' < /proc/device-tree/model; } 2>/dev/null; echo
(. /etc/os-release 2>/dev/null && echo "$PRETTY_NAME") || echo
date +%s
for folder in @FOLDERS@; do
  if [ -d "$folder" ] && mkdir -p "$folder/whisper-parity" 2>/dev/null && [ -w "$folder/whisper-parity" ]; then
    echo "$folder/whisper-parity"; df -Pk "$folder/whisper-parity" 2>/dev/null | tail -n 1; exit 0
  fi
done
exit 9
"""


def facts(device: Device) -> Facts:
    """Query a device's facts in one round trip.

    Raises:
        DeviceError: the link failed, or no work folder is writable.
    """
    wanted = device.settings.work_folder
    folders = shlex.quote(wanted) if wanted else '"$TMPDIR" /data/local/tmp /tmp'
    make_folders = f"mkdir -p {folders} 2>/dev/null; " if wanted else ""  # a default folder is used only if it exists
    completed = device.script(make_folders + _FACTS_SCRIPT.replace("@FOLDERS@", folders))
    lines = [line.strip() for line in completed.out.decode(errors="replace").splitlines()]
    if completed.code == 9:
        folders = wanted or "$TMPDIR, /data/local/tmp, /tmp"
        raise DeviceError(Fault.READ_ONLY, device.serial, f"no work folder can be written ({folders})")
    if completed.code or len(lines) < 10:
        raise DeviceError(Fault.FAILED, device.serial, f"its shell could not run our query: {completed.message}")
    model, soc, release, simulated, machine, boot_id, tree, pretty, clock, folder = lines[:10]
    fields = lines[10].split() if len(lines) > 10 else []
    free = int(fields[3]) * 1024 if len(fields) > 3 and fields[3].isdigit() else -1
    system = f"Android {release}" if release and not pretty else pretty
    return Facts(
        model or tree, soc, system, machine, boot_id, folder, free, int(clock) if clock.isdigit() else -1,
        simulated == "1",
    )  # fmt: skip


def chosen(adb: Adb, settings: Settings) -> tuple[str, ...]:
    """The serials to use: those in the settings, else the only attached device.

    Raises:
        DeviceError: NO_DEVICE or MANY_DEVICES.
    """
    if settings.serial:
        return tuple(dict.fromkeys(settings.serial))
    devices = adb.devices()
    usable = [attached.serial for attached in devices if attached.state == "device"]
    if len(usable) == 1:
        return tuple(usable)
    if usable:
        raise DeviceError(
            Fault.MANY_DEVICES, "", f"{len(usable)} are attached: {', '.join(usable)}",
            hint="Name one or more: --set dla.serial=SERIAL, or --serial for \"parity device\"",
        )  # fmt: skip
    for attached in devices:
        raise DeviceError(_STATES.get(attached.state, Fault.OFFLINE), attached.serial, f"adb says {attached.state}")
    raise DeviceError(
        Fault.NO_DEVICE,
        "",
        "adb sees none",
        hint="Attach one, or start `parity device simulate`",
    )

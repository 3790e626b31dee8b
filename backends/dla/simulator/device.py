"""A simulated device: a folder, stand-in commands and an adbd, for as long as a `with` block lasts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from whisper_parity.backends.dla.simulator.adbd import LEGACY, MODERN, STALL_S, Adbd
from whisper_parity.backends.dla.simulator.auth import PublicKey
from whisper_parity.backends.dla.simulator.fault import Faults, LinkFault
from whisper_parity.backends.dla.simulator.link import Link
from whisper_parity.backends.dla.simulator.machine import Machine
from whisper_parity.errors import OutputError, first_line
from whisper_parity.system.confine import Confinement

USB2_BYTES_PER_S = 30_000_000
"""Throughput of a USB 2 link in practice."""


@dataclass(frozen=True)
class Settings:
    """Properties of a simulated device."""

    model: str = "Simulated Genio 520"
    soc: str = "MT8371"
    legacy: bool = False
    """Whether the adbd is old: no features, checksums, messages of 4 KiB."""
    rate_bytes_per_s: float | None = None
    """Both directions together; None for no limit."""
    latency_s: float = 0.0
    """Added to every message with a payload."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Extra variables of every command, such as PARITY_SIM_FAULT."""
    faults: tuple[LinkFault, ...] = ()
    keys: tuple[PublicKey, ...] = ()
    """Of the adb servers that it lets in; nobody is without one."""


class SimulatedDevice:
    """A device that an adb server reaches by `adb connect`, for the duration of a `with` block."""

    def __init__(self, settings: Settings | None = None, *, root: Path | None = None, **changes: Any) -> None:
        """Describe the device; nothing happens before `with`.

        Args:
            settings: its properties.
            root: its folder, which is kept; None for a temporary one.
            changes: overrides of single settings: `SimulatedDevice(legacy=True)`.

        Raises:
            TypeError: an unknown setting.
        """
        self.settings = replace(settings or Settings(), **changes)
        self._given_root = root
        self._link = Link(self.settings.rate_bytes_per_s, self.settings.latency_s)

    def __enter__(self) -> SimulatedDevice:
        if self._given_root is not None:
            self._given_root.mkdir(0o700, parents=True, exist_ok=True)
        root = self._given_root or Path(tempfile.mkdtemp(prefix="parity-simulated-"))
        settings = self.settings
        self._machine = Machine(
            root,
            model=settings.model,
            soc=settings.soc,
            environment=settings.environment,
            faults=Faults(settings.faults),
        )
        try:
            self._machine.boot()
        except OSError as error:
            self._machine.inside.close()
            raise OutputError(f"{root}: no folder for a device ({first_line(error)})") from error
        dialect = LEGACY if settings.legacy else MODERN
        self._adbd = Adbd(self._machine, self._link, dialect, keys=settings.keys, stall_s=STALL_S)
        self._adbd.plug_in()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill every process of the device and remove a temporary folder."""
        self._adbd.stop()
        self._machine.kill_processes()
        with suppress(OSError):  # commands may have left anything in the folder
            self.heal()
        self._machine.inside.close()
        if self._given_root is None:
            shutil.rmtree(self.root, ignore_errors=True)

    @property
    def serial(self) -> str:
        """Its serial for adb: "127.0.0.1:PORT", the same after every `plug_in`."""
        return f"127.0.0.1:{self._adbd.port}"

    @property
    def root(self) -> Path:
        """Its folder on the host; paths on the device are paths below it, not rewritten."""
        return self._machine.root

    @property
    def work_folder(self) -> Path:
        """TMPDIR of its commands."""
        return self._machine.work_folder

    @property
    def confinement(self) -> Confinement:
        """What keeps its commands in its folder."""
        return self._machine.inside.confinement

    @property
    def boot_id(self) -> str:
        """Changes with every reboot; `getprop ro.parity.boot_id` on the device."""
        return self._machine.boot_id

    @property
    def sent_bytes(self) -> int:
        """Stream payload from the device to the host so far."""
        return self._link.sent_bytes

    @property
    def received_bytes(self) -> int:
        """Stream payload from the host to the device so far."""
        return self._link.received_bytes

    @property
    def log(self) -> tuple[str, ...]:
        """Services opened and sync requests ("sync:SEND /path,mode"), oldest first."""
        return tuple(self._machine.log)

    @property
    def processes(self) -> tuple[int, ...]:
        """Ids of its running processes."""
        return self._machine.processes()

    def unplug(self) -> None:
        """Pull the cable: commands get SIGHUP, daemons live on."""
        self._adbd.unplug()

    def plug_in(self) -> None:
        """Put the cable back, on the same port."""
        self._adbd.plug_in()

    def reboot(self, after_s: float = 0.0) -> None:
        """Pull the power: every process dies, and the device returns after `after_s` with a new boot id."""
        self._adbd.away(after_s, self._machine.reboot)

    def kill_processes(self) -> None:
        """Kill all its processes, daemons included."""
        self._machine.kill_processes()

    def add_fault(self, fault: LinkFault) -> None:
        """Add one more scripted fault."""
        self._machine.faults.add(fault)
        self._machine.apply_faults()

    def heal(self) -> None:
        """Remove standing faults and those that have not struck yet."""
        self._machine.faults.clear()
        self._machine.apply_faults()

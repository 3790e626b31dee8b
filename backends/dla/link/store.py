"""Files on a device by content: pushed once, verified there by size and hash, cleaned by one command.

A file is known on the device only by its hash and a suffix of ours, so no name of the host's ever reaches its shell.
"""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.backends.dla.link import faults
from whisper_parity.backends.dla.link.device import Device, Facts
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.system.files import file_sha256

SPARE_BYTES = 8 << 20
"""Left free on the device."""


@dataclass(frozen=True)
class Store:
    """The folder of pushed files on one device."""

    device: Device
    facts: Facts

    @property
    def folder(self) -> str:
        """Where the files are."""
        return f"{self.facts.work_folder}/store"

    def put(self, local: Path, suffix: str, *, sha256: str | None = None, executable: bool = False) -> str:
        """Make sure that a file is on the device, unchanged; return its path there.

        Args:
            local: the file.
            suffix: how its name ends there, of letters, digits, "." and "_".
            sha256: its hash, where that is known already.
            executable: whether it is a program.

        Raises:
            DeviceError: no space, not writable, or changed on its way.
        """
        known = sha256 or file_sha256(local)
        remote = f"{self.folder}/{known[:32]}{suffix}"
        if self._hash(remote) == known:
            return remote
        self._require_space(local.stat().st_size, suffix)
        partial = f"{self.folder}/.partial-{secrets.token_hex(8)}"
        self._do("mkdir", "-p", self.folder)
        try:
            self.device.push(local, partial)
            if (found := self._hash(partial)) != known:
                message = f"{suffix} arrived with sha256 {found[:12] or 'none'}, not {known[:12]}"
                raise DeviceError(Fault.CORRUPTED, self.device.serial, message)
            self._do("chmod", "755" if executable else "644", partial)
            self._do("mv", "-f", partial, remote)
        except DeviceError:
            self._remove_quietly(partial)
            raise
        return remote

    def clean(self) -> int:
        """Remove everything that this project has put on the device; return the bytes that were freed.

        Raises:
            DeviceError: the link failed, or it cannot be removed.
        """
        found = self._do("du", "-sk", self.facts.work_folder)
        self._do("rm", "-rf", self.facts.work_folder)
        size = found.split()
        return int(size[0]) * 1024 if size and size[0].isdigit() else 0

    def listing(self) -> list[str]:
        """Names of the stored files."""
        found = self.device.shell("ls", self.folder)
        return [] if found.code else sorted(found.out.decode(errors="replace").split())

    def _hash(self, remote: str) -> str:
        """SHA-256 of a file on the device; "" when it is not there."""
        quoted = shlex.quote(remote)
        found = self.device.script(f"[ -f {quoted} ] && sha256sum {quoted}")
        if found.code == 127:
            raise DeviceError(Fault.NO_TOOL, self.device.serial, "its shell has no sha256sum", hint="Install coreutils")
        words = found.out.decode(errors="replace").split()
        return words[0] if found.code == 0 and words and len(words[0]) == 64 else ""

    def _require_space(self, size: int, what: str) -> None:
        found = self.device.script(
            f"mkdir -p {shlex.quote(self.folder)} && df -Pk {shlex.quote(self.folder)} | tail -n 1"
        )
        fields = found.out.split()
        free = int(fields[3]) * 1024 if len(fields) > 3 and fields[3].isdigit() else None
        if found.code == 0 and free is not None and free < size + SPARE_BYTES:
            raise DeviceError(
                Fault.DISK_FULL, self.device.serial,
                f"{what} needs {size / 2**20:.1f} MiB in {self.folder}, {free / 2**20:.1f} MiB are free")  # fmt: skip

    def _do(self, *words: str) -> str:
        found = self.device.shell(*words)
        if found.code:
            fault = faults.of_adb(found.message) or Fault.FAILED
            fault = Fault.FAILED if fault is Fault.UNPLUGGED else fault
            raise DeviceError(fault, self.device.serial, f"{words[0]}: {found.message}")
        return found.out.decode(errors="replace")

    def _remove_quietly(self, remote: str) -> None:
        try:
            self.device.shell("rm", "-f", remote, limit_s=10.0)
        except DeviceError:
            return  # the link is gone; `parity device clean` takes what was left

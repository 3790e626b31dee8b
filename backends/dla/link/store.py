"""Files on a device, addressed by content: pushed once, verified there by size and hash, cleaned by one command.

Their names on the device are a hash and a suffix, so no file name of the host ever reaches its shell.
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
"""Space kept free on the device."""


@dataclass(frozen=True)
class Store:
    """The folder of pushed files on one device."""

    device: Device
    facts: Facts

    @property
    def folder(self) -> str:
        """The folder on the device."""
        return f"{self.facts.work_folder}/store"

    def put(self, local: Path, suffix: str, *, sha256: str | None = None, executable: bool = False) -> str:
        """Push a file unless the device has it already; return its path there.

        Args:
            local: the file.
            suffix: suffix of its name there; letters, digits, "." and "_" only.
            sha256: its hash, if already known.
            executable: whether to make it executable.

        Raises:
            DeviceError: no space, not writable, or corrupted in transfer.
        """
        digest = sha256 or file_sha256(local)
        remote = f"{self.folder}/{digest[:32]}{suffix}"
        if self._hash(remote) == digest:
            return remote
        self._require_space(local.stat().st_size, suffix)
        partial = f"{self.folder}/.partial-{secrets.token_hex(8)}"
        self._command("mkdir", "-p", self.folder)
        try:
            self.device.push(local, partial)
            if (arrived := self._hash(partial)) != digest:
                message = f"{suffix} arrived with sha256 {arrived[:12] or 'none'}, not {digest[:12]}"
                raise DeviceError(Fault.CORRUPTED, self.device.serial, message)
            self._command("chmod", "755" if executable else "644", partial)
            self._command("mv", "-f", partial, remote)
        except DeviceError:
            self._remove_quietly(partial)
            raise
        return remote

    def clean(self) -> int:
        """Remove everything that this project stored on the device; return the bytes freed.

        Raises:
            DeviceError: the link failed, or the files cannot be removed.
        """
        usage = self._command("du", "-sk", self.facts.work_folder)
        self._command("rm", "-rf", self.facts.work_folder)
        fields = usage.split()
        return int(fields[0]) * 1024 if fields and fields[0].isdigit() else 0

    def listing(self) -> list[str]:
        """Sorted names of the stored files."""
        completed = self.device.shell("ls", self.folder)
        return [] if completed.code else sorted(completed.out.decode(errors="replace").split())

    def _hash(self, remote: str) -> str:
        """SHA-256 of a file on the device; "" when there is no such file."""
        quoted = shlex.quote(remote)
        completed = self.device.script(f"[ -f {quoted} ] && sha256sum {quoted}")
        if completed.code == 127:
            raise DeviceError(Fault.NO_TOOL, self.device.serial, "its shell has no sha256sum", hint="Install coreutils")
        words = completed.out.decode(errors="replace").split()
        return words[0] if completed.code == 0 and words and len(words[0]) == 64 else ""

    def _require_space(self, size: int, what: str) -> None:
        completed = self.device.script(
            f"mkdir -p {shlex.quote(self.folder)} && df -Pk {shlex.quote(self.folder)} | tail -n 1"
        )
        fields = completed.out.split()
        free = int(fields[3]) * 1024 if len(fields) > 3 and fields[3].isdigit() else None
        if completed.code == 0 and free is not None and free < size + SPARE_BYTES:
            raise DeviceError(
                Fault.DISK_FULL, self.device.serial,
                f"{what} needs {size / 2**20:.1f} MiB in {self.folder}, {free / 2**20:.1f} MiB are free")  # fmt: skip

    def _command(self, *words: str) -> str:
        completed = self.device.shell(*words)
        if completed.code:
            fault = faults.of_adb(completed.message) or Fault.FAILED
            fault = Fault.FAILED if fault is Fault.UNPLUGGED else fault
            raise DeviceError(fault, self.device.serial, f"{words[0]}: {completed.message}")
        return completed.out.decode(errors="replace")

    def _remove_quietly(self, remote: str) -> None:
        try:
            self.device.shell("rm", "-f", remote, limit_s=10.0)
        except DeviceError:
            return  # the link is gone; `parity device clean` removes the file later

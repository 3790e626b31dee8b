"""Where a program runs: a folder, a shell, files that come and go. This machine, or a device over adb."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from whisper_parity.backends.dla.link.device import Device
from whisper_parity.backends.dla.link.store import Store
from whisper_parity.errors import BackendError, first_line
from whisper_parity.system import inputs


class Place(Protocol):
    """**Protocol:** a machine that runs scripts of a POSIX shell."""

    @property
    def folder(self) -> str:
        """The program's working folder there; made and emptied by the script."""

    def put(self, local: Path, *, executable: bool = False) -> str:
        """Have a file there; return its path there."""

    def script(self, text: str, limit_s: float) -> str:
        """Run shell code whose words are quoted; return what it printed."""

    def fetch(self, path: str, size: int) -> bytes:
        """The content of a file there of known size [bytes]."""

    def close(self) -> None:
        """Remove the working folder."""


class Host:
    """This machine."""

    def __init__(self) -> None:
        """Make a folder."""
        self._temporary = tempfile.TemporaryDirectory(prefix="parity-app-")
        self.folder = f"{self._temporary.name}/run"

    def put(self, local: Path, *, executable: bool = False) -> str:
        """The file as it lies."""
        return str(local.absolute())

    def script(self, text: str, limit_s: float) -> str:
        """Run it in a session of its own, which is killed at the time limit.

        Raises:
            BackendError: it took too long, or there is no shell.
        """
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise BackendError(f"/bin/sh cannot be started ({first_line(error)})") from error
        try:
            return process.communicate(timeout=limit_s)[0].decode(errors="replace")
        except subprocess.TimeoutExpired as error:
            raise BackendError(f"not finished after {limit_s:.0f} s") from error
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what the program left running, too
            process.wait()

    def fetch(self, path: str, size: int) -> bytes:
        """Read it.

        Raises:
            InputError: it is no file any more, or has grown.
        """
        return inputs.read(Path(path), max(size, 1))

    def close(self) -> None:
        """Remove the folder."""
        self._temporary.cleanup()


@dataclass(frozen=True)
class OnDevice:
    """A device."""

    device: Device
    store: Store
    name: str

    @classmethod
    def of(cls, device: Device, store: Store) -> OnDevice:
        """With a working folder of its own."""
        return cls(device, store, f"app-{secrets.token_hex(8)}")

    @property
    def folder(self) -> str:
        """Beside the store, so that `parity device clean` removes what a lost link left."""
        return f"{self.store.facts.work_folder}/{self.name}"

    def put(self, local: Path, *, executable: bool = False) -> str:
        """Push it by its hash, unless the device has it."""
        return self.store.put(local, ".app", executable=executable)

    def script(self, text: str, limit_s: float) -> str:
        """Run it through adb.

        Raises:
            DeviceError: the link failed, or the device does not answer in time.
        """
        return self.device.script(text, limit_s=limit_s).out.decode(errors="replace")

    def fetch(self, path: str, size: int) -> bytes:
        """Pull it.

        Raises:
            DeviceError: the link failed, or the file has changed.
        """
        with tempfile.TemporaryDirectory(prefix="parity-pull-") as folder:
            local = Path(folder, "file")
            self.device.pull(path, local, size)
            return local.read_bytes()

    def close(self) -> None:
        """Remove the working folder, if the device is there."""
        with suppress(BackendError):
            self.device.shell("rm", "-rf", self.folder, limit_s=10.0)

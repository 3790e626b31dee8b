"""The system below the adbd: a folder, commands, processes and a clock."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from whisper_parity.backends.dla.simulator.fault import Faults, Kind
from whisper_parity.backends.dla.simulator.inside import Inside

GRACE_S = 0.5
"""Between SIGHUP and SIGKILL."""
MARKER = "PARITY_SIM_DEVICE"
"""Environment variable that marks a device's processes, to find those that left their process group."""

_NEURONRT = """#!/bin/sh
exec {python} -m whisper_parity.backends.dla.simulator.neuronrt "$@"
"""
_DATE = """#!/bin/sh
exec {date} -u -d "@$(( $({date} +%s) - {started} ))" "$@"
"""
_DF_FULL = """#!/bin/sh
echo 'Filesystem     1024-blocks    Used Available Capacity Mounted on'
echo 'simulated          1048576 1048576         0     100% '{root}
"""
_REFUSED = """echo "${0##*/}: $*: Read-only file system" >&2; exit 1
"""
_READ_ONLY = {
    "mkdir": '#!/bin/sh\n[ "$1" = -p ] && shift && [ $# = 1 ] && [ -d "$1" ] && exit 0\n' + _REFUSED,
    "rm": '#!/bin/sh\ncase "$1" in -*f*) shift; [ $# = 1 ] && [ ! -e "$1" ] && exit 0;; esac\n' + _REFUSED,
    **dict.fromkeys(("chmod", "cp", "dd", "ln", "mv", "rmdir", "tee", "touch"), "#!/bin/sh\n" + _REFUSED),
}
"""Replacements of commands that change files; file modes alone would not stop a superuser."""


class Machine:
    """The simulated system: everything below `root`, and its processes."""

    def __init__(self, root: Path, *, model: str, soc: str, environment: Mapping[str, str], faults: Faults) -> None:
        self.root = root.resolve()
        self.model = model
        self.soc = soc
        self.faults = faults
        self.log: list[str] = []
        """Services opened and sync requests ("sync:SEND /path"), oldest first."""
        self._environment = environment
        self._marker = secrets.token_hex(8)
        self._groups: set[int] = set()
        self._lock = threading.Lock()
        self._pushed = 0
        self.started_s = time.time()
        """Time of the boot, by the host's clock."""
        self.boot_id = ""
        self.inside = Inside(self.root, _readable(environment))
        """Where everything below `root` is done."""

    @property
    def work_folder(self) -> Path:
        """TMPDIR of every command; files are pushed here."""
        return self.root / "data" / "local" / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command; inherits only PATH from the host."""
        path = f"{self.root / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        base = {"PATH": path, "HOME": str(self.root), "TMPDIR": str(self.work_folder), "LANG": "C"}
        return {**base, MARKER: self._marker, **self._environment}

    def clock_s(self) -> float:
        """Its clock, in seconds since 1970."""
        return time.time() - self.started_s if self.faults.standing(Kind.WRONG_CLOCK) else time.time()

    def boot(self) -> None:
        """Create the folders, the stand-in commands and a boot id.

        Raises:
            OSError: its folder cannot be written.
        """
        self.inside.call(self._boot)

    def _boot(self) -> None:
        self.work_folder.mkdir(parents=True, exist_ok=True)
        (self.root / "bin").mkdir(exist_ok=True)
        self.started_s = time.time()
        self.boot_id = f"{time.time_ns() // 1_000_000}{secrets.randbelow(1000):03d}"
        self._install("getprop", _getprop(self.properties))
        self._install("neuronrt", _NEURONRT.format(python=shlex.quote(sys.executable)))
        self._apply_faults()

    @property
    def properties(self) -> dict[str, str]:
        """What getprop prints."""
        return {
            "ro.product.model": self.model,
            "ro.product.brand": "Simulator",
            "ro.product.manufacturer": "Simulator",
            "ro.soc.model": self.soc,
            "ro.build.version.release": "14",
            "ro.serialno": f"SIM{self._marker}",
            "ro.parity.boot_id": self.boot_id,
            "ro.parity.simulated": "1",
        }

    def reboot(self) -> None:
        """Kill every process and boot again, with a new boot id."""
        self.kill_processes()
        self.boot()

    def apply_faults(self) -> None:
        """Install the commands that simulate standing faults of file system and clock; remove the rest."""
        self.inside.call(self._apply_faults)

    def _apply_faults(self) -> None:
        if self.faults.standing(Kind.WRONG_CLOCK):
            date = shlex.quote(shutil.which("date") or "/bin/date")
            self._install("date", _DATE.format(date=date, started=int(self.started_s)))
        else:
            self._remove("date")
        read_only = self.faults.standing(Kind.READ_ONLY) is not None
        for name, script in _READ_ONLY.items():
            self._install(name, script) if read_only else self._remove(name)
        _set_mode(self.work_folder, 0o555 if read_only else 0o755)
        if not self.faults.standing(Kind.DISK_FULL):
            self._remove("df")
            self._pushed = 0

    def accept_bytes(self, size: int) -> bool:
        """Count bytes of a push; False once the disk is full, which `df` then shows too."""
        fault = self.faults.standing(Kind.DISK_FULL)
        if fault is None:
            return True
        with self._lock:
            self._pushed += size
            fits = self._pushed <= fault.after_bytes
        if not fits:
            self.inside.call(lambda: self._install("df", _DF_FULL.format(root=shlex.quote(str(self.root)))))
        return fits

    def start(self, command: str, *, merged: bool) -> subprocess.Popen[bytes]:
        """Start a shell command as a session leader; "" is a shell that reads stdin.

        Raises:
            OSError: it cannot be started.
            ValueError: the command holds a NUL.
        """
        process = self.inside.call(lambda: self._started(command, merged=merged))
        with self._lock:
            self._groups.add(process.pid)
        return process

    def _started(self, command: str, *, merged: bool) -> subprocess.Popen[bytes]:
        command_line = ["/bin/sh", "-c", command] if command else ["/bin/sh"]
        return subprocess.Popen(
            command_line, cwd=self.root, env=self.environment, start_new_session=True, bufsize=0, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            preexec_fn=_reset_sighup if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else None,
        )  # fmt: skip

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """Note that a command has ended; with a wrong clock, correct the times of its files to match."""
        with self._lock:
            self._groups.discard(process.pid)
        if self.faults.standing(Kind.WRONG_CLOCK):
            self.inside.call(self._set_times)

    def hang_up(self, process: subprocess.Popen[bytes]) -> None:
        """Send SIGHUP to a command's process group, then SIGKILL after `GRACE_S`."""
        _signal(process.pid, signal.SIGHUP)
        deadline = time.monotonic() + GRACE_S
        while (process.poll() is None or _signal(process.pid, 0)) and time.monotonic() < deadline:
            time.sleep(0.01)
        _signal(process.pid, signal.SIGKILL)
        process.wait()

    def kill_processes(self) -> None:
        """Send SIGKILL to every process of the device, daemons included."""
        with self._lock:
            groups = tuple(self._groups)
        for group in groups:
            _signal(group, signal.SIGKILL)
        deadline = time.monotonic() + GRACE_S
        while (alive := self.processes()) and time.monotonic() < deadline:
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def processes(self) -> tuple[int, ...]:
        """Ids of the device's live processes, found by their environment; needs /proc."""
        marker = f"{MARKER}={self._marker}".encode()
        return tuple(
            int(process.name) for process in Path("/proc").glob("[0-9]*") if marker in _environ(process).split(b"\0")
        )

    def _install(self, name: str, script: str) -> None:
        """Replace a command atomically: the old script may be running."""
        target = self.root / "bin" / name
        temporary = target.with_name(f".{name}-{secrets.token_hex(4)}")
        temporary.write_text(script)
        temporary.chmod(0o755)
        temporary.replace(target)

    def _remove(self, name: str) -> None:
        (self.root / "bin" / name).unlink(missing_ok=True)

    def _set_times(self) -> None:
        """Shift file times since the boot to 1970, keeping their order."""
        for folder, _, names in os.walk(self.work_folder):
            for path in (Path(folder, name) for name in names):
                with suppress(OSError):  # it may have been removed meanwhile
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode) and status.st_mtime >= self.started_s - 1:
                        moved = max(status.st_mtime - self.started_s, 0.0)
                        os.utime(path, (moved, moved), follow_symlinks=False)


def _readable(environment: Mapping[str, str]) -> list[Path]:
    """What the stand-ins read: this package, and the libraries that their variables name."""
    from whisper_parity import backends

    names = environment.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    names += [str(Path(environment[name]).parent) for name in ("PARITY_SIM_LITERT",) if environment.get(name)]
    return [Path(name).absolute() for name in (*backends.__path__, *names) if name]


def _set_mode(folder: Path, mode: int) -> None:
    """Change a folder's mode, and of nothing to which a link in its place may lead."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _getprop(properties: Mapping[str, str]) -> str:
    cases = "".join(f"{name}) echo {shlex.quote(value)};;\n" for name, value in properties.items())
    listing = "\n".join(f"[{name}]: [{value}]" for name, value in properties.items())
    return f'#!/bin/sh\ncase "$1" in\n"") echo {shlex.quote(listing)};;\n{cases}*) echo;;\nesac\n'


def _environ(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:  # ended, or another user's
        return b""


def _reset_sighup() -> None:
    """In a new process: restore SIGHUP, which under nohup is inherited as ignored and cannot be trapped.

    It costs a fork of this process, and that a copy of its page tables, however large it is.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _signal(group: int, number: int) -> bool:
    """Signal a process group; return whether it still has members."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True

"""Take from this process what reading and computing do not need, and say truly what is in force.

A foreign file may be a program, and a list of what a program must not hold is never complete. So it is opened in a
process that could do no harm if it held anything: `confine` comes first, everything foreign after it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from whisper_parity.system import landlock, seccomp

SET_PARENT_DEATH_SIGNAL, DROP_BOUND, NO_NEW_PRIVILEGES = 1, 24, 38
CAPABILITY_VERSION = 0x20080522
CAPABILITIES = 64
OPEN_FILES = 512
SYSTEM = (
    "/usr", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/proc/self", "/proc/cpuinfo",
    "/proc/meminfo", "/sys/devices/system", "/dev/null", "/dev/urandom",
)  # fmt: skip
"""What Python and numerical libraries read besides their own folders."""


SYSTEM_OF_SHELLS = (
    "/bin", "/sbin", "/proc", "/sys", "/etc/alternatives", "/etc/group", "/etc/os-release", "/etc/passwd",
    "/dev/random",
)  # fmt: skip
"""What commands of a shell read besides. Of /proc, the kernel keeps back what belongs to processes outside."""
SINKS = ("/dev/null", "/dev/zero", "/dev/full")


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is in force in a process."""

    measures: tuple[str, ...]
    """Each as a reader of a report understands it: "no network (seccomp)"."""

    def __str__(self) -> str:
        """The measures in one line."""
        return ", ".join(self.measures) or "nothing is kept from it on this system"


def confine(readable: Sequence[Path], parent: int) -> Confinement:
    """Confine this process for good; called before it starts a thread and before it opens anything foreign.

    Args:
        readable: files and folders that may be read besides Python's and the system's.
        parent: id of the process with which this one shall end.

    Returns:
        What the system granted of it; nothing is assumed.
    """
    limited = _limit_resources()
    end_with_parent(parent)
    privileges = _give_up_privileges()
    interface = landlock.restrict([*python_folders(), *map(Path, SYSTEM), *readable], (), executable=True)
    filtered = seccomp.install()
    return Confinement(tuple(_measures(interface, filtered, privileges, limited)))


def confine_tool(writable: Sequence[Path]) -> None:
    """Confine this process, which is about to become a program of others that works on a foreign file.

    Args:
        writable: the only folders in which it may write, where the system can see to it.
    """
    _give_up_privileges()
    landlock.restrict([Path("/")], [*writable, Path(os.devnull), Path("/dev/shm")], executable=True)  # noqa: S108
    seccomp.install_for_tools()


def confine_shells(writable: Path, readable: Sequence[Path]) -> Confinement:
    """Confine this thread, and every command that it starts; the process's other threads stay as they are.

    Args:
        writable: the only folder in which anything may be written.
        readable: files and folders that may be read besides that one, Python's and the system's.

    Returns:
        What the system granted of it.
    """
    privileges = _give_up_privileges()
    own = [path for path in python_folders() if path != Path.cwd() and not Path.home().is_relative_to(path)]
    read = [*own, *map(Path, (*SYSTEM, *SYSTEM_OF_SHELLS)), *readable]
    interface = landlock.restrict(read, [writable, *map(Path, SINKS)], executable=True)
    filtered = seccomp.install_for_shells()
    return Confinement(tuple(_measures_of_shells(interface, filtered, privileges)))


def limit_memory(size: int) -> str:
    """Let this process take that much more memory than it has now.

    Args:
        size: in bytes.

    Returns:
        The measure, for `Confinement`; "" where the system has no such limit.
    """
    if not sys.platform.startswith("linux"):
        return ""  # Darwin takes the limit and does not keep it
    import resource

    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    used = pages * resource.getpagesize()
    limit = _at_most(resource.RLIMIT_AS, used + size)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return f"memory {(limit - used) / 2**30:.1f} GiB"


def limit_processor(seconds: float) -> None:
    """Let this process use that much more processor time than it has used; behind it, it is killed (SIGXCPU)."""
    with suppress(ValueError, OSError, ImportError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def python_folders() -> Iterator[Path]:
    """Where Python and everything installed for it lies."""
    import whisper_parity

    names = {*sys.path, sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *whisper_parity.__path__}
    names |= set(os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    return (Path(name).absolute() for name in sorted(names) if name)


def _limit_resources() -> bool:
    """No core files, few open files, no byte into any file; where processes are counted without threads, no other."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        files = _at_most(resource.RLIMIT_NOFILE, OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        if sys.platform == "darwin":
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    except (ImportError, ValueError, OSError):
        return False
    return True


def _at_most(kind: int, wanted: int) -> int:
    """A limit that the process may set: the one it has, where that is less."""
    import resource

    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def end_with_parent(parent: int, how: int = signal.SIGKILL) -> None:
    """End when the parent does, also if it is killed; by a signal that lets this process clean up, if one is given."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, how, 0, 0, 0)
    if os.getppid() != parent:  # it ended before this was in force
        os._exit(1)


def _give_up_privileges() -> bool:
    """Give up all capabilities, and the way to new ones; False where there are none to give up."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    for capability in range(CAPABILITIES):
        library.prctl(DROP_BOUND, capability, 0, 0, 0)
    header, nothing = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    dropped = library.capset(ctypes.byref(header), ctypes.byref(nothing)) == 0
    return bool(library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and dropped)


def _measures(interface: int, filtered: bool, privileges: bool, limited: bool) -> Iterator[str]:
    """What is in force, the strongest first."""
    calls = ["seccomp"] if filtered else []
    if files := [*([f"Landlock {interface}"] if interface else []), *calls]:
        yield f"no writes ({', '.join(files)})"
    if network := [*calls, *([f"Landlock {interface}, TCP only"] if interface >= 4 and not calls else [])]:
        yield f"no network ({', '.join(network)})"
    if filtered:
        yield "no other programs or processes (seccomp)"
    if interface:
        yield f"reads of Python's and the system's folders and this file only (Landlock {interface})"
    if privileges:
        yield "no privileges"
    if limited:
        yield "no bytes into files, no core files (resource limits)"


def _measures_of_shells(interface: int, filtered: bool, privileges: bool) -> Iterator[str]:
    """What is in force, the strongest first."""
    if interface:
        writes = "no writes outside its folder" + ("" if interface >= 3 or filtered else " but to cut files")
        yield f"{writes}, reads of it, Python's and the system's only (Landlock {interface})"
    if network := ["seccomp"] if filtered else [f"Landlock {interface}, TCP only"] if interface >= 4 else []:
        yield f"no connections ({network[0]})"
    if interface >= 6:
        yield f"no signals to processes outside (Landlock {interface})"
    if privileges:
        yield "no privileges"

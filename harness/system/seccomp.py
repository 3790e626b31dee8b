"""Seccomp: which system calls a process may still make. A list of what arithmetic needs, not of what is dangerous."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

ALLOW, ERROR, KILL = 0x7FFF0000, 0x00050000, 0x80000000
SET_SECCOMP, FILTER_MODE = 22, 2
NAMING = (15, 16, 0x53564D41)
"""What threads and allocators ask `prctl` for: to set and get a name, and to name memory."""
DESCRIPTOR = (0, 1, 2, 3, 4, 1030)
"""What may be asked of `fcntl`: copies and flags, and no signals to whoever is named as the owner."""
CLONE_THREAD = 0x10000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
TERMINAL_QUESTION = 0x5401
"""TCGETS: Python asks every stream that it opens whether it is a terminal."""

NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
LOAD, JUMP_EQUAL, JUMP_ANY, RETURN = 0x20, 0x15, 0x45, 0x06


@dataclass(frozen=True, slots=True)
class Architecture:
    """What differs between machines."""

    audit: int
    """As the kernel names it to a filter."""
    allowed: tuple[int, ...]
    """Calls that may be made, whatever their arguments."""
    opens: tuple[tuple[int, int], ...]
    """Calls that open a file, and which argument holds the flags."""
    clone: int
    fcntl: int
    ioctl: int
    prctl: int
    tgkill: int
    prlimit: int
    missing: tuple[int, ...]
    """Calls that answer "no such call", for which the C library knows another way: clone3, openat2."""


_X86_64 = Architecture(
    audit=0xC000003E,
    # fmt: off
    allowed=(
        0, 1, 17, 19, 20,                              # read write pread64 readv writev
        3, 436, 5, 4, 6, 262, 332, 8, 138, 137,        # close close_range fstat stat lstat newfstatat statx lseek fstatfs
        9, 10, 11, 12, 25, 28, 26, 27, 149, 150,       # mmap mprotect munmap brk mremap madvise msync mincore mlock munlock
        13, 14, 15, 131, 128, 219,                     # rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack rt_sigtimedwait
        21, 269, 439, 89, 267, 79, 217, 78, 221, 187,  # access faccessat* readlink* getcwd getdents* fadvise64 readahead
        32, 33, 292, 22, 293, 290,                     # dup* pipe* eventfd2
        7, 271, 23, 270, 291, 233, 232, 281,           # poll ppoll select pselect6 epoll_*
        202, 449, 273, 274, 218, 334, 324,             # futex* *_robust_list set_tid_address rseq membarrier
        60, 231, 39, 186, 110, 102, 104, 107, 108, 115, 111, 121, 124,  # exit* getpid gettid get*id
        24, 204, 143, 145, 146, 147, 309, 140,    # sched_* getcpu getpriority
        228, 229, 230, 35, 96, 201, 100, 98,           # clock_* nanosleep gettimeofday time times getrusage
        318, 99, 63, 158, 97, 239,                     # getrandom sysinfo uname arch_prctl getrlimit get_mempolicy
    ),
    # fmt: on
    opens=((2, 1), (257, 2)), clone=56, fcntl=72, ioctl=16, prctl=157, tgkill=234, prlimit=302, missing=(435, 437),
)  # fmt: skip
_AARCH64 = Architecture(
    audit=0xC00000B7,
    # fmt: off
    allowed=(
        63, 64, 67, 65, 66,
        57, 436, 80, 79, 291, 62, 44, 43,              # close close_range fstat newfstatat statx lseek fstatfs statfs
        222, 226, 215, 214, 216, 233, 227, 232, 228, 229,
        134, 135, 139, 132, 137, 128,
        48, 439, 78, 17, 61, 223, 213,                 # faccessat faccessat2 readlinkat getcwd getdents64 fadvise64 readahead
        23, 24, 59, 19,                                # dup dup3 pipe2 eventfd2
        73, 72, 20, 21, 22,                            # ppoll pselect6 epoll_*
        98, 449, 99, 100, 96, 293, 283,
        93, 94, 172, 178, 173, 174, 176, 175, 177, 158, 155, 156,
        124, 123, 121, 120, 125, 126, 168, 141,
        113, 114, 115, 101, 169, 153, 165,
        278, 179, 160, 163, 236,
    ),
    # fmt: on
    opens=((56, 2),), clone=220, fcntl=25, ioctl=29, prctl=167, tgkill=131, prlimit=261, missing=(435, 437),
)  # fmt: skip
ARCHITECTURES = {"x86_64": _X86_64, "aarch64": _AARCH64}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install() -> bool:
    """Refuse this process, all its threads and all that it starts every call that reading and computing do not need.

    No sockets, no programs, no processes, no files opened to write, no signals to others, no other process's memory.
    A refused call returns EPERM. `no_new_privs` has to be set before (confine.py does).

    Returns:
        Whether it is in force: not on another system than Linux, another machine than x86_64 and aarch64, or where
        the kernel offers no filters.
    """
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None or not hasattr(os, "O_PATH"):
        return False
    code = program(architecture, os.getpid())
    library = ctypes.CDLL(None, use_errno=True)
    filters = _Program(len(code) // 8, code)
    return bool(library.prctl(SET_SECCOMP, FILTER_MODE, ctypes.byref(filters), 0, 0) == 0)


def program(architecture: Architecture, process: int) -> bytes:
    """The filter in the kernel's machine code.

    Args:
        architecture: of the machine.
        process: id of the process, whose threads may signal each other: `abort` does.
    """
    refused = ERROR | errno.EPERM
    code = [
        _statement(LOAD, ARCHITECTURE_AT),
        _jump(JUMP_EQUAL, architecture.audit, 1, 0),
        _statement(RETURN, KILL),
        _statement(LOAD, NUMBER_AT),
        *_answered(architecture.missing, ERROR | errno.ENOSYS),
        *_answered(architecture.allowed, ALLOW),
    ]
    for number, place in architecture.opens:
        code += _asked(number, place, [_jump(JUMP_ANY, WRITING, 0, 1)], refused, ALLOW)
    code += _asked(architecture.clone, 0, [_jump(JUMP_ANY, CLONE_THREAD, 0, 1)], ALLOW, refused)
    for number, place, values in (
        (architecture.tgkill, 0, (process,)),
        (architecture.prlimit, 0, (0,)),
        (architecture.ioctl, 1, (TERMINAL_QUESTION,)),
        (architecture.fcntl, 1, DESCRIPTOR),
        (architecture.prctl, 0, NAMING),
    ):
        code += _asked(number, place, _one_of(values), ALLOW, refused)
    return b"".join([*code, _statement(RETURN, refused)])


def _answered(numbers: tuple[int, ...], answer: int) -> Iterator[bytes]:
    for number in numbers:
        yield _jump(JUMP_EQUAL, number, 0, 1)
        yield _statement(RETURN, answer)


def _asked(number: int, place: int, questions: list[bytes], yes: int, no: int) -> list[bytes]:
    """A call whose answer depends on an argument; the last question jumps over `yes` when it fails."""
    body = [_statement(LOAD, ARGUMENTS_AT + 8 * place), *questions, _statement(RETURN, yes), _statement(RETURN, no)]
    return [_jump(JUMP_EQUAL, number, 0, len(body)), *body]


def _one_of(values: tuple[int, ...]) -> list[bytes]:
    """Questions of which the first that holds jumps to the statement behind all of them."""
    last = len(values) - 1
    return [_jump(JUMP_EQUAL, value, last - place, int(place == last)) for place, value in enumerate(values)]


def _statement(code: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, 0, 0, value)


def _jump(code: int, value: int, true: int, false: int) -> bytes:
    return struct.pack("<HBBI", code, true, false, value)

"""Seccomp: which system calls a process may still make. A list of what arithmetic needs, not of what is dangerous."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Callable, Iterator, Mapping

ALLOW, ERROR, KILL = 0x7FFF0000, 0x00050000, 0x80000000
REFUSED = ERROR | errno.EPERM
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
LOAD, JUMP_EQUAL, JUMP_FROM, JUMP_ANY, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


NUMBERS: Mapping[str, tuple[int, int | None]] = {
    # read and write what is open
    "read": (0, 63), "write": (1, 64), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "lseek": (8, 62),
    "close": (3, 57), "close_range": (436, 436), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24),
    "pipe": (22, None), "pipe2": (293, 59), "eventfd2": (290, 19), "poll": (7, None), "ppoll": (271, 73),
    "select": (23, None), "pselect6": (270, 72), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "fadvise64": (221, 223), "readahead": (187, 213),
    # look at files
    "fstat": (5, 80), "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291),
    "statfs": (137, 43), "fstatfs": (138, 44), "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getcwd": (79, 17), "getdents": (78, None),
    "getdents64": (217, 61),
    # memory
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "brk": (12, 214),
    "madvise": (28, 233), "msync": (26, 227), "mincore": (27, 232), "mlock": (149, 228), "munlock": (150, 229),
    "get_mempolicy": (239, 236), "membarrier": (324, 283),
    # signals of its own
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128),
    # threads
    "futex": (202, 98), "futex_waitv": (449, 449), "set_robust_list": (273, 99), "get_robust_list": (274, 100),
    "set_tid_address": (218, 96), "rseq": (334, 293), "exit": (60, 93), "exit_group": (231, 94),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
    "getcpu": (309, 168), "getpriority": (140, 141), "arch_prctl": (158, None),
    # who it is, what time it is
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158), "getpgrp": (111, None),
    "getpgid": (121, 155), "getsid": (124, 156), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None),
    "times": (100, 153), "getrusage": (98, 165), "getrlimit": (97, 163), "getrandom": (318, 278),
    "sysinfo": (99, 179), "uname": (63, 160),
}  # fmt: skip
"""Calls that may be made, whatever their arguments: number on x86_64 and on aarch64, None where there is none."""
ASKED: Mapping[str, tuple[int, int | None]] = {
    "open": (2, None), "openat": (257, 56), "clone": (56, 220), "tgkill": (234, 131), "prlimit64": (302, 261),
    "ioctl": (16, 29), "fcntl": (72, 25), "prctl": (157, 167),
}  # fmt: skip
"""Calls whose answer depends on an argument."""
MISSING: Mapping[str, tuple[int, int | None]] = {"clone3": (435, 435), "openat2": (437, 437)}
"""Calls that take their arguments from memory, where no filter sees them: "no such call", and the C library knows
another way."""
REFUSED_TO_TOOLS: Mapping[str, tuple[int, int | None]] = {
    "socket": (41, 198), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280),
    "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "io_uring_setup": (425, 425), "userfaultfd": (323, 282), "init_module": (175, 105), "finit_module": (313, 273),
    "kexec_load": (246, 104), "open_by_handle_at": (304, 265), "pidfd_getfd": (438, 438), "reboot": (169, 142),
    "swapon": (167, 224), "acct": (163, 89),
}  # fmt: skip
"""Calls that a program of others must not make while it works on a foreign file; it is trusted, and may need others."""
OTHER_NUMBERS = 0x40000000
"""From here on, x86_64 has all calls a second time."""
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Which of the numbers a machine uses, and how the kernel names it to a filter."""


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
    return _install(lambda machine: program(machine, os.getpid()))


def install_for_tools() -> bool:
    """Refuse this process, and the programs that it becomes and starts, sockets, debugging, mounts and the like.

    Returns:
        Whether it is in force, see `install`.
    """
    return _install(tools_program)


def _install(compiled: Callable[[str], bytes]) -> bool:
    if platform.machine() not in MACHINES or not hasattr(os, "O_PATH"):
        return False
    code = compiled(platform.machine())
    library = ctypes.CDLL(None, use_errno=True)
    filters = _Program(len(code) // 8, code)
    return bool(library.prctl(SET_SECCOMP, FILTER_MODE, ctypes.byref(filters), 0, 0) == 0)


def tools_program(machine: str) -> bytes:
    """The filter of `install_for_tools` in the kernel's machine code."""
    column, audit = MACHINES[machine]
    code = [
        *_of_machine(audit),
        _jump(JUMP_FROM, OTHER_NUMBERS, 0, 1),
        _statement(RETURN, REFUSED),
        *_answered(REFUSED_TO_TOOLS, column, REFUSED),
    ]
    return b"".join([*code, _statement(RETURN, ALLOW)])


def program(machine: str, process: int) -> bytes:
    """The filter in the kernel's machine code.

    Args:
        machine: "x86_64" or "aarch64".
        process: id of the process, whose threads may signal each other: `abort` does.
    """
    column, audit = MACHINES[machine]
    code = [
        *_of_machine(audit),
        *_answered(MISSING, column, ERROR | errno.ENOSYS),
        *_answered(NUMBERS, column, ALLOW),
    ]
    questions: tuple[tuple[str, int, list[bytes], int], ...] = (
        ("open", 1, [_jump(JUMP_ANY, WRITING, 0, 1)], REFUSED),
        ("openat", 2, [_jump(JUMP_ANY, WRITING, 0, 1)], REFUSED),
        ("clone", 0, [_jump(JUMP_ANY, CLONE_THREAD, 0, 1)], ALLOW),
        ("tgkill", 0, _one_of((process,)), ALLOW),
        ("prlimit64", 0, _one_of((0,)), ALLOW),
        ("ioctl", 1, _one_of((TERMINAL_QUESTION,)), ALLOW),
        ("fcntl", 1, _one_of(DESCRIPTOR), ALLOW),
        ("prctl", 0, _one_of(NAMING), ALLOW),
    )
    for name, place, question, answer in questions:
        code += _asked(ASKED[name][column], place, question, answer)
    return b"".join([*code, _statement(RETURN, REFUSED)])


def _of_machine(audit: int) -> list[bytes]:
    """Kill what calls by another machine's numbers, and load the number."""
    return [
        _statement(LOAD, ARCHITECTURE_AT),
        _jump(JUMP_EQUAL, audit, 1, 0),
        _statement(RETURN, KILL),
        _statement(LOAD, NUMBER_AT),
    ]


def _answered(calls: Mapping[str, tuple[int, int | None]], column: int, answer: int) -> Iterator[bytes]:
    for numbers in calls.values():
        if (number := numbers[column]) is not None:
            yield _jump(JUMP_EQUAL, number, 0, 1)
            yield _statement(RETURN, answer)


def _asked(number: int | None, place: int, question: list[bytes], yes: int) -> list[bytes]:
    """A call whose answer depends on an argument; the question jumps over `yes` when it fails."""
    if number is None:
        return []
    no = ALLOW if yes == REFUSED else REFUSED
    body = [_statement(LOAD, ARGUMENTS_AT + 8 * place), *question, _statement(RETURN, yes), _statement(RETURN, no)]
    return [_jump(JUMP_EQUAL, number, 0, len(body)), *body]


def _one_of(values: tuple[int, ...]) -> list[bytes]:
    """Questions of which the first that holds jumps to the statement behind all of them."""
    last = len(values) - 1
    return [_jump(JUMP_EQUAL, value, last - place, int(place == last)) for place, value in enumerate(values)]


def _statement(code: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, 0, 0, value)


def _jump(code: int, value: int, true: int, false: int) -> bytes:
    return struct.pack("<HBBI", code, true, false, value)

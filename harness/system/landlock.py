"""Landlock: Linux takes file, network and signal rights from a process and all that it starts, for good."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on every architecture."""
VERSION_FLAG, PATH_BENEATH = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, DEVICE_CONTROL = 1 << 14, 1 << 15
READ = READ_FILE | READ_FOLDER
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE_CONTROL
"""The rights that a rule for a file, not a folder, may name."""
FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights over files, from which version of the interface on."""
TCP = 0b11
"""To bind and to connect, from version 4 on."""
SCOPES = 0b11
"""Abstract sockets and signals of processes outside, from version 6 on."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Version of the kernel's interface; 0 where there is none."""
    if not hasattr(os, "O_PATH"):
        return 0
    return max(0, _syscall(CREATE_RULESET, None, 0, VERSION_FLAG))


def restrict(readable: Iterable[Path], writable: Iterable[Path], *, executable: bool) -> int:
    """Leave this thread, and what it starts, these files alone; no network, no signals to others.

    `no_new_privs` has to be set before (confine.py does).

    Args:
        readable: folders and files that may be read; those that are not there are left out.
        writable: folders in which anything may be done.
        executable: whether what is readable may be executed, too.

    Returns:
        The version that is in force; 0 where nothing is.
    """
    interface = version()
    if interface == 0:
        return 0
    rights = FILE_RIGHTS[max(number for number in FILE_RIGHTS if number <= interface)]
    ruleset = _Ruleset(rights, TCP if interface >= 4 else 0, SCOPES if interface >= 6 else 0)
    size = 24 if interface >= 6 else 16 if interface >= 4 else 8
    descriptor = _syscall(CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    if descriptor < 0:
        return 0
    try:
        for path in readable:
            _allow(descriptor, path, READ | (EXECUTE if executable else 0))
        for path in writable:
            _allow(descriptor, path, rights)
        return interface if _syscall(RESTRICT_SELF, descriptor, 0) == 0 else 0
    finally:
        os.close(descriptor)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    """Add a rule; a path that is not there, or that takes none, gets no right."""
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _PathBeneath(rights if path.is_dir() else rights & OF_FILES, parent)
        _syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(parent)


def _syscall(number: int, *arguments: object) -> int:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return int(call(ctypes.c_long(number), *words))

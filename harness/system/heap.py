"""How freed memory is kept: for the next tensor, so that its pages need not be given and cleared again.

By default glibc takes a block of more than 32 MiB from the system and gives it back at once. The logits of one pass
(448 x 51865, 93 MB) are such a block: their 22,700 pages are cleared for every token, which takes longer than a small
decoder computes. Other C libraries have no such setting, and keep what they do.
"""

from __future__ import annotations

import ctypes

KEPT_BYTES = 256 << 20
"""Largest block that stays, and most free memory above the last block in use: a bound on what is kept in vain."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""


def settle() -> bool:
    """Keep freed memory, in this process and from now on; whether the C library does so."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(parameter, KEPT_BYTES) for parameter in (TRIM_THRESHOLD, MMAP_THRESHOLD))


def give_back() -> None:
    """Return what is free to the system, wherever it lies: between long pieces of work, whose tensors leave gaps."""
    if KEPT:
        ctypes.CDLL(None).malloc_trim(0)


KEPT = settle()

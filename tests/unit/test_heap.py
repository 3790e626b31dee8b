"""A freed tensor's memory is there for the next one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from whisper_parity.system import heap

FAULTS = """
import resource
{settle}
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * ({mebibytes} << 20)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def faults(mebibytes: int, settle: str = "import whisper_parity") -> int:
    """Pages that the system clears for a block, when one as large was just freed."""
    program = FAULTS.format(settle=settle, mebibytes=mebibytes)
    return int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)


@pytest.mark.skipif(not heap.KEPT, reason="this C library is no glibc: it keeps freed memory in its own way")
def test_the_pages_of_a_freed_block_are_used_again():
    """Those of the logits of a pass; without us all are cleared each time, and beyond the bound they still are."""
    assert faults(96) < 100
    assert faults(96, settle="") > 10_000
    assert faults(2 * heap.KEPT_BYTES >> 20) > 10_000


GAPS = """
from whisper_parity.system import heap
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
blocks = [b"x" * (1 << 20) for _ in range(200)]
blocks = blocks[::10]
before = resident()
heap.give_back()
print(before - resident())
"""


@pytest.mark.skipif(not heap.KEPT, reason="this C library is no glibc: it keeps freed memory in its own way")
def test_gaps_between_what_is_in_use_are_given_back():
    """A hundred and eighty of two hundred blocks are free, and none of them is the last one."""
    given_back = int(subprocess.run([sys.executable, "-c", GAPS], check=True, capture_output=True).stdout)
    assert given_back > 100 << 20

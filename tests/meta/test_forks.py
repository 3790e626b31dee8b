"""Workers are not forked from a process whose runtime has threads: they would crash when they compute."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import torch
torch.set_num_threads({threads})
torch.nn.functional.gelu(torch.ones(2000, 2000))
from whisper_parity.run.worker_processes import forks
print(forks(1))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nothing tells native threads")
@pytest.mark.parametrize(("threads", "forked"), [(1, "True"), (2, "False")])
def test_a_pool_of_threads_is_seen(threads: int, forked: str):
    """Three workers died of SIGSEGV one after the other, in a process whose tests had computed with two threads."""
    code = CODE.format(threads=threads)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == [forked]

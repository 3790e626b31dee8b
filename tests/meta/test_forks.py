"""Workers are not forked from a process whose runtime has threads: they would crash when they compute."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
{before}
from whisper_parity.run.worker_processes import forks
print(forks(1))
"""
POOL = "import torch; torch.set_num_threads(2); torch.nn.functional.gelu(torch.ones(2000, 2000))"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nothing tells native threads")
@pytest.mark.parametrize(("before", "forked"), [("", "True"), (POOL, "False")])
def test_a_pool_of_threads_is_seen(before: str, forked: str):
    """Three workers died of SIGSEGV one after the other, in a process whose tests had computed with two threads."""
    code = CODE.format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stdout.split() == [forked]

"""A first try of a file that may kill its interpreter, or never end: in a process of its own."""

from __future__ import annotations

import subprocess

from whisper_parity.system.process import python_module

LIMIT_S = 300.0
"""For loading a file and one pass."""


def failure(module: str, words: list[str]) -> str:
    """Why `python -m module words` failed, in one line; "" when it did not."""
    try:
        ran = subprocess.run(
            python_module(module, *words), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"one pass takes more than {LIMIT_S:.0f} s"
    if ran.returncode < 0:
        return f"it kills the interpreter by signal {-ran.returncode}"
    lines = [line.strip() for line in ran.stderr.splitlines() if line.strip()] or [f"exit code {ran.returncode}"]
    return lines[-1].rpartition("] ")[2][:300] if ran.returncode else ""

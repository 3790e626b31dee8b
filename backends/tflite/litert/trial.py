"""Try in a separate process what may crash or hang."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from whisper_parity.system import tool
from whisper_parity.system.process import python_module

LIMIT_S = 300.0
"""Time limit for loading a file and one pass."""


def failure(module: str, arguments: list[str], writable: Sequence[Path]) -> str:
    """Why `python -m module arguments`, which may write into some folders only, failed; "" if it succeeded."""
    try:
        process = subprocess.run(
            tool.command(python_module(module, *arguments), writable), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"one pass takes more than {LIMIT_S:.0f} s"
    if process.returncode < 0:
        return f"it kills the interpreter by signal {-process.returncode}"
    if process.returncode == 0:
        return ""
    lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
    return (lines or [f"exit code {process.returncode}"])[-1].rpartition("] ")[2][:300]

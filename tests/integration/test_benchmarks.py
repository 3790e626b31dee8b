"""Every benchmark begins: what it imports is there, and it says what it measures."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.checkout import CHECKOUT

PROGRAMS = sorted(
    path.stem for path in (CHECKOUT / "benchmarks").glob("*.py") if "ArgumentParser" in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_of_a_benchmark(name: str):
    """They are run by hand, and rarely: a name that moved would be found by a user."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "usage:" in ended.stdout

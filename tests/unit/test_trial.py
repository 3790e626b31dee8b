"""What a trial in a separate process says: the crash, the hang, the last line, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from whisper_parity.backends.tflite.litert import trial

CASES = {
    "dies": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it kills the interpreter by signal 11"),
    "hangs": ("import time; time.sleep(60)", "one pass takes more than 1 s"),
    "complains": ("import sys; sys.exit('[here] no such op')", "no such op"),
    "exits": ("import sys; sys.exit(7)", "exit code 7"),
    "works": ("", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failure_is_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever the file does to its interpreter."""
    code, expected = CASES[case]
    (tmp_path / "tried_here.py").write_text(code, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(trial, "LIMIT_S", 1.0 if case == "hangs" else 60.0)
    assert trial.failure("tried_here", [], [tmp_path]) == expected

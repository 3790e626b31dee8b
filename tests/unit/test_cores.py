"""Cores that may be used, threads that suit a model, and how idle ones wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from whisper_parity.model.dims import Dims
from whisper_parity.run import threads
from whisper_parity.system import child, cores, waiting

MICRO = Dims(80, 1500, 128, 2, 3, 51865, 448, 128, 2, 2)
BASE = Dims(80, 1500, 512, 8, 6, 51865, 448, 512, 8, 6)


@pytest.fixture
def group(tmp_path: Path, monkeypatch) -> Path:
    """The control group of a process on a machine with eight cores."""
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_CGROUPS", tmp_path / "own")
    (tmp_path / "own").write_text("7:cpu:/box/inner\n0::/box/inner\n")
    (tmp_path / "box" / "inner").mkdir(parents=True)
    (tmp_path / "cpu" / "box").mkdir(parents=True)
    return tmp_path


def test_without_a_quota_it_is_the_affinity(group):
    """ "max" of version 2 and -1 of version 1 are no quota."""
    (group / "box" / "cpu.max").write_text("max 100000\n")
    (group / "cpu" / "box" / "cpu.cfs_quota_us").write_text("-1\n")
    (group / "cpu" / "box" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.available() == 8


def test_the_smallest_quota_around_the_process_counts(group):
    """Of its own group and of those around it; a part of a core is one core."""
    (group / "box" / "inner" / "cpu.max").write_text("600000 100000\n")
    assert cores.available() == 6
    (group / "box" / "cpu.max").write_text("250000 100000\n")
    assert cores.available() == 3
    (group / "cpu" / "box" / "cpu.cfs_quota_us").write_text("50000\n")
    (group / "cpu" / "box" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.available() == 1


def test_a_small_model_gets_one_thread_and_no_model_more_than_there_are_cores(monkeypatch):
    """Micro has 13 GFLOP a pass, base 151."""
    monkeypatch.setattr(threads.cores, "available", lambda: 4)
    assert (threads.suited(MICRO), threads.suited(BASE)) == (1, 4)
    monkeypatch.setattr(threads.cores, "available", lambda: 64)
    assert threads.suited(BASE) == 6


def test_threads_that_would_spin_are_not_started(monkeypatch):
    """One thread waits for nobody."""
    monkeypatch.setattr(threads.waiting, "HOW", "active: OMP_WAIT_POLICY is ACTIVE")
    monkeypatch.setattr(threads.cores, "available", lambda: 4)
    assert threads.suited(BASE) == 1


@pytest.mark.parametrize(
    ("statement", "given", "expected"),
    [
        ("import whisper_parity.cli", None, "passive"),
        ("import whisper_parity.run.schedule", None, "passive"),
        ("import whisper_parity.backends.pytorch", None, "passive"),
        ("import whisper_parity, torch", None, "passive"),
        ("import whisper_parity.cli", "ACTIVE", "active: OMP_WAIT_POLICY is ACTIVE"),
        ("import whisper_parity.cli", "passive", "passive"),
        ("import torch, whisper_parity", None, "active: torch was imported before whisper_parity"),
        ("import torch, whisper_parity", "PASSIVE", "passive"),
        ("import pytest; pytest.main(['--help'])", None, "passive"),
    ],
)
def test_whatever_imports_the_package_lets_threads_sleep(statement, given, expected):
    """The policy stands in the environment before torch is loaded; where that is too late, it is said."""
    environment = {name: value for name, value in os.environ.items() if name != waiting.POLICY}
    environment |= {waiting.POLICY: given} if given else {}
    told = "sys.modules['whisper_parity.system.waiting'].HOW, os.environ['OMP_WAIT_POLICY']"
    code = f"{statement}\nimport os, sys\nprint({told}, sep='|')"
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    how, policy = ended.stdout.splitlines()[-1].split("|")
    assert (how, policy) == (expected, given or "PASSIVE")


def test_a_confined_child_waits_as_its_parent():
    """The variable is among those that it is given."""
    assert waiting.POLICY.startswith(child.KEPT_FAMILIES)

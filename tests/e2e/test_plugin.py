"""A backend from another package: installed from its files, found by its entry point, run, judged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

SAMPLE = CHECKOUT / "tests" / "e2e" / "plugin_sample"
GUIDE = CHECKOUT / "docs" / "adding-a-backend.md"

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the sample, without network and without touching this environment."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(SAMPLE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder / "site"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def cli(installed: Path, tmp_path: Path) -> Cli:
    """The command line in a process of its own that sees the installed sample."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "whisper_parity.cli", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return call


def test_doctor_lists_an_installed_backend(cli: Cli):
    """With what its probe says, in the order of the chain."""
    done = cli("doctor")
    (line,) = [line for line in done.stdout.splitlines() if line.split()[:1] == ["rounded"]]
    assert line.split()[1] == "available", done.stderr
    assert "parity-sample-backend 0.1.0" in line


def test_an_installed_backend_is_built_run_and_judged(cli: Cli, clip: Path, scripted_checkpoint: Path, tmp_path: Path):
    """float16 drifts by the default tolerances; its bfloat16 variant diverges until the project allows it."""

    def rows(run_id: str, exit_code: int) -> dict[str, dict]:
        done = cli(
            "run",
            "--checkpoint",
            scripted_checkpoint,
            "--cache",
            tmp_path / "cache",
            "--threads",
            2,
            "--clips",
            clip,
            "--language",
            "en",
            "--stages",
            "pytorch,rounded,rounded:bfloat16",
            "--report-dir",
            tmp_path / "reports",
            "--run-id",
            run_id,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        report = json.loads((tmp_path / "reports" / run_id / "report.json").read_text("utf-8"))
        return {row["stage"]: row for row in report["rows"]}

    strict = rows("strict", exit_code=1)
    assert {stage: row["verdict"]["outcome"] for stage, row in strict.items()} == {
        "pytorch": "reference",
        "rounded": "diverged",
        "rounded:bfloat16": "diverged",
    }
    assert strict["rounded:bfloat16"]["verdict"]["rung"] == "tensor"
    assert strict["rounded"]["label"].startswith("rounded (torch ")
    assert (strict["rounded"]["encoder_calls"], strict["rounded"]["decoder_calls"]) == (1, 1)

    shutil.copy(SAMPLE / "parity.toml", tmp_path)
    allowed = rows("allowed", exit_code=0)
    assert allowed["rounded:bfloat16"]["verdict"]["outcome"] in ("pass", "drift")


@pytest.mark.parametrize("name", ["pyproject.toml", "parity_sample_backend.py", "parity.toml"])
def test_the_guide_shows_the_sample_as_it_is(name: str):
    """Every file of the sample stands in docs/adding-a-backend.md, letter by letter."""
    assert (SAMPLE / name).read_text("utf-8") in GUIDE.read_text("utf-8")

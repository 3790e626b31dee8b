"""A team's own repository: the wheel, a parity.toml, files that others made, and a folder called harness of its own.

The way from red to signed to green is typed by docs/in-your-repository.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support import sound
from tests.support.checkout import CHECKOUT

SOURCES = ("harness", "backends", "fixtures", "pyproject.toml", "README.md", "LICENSE")
PARITY_TOML = """
[run]
checkpoint = "models/tiny.pt"
artifacts = "models"
clips = "recordings"
stages = "pytorch,torchscript"
language = "en"
threads = 2
"""
OTHER_TEST = """
import sys

from harness import answer  # the team's own


def test_other():
    assert answer() == 42
    heavy = {"torch", "numpy", "whisper", "whisper_parity.pytest_items", "whisper_parity.run.plan"}
    assert not heavy & set(sys.modules)
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; what the wheel depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        path = CHECKOUT / name
        ignored = shutil.ignore_patterns("__pycache__", "*.obtained.json")
        shutil.copytree(path, source / name, ignore=ignored) if path.is_dir() else shutil.copy(path, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps"]
    _succeed([*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", folder, source])
    venv.create(folder / "venv", with_pip=False)
    packages = next((folder / "venv").glob("lib/python*/site-packages"))
    (wheel,) = folder.glob("*.whl")
    _succeed([*pip, "install", *offline, "--target", packages, wheel])
    (packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", "utf-8")
    return folder / "venv"


@pytest.fixture(scope="module")
def artifacts(
    tmp_path_factory: pytest.TempPathFactory, parity_in: Callable[[Path], Callable], scripted_checkpoint: Path
) -> Path:
    """What the team's own scripts made: a checkpoint and its two TorchScript files, without lineage records."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(scripted_checkpoint, folder / "tiny.pt")
    built = parity_in(folder)("build", "--stages", "torchscript", "--checkpoint", folder / "tiny.pt", "--out", folder)
    assert built.exit_code == 0, built.output
    for record in folder.glob("*.lineage.json"):
        record.unlink()
    return folder


@pytest.fixture
def repository(tmp_path: Path, artifacts: Path) -> Path:
    """A git repository with clips, artifacts and a harness of its own."""
    shutil.copytree(artifacts, tmp_path / "models")
    (tmp_path / "recordings").mkdir()
    for seed, name in enumerate(("one", "two-b")):
        sound.write_wav(tmp_path / "recordings" / f"{name}.wav", sound.warble(1.0, seed=seed))
    (tmp_path / "parity.toml").write_text(PARITY_TOML, "utf-8")
    (tmp_path / "test_other.py").write_text(OTHER_TEST, "utf-8")
    for name in ("harness", "fixtures", "backends"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("def answer():\n    return 42\n", "utf-8")
    _succeed(["git", "init", "--quiet", tmp_path])
    return tmp_path


@pytest.fixture
def run(environment: Path, repository: Path, cache_dir: Path) -> Run:
    """A program of the environment, in the team's repository."""
    unwanted = ("CI", "PYTHONPATH", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "VIRTUAL_ENV")
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST") and key not in unwanted}
    own["WHISPER_PARITY_CACHE"] = str(cache_dir)

    def call(*words: object, folder: Path = repository) -> subprocess.CompletedProcess[str]:
        command = [environment / "bin" / "python", "-m", *map(str, words)]
        return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True)

    return call


def _succeed(command: list[object]) -> None:
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_broken_missing_and_misnamed_files_are_red(run: Run, repository: Path):
    """Another table, a half that is not there, two halves under each other's names."""
    models = repository / "models"
    table = np.load(models / "token_embedding.npy")
    table[[50258, 50259]] = table[[400, 370]]
    np.save(models / "token_embedding.npy", table)
    broken = run("pytest", "-m", "parity", "--parity-run-id", "broken")
    assert (broken.returncode, "diverged: weights: token_embedding.npy: " in broken.stdout) == (1, True)
    assert str(repository) not in (repository / "reports" / "broken" / "options.json").read_text("utf-8")
    encoder, decoder = models / "encoder_tiny_3000.pt", models / "decoder_tiny_448.pt"
    kept = encoder.rename(models / "kept")
    encoder, decoder = decoder.rename(encoder), kept.rename(decoder)
    misnamed = run("pytest", "-m", "parity", "--parity-run-id", "misnamed", "-k", "torchscript-one")
    assert (misnamed.returncode, "invalid input: " in misnamed.stdout) == (1, True)
    decoder.unlink()
    missing = run("pytest", "-m", "parity", "--parity-run-id", "missing", "-k", "torchscript-one")
    assert missing.returncode == 1
    assert f"{decoder}: the decoder file is missing or empty" in missing.stdout


def test_nothing_compared_is_never_green(run: Run, repository: Path):
    """References alone, one stage, no item, no parity.toml: exit code 1, and why."""
    references = run("pytest", "-m", "parity", "-k", "pytorch-one")
    assert references.returncode == 1
    assert "nothing was compared: only references are left of the selection" in references.stdout
    one_stage = run("pytest", "-m", "parity", "--parity-stages", "pytorch", "-n", "2")
    assert (one_stage.returncode, "nothing was compared: ask for two stages" in one_stage.stdout) == (1, True)
    none = run("pytest", "-m", "parity", "-k", "nowhere")
    assert (none.returncode, "nothing was compared: no item of " in none.stdout) == (1, True)
    (repository / "parity.toml").unlink()
    nowhere = run("pytest", "-m", "parity")
    assert (nowhere.returncode, "nothing was compared: no parity.toml in " in nowhere.stdout) == (1, True)


def test_a_subset_is_judged_as_that_subset(run: Run):
    """One cell, and a line that says what it is a part of; workers share a run."""
    one = run("pytest", "-m", "parity", "-k", "torchscript-one", "-n", "2")
    assert one.returncode == 0, one.stdout
    assert "subset: 1 of 4 cells" in one.stdout
    assert "parity pass: 1 pass (1 of 4 cells)" in one.stdout


def test_other_tests_cost_nothing(run: Run):
    """Without -m parity nothing of it is collected, and nothing heavy is imported."""
    plain = run("pytest", "-q", "-p", "no:anyio", "-p", "no:hypothesispytest", "-p", "no:jaxtyping")
    assert (plain.returncode, "1 passed" in plain.stdout) == (0, True), plain.stdout


def test_the_demo_runs_from_the_wheel_in_an_empty_folder(run: Run, tmp_path_factory: pytest.TempPathFactory):
    """The embedded checkpoint, clips and limits are in it."""
    empty = tmp_path_factory.mktemp("empty")
    words = ("run", "--stages", "pytorch,torchscript", "--clips", "en-statement-01,zh-question-01", "--threads", 2)
    ran = run("whisper_parity.cli", *words, "--report-dir", "reports", folder=empty)
    assert ran.returncode in (0, 1), ran.stderr
    assert "checkpoint micro (embedded micro checkpoint)" in ran.stdout
    assert "2 pass, 2 reference" in ran.stdout

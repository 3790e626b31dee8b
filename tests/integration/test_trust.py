"""What a parity.toml or a run from elsewhere names for execution runs only after the user has agreed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.commands import RUN
from tests.support.refusals import line_of, require_no_traceback
from whisper_parity.backend import trust
from whisper_parity.run import report
from whisper_parity.run.folder import RunFolder

COMMANDS = {
    "run": (*RUN, "--stages", "pytorch,tflite,dla"),
    "build": ("build", "--stages", "tflite"),
    "noise": ("noise",),
    "device list": ("device", "list"),
    "device doctor": ("device", "doctor"),
}


@pytest.fixture(autouse=True)
def cautious(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user who has trusted nothing yet."""
    monkeypatch.delenv(trust.VARIABLE)
    monkeypatch.setenv(trust.FOLDER_VARIABLE, str(tmp_path / "trusted"))


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """The file that the program writes when it is run."""
    return tmp_path / "it ran"


@pytest.fixture
def hostile(tmp_path: Path, trap: Path) -> Path:
    """A parity.toml whose programs say that they ran."""
    program = tmp_path / "tool.sh"
    program.write_text(f"#!/bin/sh\ntouch '{trap}'\n", "utf-8")
    program.chmod(0o755)
    path = tmp_path / "parity.toml"
    path.write_text(
        f'[backends.dla]\nadb = "{program}"\nncc = "{program}"\nrunner = "{program}"\n'
        f'[backends.tflite]\nmtk_python = "{program}"\n',
        "utf-8",
    )
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_what_an_untrusted_file_names(parity, clip: Path, hostile: Path, trap: Path, command: str):
    """One line that names the programs and the way on."""
    words = [*COMMANDS[command], *(["--clips", clip] if command in ("run", "noise") else [])]
    line = line_of(parity(*words), 2)
    assert line.startswith(f"{hostile} names programs that would run: dla.")
    assert line.endswith("Read it, then type `parity trust`; in CI `parity trust --yes`, or WHISPER_PARITY_TRUST=1")
    assert "tool.sh" in line
    assert not trap.exists()


def test_a_cache_that_a_file_brings_must_be_trusted(parity, clip: Path, tmp_path: Path):
    """What lies in it counts as built by ourselves."""
    (tmp_path / "parity.toml").write_text('[run]\ncache = "cache"\n', "utf-8")
    line = line_of(parity(*RUN, "--clips", clip), 2)
    assert line.startswith(f"{tmp_path / 'parity.toml'} names programs that would run: run.cache = 'cache'")


def test_doctor_shows_what_would_run_and_runs_nothing(parity, hostile: Path, trap: Path):
    """Backends of trusted or no programs are asked as ever."""
    result = parity("doctor")
    require_no_traceback(result, 3)
    assert "dla          not asked" in result.stdout
    assert "pytorch      available" in result.stdout
    for key in ("dla.adb", "dla.ncc", "dla.runner", "tflite.mtk_python"):
        assert f"{hostile} {key} = " in result.stdout
    assert "would run, once trusted: `parity trust`" in result.stdout
    assert not trap.exists()


def test_nobody_agrees_where_nobody_can_answer(parity, hostile: Path, trap: Path):
    """Without a terminal and without --yes."""
    result = parity("trust")
    require_no_traceback(result, 2)
    assert f"parity: {hostile}: not trusted. Nothing of it was run" in result.stderr
    assert "dla.adb" in result.stdout
    assert not list(hostile.parent.glob("trusted/*"))


def test_trust_holds_until_the_file_or_a_program_beside_it_changes(parity, hostile: Path, trap: Path):
    """By content, as direnv does it."""
    require_no_traceback(parity("trust", "--yes"), 0)
    result = parity("device", "list")
    assert trap.exists(), result.output
    trap.unlink()
    text = hostile.read_text("utf-8")
    hostile.write_text(f"{text}\n# another line\n", "utf-8")
    line_of(parity("device", "list"), 2)
    hostile.write_text(text, "utf-8")
    parity("device", "list")
    assert trap.exists()
    trap.unlink()
    (hostile.parent / "tool.sh").write_text(f"#!/bin/sh\n# another\ntouch '{trap}'\n", "utf-8")
    line_of(parity("device", "list"), 2)
    assert not trap.exists()


def test_trust_in_one_place_is_none_in_another(parity, hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A copy of a trusted file elsewhere may name other things by the same relative paths."""
    require_no_traceback(parity("trust", "--yes"), 0)
    (tmp_path / "copy").mkdir()
    shutil.copy(hostile, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    line_of(parity("device", "list"), 2)


def test_ci_may_trust_its_own_repository(parity, hostile: Path, trap: Path, monkeypatch: pytest.MonkeyPatch):
    """By one variable."""
    monkeypatch.setenv(trust.VARIABLE, "1")
    parity("device", "list")
    assert trap.exists()


def test_what_the_user_types_is_the_users_own(parity, hostile: Path, trap: Path, tmp_path: Path):
    """A word of --set in the place of what the file names needs no trust."""
    hostile.write_text(f'[backends.dla]\nadb = "{tmp_path / "tool.sh"}"\n', "utf-8")
    result = parity(*RUN, "--clips", "default", "--set", f"dla.adb={tmp_path / 'none'}")
    assert "names programs" not in result.output


def test_a_file_without_programs_needs_no_trust(parity, clip: Path, tmp_path: Path):
    """Nothing legitimate is refused."""
    (tmp_path / "parity.toml").write_text('[backends.dla]\nsoc = "MT8371"\nflags = []\n', "utf-8")
    require_no_traceback(parity(*RUN, "--clips", clip), 0)
    result = parity("trust")
    assert "names no program, so there is nothing to trust" in result.stdout


@pytest.fixture
def foreign_run(parity, clip: Path, tmp_path: Path, trap: Path) -> Path:
    """A run folder whose record names a program."""
    require_no_traceback(parity(*RUN, "--clips", clip, "--run-id", "foreign"), 0)
    run = RunFolder(tmp_path / "reports" / "foreign")
    program = tmp_path / "tool.sh"
    program.write_text(f"#!/bin/sh\ntouch '{trap}'\n", "utf-8")
    program.chmod(0o755)
    record = json.loads(run.options.read_text("utf-8"))
    record |= {"stages": ["pytorch", "tflite", "dla"], "settings": [f"dla.adb={program}"]}
    run.options.write_text(json.dumps(record), "utf-8")
    return run.path


def test_a_run_from_elsewhere_runs_nothing(parity, foreign_run: Path, trap: Path):
    """Its recorded words were typed by somebody else."""
    line = line_of(parity("explain", "warble", "--stage", "torchscript", "--run", foreign_run), 2)
    assert line.startswith(f"{foreign_run / 'options.json'} names programs that would run: dla.adb = ")
    assert f"`parity trust {foreign_run}`" in line
    assert not trap.exists()
    require_no_traceback(parity("trust", foreign_run, "--yes"), 0)
    assert "names programs" not in parity("explain", "warble", "--stage", "torchscript", "--run", foreign_run).output


def test_what_was_typed_here_is_explained_here(parity, clip: Path, tmp_path: Path):
    """A run with --set words that name programs is asked about later without another word."""
    words = (*RUN, "--clips", clip, "--run-id", "own", "--set", "dla.adb=/nowhere/adb")
    require_no_traceback(parity(*words), 0)
    assert "names programs" not in parity("explain", "warble", "--run", "own").output


@pytest.mark.parametrize(
    "place", ["explain", "explain/warble--torchscript.json", ".locks/warble--pytorch", "index.html"]
)
def test_a_run_with_links_writes_nowhere(parity, clip: Path, tmp_path: Path, place: str):
    """A link in it would send what is written to where its author likes."""
    require_no_traceback(parity(*RUN, "--clips", clip, "--run-id", "linked"), 0)
    run, outside = tmp_path / "reports" / "linked", tmp_path / "outside"
    is_folder = place == "explain"
    outside.mkdir() if is_folder else outside.write_text("mine", "utf-8")
    link = run / place
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside, target_is_directory=is_folder)
    commands = [
        ("explain", "warble", "--stage", "torchscript", "--run", run),
        (*RUN, "--clips", clip, "--run-id", "linked"),
        ("report", run, "--format", "html"),
    ]
    for words in commands:
        assert line_of(parity(*words), 2) == f"{link}: a link, and a run holds none. Delete it"
    assert not list(outside.iterdir()) if is_folder else outside.read_text("utf-8") == "mine"
    assert report.load(RunFolder(run)).finished

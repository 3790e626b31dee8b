"""What the shell completes: commands, stages, clips, runs, policies; in bash behind a colon too."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from whisper_parity import cli, cli_complete
from whisper_parity.cli_complete import Bash
from whisper_parity.cli_group import VARIABLE
from whisper_parity.run.folder import REPORT, RunFolder
from whisper_parity.run.journal import Journal, Record


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, a policy and a manifest of one's own."""
    for name in ("monday", "tuesday"):
        (tmp_path / "reports" / name).mkdir(parents=True)
        (tmp_path / "reports" / name / REPORT).write_text("{}")
        with Journal.open(RunFolder(tmp_path / "reports" / name)) as journal:
            for clip in ("first--x", f"of-{name}"):
                journal.append(Record("cell", (clip, "tflite:int8"), "{}"))
    (tmp_path / "parity.toml").write_text('[policies.phone]\nbase = "whisper"\n')
    (tmp_path / "own.jsonl").write_text('{"audio_filepath": "a.wav", "name": "my-clip", "tags": ["mine"]}\n')
    (tmp_path / "a.wav").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What bash gets for a line with the cursor at its end."""
    monkeypatch.setenv("COMP_WORDS", line)
    answers = Bash(cli.main, {}, "parity", VARIABLE).complete().splitlines()
    return [answer.removeprefix("plain,") for answer in answers]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("parity ga", ["gate"]),
        ("parity run --stages tfl", ["tflite", "tflite:fp32", "tflite:fp16", "tflite:int8", "tflite:kv"]),
        ("parity run --stages pytorch,tflite:i", ["int8"]),
        ("parity run --stages=torch", ["torchscript", "torchscript:kv"]),
        ("parity run --stages pytorch,py", []),
        ("parity run --policy ph", ["phone"]),
        ("parity run --clips en-comma-01,zh-comma-05", ["en-comma-01,zh-comma-05"]),
        ("parity run --manifest own.jsonl --clips m", ["my-clip", "mine"]),
        ("parity gate mon", ["monday"]),
        ("parity run --run-id tue", ["tuesday"]),
        ("parity explain --run monday ", ["first--x", "of-monday"]),
        ("parity compare monday tues", ["tuesday"]),
        ("parity run --verb", ["--verbose"]),
    ],
)
def test_values_complete(line: str, values: list[str], monkeypatch: pytest.MonkeyPatch):
    """By name; in a list the last one, and none twice."""
    assert offered(line, monkeypatch) == values


def test_a_folder_that_cannot_be_read_offers_nothing(project: Path, monkeypatch: pytest.MonkeyPatch):
    """An error in the middle of a line would be no help."""
    (project / "parity.toml").write_text("this is no TOML")
    assert offered("parity gate ", monkeypatch) == []
    assert offered("parity run --clips ", monkeypatch) == []


def test_a_file_that_is_no_run_is_left_to_the_shell(project: Path, monkeypatch: pytest.MonkeyPatch):
    """`parity compare` takes result files too."""
    assert offered("parity compare own", monkeypatch) == ["file,own"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("line", "values"),
    [("parity run --stages tflite:", ["fp32", "fp16", "int8", "kv"]), ("parity gate t", ["tuesday"])],
)
def test_bash_itself_gets_them(project: Path, tmp_path: Path, line: str, values: list[str]):
    """The printed script, in a bash that breaks words at colons."""
    parity = tmp_path / "parity"
    parity.write_text(f'#!/bin/sh\nexec {sys.executable} -m whisper_parity.cli "$@"\n')
    parity.chmod(0o755)
    script = f"""eval "$({parity} completion bash)"
COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _parity_completion {parity}; printf '%s\\n' "${{COMPREPLY[@]}}\""""
    done = subprocess.run(["bash", "--norc", "-c", script], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == values


@pytest.mark.parametrize("shell", cli_complete.SHELLS)
def test_every_shell_has_its_script(shell: str, parity):
    """Which asks by our variable."""
    result = parity("completion", shell)
    assert result.exit_code == 0
    assert VARIABLE in result.stdout

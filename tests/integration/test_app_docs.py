"""docs/app.md by itself: every parity.toml in it is read, every command is run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support import sound, standins
from tests.support.checkout import CHECKOUT
from whisper_parity.backends.app import description, job, settings
from whisper_parity.system import inputs

PAGE = (CHECKOUT / "docs" / "app.md").read_text("utf-8")
FILES = ("whisper_kv_test", "whisper-cli", "my_whisper", "a.dla", "a.npy", "a.txt", "a.so", "ggml-base.bin")


def blocks(kind: str) -> list[str]:
    """Blocks of a language, without the indentation of a list."""
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


COMMANDS = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the page speaks of, with stand-ins for the programs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "deploy").mkdir()
    (tmp_path / "sent" / "test_en").mkdir(parents=True)
    sound.write_wav(tmp_path / "clips" / "test_en.wav", sound.warble(1.0))
    (tmp_path / "sent" / "test_en" / "stdout").write_text(standins.kv_output())
    for name in FILES:
        (tmp_path / "deploy" / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("number", range(len(blocks("toml"))))
def test_every_table_is_read(team, number):
    """By the settings, the description, and the files that it names."""
    path = team / "parity.toml"
    path.write_text(blocks("toml")[number])
    site = settings.read(inputs.read_toml(path)["backends"]["app"])
    described = description.of(site)
    assert described.argv[0] == "{program}"
    if site.recorded is None:
        assert job.of(site, described).hashes()["program"]


@pytest.mark.parametrize("command", [command for command in COMMANDS if "pytorch,app " not in command])
def test_every_command_runs(team, parity, command):
    """Where it needs no board."""
    recorded = next(block for block in blocks("toml") if 'recorded = "sent"' in block)
    (team / "parity.toml").write_text(recorded if "recorded" in command else "")
    result = parity(*shlex.split(command)[1:])
    assert result.exit_code in ((0, 1) if "run" in command else (0,)), result.output
    if "build" in command:
        assert (team / "board" / "model.json").is_file()
        assert (team / "board" / "app_program.json").is_file()
    else:
        assert "app:recorded" in result.output

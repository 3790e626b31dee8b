"""docs/app.md by itself: every parity.toml in it is read."""

from __future__ import annotations

import re
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

"""`parity cache`: what it says and removes, by the limit of the command line or of parity.toml."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a kept trace of 2 KiB and a draft, in the folder that the environment names."""
    folder = tmp_path / "cache"
    for name, size in (("traces/a.safetensors", 2048), ("drafts/b.json", 5)):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"x" * size)
    monkeypatch.setenv("WHISPER_PARITY_CACHE", str(folder))
    return folder


def test_info_says_what_lies_there_and_how_much_may(parity, cache, tmp_path):
    """A line for each kind, their sum, and the limit of this project."""
    (tmp_path / "parity.toml").write_text('[run]\ncache_limit = "3GiB"\n')
    result = parity("cache", "info")
    assert result.exit_code == 0, result.output
    lines = [line.split()[:4] for line in result.stdout.splitlines()]
    assert lines[0] == ["drafts", "1", "5", "B"]
    assert lines[1] == ["traces", "1", "2.0", "KiB"]
    assert lines[2] == ["all", "2", "2.0", "KiB"]
    assert result.stdout.splitlines()[3] == f"limit        3.0 GiB, of {cache}"


def test_prune_keeps_the_limit_and_all_leaves_nothing(parity, cache):
    """Within the limit nothing goes."""
    assert "removed           0" in parity("cache", "prune").stdout
    assert parity("cache", "prune", "--cache-limit", "1KiB").exit_code == 0
    assert not (cache / "traces" / "a.safetensors").exists()
    assert parity("cache", "prune", "--all").exit_code == 0
    assert not (cache / "drafts" / "b.json").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--older", "soon"), "parity: --older 'soon' is no time: expected one as 90s, 30min, 12h or 30d"),
        (("--cache-limit", "much"), "parity: cache limit 'much' is no size: expected one as 16GiB, 500MiB or 0"),
    ],
)
def test_what_is_no_time_or_size_removes_nothing(parity, cache, words, line):
    """Exit code 2, one line."""
    result = parity("cache", "prune", *words)
    assert (result.exit_code, result.output.strip()) == (2, line)
    assert (cache / "traces" / "a.safetensors").exists()

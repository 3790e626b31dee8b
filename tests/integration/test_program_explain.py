"""A program's outputs that somebody sent, judged and explained through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from whisper_parity.clips import features

CLIP = "en-comma-01"
MICRO = CHECKOUT / "fixtures" / "micro" / "micro.pt"
SETTINGS = """[backends.app]
preset = "generic-json"
after = "pytorch"
recorded = "sent"
[backends.app.pull]
input_features = { file = "mel.bin", dtype = "float32", shape = [1, 80, 3000] }
"""


def test_a_front_end_is_named_from_a_text_and_a_file_of_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parity
):
    """Values of a log-mel without its scale: the rung, its cause, and that it alone gives this text."""
    monkeypatch.chdir(tmp_path)
    sent = tmp_path / "sent" / CLIP
    sent.mkdir(parents=True)
    sound = CHECKOUT / "fixtures" / "clips" / f"{CLIP}.flac"
    quieter = features.compute(sound, 80).windows[0].input_features * 0.3
    quieter.astype("<f4").tofile(sent / "mel.bin")
    (sent / "result.json").write_text(json.dumps({"text": " I lost the chair, so Peter."}))
    (tmp_path / "parity.toml").write_text(SETTINGS)
    words = ("--checkpoint", MICRO, "--stages", "pytorch,app:recorded", "--clips", CLIP, "--language", "en")
    ran = parity("run", *words, "--policy", "plain", "--run-id", "sent", "--no-state")
    assert ran.exit_code == 1, ran.output
    assert "diverged: en-comma-01 · app:recorded: features: values are 0.3 times Whisper's" in ran.output
    explained = parity("explain", "--run", "sent")
    assert explained.exit_code == 0, explained.output
    lines = [line.strip() for line in explained.output.splitlines()]
    assert any(line.endswith("alone reproduces the word 'he remembered this old boat'") for line in lines)
    assert any(line.startswith("to blame   pytorch->app:recorded · features · values are 0.3") for line in lines)
    assert "not known  margins: it names no tokens" in lines


def test_a_file_of_features_alone_says_what_it_makes_of_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parity
):
    """No text was handed over: nothing is said of one, and the reference shows what these features change."""
    monkeypatch.chdir(tmp_path)
    sent = tmp_path / "sent" / CLIP
    sent.mkdir(parents=True)
    sound = CHECKOUT / "fixtures" / "clips" / f"{CLIP}.flac"
    quieter = features.compute(sound, 80).windows[0].input_features * 0.3
    quieter.astype("<f4").tofile(sent / "mel.bin")
    (tmp_path / "parity.toml").write_text(SETTINGS)
    words = ("--checkpoint", MICRO, "--stages", "pytorch,app:recorded", "--clips", CLIP, "--language", "en")
    ran = parity("run", *words, "--policy", "plain", "--run-id", "sent", "--no-state")
    assert ran.exit_code == 1, ran.output
    row = json.loads((tmp_path / "reports" / "sent" / "report.json").read_text("utf-8"))["rows"][1]
    assert row["verdict"]["rung"] == "features"
    assert row["vs_parent"]["comparison"]["text"] is None
    explained = parity("explain", "--run", "sent")
    assert explained.exit_code == 0, explained.output
    assert "lost text" not in explained.output
    assert "alone makes the reference change the word" in explained.output
    assert "not known  its text: none was handed over" in explained.output

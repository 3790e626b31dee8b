"""State and order in a real run: the small set always, the whole one on request."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import sound
from whisper_parity.backends.torchscript import TorchScriptSession
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder

STAGES = ("--stages", "pytorch,torchscript")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two that differ in sound and length, and a silent one."""
    folder = tmp_path / "clips"
    folder.mkdir()
    sound.write_wav(folder / "one.wav", sound.warble(1.0))
    sound.write_wav(folder / "two.wav", sound.warble(2.0, seed=1))
    sound.write_wav(folder / "zero.wav", np.zeros(16_000, np.float32))
    return folder


@pytest.fixture
def run(parity, clips):
    """`parity run` of pytorch and torchscript on them."""
    return lambda *words: parity("run", "--clips", clips, "--language", "en", *STAGES, "--run-id", "s", *words)


@pytest.fixture
def stale(monkeypatch):
    """A TorchScript decoder that reads the encoder output of the clip before."""
    decode = TorchScriptSession.decode
    kept: dict[int, np.ndarray] = {}

    def decode_stale(self, tokens, encoder_output, rows):
        used = kept.get(id(self), encoder_output)
        kept[id(self)] = encoder_output
        return decode(self, tokens, used, rows)

    monkeypatch.setattr(TorchScriptSession, "decode", decode_stale)


def test_every_run_checks_the_small_set_and_the_whole_one_on_request(run, tmp_path):
    """One more window for each stage, the run itself recorded the rest; then the whole set, and no more."""
    result = run("--fresh", "-v")
    assert result.exit_code == 0, result.output
    assert "state: nothing depends on what ran before: A B A (pytorch, torchscript)" in result.stdout
    states = records.load(RunFolder(tmp_path / "reports" / "s")).states
    assert [(check.stage, check.sequence, check.clips, check.stateful, check.runs) for check in states] == [
        ("pytorch", "A B A", ("one", "two"), False, 1),
        ("torchscript", "A B A", ("one", "two"), False, 1),
    ]
    result = run("--state")
    assert result.exit_code == 0, result.output
    whole = records.load(RunFolder(tmp_path / "reports" / "s")).states
    assert [(check.sequence, check.checked, check.stateful) for check in whole if check.stage == "torchscript"] == [
        ("same clip twice", True, False),
        ("A B A", True, False),
        ("short after long", True, False),
        ("silence after speech", True, False),
        ("ten repeats", True, False),
        ("two sessions", True, False),
    ]
    assert run().exit_code == 0
    assert (
        records.load(RunFolder(tmp_path / "reports" / "s")).states == whole
    )  # a run that is continued keeps what was checked


def test_a_run_without_the_check_says_so(run, stale, tmp_path):
    """A line for each stage; the same run with the check finds what was left out. Both words at once are refused."""
    result = run("--no-state")
    assert "not checked: torchscript: state and order: switched off by --no-state" in result.stdout
    assert "nothing depends on what ran before" not in result.stdout
    assert "stateful" not in result.stdout
    states = records.load(RunFolder(tmp_path / "reports" / "s")).states
    assert [(check.checked, check.runs) for check in states] == [(False, 0), (False, 0)]
    assert run().stdout.splitlines()[0].endswith("; stateful: torchscript (A B A)")
    assert run("--state", "--no-state").exit_code == 2


def test_a_stateful_stage_fails_the_run(run, stale, tmp_path):
    """Exit code 1, the stage and the sequence in the first line, the tensor and the place in a line of its own."""
    result = run()
    report = records.load(RunFolder(tmp_path / "reports" / "s"))
    assert (result.exit_code, report.exit_code) == (1, 1)
    assert result.stdout.splitlines()[0].endswith("; stateful: torchscript (A B A)")
    assert "stateful: torchscript: A B A: logits of one (run 3, after two) differs by" in result.stdout
    assert [(check.stage, check.stateful) for check in report.states] == [("pytorch", False), ("torchscript", True)]


def test_a_stage_that_fails_in_between_is_not_checked(run, monkeypatch, tmp_path):
    """The runtime breaks with the fourth clip: exit code 3, and the reason."""
    encode, calls = TorchScriptSession.encode, []

    def encode_thrice(self, input_features):
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("out of order")
        return encode(self, input_features)

    monkeypatch.setattr(TorchScriptSession, "encode", encode_thrice)
    result = run()
    assert result.exit_code == 3
    assert "not checked: torchscript: A B A: torchscript failed on one: RuntimeError: out of order" in result.stdout
    check = records.load(RunFolder(tmp_path / "reports" / "s")).states[-1]
    assert (check.checked, check.stateful, check.error_code) == (False, False, 3)
    monkeypatch.setattr(TorchScriptSession, "encode", encode)
    assert run().exit_code == 0  # it is checked again once the error is gone
    assert records.load(RunFolder(tmp_path / "reports" / "s")).states[-1].checked


def test_a_device_is_checked_too(parity, clips, tmp_path):
    """A fleet of one simulated device: one session after another; two at once are said not to be possible."""
    stages = "pytorch,tflite,dla:simulated"
    result = parity("run", "--clips", clips, "--language", "en", "--stages", stages, "--run-id", "s", "--state")
    assert result.exit_code == 0, result.output
    found = {
        c.sequence: c for c in records.load(RunFolder(tmp_path / "reports" / "s")).states if c.stage == "dla:simulated"
    }
    assert [(name, check.checked, check.stateful) for name, check in found.items()] == [
        ("same clip twice", True, False),
        ("A B A", True, False),
        ("short after long", True, False),
        ("silence after speech", True, False),
        ("ten repeats", True, False),
        ("two sessions", False, False),
    ]
    assert "one device, which runs one session at a time" in found["two sessions"].reason


def test_options_of_parity_toml_have_to_be_flags(run, tmp_path):
    """true or false, nothing else."""
    (tmp_path / "parity.toml").write_text(f"[run]\nstate = {json.dumps('yes')}\n")
    result = run()
    assert result.exit_code == 2
    assert "parity.toml [run] state: expected true or false, found 'yes'" in result.output

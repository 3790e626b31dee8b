"""Faults of programs, end to end: a program that has one is run as a stage, its row names rung and cause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import sound
from tests.support.checkout import CHECKOUT
from tests.support.programs import LIST, MICRO, wav
from whisper_parity.backends.dla import native
from whisper_parity.clips import audio


@dataclass(frozen=True)
class Expected:
    """What the row of a faulty program says."""

    fault: str
    clip: str
    outcome: str
    rung: str
    words: str
    language: str = "en"
    stage: str = "app"


FAULTS = (
    Expected("padded_spectrogram", "plain", "diverged", "features", "spectrogram padded with 0.0"),
    Expected("symmetric_window", "plain", "drift", "features", "symmetric Hann window"),
    Expected("edge_mirror", "loud", "drift", "features", "edge"),
    Expected("filters_missing", "plain", "diverged", "features", "filter"),
    Expected("list_chunk", "list", "diverged", "features", "header"),
    Expected("stereo_as_mono", "stereo", "diverged", "features", "stereo read as mono"),
    Expected("rate_8k_as_16k", "slow", "diverged", "features", "8000 Hz"),
    Expected("overflow_30s", "long", "diverged", "features", "those of the whole sound"),
    Expected("silent_english", "zh", "diverged", "prompt", "silently English", "zh"),
    Expected("wrong_prompt_ids", "plain", "diverged", "prompt", "is the prompt of a vocabulary of 51866"),
    Expected("timestamps_mode", "plain", "diverged", "prompt", "timestamps"),
    Expected("split_utf8", "zh", "diverged", "detokenise", "decoded apart", "zh"),
    Expected("lost_blank", "plain", "diverged", "detokenise", "blank"),
    Expected("table_shifted", "plain", "diverged", "detokenise", "table"),
    Expected("special_in_text", "plain", "diverged", "detokenise", "<|endoftext|>"),
    Expected("eot_passed", "plain", "diverged", "end", "end-of-text passed"),
    Expected("nan_logits", "plain", "diverged", "end", "NaN"),
    Expected("positions_zero", "plain", "diverged", "token", "a fault"),
    Expected("exit_zero", "plain", "diverged", "end", "empty"),
    Expected("slot_skipped", "long", "diverged", "token", "a fault", stage="app:kv"),
    Expected("cache_not_reset", "two", "diverged", "token", "window 1, step ", stage="app:kv"),
)
SOUND = (Expected("", "plain", "pass", "", ""), Expected("", "two", "pass", "", "", stage="app:kv"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sounds, each the one that shows some faults."""
    folder = tmp_path_factory.mktemp("clips")
    plain, other, again = (_pcm(name) for name in ("en-comma-01", "en-number-01", "en-comma-04"))
    window = 30 * 16_000
    count = min(len(plain), len(other))
    files = {
        "plain": wav(plain, 16_000, "s16"),
        "zh": wav(_pcm("zh-question-02"), 16_000, "s16"),
        "loud": wav(np.concatenate([np.full(90, 0.9), plain]), 16_000, "s16"),
        "list": wav(plain, 16_000, "s16", chunks=LIST),
        "stereo": wav(np.stack([plain[:count], other[:count]], 1), 16_000, "s16"),
        "slow": wav(sound.warble(2.0, 8000), 8000, "s16"),
        "two": wav(np.concatenate([plain, np.zeros(window - len(plain)), np.tile(again, 20)[:window]]), 16_000, "s16"),
        "long": wav(np.tile(plain, 1 + int(31 * 16_000 / len(plain))), 16_000, "s16"),
    }
    for name, data in files.items():
        (folder / f"{name}.wav").write_bytes(data)
    return folder


def _pcm(name: str) -> np.ndarray:
    return audio.read(CHECKOUT / "fixtures" / "clips" / f"{name}.flac").pcm / 32767


@pytest.fixture(scope="module")
def row(parity_in: Any, clips: Path, faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The row of the program on its clip, by what is expected of it."""
    environment = {
        "LD_LIBRARY_PATH": native.stand_in_runtime("both").parent,
        "PARITY_SIM_LITERT": native.litert_library(),
    }

    def judged(expected: Expected) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp(expected.fault or "sound")
        given = {"where": "host", "program": faulty, "environment.PARITY_FAULT": expected.fault or "none"}
        given |= {f"environment.{name}": value for name, value in environment.items()}
        (folder / "parity.toml").write_text('[policies.short]\nbase = "whisper"\nsample_len = 24\n')
        patch.chdir(folder)
        ran = parity_in(folder)(
            "run", "--policy", "short", "--checkpoint", MICRO, "--clips", clips / f"{expected.clip}.wav",
            "--language", expected.language, "--stages", f"pytorch,{expected.stage}", "--run-id", "run", "--no-state",
            *(word for key, value in given.items() for word in ("--set", f"app.{key}={value}")),
        )  # fmt: skip
        report = folder / "reports" / "run" / "report.json"
        assert report.is_file(), ran.output
        return next(row for row in json.loads(report.read_text("utf-8"))["rows"] if row["stage"] == expected.stage)

    with pytest.MonkeyPatch.context() as patch:
        yield judged


@pytest.mark.parametrize("expected", FAULTS, ids=lambda expected: expected.fault)
def test_a_seeded_fault_is_caught_by_its_rung_and_cause(row: Any, expected: Expected):
    verdict = row(expected)["verdict"]
    assert (verdict["outcome"], verdict["rung"]) == (expected.outcome, expected.rung), verdict["reason"]
    assert expected.words in next(rung["reason"] for rung in verdict["rungs"] if rung["rung"] == expected.rung)


@pytest.mark.parametrize("good", SOUND, ids=lambda good: good.stage)
def test_the_same_program_without_a_fault_raises_nothing(row: Any, good: Expected):
    """The build with hooks and none of them on."""
    verdict = row(good)["verdict"]
    assert verdict["outcome"] == "pass", verdict["reason"]
    assert [rung["rung"] for rung in verdict["rungs"]] == [
        "features", "prompt", "tensor", "logits", "token", "text", "detokenise", "end"
    ]  # fmt: skip

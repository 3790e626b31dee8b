"""A recorded trace that is damaged, or of another run, is invalid input: never reused, never blamed on the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from tests.support import sound
from tests.support.commands import RUN
from tests.support.damage import cut
from tests.support.refusals import files_of, require_line, require_no_traceback, rows_of
from tests.support.traces import forge
from whisper_parity.judge.verdict import Outcome
from whisper_parity.project import CACHE_VARIABLE


@dataclass(frozen=True)
class Recorded:
    """A finished run of one clip."""

    clip: Path
    run: Path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, parity_in) -> Recorded:
    """Recorded once for all tests of this file."""
    folder = tmp_path_factory.mktemp("recorded")
    clip = sound.write_wav(folder / "warble.wav", sound.warble(2.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        require_no_traceback(parity_in(folder)(*RUN, "--clips", clip, "--run-id", "kept"), 0)
    return Recorded(clip, folder / "reports" / "kept")


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as known:
        return dict(json.loads(known.metadata()["trace"]))


def tensor_of(path: Path, name: str) -> Any:
    with safe_open(path, framework="numpy") as known:
        return known.get_tensor(name)


def flipped_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content)


def windows(path: Path, **fields: Any) -> list[dict[str, Any]]:
    return [{**window, **fields} for window in header_of(path)["windows"]]


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "one bit of the logits": (flipped_bit, "not a whole trace (damaged: its content is not what was written)"),
    "cut short": (lambda path: cut(path, 0.5), "not a whole trace ("),
    "empty": (lambda path: path.write_bytes(b""), "not a whole trace ("),
    "text": (lambda path: path.write_text("{}"), "not a whole trace ("),
    "a header nested without end": (lambda path: path.write_bytes((10**5).to_bytes(8, "little") + b"[" * 10**5),
                                    "not a whole trace ("),
    "an older version": (lambda path: forge(path, trace_version=2),
                         "not a whole trace (trace version 2, this program reads 3)"),
    "no window": (lambda path: forge(path, windows=[]),
                  "no trace of this run: it has no windows, and the stage has halves"),
    "a token outside the vocabulary": (lambda path: forge(path, tokens=[51865]),
                                       "not a whole trace (token 51865 is outside a vocabulary of 51865)"),
    "a negative token": (lambda path: forge(path, timestamped_tokens=[-1]),
                         "not a whole trace (token -1 is outside a vocabulary of 51865)"),
    "a vocabulary that nobody has": (lambda path: forge(path, n_vocab=7), "not a whole trace ("),
    "another vocabulary": (lambda path: forge(path, n_vocab=51866),
                           "no trace of this run: it is of n_vocab 51866, the run asks for 51865"),
    "another policy": (lambda path: forge(path, policy="plain"),
                       "no trace of this run: it is of policy plain, the run asks for whisper"),
    "another stage": (lambda path: forge(path, stage="tflite"),
                      "no trace of this run: it is of stage tflite, the run asks for torchscript"),
    "another clip": (lambda path: forge(path, clip="other"),
                     "no trace of this run: it is of clip other, the run asks for warble"),
    "tokens that its windows do not have": (lambda path: forge(path, tokens=[13], timestamped_tokens=[13]),
                                            "no trace of this run: its tokens are not those of its windows"),
    "other tokens": (lambda path: forge(path, tokens=[13]),
                     "no trace of this run: its text tokens are not those among its tokens"),
    "windows in another order": (lambda path: forge(path, windows=windows(path, index=1)),
                                 "not a whole trace (its windows are not numbered in order)"),
    "other features": (lambda path: forge(path, windows=windows(path, input_features_sha256="0" * 64)),
                       "no trace of this run: its 1 window(s) were fed other input features than the clip's 1"),
    "an encoder output in float16": (
        lambda path: forge(path, tensors={"0.encoder_output": tensor_of(path, "0.encoder_output").astype(np.float16)}),
        "no trace of this run: window 0: encoder_output is float16 [1, 1500, 64], expected float32 [1, 1500, 64]"),
    "an encoder output of another size": (
        lambda path: forge(path, tensors={"0.encoder_output": np.zeros((1, 500, 64), np.float32)}),
        "no trace of this run: window 0: encoder_output is float32 [1, 500, 64], expected float32 [1, 1500, 64]"),
    "logits of another width": (
        lambda path: forge(path, tensors={"0.logits": np.ones((len(tensor_of(path, "0.logits")), 51866), np.float32)}),
        "no trace of this run: window 0: logits is float32 ["),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_trace_is_invalid_input(parity, recorded: Recorded, tmp_path: Path, damage: str):
    """Its row names the file and what is wrong with it; the file is left, and the other stage keeps its verdict."""
    spoil, reason = DAMAGES[damage]
    run = tmp_path / "reports" / "kept"
    shutil.copytree(recorded.run, run)
    trace = run / "traces" / "warble--torchscript.safetensors"
    spoil(trace)
    before = files_of(run / "traces")
    result = parity(*RUN, "--clips", recorded.clip, "--run-id", "kept")
    require_no_traceback(result, 2)
    rows = rows_of(run)
    row = rows["warble", "torchscript"]
    assert row.verdict.outcome is Outcome.INVALID_INPUT
    assert row.verdict.reason.startswith(f"{trace}: {reason}")
    assert row.verdict.reason.endswith("Delete it and run the clip again")
    require_line(result, row)
    assert rows["warble", "pytorch"].verdict.outcome is Outcome.REFERENCE
    assert files_of(run / "traces") == before


def test_a_damaged_root_is_not_blamed_on_the_stages_behind_it(parity, recorded: Recorded, tmp_path: Path):
    """What has nothing to be judged against is not compared."""
    run = tmp_path / "reports" / "kept"
    shutil.copytree(recorded.run, run)
    flipped_bit(run / "traces" / "warble--pytorch.safetensors")
    require_no_traceback(parity(*RUN, "--clips", recorded.clip, "--run-id", "kept"), 2)
    rows = rows_of(run)
    assert rows["warble", "pytorch"].verdict.outcome is Outcome.INVALID_INPUT
    assert rows["warble", "torchscript"].verdict.outcome is Outcome.NOT_COMPARED


@pytest.mark.parametrize("damage", DAMAGES)
def test_explain_and_compare_name_the_damage(
    parity, recorded: Recorded, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
):
    """No traceback there either; a trace that cannot be read is named."""
    monkeypatch.setenv(CACHE_VARIABLE, str(cache_dir))
    run = tmp_path / "reports" / "kept"
    shutil.copytree(recorded.run, run)
    DAMAGES[damage][0](run / "traces" / "warble--torchscript.safetensors")
    explained = parity("explain", "warble", "--stage", "torchscript", "--run", run)
    assert "Traceback" not in explained.output
    assert explained.exit_code in (1, 2), explained.output
    assert "warble--torchscript.safetensors" in explained.output
    compared = parity("compare", recorded.run, run)
    assert "Traceback" not in compared.output
    assert compared.exit_code in (1, 2), compared.output

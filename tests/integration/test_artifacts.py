"""Artifacts: names and JSON as users have them, lineage, cache keys, variants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import sites
from whisper_parity.backend import build
from whisper_parity.backend.artifact import cache_key
from whisper_parity.backend.build import Workshop
from whisper_parity.backends.split.embedding import write_metadata, write_token_embedding
from whisper_parity.backends.split.names import tflite_names, torchscript_names
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder

BASE = Checkpoint("base", Path("base.pt"), "0" * 64, Dims(80, 1500, 512, 8, 6, 51865, 448, 512, 8, 6))


def without_onnx(value: Any) -> Any:
    """A recorded value without what concerns an ONNX export, which this chain has none of, and without prose."""
    if not isinstance(value, dict):
        return value
    return {k: without_onnx(v) for k, v in value.items() if "onnx" not in k and k != "notes"}


def is_part_of(part: Any, whole: Any) -> bool:
    """Whether every key of `part` is in `whole` with the same value."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(k in whole and is_part_of(v, whole[k]) for k, v in part.items())
    return bool(part == whole)


def test_metadata_of_base_holds_every_key_and_shape_that_users_have(shared_folder, tmp_path):
    """Extended, not renamed: the recorded files of a real port are part of ours."""
    recorded = shared_folder / "recorded" / "whisper_base" / "models"
    write_metadata(BASE, tmp_path)
    ours = json.loads((tmp_path / "whisper_base_metadata.json").read_text("utf-8"))
    theirs = json.loads((recorded / "whisper_base_metadata.json").read_text("utf-8"))
    assert is_part_of(without_onnx(theirs), ours)


def test_embedding_info_holds_every_key_that_users_have(shared_folder, tmp_path):
    """As above, for the small file."""
    import numpy as np

    write_token_embedding(np.zeros((51865, 512), np.float32), tmp_path)
    ours = json.loads((tmp_path / "embedding_info.json").read_text("utf-8"))
    recorded = shared_folder / "recorded" / "whisper_base" / "models" / "embedding_info.json"
    assert is_part_of(without_onnx(json.loads(recorded.read_text("utf-8"))), ours)


def test_names_of_base_are_those_that_users_have():
    """The names of the design's table."""
    assert torchscript_names(BASE)["encoder"] == "encoder_base_3000.pt"
    assert torchscript_names(BASE)["decoder"] == "decoder_base_448.pt"
    assert tflite_names(BASE, "")["encoder"] == "encoder_base_80x3000.tflite"
    assert tflite_names(BASE, "int8")["decoder"] == "decoder_base_448_int8.tflite"


def test_the_key_follows_parent_options_and_tools():
    """Any of them makes another artifact; order does not."""
    key = cache_key("tflite", "parent", {"a": 1, "b": 2}, {"torch": "2.13.0"})
    assert key == cache_key("tflite", "parent", {"b": 2, "a": 1}, {"torch": "2.13.0"})
    others = {
        cache_key("torchscript", "parent", {"a": 1, "b": 2}, {"torch": "2.13.0"}),
        cache_key("tflite", "other", {"a": 1, "b": 2}, {"torch": "2.13.0"}),
        cache_key("tflite", "parent", {"a": 1, "b": 3}, {"torch": "2.13.0"}),
        cache_key("tflite", "parent", {"a": 1, "b": 2}, {"torch": "2.14.0"}),
    }
    assert len(others | {key}) == 5


@pytest.fixture(scope="module")
def workshop(scripted_checkpoint, cache_dir) -> Workshop:
    return sites.workshop(scripted_checkpoint, cache_dir)


def test_tflite_descends_from_the_checkpoint_and_is_judged_against_torchscript(workshop):
    """litert-torch takes modules, not TorchScript: the lineage says so, and the edge is still that of the chain."""
    artifact = build.obtain(workshop, "tflite")
    assert artifact.parent_sha256 == build.obtain(workshop, "pytorch").sha256
    stages = {stage.spec: stage for stage in sites.backends().chain(("torchscript", "tflite"))}
    assert str(stages["tflite"].edge) == "torchscript->tflite"


def test_a_variant_descends_from_the_float32_file(workshop):
    """int8 is quantised from what was converted."""
    assert build.obtain(workshop, "tflite:int8").parent_sha256 == build.obtain(workshop, "tflite").sha256


def test_quantised_variants_are_smaller_and_drift(parity, clip, tmp_path):
    """A variant that truly differs keeps everybody honest: fp16 moves less than int8, fp32 least."""
    result = parity("run", "--clips", clip, "--language", "en", "--stages", "pytorch,tflite,tflite:fp16,tflite:int8",
                    "--run-id", "variants")  # fmt: skip
    assert result.exit_code == 0, result.output
    report = records.load(RunFolder(tmp_path / "reports" / "variants"))
    sizes = {stage.spec: stage.files["encoder"].size_bytes for stage in report.stages if "encoder" in stage.files}
    assert sizes["tflite:int8"] < sizes["tflite:fp16"] < sizes["tflite"]
    worst = {row.stage: row.vs_parent.comparison.worst("logits").snr_db for row in report.rows if row.vs_parent}
    assert worst["tflite"] > worst["tflite:fp16"] > worst["tflite:int8"]


def test_a_missing_interpreter_is_a_row_with_a_reason_never_a_pass(parity, clip, tmp_path, monkeypatch):
    """The other stages run; exit code 3."""
    monkeypatch.setattr("whisper_parity.backends.tflite.INTERPRETERS", {})
    result = parity("run", "--clips", clip, "--language", "en", "--stages", "torchscript,tflite", "--run-id", "missing")
    assert result.exit_code == 3
    rows = {row.stage: row.verdict for row in records.load(RunFolder(tmp_path / "reports" / "missing")).rows}
    assert rows["torchscript"].outcome is Outcome.PASS
    assert rows["tflite"].outcome is Outcome.FAILED
    assert "pip install ai-edge-litert" in rows["tflite"].reason


def test_a_converter_that_fails_is_a_row_with_its_last_line(parity, clip, tmp_path, monkeypatch):
    """Nothing half built is left in the cache."""
    monkeypatch.setattr("whisper_parity.system.process.sys.executable", "/bin/false")
    cache = tmp_path / "cache"
    result = parity(
        "run", "--clips", clip, "--language", "en", "--stages", "tflite", "--run-id", "failed", "--cache", cache
    )
    assert result.exit_code == 3
    row = records.load(RunFolder(tmp_path / "reports" / "failed")).rows[-1]
    assert row.verdict.outcome is Outcome.FAILED
    assert "converting the fp32 encoder failed (exit code 1): it printed nothing" in row.verdict.reason
    assert not [path for path in cache.glob("*tflite*") if path.is_dir()]

"""A port with a KV cache, from files whose names tell nothing to a verdict: a sound one passes, a broken one not."""

from __future__ import annotations

import html
from pathlib import Path

from tests.support import cachedports, shapes, sound
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder

PROMPT = 4
SWAPPED = "keys and values swapped"


def test_a_sound_port_passes_for_as_many_calls_as_prompt_and_tokens(parity, tmp_path: Path, scripted_checkpoint: Path):
    """The layout is named in the notes of the stage, and no token is fed twice."""
    cachedports.write("stacked", scripted_checkpoint, tmp_path / "given")
    report = shapes.judged(parity, tmp_path / "given", "torchscript:kv")
    row = shapes.rows(report)["torchscript:kv"]
    assert row.verdict.outcome is Outcome.PASS
    stage = next(stage for stage in report.stages if stage.spec == "torchscript:kv")
    assert any("layout stacked: 8 inputs, 5 outputs" in note for note in stage.notes)
    assert row.decoder_calls == PROMPT + row.tokens


def test_a_port_that_keeps_keys_for_values_is_named_everywhere(parity, tmp_path: Path, scripted_checkpoint: Path):
    """Its first step is right: the fault is in what it hands to the next one. Cause, layer, slot, step."""
    cachedports.write("stacked", scripted_checkpoint, tmp_path / "given", cachedports.Swapped)
    clip = sound.write_wav(tmp_path / "warble.wav", sound.warble(1.0))
    words = ("--artifacts", tmp_path / "given", "--stages", "torchscript:kv", "--clips", clip, "--language", "en")
    result = parity("run", *words, "--run-id", "kept")
    report = records.load(RunFolder(tmp_path / "reports" / "kept"))
    row = shapes.rows(report)["torchscript:kv"]
    assert (row.verdict.outcome, result.exit_code) == (Outcome.DIVERGED, 1)
    (fault,) = (fault for check in report.states for fault in check.cache if fault.fails)
    assert (fault.kind, fault.part, fault.step, fault.layer, fault.slot) == (SWAPPED, "first", 1, 0, 0)
    assert f"cache kept wrongly: torchscript:kv ({SWAPPED})" in result.output
    assert fault.sentence in result.output
    assert fault.sentence in html.unescape((tmp_path / "reports" / "kept" / "index.html").read_text("utf-8"))
    explained = parity("explain", "--run", tmp_path / "reports" / "kept")
    assert "to blame   pytorch->torchscript:kv · cache" in explained.output
    gated = parity("gate", tmp_path / "reports" / "kept")
    assert f"FAIL stateless: torchscript:kv, KV cache: {SWAPPED}" in gated.output

"""A port with a KV cache, from files whose names tell nothing to a verdict: a sound one passes, a broken one not."""

from __future__ import annotations

from pathlib import Path

from tests.support import cachedports, shapes
from whisper_parity.judge.verdict import Outcome

PROMPT = 4


def test_a_sound_port_passes_for_as_many_calls_as_prompt_and_tokens(parity, tmp_path: Path, scripted_checkpoint: Path):
    """The layout is named in the notes of the stage, and no token is fed twice."""
    cachedports.write("stacked", scripted_checkpoint, tmp_path / "given")
    report = shapes.judged(parity, tmp_path / "given", "torchscript:kv")
    row = shapes.rows(report)["torchscript:kv"]
    assert row.verdict.outcome is Outcome.PASS
    stage = next(stage for stage in report.stages if stage.spec == "torchscript:kv")
    assert any("layout stacked: 8 inputs, 5 outputs" in note for note in stage.notes)
    assert row.decoder_calls == PROMPT + row.tokens


def test_a_port_that_keeps_keys_for_values_diverges(parity, tmp_path: Path, scripted_checkpoint: Path):
    """Its first step is right: the fault is in what it hands to the next one."""
    cachedports.write("stacked", scripted_checkpoint, tmp_path / "given", cachedports.Swapped)
    report = shapes.judged(parity, tmp_path / "given", "torchscript:kv")
    row = shapes.rows(report)["torchscript:kv"]
    assert (row.verdict.outcome, report.exit_code) == (Outcome.DIVERGED, 1)
    assert row.vs_parent.comparison.reference == "pytorch"

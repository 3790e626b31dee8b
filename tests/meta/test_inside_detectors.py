"""A unit broken in files of others is named exactly, and a copy that computes otherwise says so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import foreign as writing
from tests.support import foreign
from whisper_parity import project
from whisper_parity.backends.split.embedding import write_of_checkpoint
from whisper_parity.backends.tflite import surgery, tapping
from whisper_parity.backends.tflite.mtkext import flatfile
from whisper_parity.explain import layers
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.explanation import LayerFinding
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.run import plan
from whisper_parity.run.options import RunOptions

CLIP = "en-comma-01"


@pytest.fixture
def located(tmp_path: Path, cache_dir: Path) -> Callable[[str, str], LayerFinding]:
    """The layer at fault in a component of the files that lie in `files`."""

    def call(stage: str, component: str, detail: bool = False) -> LayerFinding:
        options = RunOptions(
            stages=("pytorch", stage), clips=(CLIP,), policy="plain", language="en", threads=2, run_id="run",
            report_dir=tmp_path, cache=cache_dir, artifacts=tmp_path / "files",
        )  # fmt: skip
        with ExitStack() as stack:
            bench = Bench(plan.make(options, project.load(tmp_path)), stack)
            return layers.locate(bench, "pytorch", stage, bench.plan.clip(CLIP), 0, component, detail=detail)

    return call


def _zero_head(model: Any) -> None:
    model.encoder.blocks[1].attn.out.weight[:, :16] = 0


def _lost_shift(model: Any) -> None:
    model.decoder.blocks[0].cross_attn_ln.bias.zero_()


@pytest.mark.parametrize(
    ("kind", "spoil", "component", "detail", "unit"),
    [
        ("frozen", _zero_head, "encoder", True, "encoder.blocks.1.attn"),
        ("norms by hand, frozen", _lost_shift, "decoder", False, "decoder.blocks.0"),
    ],
)
def test_a_broken_unit_of_torchscript_is_named(located, tmp_path, kind, spoil, component, detail, unit):
    """By structure: names and submodules are gone."""
    checkpoint, files = checkpoints.resolve(RunOptions().checkpoint), tmp_path / "files"
    files.mkdir()
    foreign.write(kind, checkpoint.path, checkpoint.dims, files, spoil)
    write_of_checkpoint(checkpoint, files)
    finding = located("torchscript", component, detail)
    assert (finding.culprit, finding.faithful) == (unit, True)
    assert "measured in the file itself" in finding.finding


def test_a_broken_unit_of_tflite_is_named_and_a_copy_that_computes_otherwise_says_so(located, tmp_path, monkeypatch):
    """First as it is; then with a copy whose last constant is another one."""
    checkpoint = checkpoints.resolve(RunOptions().checkpoint)
    with torch.no_grad():
        writing.write(writing.ported(checkpoint, "encoder-gelu"), tmp_path / "files", checkpoint, "tflite")
    finding = located("tflite", "encoder")
    assert (finding.culprit, finding.faithful) == ("encoder.blocks.2", True)

    def other(path: Path, out: Path, *words: Any) -> surgery.Copy:
        copy = surgery_write(path, out, *words)
        model = flatfile.read(out)
        operator = model.subgraphs[0].operators[-1]  # the shift of the last norm
        tensor = model.subgraphs[0].tensors[int(operator.inputs[1])]
        values = np.frombuffer(model.buffers[tensor.buffer].data, np.float32) + 0.5
        model.buffers[tensor.buffer].data = values.view(np.uint8)
        flatfile.write(model, out)
        return copy

    surgery_write = surgery.write
    monkeypatch.setattr(tapping.surgery, "write", other)
    for path in (tmp_path / "run" / "taps").iterdir():
        path.unlink()
    finding = located("tflite", "encoder")
    assert not finding.faithful
    assert "but its final output is not the shipped file's (SNR" in finding.finding
    assert "a copy that computes otherwise, and may not hold for the shipped one" in finding.finding
    assert not finding.output_fails

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
from tests.support import foreign, shapes
from tests.support.shapes import Form
from whisper_parity import project
from whisper_parity.backends.dla import compiler
from whisper_parity.backends.dla.settings import Settings
from whisper_parity.backends.split import names
from whisper_parity.backends.split.embedding import write_of_checkpoint
from whisper_parity.backends.tflite import surgery, tapping
from whisper_parity.backends.tflite.mtkext import flatfile
from whisper_parity.errors import UnavailableError
from whisper_parity.explain import layers
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.explanation import LayerFinding
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.run import plan
from whisper_parity.run.options import RunOptions

CLIP = "en-comma-01"


@pytest.fixture
def located(tmp_path: Path, cache_dir: Path) -> Callable[[str, str], LayerFinding]:
    """The layer at fault in a component of the files that lie in `files`."""

    def call(stage: str, component: str, detail: bool = False, checkpoint: Path | None = None) -> LayerFinding:
        options = RunOptions(
            stages=("pytorch", stage), clips=(CLIP,), policy="plain", language="en", threads=2, run_id="run",
            report_dir=tmp_path, cache=cache_dir, artifacts=tmp_path / "files", checkpoint=checkpoint,
        )  # fmt: skip
        with ExitStack() as stack:
            bench = Bench(plan.make(options, project.load(tmp_path)), stack)
            reference = bench.plan.stage(stage).parent
            return layers.locate(bench, reference, stage, bench.plan.clip(CLIP), 0, component, detail=detail)

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


def test_a_broken_unit_of_what_was_compiled_is_named(located, tmp_path):
    """A compiled file without a record: in a copy of the TFLite files beside it; where there are none, one line."""
    checkpoint, files = checkpoints.resolve(RunOptions().checkpoint), tmp_path / "files"
    with torch.no_grad():
        writing.write(writing.ported(checkpoint, "encoder-head"), files, checkpoint, "tflite")
    _compile(files, checkpoint)
    finding = located("dla:simulated", "encoder")
    assert (finding.culprit, finding.faithful, finding.probes) == ("encoder.blocks.1", True, 2)
    made = (
        "dla:simulated files that we made from the tflite files in files (that the shipped ones were made from them is"
    )
    assert made in finding.finding
    for path in files.glob("*.tflite"):
        path.unlink()
    with pytest.raises(UnavailableError, match=r"the tflite files that they were made from are not in .*: no layer"):
        located("dla:simulated", "encoder")


def _compile(files: Path, checkpoint: Checkpoint) -> None:
    """DLA files of the TFLite files in a folder, by the stand-in for the compiler; no record is written."""
    tool, settings = compiler.find(Settings(), simulated=True), Settings()
    targets, sources = names.dla_names(checkpoint, "MT8371_simulated"), names.tflite_names(checkpoint, "")
    for role in ("encoder", "decoder"):
        compiler.compile_file(
            tool, files / sources[role], files / targets[role], settings.compile_flags(role), settings
        )


@pytest.mark.parametrize(
    ("stage", "form", "unit"),
    [
        ("torchscript", Form(ids=torch.int64, broken="decoder"), "decoder.blocks.0.cross_attn"),
        ("torchscript", Form(ids=torch.int64, last_row=True, broken="decoder"), "decoder.blocks.0.cross_attn"),
        ("torchscript", Form(n_frames=1000, broken="encoder"), "encoder.blocks.0.attn"),
        ("tflite", Form(turned=("input_features", "encoder_output"), broken="encoder"), "encoder.blocks.0.attn"),
        ("tflite", Form(ids=torch.int32, last_row=True, broken="decoder"), "decoder.blocks.0.cross_attn"),
        ("tflite", Form(free=True, broken="decoder"), "decoder.blocks.0.cross_attn"),
    ],
    ids=("ids", "last row", "ten seconds", "transposed", "last row of tflite", "any length"),
)
def test_a_broken_unit_of_files_in_another_form_is_named(
    located, tmp_path, cache_dir, scripted_checkpoint, stage, form, unit
):
    """Ids, columns before rows, another window, the last row alone, any number of tokens."""
    shapes.give(tmp_path / "files", scripted_checkpoint, stage, form, cache_dir)
    finding = located(stage, unit.partition(".")[0], True, str(scripted_checkpoint))
    assert (finding.culprit, finding.faithful) == (unit, True), finding.finding


def test_a_table_in_float16_hides_no_broken_unit(located, tmp_path, cache_dir, scripted_checkpoint):
    """Of a checkpoint in float32 it is a fault of its own, some 80 dB down; the broken unit is named beside it."""
    form = Form(free=True, broken="decoder")
    shapes.give(tmp_path / "files", scripted_checkpoint, "tflite", form, cache_dir)
    table = tmp_path / "files" / "token_embedding.npy"
    np.save(table, np.load(table).astype(np.float16))
    finding = located("tflite", "decoder", True, str(scripted_checkpoint))
    failing = {unit.unit: unit.single_snr_db for unit in finding.units if unit.fails}
    assert set(failing) == {"decoder.positions", "decoder.blocks.0.cross_attn"}, finding.finding
    assert failing["decoder.positions"] > 80 > failing["decoder.blocks.0.cross_attn"]


def test_a_broken_unit_behind_integer_ports_is_named(located, tmp_path, cache_dir, scripted_checkpoint):
    """Inputs and outputs in 16 bits: what they round fails no unit, the broken one does."""
    form = Form(broken="encoder")
    files = shapes.give(tmp_path / "files", scripted_checkpoint, "tflite", form, cache_dir)
    features = np.random.default_rng(1).uniform(-1, 1.5, (1, 80, 3000)).astype(np.float32)
    shapes.int8(files["encoder"], {"input_features": features}, 16)
    finding = located("tflite", "encoder", True, str(scripted_checkpoint))
    assert finding.culprit == "encoder.blocks.0.attn", finding.finding

"""A fault of a port in another form is found, and where it is: not at the edge of the window, not excused by types."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support import shapes
from tests.support.shapes import Form
from whisper_parity.backends.tflite.mtkext import flatfile
from whisper_parity.judge.verdict import Outcome


def test_a_fault_of_a_port_for_ten_seconds_is_the_ports(
    parity, tmp_path: Path, scripted_checkpoint: Path, cache_dir: Path
):
    """Its edge is red on the tensor; the edge of the window only shows what the window does."""
    shapes.give(tmp_path / "given", scripted_checkpoint, "torchscript", Form(n_frames=1000, fault=0.5), cache_dir)
    report = shapes.judged(parity, tmp_path / "given", "torchscript", 12.0)
    rows = shapes.rows(report)
    verdict = rows["torchscript"].verdict
    assert (verdict.outcome, verdict.rung) == (Outcome.DIVERGED, "tensor")
    assert rows["torchscript"].vs_parent.comparison.reference == "pytorch:10s"
    assert rows["pytorch:10s"].verdict.outcome is Outcome.DRIFT
    assert report.exit_code == 1


def test_a_wrong_scale_of_an_integer_input_is_found(parity, tmp_path: Path, scripted_checkpoint: Path, cache_dir: Path):
    """A scale of a bad calibration: what is louder than a tenth of the loudest is cut off."""
    files = shapes.give(tmp_path / "given", scripted_checkpoint, "tflite", Form(), cache_dir)
    features = np.random.default_rng(0).uniform(-1, 1.5, (1, 80, 3000)).astype(np.float32)
    shapes.int8(files["encoder"], {"input_features": features}, 16)
    sound = shapes.rows(shapes.judged(parity, tmp_path / "given", "tflite"))["tflite"]
    model = flatfile.read(files["encoder"])
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].quantization.scale = [0.1 * graph.tensors[graph.inputs[0]].quantization.scale[0]]
    flatfile.write(model, files["encoder"])
    wrong = shapes.rows(shapes.judged(parity, tmp_path / "given", "tflite"))["tflite"]
    snr_db = [row.vs_parent.comparison.worst("encoder_output").snr_db for row in (sound, wrong)]
    assert snr_db[0] > 50
    assert snr_db[1] < 30
    assert (wrong.verdict.outcome, wrong.verdict.rung) == (Outcome.DIVERGED, "tensor")

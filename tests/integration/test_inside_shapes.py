"""Units of files in the forms that people bring give what the model's own units give, or one line says why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import shapes
from tests.support.shapes import Form
from whisper_parity.backend import artifact as artifacts
from whisper_parity.backend import given, taps
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import StageName
from whisper_parity.backends.split import inside
from whisper_parity.compare import tensor
from whisper_parity.errors import UnavailableError
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model import reduced
from whisper_parity.run.sessions import as_session

EXACT_DB, HALF_DB = 90.0, 50.0
FORMS = {
    "transposed": Form(turned=("input_features", "encoder_output", "logits")),
    "int32 ids": Form(ids=torch.int32),
    "padded vocabulary": Form(padded=7),
    "half": Form(half=True),
    "batchless": Form(batchless=True),
    "last row": Form(ids=torch.int64, last_row=True),
    "last row of int32 ids": Form(ids=torch.int32, last_row=True),
    "any length": Form(free=True),
    "ten seconds and more": Form(
        n_frames=1000, n_text_ctx=128, ids=torch.int64, swapped=True, wrapped="dict", turned=("logits",)
    ),
}
CASES = [
    ("tflite", "transposed", "encoder"), ("tflite", "int32 ids", "decoder"), ("tflite", "padded vocabulary", "decoder"),
    ("torchscript", "half", "encoder"), ("torchscript", "batchless", "decoder"), ("torchscript", "last row", "decoder"),
    ("tflite", "last row of int32 ids", "decoder"), ("tflite", "any length", "decoder"),
    ("torchscript", "ten seconds and more", "encoder"), ("torchscript", "ten seconds and more", "decoder"),
]  # fmt: skip
TOKENS = np.array([50258, 50259, 50359, 50363, 440])


def artifact_of(files: Path, stage: str, checkpoint: Path, cache: Path) -> Artifact:
    """A user's files, of the checkpoint with as many positions as they have."""
    whole = checkpoints.describe(checkpoint)
    artifact = given.find(files, Backends().get(stage), whole, StageName(stage))
    assert artifact is not None
    assert artifact.interface is not None
    fewer = reduced.reduced(whole, cache, artifact.interface.n_audio_ctx, artifact.interface.n_text_ctx)
    if fewer != whole:
        reduced.write(fewer, whole)
    return replace(artifact, checkpoint=fewer)


def tapped(stage: str, artifact: Artifact, kind: str, component: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs of all units of a component."""
    dims = artifact.checkpoint.dims
    wanted = taps.make(kind, taps.units(dims, component), dims)
    with Backends().get(stage).open(replace(artifact, options={taps.OPTION: str(wanted)}), 1) as probe:
        return probe.tapped(component, inputs)


def own_inputs(artifact: Artifact, component: str) -> dict[str, np.ndarray]:
    rng, dims = np.random.default_rng(1), artifact.checkpoint.dims
    if component == "encoder":
        return {"input_features": rng.standard_normal((1, dims.n_mels, dims.n_frames), np.float32)}
    encoding = rng.standard_normal((1, dims.n_audio_ctx, dims.n_audio_state), np.float32)
    return {"tokens": TOKENS, "encoder_output": encoding}


def snr_db(reference: np.ndarray, candidate: np.ndarray) -> float:
    return tensor.measure(reference=reference, candidate=candidate).snr_db


@pytest.mark.parametrize(("stage", "case", "component"), CASES)
def test_units_of_a_sound_port_in_another_form_are_the_models(
    tmp_path: Path, cache_dir: Path, scripted_checkpoint: Path, stage: str, case: str, component: str
):
    """Accumulated and alone; the copy's final output is the file's, bit for bit."""
    shapes.give(tmp_path / "given", scripted_checkpoint, stage, FORMS[case], cache_dir)
    artifact = artifact_of(tmp_path / "given", stage, scripted_checkpoint, cache_dir)
    inputs, limit = own_inputs(artifact, component), HALF_DB if FORMS[case].half else EXACT_DB
    root = artifacts.of_checkpoint("pytorch", artifact.checkpoint)
    reference = tapped("pytorch", root, "entire", component, inputs)
    entire = tapped(stage, artifact, "entire", component, inputs)
    assert set(reference) - set(entire) <= {"decoder.ln"}  # LiteRT leaves out a gain of one
    _require_near(reference, entire, limit)
    with Backends().get(stage).open(artifact, 1) as opened:
        session = as_session(opened)
        if component == "encoder":
            final = session.encode(inputs["input_features"])
        else:
            final = session.decode(TOKENS.tolist(), inputs["encoder_output"], range(len(TOKENS)))[None]
    last = entire[taps.FINAL[component]]
    np.testing.assert_array_equal(last, final[:, -last.shape[1] :])
    before = taps.previous(artifact.checkpoint.dims, component, list(reference))
    hidden = {f"{unit}.input": reference[before[unit]] for unit in reference if before[unit]}
    single = tapped(stage, artifact, "single", component, {**inputs, **hidden})
    assert set(single) == set(entire)
    _require_near(reference, single, limit)
    few = {unit for unit, rows in entire.items() if rows.shape[1] < reference[unit].shape[1]}
    assert few == ({*inside.BEHIND_LAST_ROW} & {*entire} if FORMS[case].last_row else set())


def _require_near(reference: Mapping[str, np.ndarray], units: Mapping[str, np.ndarray], limit_db: float) -> None:
    """Each unit, in the rows that it has: the last ones."""
    near = {unit: snr_db(reference[unit][:, -rows.shape[1] :], rows) > limit_db for unit, rows in units.items()}
    assert near == dict.fromkeys(units, True)


def test_square_hidden_states_are_not_guessed(tmp_path: Path, cache_dir: Path, scripted_checkpoint: Path):
    """As many positions as columns: which axis is which no file says, and a wrong unit would be named."""
    shapes.give(tmp_path / "given", scripted_checkpoint, "torchscript", Form(n_text_ctx=64), cache_dir)
    artifact = artifact_of(tmp_path / "given", "torchscript", scripted_checkpoint, cache_dir)
    with pytest.raises(UnavailableError, match="the decoder's layers are not looked at: its hidden states are 64 x 64"):
        tapped("torchscript", artifact, "entire", "decoder", own_inputs(artifact, "decoder"))


def test_a_file_with_ports_of_integers_is_looked_into_by_its_scale(
    tmp_path: Path, cache_dir: Path, scripted_checkpoint: Path
):
    """The final output of the copy is the file's, bit for bit; units move as far as the 16 bits of the input do."""
    files = shapes.give(tmp_path / "given", scripted_checkpoint, "tflite", Form(), cache_dir)
    artifact = artifact_of(tmp_path / "given", "tflite", scripted_checkpoint, cache_dir)
    inputs = own_inputs(artifact, "encoder")
    shapes.int8(files["encoder"], inputs, 16)
    artifact = artifact_of(tmp_path / "given", "tflite", scripted_checkpoint, cache_dir)
    root = artifacts.of_checkpoint("pytorch", artifact.checkpoint)
    reference = tapped("pytorch", root, "entire", "encoder", inputs)
    entire = tapped("tflite", artifact, "entire", "encoder", inputs)
    assert all(snr_db(reference[unit], entire[unit]) > 30 for unit in entire)
    with Backends().get("tflite").open(artifact, 1) as opened:
        final = as_session(opened).encode(inputs["input_features"])
    np.testing.assert_array_equal(entire[taps.FINAL["encoder"]], final)

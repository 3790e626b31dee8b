"""Given files with other windows, contexts, inputs, outputs and types: read from the file, judged as what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import shapes
from tests.support.shapes import Form
from whisper_parity.backend import given
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import StageName
from whisper_parity.backends.split import modules as split
from whisper_parity.backends.split.embedding import TokenEmbedding
from whisper_parity.errors import ArtifactError
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model.reduced import reduced
from whisper_parity.run.sessions import as_session

STAGES = ("torchscript", "tflite")
FORMS = {
    "transposed": (
        Form(turned=("input_features", "encoder_output", "logits")),
        "transposed in the file: input_features",
    ),
    "int32 ids": (Form(ids=torch.int32), "the decoder takes token ids ("),
    "padded vocabulary": (Form(padded=7), "logits in 51872 columns: those behind the vocabulary of 51865 are cut"),
    "swapped": (Form(swapped=True), ""),
    "tuple": (Form(wrapped="tuple"), ""),
}
ONLY_TORCHSCRIPT = {
    "int64 ids": (Form(ids=torch.int64), "the decoder takes token ids (int64) and looks them up by itself"),
    "dict": (Form(wrapped="dict"), ""),
    "namedtuple": (Form(wrapped="namedtuple"), ""),
    "half": (Form(half=True), "encoder_output in float16"),
    "batchless": (Form(batchless=True), ""),
    "last row": (Form(ids=torch.int64, last_row=True), "the decoder gives the logits of the last token alone"),
    "ten seconds": (Form(n_frames=1000), "the encoder takes windows of 10 s (1000 frames)"),
    "128 tokens": (Form(n_text_ctx=128), "the decoder has room for 128 tokens, the checkpoint for 448"),
}
CASES = [(stage, name) for stage in STAGES for name in FORMS] + [("torchscript", name) for name in ONLY_TORCHSCRIPT]


@pytest.mark.parametrize(("stage", "case"), CASES)
def test_a_port_in_another_form_computes_what_the_model_does(
    tmp_path: Path, cache_dir: Path, scripted_checkpoint: Path, stage: str, case: str
):
    """The same weights give the same numbers, whatever the file's order, types and axes; the report says which."""
    form, said = {**FORMS, **ONLY_TORCHSCRIPT}[case]
    shapes.give(tmp_path / "given", scripted_checkpoint, stage, form, cache_dir)
    backend, checkpoint = Backends().get(stage), checkpoints.describe(scripted_checkpoint)
    artifact = given.find(tmp_path / "given", backend, checkpoint, StageName(stage))
    assert artifact is not None
    assert artifact.interface is not None
    fewer = reduced(checkpoint, cache_dir, artifact.interface.n_audio_ctx, artifact.interface.n_text_ctx)
    artifact = replace(artifact, checkpoint=fewer)
    assert any(note.startswith(said) for note in artifact.notes)
    features = np.random.default_rng(0).standard_normal((1, 80, form.n_frames), np.float32)
    tokens, rows = [50258, 50259, 50359, 50363, 440], [3, 4]
    encoder_output, logits = expected(scripted_checkpoint, form, features, tokens, rows)
    with backend.open(artifact, 1) as opened:
        session = as_session(opened)
        close = {"atol": 0.05, "rtol": 1e-2} if form.half else {"atol": 2e-3, "rtol": 1e-3}
        np.testing.assert_allclose(session.encode(features), encoder_output, **close)
        np.testing.assert_allclose(session.decode(tokens, encoder_output, rows), logits, **close)


def expected(
    checkpoint: Path, form: Form, features: np.ndarray, tokens: list[int], rows: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Encoder output and rows of logits of the model itself, under the form's window."""
    model = split.load_model(checkpoint)
    model.encoder.positional_embedding = model.encoder.positional_embedding[: form.n_frames // 2]
    with split.explicit_attention():
        encoder_output = model.encoder(torch.from_numpy(features))
        logits = model.decoder(torch.tensor([tokens]), encoder_output)
    return encoder_output.numpy(), logits[0, rows].numpy()


@pytest.mark.parametrize("stage", STAGES)
def test_a_port_for_ten_seconds_is_judged_against_the_root_under_that_window(
    parity, tmp_path: Path, scripted_checkpoint: Path, cache_dir: Path, stage: str
):
    """The window is a stage of its own, with limits that show and do not fail; behind it the port passes."""
    shapes.give(tmp_path / "given", scripted_checkpoint, stage, Form(n_frames=1000), cache_dir)
    report = shapes.judged(parity, tmp_path / "given", stage, 12.0)
    stages = {info.spec: (info.parent, info.root) for info in report.stages}
    assert stages == {"pytorch": (None, ""), "pytorch:10s": ("pytorch", ""), stage: ("pytorch:10s", "pytorch:10s")}
    rows = shapes.rows(report)
    assert rows[stage].verdict.outcome is Outcome.PASS
    assert rows[stage].encoder_calls == 2  # 12 s in windows of 10
    assert rows["pytorch:10s"].verdict.outcome is Outcome.DRIFT  # the script is said twice
    assert report.exit_code == 0
    (sentence,) = report.windows
    assert sentence == (
        "windows of 10 s in place of 30 s change 1 of 1 clip(s), with the same weights and before any conversion "
        "(pytorch->pytorch:10s): warble"
    )


def test_a_clip_that_a_decoder_has_no_room_for_is_a_row_of_its_own(
    parity, tmp_path: Path, scripted_checkpoint: Path, cache_dir: Path
):
    """What fits is judged as ever, and passes; the rest of the text is lost, which no tolerance allows."""
    shapes.give(tmp_path / "given", scripted_checkpoint, "torchscript", Form(n_text_ctx=12), cache_dir)
    verdict = shapes.rows(shapes.judged(parity, tmp_path / "given", "torchscript"))["torchscript"].verdict
    assert (verdict.outcome, verdict.rung) == (Outcome.DIVERGED, "context")
    assert verdict.reason.startswith(
        "context: the clip needs 16 tokens, prompt included, and the decoder has room for 12: the rest is lost; "
    )
    assert [rung.grade.value for rung in verdict.rungs[:3]] == ["fail", "pass", "pass"]


@pytest.mark.parametrize("bits", [8, 16])
def test_integer_inputs_and_outputs_are_fed_and_read_by_their_scale(
    tmp_path: Path, cache_dir: Path, scripted_checkpoint: Path, bits: int
):
    """Scale and zero point are those of the file; the report names them."""
    features = np.random.default_rng(0).uniform(-1, 1.5, (1, 80, 3000)).astype(np.float32)
    files = shapes.give(tmp_path / "given", scripted_checkpoint, "tflite", Form(), cache_dir)
    shapes.int8(files["encoder"], {"input_features": features}, bits)
    backend, checkpoint = Backends().get("tflite"), checkpoints.describe(scripted_checkpoint)
    artifact = given.find(tmp_path / "given", backend, checkpoint, StageName("tflite"))
    assert artifact is not None
    assert any(note.startswith(f"input_features in int{bits}: scale ") for note in artifact.notes)
    encoder_output, _ = expected(scripted_checkpoint, Form(), features, [50258], [0])
    with backend.open(artifact, 1) as opened:
        output = as_session(opened).encode(features)
    noise_db = 10 * np.log10((encoder_output**2).sum() / ((output - encoder_output) ** 2).sum())
    assert noise_db > (25 if bits == 8 else 60)


def test_a_third_input_is_named_and_refused(parity, tmp_path: Path, scripted_checkpoint: Path, cache_dir: Path):
    """Nothing is made up for it."""
    shapes.give(tmp_path / "given", scripted_checkpoint, "torchscript", Form(extra="attention_mask"), cache_dir)
    verdict = shapes.rows(shapes.judged(parity, tmp_path / "given", "torchscript"))["torchscript"].verdict
    assert verdict.outcome is Outcome.INVALID_INPUT
    assert "the decoder has 3 inputs where tokens and encoder_output are expected" in verdict.reason
    assert "attention_mask (by its name a mask)" in verdict.reason


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_table_of_embeddings_may_be_half_or_padded_and_is_not_turned(
    tmp_path: Path, scripted_checkpoint: Path, dtype: type
):
    """float16 and rows behind the vocabulary are read; columns before rows are refused by name."""
    dims, table = checkpoints.describe(scripted_checkpoint).dims, np.ones((51872, 64), dtype)
    path = tmp_path / "token_embedding.npy"
    np.save(path, table)
    assert TokenEmbedding(path, dims).lookup([1, 2]).sum() == 2 * 64
    np.save(path, table[: dims.n_vocab].T)
    with pytest.raises(ArtifactError, match="It is transposed: save table"):
        TokenEmbedding(path, dims)

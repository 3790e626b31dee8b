"""Given files with other windows, contexts, inputs, outputs and types: read from the file, judged as what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import shapes
from tests.support.givenfiles import Folder
from tests.support.shapes import Form
from whisper_parity.backend import given
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import StageName
from whisper_parity.backends.split import modules as split
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
    artifacts: Folder, cache_dir: Path, scripted_checkpoint: Path, stage: str, case: str
):
    """The same weights give the same numbers, whatever the file's order, types and axes; the report says which."""
    form, said = {**FORMS, **ONLY_TORCHSCRIPT}[case]
    shapes.give(artifacts, stage, form, cache_dir)
    if form.ids:
        artifacts.token_embedding.unlink()
    backend, checkpoint = Backends().get(stage), checkpoints.describe(scripted_checkpoint)
    artifact = given.find(artifacts.path, backend, checkpoint, StageName(stage))
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

"""A text that ends at once: openai-whisper divides by its number of tokens, and the draft is empty all the same."""

from __future__ import annotations

import numpy as np
import torch
import whisper
from whisper.decoding import PyTorchInference

from whisper_parity.backends.pytorch import PyTorchSession
from whisper_parity.model import checkpoint
from whisper_parity.model.vocabulary import eot_of


def test_a_draft_in_which_nothing_is_said_is_empty(monkeypatch):
    """With blanks allowed the first token may be end-of-text."""
    model = whisper.load_model(str(checkpoint.MICRO), device="cpu").eval()

    def silent(_: PyTorchInference, tokens: torch.Tensor, __: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(1, tokens.shape[-1], model.dims.n_vocab)
        logits[..., eot_of(model.dims.n_vocab)] = 9.0
        return logits

    monkeypatch.setattr(PyTorchInference, "logits", silent)
    encoder_output = np.zeros((1, model.dims.n_audio_ctx, model.dims.n_audio_state), np.float32)
    options = {"language": "en", "without_timestamps": True, "suppress_blank": False, "suppress_tokens": None}
    assert PyTorchSession(model, "test").greedy(encoder_output, {**options, "fp16": False}) == []

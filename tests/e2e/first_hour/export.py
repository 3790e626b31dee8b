"""Writes the halves of base.pt into models/: TorchScript, and TFLite where it is asked for."""

import sys
from pathlib import Path

import torch
import whisper

model = whisper.load_model("base.pt", device="cpu").eval()
for module in model.modules():
    if isinstance(module, torch.nn.GELU):
        module.approximate = "tanh"  # the NPU has no erf

dims = model.dims
mel = torch.zeros(1, dims.n_mels, 3000)
audio = torch.zeros(1, dims.n_audio_ctx, dims.n_audio_state)
tokens = torch.zeros(1, dims.n_text_ctx, dtype=torch.int32)
out = Path("models")
out.mkdir(exist_ok=True)
with torch.no_grad(), whisper.model.disable_sdpa():
    for name, half, inputs in (("encoder", model.encoder, (mel,)), ("decoder", model.decoder, (tokens, audio))):
        torch.jit.trace(half, inputs).save(out / f"my_{name}.pt")
        if "tflite" in sys.argv:
            import litert_torch

            litert_torch.convert(half, inputs).export(str(out / f"my_{name}.tflite"))

"""A sample backend: the checkpoint's weights rounded to 16 bits, run by PyTorch in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.backend.contract import Availability, Facts, Float32
from whisper_parity.errors import ArtifactError, first_line
from whisper_parity.model.checkpoint import Checkpoint, read


class RoundedBackend:
    """Stage `rounded`: weights as float16; its variant `rounded:bfloat16` keeps fewer bits of each."""

    name = "rounded"
    after: str | None = "pytorch"
    variants: tuple[str, ...] = ("bfloat16",)
    is_root = False
    default_stages: tuple[str, ...] = ()
    packages: tuple[str, ...] = ("torch",)

    def availability(self) -> Availability:
        """Needs torch and openai-whisper; asked often, so nothing heavy is imported."""
        try:
            return Availability(True, ", ".join(f"{name} {found}" for name, found in self.tools().items()))
        except PackageNotFoundError as error:
            return Availability(False, f"{error.name} is not installed: run `pip install {error.name}`")

    def source(self, variant: str) -> str | None:
        """Built from the checkpoint, which is the artifact of stage pytorch."""
        return "pytorch"

    def tools(self) -> dict[str, str]:
        """A new version of any of these means that the artifact is built again."""
        return {name: version(name) for name in ("parity-sample-backend", "torch", "openai-whisper")}

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """rounded_base_float16.pt: one file holds both halves."""
        return {"weights": f"rounded_{checkpoint.name}_{variant or 'float16'}.pt"}

    def tolerances(self) -> dict[str, dict[str, Any]]:
        """What the edges to its stages may do; a project overrides it in its parity.toml."""
        return {
            "*->rounded": {
                "encoder_output_snr_db": [90.0, 60.0],
                "logits_snr_db": [90.0, 60.0],
                "reason": "weights rounded to 11 bits of mantissa",
            }
        }

    def gate_rules(self) -> dict[str, dict[str, Any]]:
        """Its edges are judged by the gate's default rules."""
        return {}

    def build(self, parent: Artifact, out: Path, variant: str, options: BuildOptions) -> None:
        """Round every weight and save."""
        import torch

        kind = getattr(torch, variant or "float16")
        saved = read(parent.path("checkpoint"))
        weights = {name: value.to(kind) for name, value in saved["model_state_dict"].items()}
        name = self.file_names(parent.checkpoint, variant)["weights"]
        torch.save({"dims": saved["dims"], "model_state_dict": weights}, out / name)

    @contextmanager
    def open(self, artifact: Artifact, threads: int) -> Iterator[RoundedSession]:
        """Load the weights; what comes before `yield` opens, what came after it would close."""
        import torch
        from whisper.model import ModelDimensions, Whisper

        torch.set_num_threads(threads)
        path = artifact.path("weights")
        saved = read(path)
        model = Whisper(ModelDimensions(**saved["dims"])).eval()
        try:
            model.load_state_dict(saved["model_state_dict"])
        except RuntimeError as error:
            raise ArtifactError(f"{path}: weights do not fit ({first_line(error)})", hint="Build it again") from error
        yield RoundedSession(model, artifact.stage)


class RoundedSession:
    """A loaded model that computes the two halves of Whisper."""

    def __init__(self, model: Any, stage: str) -> None:
        self._model = model
        self.facts = Facts(f"{stage} (torch {version('torch')})")

    def usage(self) -> None:
        """It runs on this machine."""

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> float32 [1, n_audio_ctx, n_audio_state]."""
        import torch

        with torch.no_grad():
            return np.asarray(self._model.encoder(torch.from_numpy(input_features)).numpy())

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab]; always the whole context, so that no row depends on the length."""
        import torch

        padded = torch.zeros(1, self._model.dims.n_text_ctx, dtype=torch.long)
        padded[0, : len(tokens)] = torch.tensor(list(tokens))
        with torch.no_grad():
            logits = self._model.decoder(padded, torch.from_numpy(encoder_output))
        return np.asarray(logits[0, list(rows)].numpy())

"""The untouched openai-whisper package, used as its users use it: the root that shows what the decode policy costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.backend.contract import Availability, Facts, Float32, Transcript
from whisper_parity.backends import provenance
from whisper_parity.backends.split import placement
from whisper_parity.clips.features import FRAMES
from whisper_parity.errors import BackendError, BuildError, UnavailableError, first_line
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims


class WhisperBackend:
    """`whisper.transcribe`: timestamps, temperature fallback, its own filters; text and tokens only."""

    name = "whisper"
    after: str | None = None
    variants: tuple[str, ...] = ()
    is_root = False
    default_stages: tuple[str, ...] = ("whisper",)
    packages: tuple[str, ...] = ("openai-whisper", "torch")

    def availability(self) -> Availability:
        """Needs torch and openai-whisper."""
        return provenance.require("openai-whisper", "torch")

    def source(self, variant: str) -> str | None:
        """Runs the checkpoint itself."""
        return None

    def repeats(self, variant: str) -> bool:
        """On one machine torch gives the same bits again; the tests compare them."""
        return True

    def tools(self) -> dict[str, str]:
        """What decides its numbers."""
        return provenance.of("openai-whisper", "torch")

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """The checkpoint."""
        return {"checkpoint": checkpoint.path.name}

    def build(self, parent: Artifact, out: Path, variant: str, options: BuildOptions) -> None:
        """Nothing to build: the checkpoint is run as it is."""
        raise BuildError("whisper runs the checkpoint itself; there is nothing to build")

    @contextmanager
    def open(self, artifact: Artifact, threads: int) -> Iterator[WhisperSession]:
        """Load the checkpoint.

        Raises:
            UnavailableError: it has another window than openai-whisper's transcribe.
        """
        import torch

        from whisper_parity.backends.split.modules import load_model

        _require_window(artifact.checkpoint.dims)
        torch.set_num_threads(threads)
        if (n_frames := artifact.checkpoint.dims.n_frames) != FRAMES:
            raise UnavailableError(
                f"whisper: openai-whisper transcribes windows of {FRAMES} frames, and this checkpoint takes {n_frames}",
                hint="Name the stages without it: --stages pytorch,...",
            )
        yield WhisperSession(load_model(artifact.path("checkpoint")), provenance.of("openai-whisper")["openai-whisper"])


def _require_window(dims: Dims) -> None:
    """`whisper.transcribe` cuts a recording into 3000 frames and takes no other number."""
    if dims.n_frames != FRAMES:
        raise UnavailableError(
            f"whisper: openai-whisper transcribes windows of 30 s, this checkpoint has {dims.n_frames / 100:g} s",
            hint="Name the stages from pytorch on: --stages pytorch,torchscript,tflite",
        )


class WhisperSession:
    """A loaded model that transcribes."""

    def __init__(self, model: Any, version: str) -> None:
        self._model = model
        self.facts = Facts(f"whisper (openai-whisper {version})", placement=placement.of_model(model))

    def usage(self) -> None:
        """It runs on this machine."""

    def transcribe(self, samples: Float32, language: str | None) -> Transcript:
        """`whisper.transcribe` with its defaults, in float32, seeded so that its temperature fallback repeats."""
        return self.transcribe_with(samples, language, {})

    def transcribe_with(self, samples: Float32, language: str | None, switches: Mapping[str, Any]) -> Transcript:
        """The same with some of its arguments given: "temperature", "without_timestamps", ..."""
        import torch

        torch.manual_seed(0)
        try:
            result = self._model.transcribe(samples, language=language, fp16=False, verbose=None, **switches)
        except RuntimeError as error:
            raise BackendError(f"whisper.transcribe failed: {first_line(error)}") from error
        segments = result["segments"]
        return Transcript(
            text=result["text"],
            tokens=tuple(int(token) for segment in segments for token in segment["tokens"]),
            segments=tuple((float(s["start"]), float(s["end"]), str(s["text"])) for s in segments),
            language=result["language"],
        )

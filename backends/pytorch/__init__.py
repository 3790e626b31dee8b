"""The same weights in PyTorch under our decode loop: root reference for tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import Artifact, BuildOptions
from whisper_parity.backend.contract import Availability, Facts, Float32
from whisper_parity.backend.facets import Perturbation, Slip
from whisper_parity.backend.taps import Step, Taps
from whisper_parity.backends import limits, provenance
from whisper_parity.backends.split import placement
from whisper_parity.backends.split.probe_session import HostProbe
from whisper_parity.errors import BuildError
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims

if TYPE_CHECKING:
    from whisper_parity.backends.pytorch.stepped import Projected, Stepped
    from whisper_parity.backends.pytorch.trials import UnitTrials


class PyTorchBackend:
    """openai-whisper's modules, token ids in, one fixed-shape forward."""

    name = "pytorch"
    after: str | None = "whisper"
    variants: tuple[str, ...] = ()
    is_root = True
    default_stages: tuple[str, ...] = ("pytorch",)
    packages: tuple[str, ...] = ("torch", "openai-whisper")

    def availability(self) -> Availability:
        """Needs torch and openai-whisper."""
        return provenance.require("torch", "openai-whisper")

    def tolerances(self) -> dict[str, dict[str, Any]]:
        """Limits of the edges to its stages."""
        return limits.of(limits.TOLERANCES, self.name)

    def gate_rules(self) -> dict[str, dict[str, Any]]:
        """Rules of the gate for them."""
        return limits.of(limits.RULES, self.name)

    def source(self, variant: str) -> str | None:
        """Runs the checkpoint itself."""
        return None

    def repeats(self, variant: str) -> bool:
        """On one machine torch gives the same bits again; the tests compare them."""
        return True

    def tools(self) -> dict[str, str]:
        """What decides its numbers."""
        return provenance.of("torch", "openai-whisper")

    def file_names(self, checkpoint: Checkpoint, variant: str) -> dict[str, str]:
        """The checkpoint."""
        return {"checkpoint": checkpoint.path.name}

    def looks_inside(self, artifact: Artifact) -> bool:
        """Its modules are tapped as they are."""
        return True

    def build(self, parent: Artifact, out: Path, variant: str, options: BuildOptions) -> None:
        """Nothing to build: the checkpoint is run as it is."""
        raise BuildError("pytorch runs the checkpoint itself; there is nothing to build")

    @contextmanager
    def open(self, artifact: Artifact, threads: int) -> Iterator[PyTorchSession | HostProbe]:
        """Load the checkpoint."""
        import torch

        from whisper_parity.backends.split.modules import load_model

        torch.set_num_threads(threads)
        session = PyTorchSession(load_model(artifact.path("checkpoint")), torch.__version__)
        wanted = taps.of_options(artifact.options, artifact.checkpoint.dims)
        yield session.probe(wanted, artifact.checkpoint.dims) if wanted else session


class PyTorchSession:
    """A loaded model; the decoder always runs at its full context, so that rows never depend on the length."""

    def __init__(self, model: Any, version: str) -> None:
        self._model = model
        self._projected: Projected | None = None
        self.facts = Facts(f"pytorch (torch {version})", placement=placement.of_model(model))

    def usage(self) -> None:
        """It runs on this machine."""

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> float32 [1, n_audio_ctx, n_audio_state]."""
        import torch

        with torch.no_grad():
            return np.asarray(self._model.encoder(torch.from_numpy(input_features)).numpy())

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab] of the asked positions; positions behind the tokens hold token 0."""
        import torch

        padded = torch.zeros(1, self._model.dims.n_text_ctx, dtype=torch.long)
        padded[0, : len(tokens)] = torch.tensor(list(tokens))
        with torch.no_grad():
            logits = self._model.decoder(padded, torch.from_numpy(encoder_output))
        return np.asarray(logits[0, list(rows)].numpy())

    def greedy(self, encoder_output: Float32, options: Mapping[str, Any]) -> list[int]:
        """`whisper.decode` on the encoder output: tokens without prompt and end-of-text.

        Its ranking divides by the number of tokens, which is none where the text ends at once, as in silence; with a
        length penalty of 0 it divides by 1. There is one sequence to rank, so no token depends on it.
        """
        import torch
        import whisper

        whole = whisper.DecodingOptions(**{"length_penalty": 0.0, **options})
        result = whisper.decode(self._model, torch.from_numpy(encoder_output)[0], whole)
        return list(result.tokens)

    def probe(self, wanted: Taps, dims: Dims) -> HostProbe:
        """The same modules with taps, attention as PyTorch runs it."""
        import torch

        from whisper_parity.backends.split import modules as split
        from whisper_parity.backends.split import probes

        halves = dict(zip(taps.COMPONENTS, split.split(self._model)))
        modules = {name: probes.probe(wanted, name, halves[name], dims) for name in wanted.components}
        embedding = self._model.decoder.token_embedding

        def run(component: str, arrays: Mapping[str, Float32]) -> dict[str, Float32]:
            with torch.no_grad():
                outputs = modules[component](*map(torch.from_numpy, arrays.values()))
            return dict(zip(taps.ports(wanted, component, dims).outputs, (output.numpy() for output in outputs)))

        def lookup(tokens: Sequence[int]) -> Float32:
            embeddings = np.zeros((1, dims.n_text_ctx, dims.n_text_state), np.float32)
            with torch.no_grad():
                embeddings[0, : len(tokens)] = embedding(torch.tensor(list(tokens))).numpy()
            return embeddings

        return HostProbe(f"{self.facts.label}, tapped", wanted, dims, run, lookup)

    def trials(self, step: Step, inputs: Mapping[str, NDArray[Any]], rows: Sequence[int]) -> UnitTrials:
        """See `whisper_parity.backend.facets.Hypothetical`."""
        from whisper_parity.backends.pytorch.trials import UnitTrials

        return UnitTrials(self._model, step, inputs, rows)

    def slips(self) -> tuple[Slip, ...]:
        """See `whisper_parity.backend.facets.Rehearsing`."""
        from whisper_parity.backends.pytorch import stepped

        return stepped.slips(len(self._model.decoder.blocks))

    def stepped(self, slip: Slip | None) -> Stepped:
        """See `whisper_parity.backend.facets.Rehearsing`."""
        from whisper_parity.backends.pytorch.stepped import Projected, Stepped

        self._projected = self._projected or Projected(self._model.decoder)
        return Stepped(self._model, slip, self.facts.label, self._projected)

    @contextmanager
    def perturbed(self, change: Perturbation) -> Iterator[PyTorchSession]:
        """A copy of the model under a change.

        openai-whisper's fused attention takes no mask, only the wish to be causal; a mask value needs the attention
        that is written out, which is switched on for the time of the context (it is a switch of the class).
        """
        import copy

        import torch

        from whisper_parity.backends.split.modules import explicit_attention

        model = copy.deepcopy(self._model)
        if change.half_weights:
            model = model.half().float()
        with ExitStack() as stack:
            if change.mask_value is not None:
                size = model.dims.n_text_ctx
                model.decoder.mask = torch.full((size, size), change.mask_value).triu_(1)
                stack.enter_context(explicit_attention())
            yield PyTorchSession(model, torch.__version__)

"""Sound ports in other forms are sound: each computes what the checkpoint does, up to the order of sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import foreign
from whisper_parity.backends.split import modules
from whisper_parity.compare import tensor
from whisper_parity.fixtures.sound import VARIANTS
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.run.options import RunOptions

LEAST_DB = 100.0


@pytest.fixture(scope="module")
def micro() -> Checkpoint:
    """The micro checkpoint."""
    return checkpoints.resolve(RunOptions().checkpoint)


def outputs(micro: Checkpoint, name: str) -> dict[str, np.ndarray]:
    """What both halves give for noise."""
    port, chance = foreign.ported(micro), torch.Generator().manual_seed(0)
    ids = torch.arange(400, 400 + micro.dims.n_text_ctx, dtype=torch.int32)[None]
    embeddings = torch.from_numpy(port.table)[ids.long()[0]][None]
    features = torch.randn(1, micro.dims.n_mels, micro.dims.n_frames, generator=chance)
    audio = torch.randn(1, micro.dims.n_audio_ctx, micro.dims.n_audio_state, generator=chance)
    with torch.no_grad(), modules.explicit_attention():
        halves = VARIANTS[name].halves(port)
        given = {"encoder": (features,), "decoder": (ids if VARIANTS[name].ids else embeddings, audio)}
        found = {role: half(*given[role]) for role, half in halves.items()}
    return {role: np.asarray(output[0] if name == "tuples" else output) for role, output in found.items()}


@pytest.fixture(scope="module")
def faithful(micro: Checkpoint) -> dict[str, np.ndarray]:
    """Of openai's own modules."""
    return outputs(micro, "traced")


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_computes_what_the_checkpoint_does(micro, faithful, name):
    """Both halves on noise."""
    for role, output in outputs(micro, name).items():
        candidate = output.swapaxes(1, 2) if name == "turned" else output
        assert tensor.measure(reference=faithful[role], candidate=candidate).snr_db > LEAST_DB

"""Every vocabulary and mel size of Whisper follows its dims; nothing is hard-coded to base."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support import sites
from whisper_parity.backend import build
from whisper_parity.backends.split import modules
from whisper_parity.decode import policy
from whisper_parity.decode.loop import rows_are_invariant
from whisper_parity.fixtures import scripted
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import checkpoint, vocabulary
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder

KINDS = {
    "tiny.en": (51864, 80, (50257, 50362), 50256),
    "base": (51865, 80, (50258, 50260, 50359, 50363), 50257),
    "large-v3": (51866, 128, (50258, 50260, 50360, 50364), 50257),
}
"""Vocabulary, mels, prompt of a Chinese clip (English-only models have no language token), end-of-text."""


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    """Name and checkpoint of each kind."""
    n_vocab, n_mels, *_ = KINDS[request.param]
    dims = scripted.dimensions(n_vocab=n_vocab, n_mels=n_mels, n_state=32)
    path = tmp_path / "models" / f"{request.param}.pt"
    path.parent.mkdir()
    return request.param, scripted.save(scripted.model(dims, steps=8), path)


def test_the_prompt_follows_the_vocabulary(kind):
    """The ids after the languages shift by one in large-v3; English-only models have none."""
    name, path = kind
    plan = policy.concrete(policy.named("whisper"), checkpoint.describe(path).dims, "zh")
    assert (plan.prompt, plan.eot) == KINDS[name][2:]


def test_it_runs_through_the_chain(kind, parity, clip, tmp_path):
    """whisper, pytorch and torchscript agree, and files carry the checkpoint's name and mels."""
    name, path = kind
    result = parity(
        "run",
        "--checkpoint",
        path,
        "--clips",
        clip,
        "--language",
        "en",
        "--run-id",
        "kind",
        "--stages",
        "pytorch,torchscript",
    )
    assert result.exit_code == 0, result.output
    report = records.load(RunFolder(tmp_path / "reports" / "kind"))
    assert report.rows[-1].verdict.outcome is Outcome.PASS
    assert report.rows[-1].tokens == 8
    assert report.stages[-1].files["encoder"].name == f"encoder_{name}_3000.pt"


def test_tflite_of_large_v3_has_its_shapes(tmp_path, cache_dir):
    """128 mels and 51866 tokens go through the converter and back."""
    dims = scripted.dimensions(n_vocab=vocabulary.LARGE_V3, n_mels=128, n_state=32)
    path = scripted.save(scripted.model(dims, steps=8), tmp_path / "large-v3.pt")
    workshop = sites.workshop(path, cache_dir)
    artifact = build.obtain(workshop, "tflite")
    assert artifact.files["encoder"].name == "encoder_large-v3_128x3000.tflite"
    with sites.backends().get("tflite").open(artifact, 2) as session:
        output = session.encode(np.zeros((1, 128, 3000), np.float32))
        assert session.decode([50258], output, [0]).shape == (1, 51866)


def test_a_decoder_that_also_takes_shorter_inputs_works(scripted_checkpoint, parity, clip, tmp_path):
    """Users trace decoders with slices of the positional embedding; rows and tokens are the same."""

    class Sliced(torch.nn.Module):
        def __init__(self, decoder):
            super().__init__()
            self.decoder = decoder

        def forward(self, token_embeddings, encoder_output):
            whole = self.decoder
            hidden = token_embeddings + whole.positional_embedding[: token_embeddings.shape[1]]
            for block in whole.blocks:
                hidden = block(hidden, encoder_output, mask=whole.mask)
            return whole.projection(whole.ln(hidden))

    artifacts = tmp_path / "artifacts"
    assert parity("build", "--stages", "torchscript", "--out", artifacts).exit_code == 0
    (artifacts / "torchscript.lineage.json").unlink()
    found = checkpoint.describe(scripted_checkpoint)
    _, decoder = modules.split(modules.load_model(found.path))
    _, inputs = modules.example_inputs(found.dims)
    with modules.explicit_attention():
        traced = torch.jit.trace(Sliced(decoder).eval(), inputs, check_trace=False)
        assert traced(inputs[0][:, :7], inputs[1]).shape[1] in (7, 448)
    traced.save(str(artifacts / f"decoder_{found.name}_448.pt"))
    result = parity(
        "run",
        "--clips",
        clip,
        "--language",
        "en",
        "--stages",
        "pytorch,torchscript",
        "--artifacts",
        artifacts,
        "--run-id",
        "sliced",
    )
    assert result.exit_code == 0, result.output
    report = records.load(RunFolder(tmp_path / "reports" / "sliced"))
    assert report.stages[-1].origin == "given"


def test_a_finite_mask_gives_the_same_rows(scripted_checkpoint, cache_dir):
    """-10000 for NPUs instead of -inf: the same model to float32 accuracy, and still causal."""
    found = checkpoint.describe(scripted_checkpoint)
    rows = {}
    for mask in ("-inf", "-10000"):
        artifact = build.obtain(replace(sites.workshop(found, cache_dir), options={"mask_value": mask}), "torchscript")
        with sites.backends().get("torchscript").open(artifact, 2) as session:
            output = np.random.default_rng(0).standard_normal((1, 1500, 64), dtype=np.float32)
            rows[mask] = session.decode([50258, 50259, 400], output, [0, 2])
            assert rows_are_invariant(session, policy.concrete(policy.named("plain"), found.dims, "en"), output)
    np.testing.assert_allclose(rows["-inf"], rows["-10000"], atol=1e-4)

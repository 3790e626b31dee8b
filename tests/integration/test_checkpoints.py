"""Every vocabulary and mel size of Whisper follows its dims; nothing is hard-coded to base."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support import checkpoints, sites
from whisper_parity.backend import build
from whisper_parity.backends.split import modules
from whisper_parity.decode import policy
from whisper_parity.decode.loop import rows_are_invariant
from whisper_parity.errors import UnavailableError
from whisper_parity.fixtures import scripted
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import checkpoint
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


@pytest.mark.parametrize("kind", ["tiny.en", "large-v3"], indirect=True)
def test_it_runs_through_the_chain(kind, parity, clip, tmp_path):
    """From openai-whisper to a converted file: every stage agrees, and files carry the checkpoint's name and mels."""
    name, path = kind
    report = run(parity, path, clip, tmp_path)
    assert [row.verdict.outcome for row in report.rows[2:]] == [Outcome.PASS, Outcome.PASS]
    assert report.rows[-1].tokens == 8
    n_mels = KINDS[name][1]
    encoders = [stage.files["encoder"].name for stage in report.stages[2:]]
    assert encoders == [f"encoder_{name}_3000.pt", f"encoder_{name}_{n_mels}x3000.tflite"]


def run(parity, path, clip, tmp_path):
    """Report of a run from openai-whisper to TFLite."""
    stages = ("--stages", "whisper,pytorch,torchscript,tflite")
    result = parity("run", "--checkpoint", path, "--clips", clip, "--language", "en", "--run-id", "kind", *stages)
    assert result.exit_code == 0, result.output
    return records.load(RunFolder(tmp_path / "reports" / "kind"))


def test_added_tokens_and_an_untied_projection_run_through_the_chain(parity, clip, tmp_path):
    """A fine-tuned Hugging Face model: openai-whisper's decoder projects by another matrix, unchanged."""
    weights = checkpoints.state(n_vocab=51867)
    path = checkpoints.folder(tmp_path / "tuned", weights, vocab_size=51867)
    turned = weights["decoder.token_embedding.weight"].clone()
    turned[51865:] = turned[400:402]  # as likely as tokens of the script
    named = {**checkpoints.hugging_face(weights), "proj_out.weight": turned}
    save_file(named, path / "model.safetensors")
    report = run(parity, path, clip, tmp_path)
    assert report.checkpoint_note == (
        "read from Hugging Face, float32; 2 added ids without text behind Whisper's vocabulary of 51865; "
        "the output projection is not the token embedding"
    )
    assert [row.verdict.outcome for row in report.rows[2:]] == [Outcome.PASS, Outcome.PASS]
    assert report.checkpoint == "tuned"


def test_another_window_is_none_for_openai_whispers_own_loop(tmp_path):
    """`whisper.transcribe` cuts 30 s and no other length: stage whisper says so before it fails."""
    weights = checkpoints.state(n_audio_ctx=500)
    torch.save({"dims": checkpoints.dims(n_audio_ctx=500), "model_state_dict": weights}, tmp_path / "ten.pt")
    workshop = sites.workshop(tmp_path / "ten.pt", tmp_path)
    line = "transcribes windows of 30 s, this checkpoint has 10 s. Name the stages from pytorch on: --stages pytorch,"
    with pytest.raises(UnavailableError, match=line):
        sites.backends().get("whisper").open(build.obtain(workshop, "whisper"), 1).__enter__()
    with sites.backends().get("pytorch").open(build.obtain(workshop, "pytorch"), 1) as session:
        assert session.encode(np.zeros((1, 80, 1000), np.float32)).shape == (1, 500, checkpoints.N_STATE)


def test_the_untied_projection_decides_the_logits(tmp_path):
    """Another projection gives other logits by exactly its difference; the lookup stays that of the embedding."""
    weights = checkpoints.state()
    logits = []
    for name, shift in (("tied", 0.0), ("untied", 0.25)):
        projection = weights["decoder.token_embedding.weight"] + shift
        torch.save({**checkpoints.hugging_face(weights), "proj_out.weight": projection}, tmp_path / f"{name}.pt")
        model = modules.load_model(checkpoint.describe(tmp_path / f"{name}.pt", cache=tmp_path).path)
        _, decoder = modules.split(model)
        embeddings, encoder_output = (
            torch.randn(1, 448, 64, generator=torch.Generator().manual_seed(1)),
            torch.zeros(1, 1500, 64),
        )
        with torch.no_grad():
            hidden = model.decoder.ln(hidden_of(decoder, embeddings, encoder_output))
            logits.append(decoder(embeddings, encoder_output))
            whole = model.decoder(torch.tensor([[50258, 400]]), encoder_output)
            table = model.decoder.token_embedding(torch.tensor([400]))
        assert torch.equal(table[0], weights["decoder.token_embedding.weight"][400])
        assert whole.shape == (1, 2, 51865)
    torch.testing.assert_close(logits[1] - logits[0], 0.25 * hidden.sum(-1, keepdim=True).expand_as(logits[0]),
                               atol=1e-3, rtol=1e-3)  # fmt: skip


def hidden_of(decoder, embeddings, encoder_output):
    """What stands before the last normalisation."""
    hidden = embeddings + decoder.positional_embedding
    for block in decoder.blocks:
        hidden = block(hidden, encoder_output, mask=decoder.mask)
    return hidden


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

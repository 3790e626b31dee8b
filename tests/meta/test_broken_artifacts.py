"""Artifacts broken one at a time, run for real: each is found on the right rung of the right stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import sound
from whisper_parity.fixtures import scripted
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import report
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Row

NAME = "tiny"


@pytest.fixture(scope="module")
def whole(parity_in, tmp_path_factory) -> Path:
    """A checkpoint, its torchscript files without lineage, and those of a model of the same size and another seed."""
    folder = tmp_path_factory.mktemp("whole")
    sound.write_wav(folder / "warble.wav", sound.warble(2.0))
    for kind, seed in (("right", 0), ("other", 1)):
        path = folder / kind / f"{NAME}.pt"
        path.parent.mkdir()
        scripted.save(scripted.model(scripted.dimensions(), seed, steps=12), path)
        built = parity_in(folder)(
            "build", "--checkpoint", path, "--stages", "torchscript", "--out", folder / kind / "artifacts"
        )
        assert built.exit_code == 0, built.output
        (folder / kind / "artifacts" / "torchscript.lineage.json").unlink()
    return folder


@pytest.fixture
def judged(whole: Path, tmp_path: Path, parity) -> Callable[..., Row]:
    """Break a copy of the artifacts and judge it."""
    artifacts = tmp_path / "artifacts"
    shutil.copytree(whole / "right" / "artifacts", artifacts)

    def judge(breakage: Callable[[Path, Path], None]) -> Row:
        breakage(artifacts, whole / "other" / "artifacts")
        parity(
            "run",
            "--checkpoint",
            whole / "right" / f"{NAME}.pt",
            "--artifacts",
            artifacts,
            "--clips",
            whole / "warble.wav",
            "--language",
            "en",
            "--stages",
            "pytorch,torchscript",
            "--run-id",
            "broken",
        )
        return report.load(RunFolder(tmp_path / "reports" / "broken")).rows[-1]

    return judge


def edit_embedding(change: Callable[[np.ndarray], None]) -> Callable[[Path, Path], None]:
    def breakage(artifacts: Path, other: Path) -> None:
        path = artifacts / "token_embedding.npy"
        table = np.load(path)
        change(table)
        np.save(path, table)

    return breakage


def edit_weight(component: str, name: str, change: Callable[[torch.Tensor], None]) -> Callable[[Path, Path], None]:
    def breakage(artifacts: Path, other: Path) -> None:
        path = next(artifacts.glob(f"{component}_*.pt"))
        module = torch.jit.load(str(path))
        with torch.no_grad():
            change(module.state_dict()[name])
        module.save(str(path))

    return breakage


def take_other(pattern: str) -> Callable[[Path, Path], None]:
    def breakage(artifacts: Path, other: Path) -> None:
        for path in other.glob(pattern):
            shutil.copyfile(path, artifacts / path.name)

    return breakage


def shift(values: torch.Tensor) -> None:
    values.copy_(values.roll(1, 0))


BREAKAGES = {
    "nothing": (lambda artifacts, other: None, Outcome.PASS, ""),
    "encoder of another model": (take_other("encoder_*"), Outcome.DIVERGED, "tensor"),
    "decoder of another model": (take_other("decoder_*"), Outcome.DIVERGED, "logits"),
    "embedding of another model": (take_other("token_embedding.npy"), Outcome.DIVERGED, "logits"),
    "two embedding rows swapped": (
        edit_embedding(lambda table: table.__setitem__([50258, 50363], table[[50363, 50258]])),
        Outcome.DIVERGED,
        "logits",
    ),
    "NaN in an embedding row": (
        edit_embedding(lambda table: table.__setitem__((50258, 3), np.nan)),
        Outcome.DIVERGED,
        "tensor",
    ),
    "encoder positions shifted by one": (
        edit_weight("encoder", "encoder.positional_embedding", shift),
        Outcome.DIVERGED,
        "tensor",
    ),
    "decoder positions shifted by one": (
        edit_weight("decoder", "positional_embedding", shift),
        Outcome.DIVERGED,
        "logits",
    ),
    "causal mask missing": (edit_weight("decoder", "mask", lambda mask: mask.zero_()), Outcome.DIVERGED, "logits"),
    "one attention head zeroed": (
        edit_weight("encoder", "encoder.blocks.0.attn.value.weight", lambda weight: weight[:32].zero_()),
        Outcome.DIVERGED,
        "tensor",
    ),
    "NaN in one weight": (
        edit_weight("encoder", "encoder.ln_post.bias", lambda bias: bias[5].fill_(float("nan"))),
        Outcome.DIVERGED,
        "tensor",
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_artifact_is_found_on_its_rung(judged, name):
    """Outcome and rung, exactly; the files are reported as external."""
    breakage, outcome, rung = BREAKAGES[name]
    row = judged(breakage)
    assert (row.verdict.outcome, row.verdict.rung if rung else "") == (outcome, rung), row.verdict.reason


def test_a_decoder_of_another_model_is_named_in_the_reason(judged):
    """Encoder agrees, decoder does not."""
    row = judged(BREAKAGES["decoder of another model"][0])
    assert "the encoder agrees: look at the decoder and the token embedding" in row.verdict.reason


def test_a_decoder_that_reads_the_suffix_is_decoded_step_by_step_and_said_to_be(judged):
    """Without a causal mask rows change with what follows: no draft is trusted, and the report says so."""
    row = judged(BREAKAGES["causal mask missing"][0])
    assert row.decoder_calls > 12
    assert any("decoded step by step" in note for note in row.notes)

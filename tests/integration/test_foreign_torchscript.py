"""TorchScript files that are foreign or of another model: a row that says so, and never a crash."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support import attacks
from tests.support.givenfiles import Folder, dump, replace
from whisper_parity.backends.split import modules
from whisper_parity.fixtures import scripted
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import dims
from whisper_parity.system.files import file_sha256

N_STATE = 64
MISFIT = "{path}: outputs do not fit: expected encoder_output [1, 1500, 64]"


def save(module: Any, path: Path) -> None:
    """Put another TorchScript module in a file's place."""
    path.unlink()
    module.save(str(path))


class Repeats(nn.Module):
    """Loops as often as a number says that it is fed, below a branch."""

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[0] > 0:
            for _ in range(int(features.sum().item()) + 3):
                features = features + 1
        return features


class RunsAtLoad(nn.Module):
    """Has a `__setstate__`, which TorchScript calls while it loads a file."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = torch.zeros(1)

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.loaded, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.loaded = state[0] + 1
        self.training = state[1]

    def forward(self, features: Tensor) -> Tensor:
        return features + self.loaded


class WithoutForward(nn.Module):
    """Nothing to call."""

    @torch.jit.export
    def other(self, features: Tensor) -> Tensor:
        return features


class Gives(nn.Module):
    """Gives one thing, whatever it is fed."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, features: Tensor) -> Any:
        shape = (1, 1500, N_STATE)
        if self.kind == "a pair":
            return features, features
        return torch.zeros(shape, dtype=torch.float64 if self.kind == "float64" else torch.bfloat16)


def traced(module: nn.Module, *inputs: Tensor) -> Any:
    with modules.explicit_attention():
        return torch.jit.trace(module, inputs, check_trace=False)


FOREIGN_TORCHSCRIPT: dict[str, tuple[Callable[[], Any], str]] = {
    "loops": (
        lambda: torch.jit.script(Repeats()),
        "{path}: outputs do not fit: expected encoder_output [1, 1500, 64]; the file has float32 [1, 80, 3000]. Is it",
    ),
    "code at load": (
        lambda: torch.jit.script(RunsAtLoad()),
        "{path}: runs code of its own when loaded (",
    ),
    "no forward": (lambda: torch.jit.script(WithoutForward()), "{path}: not a TorchScript file ("),
    "another size": (
        lambda: traced(modules.SplitEncoder(model(n_state=128).encoder.eval()), torch.zeros(1, 80, 3000)),
        "{path}: no weight of shape [64, 80, 3] (first convolution). Is it from the given checkpoint?",
    ),
    "another size, frozen": (
        lambda: torch.jit.freeze(
            traced(modules.SplitEncoder(model(n_state=128).encoder.eval()), torch.zeros(1, 80, 3000)).eval()
        ),
        "{path}: outputs do not fit: expected encoder_output [1, 1500, 64]; the file has float32 [1, 1500, 128]. Is it",
    ),
    "two inputs": (
        lambda: torch.jit.trace(lambda a, b: a + b, (torch.zeros(1, 80, 3000), torch.zeros(1, 80, 3000))),
        "{path}: the encoder has 2 inputs where input_features are expected; it takes: a, b. Is",
    ),
    **{
        f"gives {kind}": (
            lambda kind=kind: torch.jit.trace(Gives(kind), torch.zeros(1, 80, 3000), check_trace=False),
            said,
        )
        for kind, said in {
            "a pair": f"{MISFIT}; the file has 0 float32 [1, 80, 3000], 1 float32 [1, 80, 3000]. Is it",
            "float64": f"{MISFIT}; the file has float64 [1, 1500, 64]. Is it from the given checkpoint?",
            "bfloat16": f"{MISFIT}; the file has bfloat16 [1, 1500, 64]. Is it from the given checkpoint?",
        }.items()
    },
}


def model(n_state: int = N_STATE, n_vocab: int = 51865, seed: int = 1) -> Any:
    """Another tiny Whisper than that of the checkpoint."""
    return scripted.model(scripted.dimensions(n_vocab=n_vocab, n_state=n_state), seed=seed, steps=12)


@pytest.mark.parametrize("case", FOREIGN_TORCHSCRIPT)
def test_a_foreign_torchscript_encoder_is_refused(artifacts: Folder, case: str):
    """Whatever it is, it is bad input and not a failure of this machine."""
    make, said = FOREIGN_TORCHSCRIPT[case]
    path = artifacts.file("torchscript", "encoder")
    save(make(), path)
    assert artifacts.refused("torchscript").startswith(said.format(path=path))


def test_a_checkpoint_is_no_torchscript_file(artifacts: Folder, scripted_checkpoint: Path):
    """Both are called .pt."""
    path = artifacts.file("torchscript", "encoder")
    replace(path, scripted_checkpoint.read_bytes())
    assert artifacts.refused("torchscript").startswith(f"{path}: not a TorchScript file (")


def test_encoder_and_decoder_in_each_others_place_are_refused(artifacts: Folder):
    """The weights tell which is which."""
    encoder, decoder = artifacts.file("torchscript", "encoder"), artifacts.file("torchscript", "decoder")
    encoder.rename(artifacts.path / "swap.pt")
    decoder.rename(encoder)
    (artifacts.path / "swap.pt").rename(decoder)
    assert artifacts.refused("torchscript").startswith(f"{encoder}: no weight of shape [64, 80, 3] (first convolution)")


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"n_vocab": 51864},
            "{path}: outputs do not fit: expected logits [1, 448, 51865]; the file has float32 [1, 448, 51864]. Is it",
        ),
        ({"n_state": 128}, "torchscript decoder: failed on inputs [1, 448, 64], [1, 1500, 64] ("),
    ],
    ids=["another vocabulary", "another size"],
)
def test_a_decoder_of_another_model_is_refused(artifacts: Folder, changes: dict[str, int], said: str, frozen: bool):
    """Its weights tell, and where a frozen file shows none, what it does."""
    path, other = artifacts.file("torchscript", "decoder"), model(**changes)
    _, inputs = modules.example_inputs(dims.Dims(**vars(other.dims)))
    module = traced(modules.split(other)[1], *inputs).eval()
    save(torch.jit.freeze(module) if frozen else module, path)
    weights = f"{path}: no weight of shape [51865, 64] (output projection). Is it from the given checkpoint?"
    assert artifacts.refused("torchscript").startswith(said.format(path=path) if frozen else weights)


@pytest.mark.parametrize("parts", [("decoder",), ("decoder", "token_embedding"), ("token_embedding",)])
def test_a_decoder_of_another_checkpoint_of_the_same_size_diverges(artifacts: Folder, parts: tuple[str, ...]):
    """Nothing in the shapes tells them apart; the verdict does, and says where to look."""
    other = model()
    if "decoder" in parts:
        _, inputs = modules.example_inputs(dims.Dims(**vars(other.dims)))
        save(traced(modules.split(other)[1], *inputs), artifacts.file("torchscript", "decoder"))
    if "token_embedding" in parts:
        dump(other.decoder.token_embedding.weight.detach().numpy(), artifacts.token_embedding)
    row = artifacts.judged("torchscript", 1)
    assert row.verdict.outcome is Outcome.DIVERGED
    assert row.verdict.reason.endswith(
        "; the encoder agrees: look at the decoder and the token embedding (of the same checkpoint?)"
    )


def test_an_encoder_of_another_checkpoint_of_the_same_size_diverges(artifacts: Folder):
    """It does so on the first rung: its output."""
    save(traced(modules.split(model())[0], torch.zeros(1, 80, 3000)), artifacts.file("torchscript", "encoder"))
    row = artifacts.judged("torchscript", 1)
    assert (row.verdict.outcome, row.verdict.rung) == (Outcome.DIVERGED, "tensor")
    assert row.verdict.reason.startswith("tensor: encoder_output SNR ")


def test_weights_that_are_not_finite_diverge(artifacts: Folder):
    """Found, counted and located; the text that comes out of it is not compared."""
    table = np.load(artifacts.token_embedding).copy()
    table[50258] = np.nan
    dump(table, artifacts.token_embedding)
    row = artifacts.judged("torchscript", 1)
    assert row.verdict.outcome is Outcome.DIVERGED
    assert "values of the candidate are NaN or infinite, first at [" in row.verdict.reason


def test_a_given_file_is_run_in_a_child_and_the_row_says_what_it_is_kept_from(artifacts: Folder):
    """Each measure that this system grants, by name."""
    row = artifacts.judged("torchscript", 0)
    (note,) = row.notes
    assert note.startswith("given files, run in a child process: ")
    assert "memory 4." in note or not sys.platform.startswith("linux")


def test_a_lineage_record_makes_no_file_ours(artifacts: Folder, built_artifacts: Path, tmp_path: Path):
    """One that says that we built the attack: it is run in the child all the same."""
    marker, path = tmp_path / "marker", artifacts.file("torchscript", "encoder")
    path.unlink()
    attacks.build("Forks", path, marker)
    record = json.loads((built_artifacts / "artifacts" / "torchscript.lineage.json").read_text("utf-8"))
    record["files"]["encoder"]["sha256"] = file_sha256(path)
    (artifacts.path / "torchscript.lineage.json").write_text(json.dumps(record), "utf-8")
    reason = artifacts.refused("torchscript")
    assert reason == f"{path}: holds aten::from_file, which a Whisper does not need. Trace it again"
    assert not marker.exists()


def test_a_file_that_hangs_is_a_row_and_the_run_goes_on(artifacts: Folder, tmp_path: Path):
    """After the time that the settings allow; the stage behind it is recorded."""
    path = artifacts.file("torchscript", "encoder")
    path.unlink()
    attacks.build("Endless", path, tmp_path / "marker")
    report = artifacts.report("torchscript,tflite", "--set", "torchscript.given_limit_s=5")
    outcomes = {row.stage: row.verdict for row in report.rows}
    assert outcomes["torchscript"].outcome is Outcome.FAILED
    assert outcomes["torchscript"].reason == "torchscript: no answer in 5 s; its process was ended"
    assert outcomes["tflite"].outcome is Outcome.NOT_COMPARED  # it ran; its reference did not

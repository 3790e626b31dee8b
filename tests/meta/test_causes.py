"""Every cause in files of others is named, exactly: several units, both halves, what is no unit's, what only drifts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from benchmarks import foreign
from whisper_parity import project
from whisper_parity.backends.split import modules
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.explain import explain
from whisper_parity.explain.explanation import Explanations
from whisper_parity.fixtures import breakages
from whisper_parity.fixtures.breakages import BREAKAGES, Port
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.run import plan as planning
from whisper_parity.run import schedule
from whisper_parity.run.cell import Cell
from whisper_parity.run.options import RunOptions

CLIP = "en-comma-01"
SHORT = {"short": {"base": "whisper", "sample_len": 24}}
"""A broken decoder may never end."""

Spoil = Callable[[Port], None]
Named = list[tuple[str, str]]
"""(part, unit) of each cause."""


def faults(*names: str) -> Spoil:
    """Several breakages at once."""

    def spoil(port: Port) -> None:
        for name in names:
            BREAKAGES[name].apply(port)

    return spoil


def noise(port: Port) -> None:
    """1e-3 on every weight."""
    for half in (port.encoder, port.decoder):
        breakages._stale(half, 1e-3)


def strange(port: Port) -> None:
    """Another checkpoint's weights of the same shapes."""
    for half in (port.encoder, port.decoder):
        breakages._strange(half)


def a_row(port: Port) -> None:
    """One row of the token embedding, of a token that the text has."""
    port.table[11] *= 1.01


def small_bias(port: Port) -> None:
    """Too small for the SNR of the logits: the comma's column is off at every step."""
    breakages._biased(port, [11], 0.02)


def a_little(port: Port) -> None:
    """What drifts and does not fail."""
    port.encoder.encoder.blocks[1].mlp[2].weight.mul_(1 + 2e-4)


def int8(port: Port) -> None:
    """Eight bits, one scale a tensor, in every block and in the convolutions."""
    for half in (port.encoder, port.decoder):
        for module in half.modules():
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d)):
                scale = module.weight.abs().max() / 127
                module.weight.copy_(torch.round(module.weight / scale) * scale)


def block_left_out(port: Port) -> None:
    """Another number of blocks: a structure that is not looked into."""
    port.encoder.encoder.blocks = port.encoder.encoder.blocks[:-1]


BOTH: Named = [("encoder", ""), ("decoder", "")]
CASES: dict[str, tuple[Spoil, Named, bool]] = {
    "two units of the encoder": (
        faults("encoder-head", "encoder-gelu"), [("encoder", "encoder.blocks.1"), ("encoder", "encoder.blocks.2")],
        False,
    ),
    "both blocks of the decoder": (
        faults("decoder-head", "cross-head"), [("decoder", "decoder.blocks.0"), ("decoder", "decoder.blocks.1")], False,
    ),
    "one in each half": (
        faults("encoder-gelu", "decoder-norm"), [("encoder", "encoder.blocks.2"), ("decoder", "decoder.ln")], False,
    ),
    "two blocks exchanged": (
        faults("encoder-order"), [("encoder", "encoder.blocks.1"), ("encoder", "encoder.blocks.2")], False,
    ),
    "noise on every weight": (noise, BOTH, True),
    "8 bits": (int8, BOTH, True),
    "another checkpoint": (strange, BOTH, True),
    "a row of the table": (a_row, [("embedding", "decoder.positions")], False),
    "encoder positions shifted": (faults("encoder-positions"), [("encoder", "encoder.positions")], False),
    "decoder positions shifted": (faults("decoder-positions"), [("decoder", "decoder.positions")], False),
    "a small bias of one logit": (small_bias, [("decoder", "decoder.logits")], False),
    "a drift": (a_little, [("encoder", "encoder.blocks.1")], False),
    "not looked into": (block_left_out, [("encoder", "")], False),
}  # fmt: skip
IN_TFLITE = ("two units of the encoder", "noise on every weight", "a small bias of one logit")


@pytest.fixture
def explained(tmp_path: Path, cache_dir: Path) -> Callable[[Spoil, str], tuple[Outcome, Explanations]]:
    """Writes spoilt files, judges and explains them: the row's outcome, and what is said of it."""

    def call(spoil: Spoil, kind: str) -> tuple[Outcome, Explanations]:
        checkpoint = checkpoints.resolve(RunOptions().checkpoint)
        port = breakages.ported(modules.load_model(checkpoint.path))
        with torch.no_grad():
            spoil(port)
            foreign.write(port, tmp_path / "files", checkpoint, kind)
        options = RunOptions(
            stages=("pytorch", kind), clips=(CLIP,), policy="short", language="en", threads=2, run_id="run",
            report_dir=tmp_path, cache=cache_dir, artifacts=tmp_path / "files",
        )  # fmt: skip
        plan = planning.make(options, project.Project(Path(), policies=SHORT))
        with schedule.opened(plan) as running:
            rows = [running.row(Cell(stage, plan.clips[0])) for stage in plan.stages]
        with ExitStack() as stack:
            return rows[-1].verdict.outcome, explain(Bench(plan, stack), plan.clips[0], kind)

    return call


@pytest.mark.parametrize(
    ("kind", "case"),
    [*(("torchscript", case) for case in CASES), *(("tflite", case) for case in IN_TFLITE)],
)
def test_every_cause_is_named(explained, kind, case):
    """Part and unit of each, in the order of the flow; nothing else, and an answer."""
    spoil, causes, spread = CASES[case]
    outcome, found = explained(spoil, kind)
    assert outcome is (Outcome.DRIFT if case == "a drift" else Outcome.DIVERGED)
    assert sorted((cause.part, cause.unit) for cause in found.causes) == sorted(causes), found
    assert {cause.edge for cause in found.causes} == {f"pytorch->{kind}"}
    assert (found.part, found.unit) == (found.causes[0].part, found.causes[0].unit)
    assert (found.spread, found.answered) == (spread, True)
    said = " ".join(cause.finding for cause in found.causes)
    assert ("another checkpoint's" in said) == (case == "another checkpoint")
    assert (" inf" in said) is False

"""Files with wrong weights, one fault at a time: what they hold is told exactly, before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import lowered, sound
from whisper_parity import project
from whisper_parity.backends.tflite import constants
from whisper_parity.backends.tflite.mtkext import flatfile
from whisper_parity.fixtures import scripted
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import checkpoint
from whisper_parity.run import report
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.report import Row
from whisper_parity.weights import reference
from whisper_parity.weights.finding import Finder

NAME = "pair"
WIDTH = 64
ALL = "89 of 89 tensors of pair.pt"
TABLES = "token_embedding.npy: exact"
Break = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(parity_in, cache_dir, tmp_path_factory) -> Path:
    """A checkpoint of two blocks a side with random biases, its files without lineage, and those of another seed."""
    folder = tmp_path_factory.mktemp("whole")
    sound.write_wav(folder / "warble.wav", sound.warble(1.0))
    for kind, seed in (("right", 0), ("other", 1)):
        path = folder / kind / f"{NAME}.pt"
        path.parent.mkdir()
        scripted.save(noisy(seed), path)
        stages = "torchscript,tflite" if kind == "right" else "torchscript"
        built = parity_in(folder)(
            "build", "--checkpoint", path, "--stages", stages, "--out", folder / kind / "artifacts"
        )
        assert built.exit_code == 0, built.output
        for lineage in (folder / kind / "artifacts").glob("*.lineage.json"):
            lineage.unlink()
    return folder


def noisy(seed: int) -> Any:
    """A scripted model whose biases, gains and shifts are those of no other layer."""
    model = scripted.model(scripted.dimensions(n_layer=2), seed, steps=6)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if values.ndim == 1:
                values.copy_(torch.randn_like(values) * 0.1 + float("ln" in name and name.endswith("weight")))
    return model


@pytest.fixture
def said(whole: Path, tmp_path: Path, parity, monkeypatch) -> Callable[..., tuple[int, list[str]]]:
    """Break a copy of the files; the exit code and the lines of `parity weights`."""

    monkeypatch.setenv(project.CACHE_VARIABLE, str(tmp_path / "cache"))

    def look(broken: Break, *files: str) -> tuple[int, list[str]]:
        folder = tmp_path / "artifacts"
        folder.mkdir()
        for name in files:
            shutil.copyfile(whole / "right" / "artifacts" / name, folder / name)
        broken(folder)
        result = parity("weights", folder, "--checkpoint", whole / "right" / f"{NAME}.pt")
        return result.exit_code, result.output.splitlines()

    return look


SCRIPTS = (f"encoder_{NAME}_3000.pt", f"decoder_{NAME}_448.pt", "token_embedding.npy")
FLAT = (f"encoder_{NAME}_80x3000.tflite", f"decoder_{NAME}_448.tflite", "token_embedding.npy")


def script(role: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Break:
    """Change weights of a TorchScript file."""

    def broken(folder: Path) -> None:
        path = next(folder.glob(f"{role}_*.pt"))
        module = torch.jit.load(str(path))
        with torch.no_grad():
            change(module.state_dict())
        module.save(str(path))

    return broken


def table(change: Callable[[np.ndarray], Any]) -> Break:
    """Change the token embedding."""

    def broken(folder: Path) -> None:
        values = np.load(folder / "token_embedding.npy")
        changed = change(values)
        np.save(folder / "token_embedding.npy", values if changed is None else changed)

    return broken


def swap(first: str, second: str) -> Callable[[dict[str, torch.Tensor]], None]:
    """Exchange all weights of two modules."""

    def change(state: dict[str, torch.Tensor]) -> None:
        for name in [name for name in state if name.startswith(first)]:
            there = name.replace(first, second, 1)
            kept = state[name].clone()
            state[name].copy_(state[there])
            state[there].copy_(kept)

    return change


def coarse(values: torch.Tensor, bits: int) -> torch.Tensor:
    step = values.abs().max() / (2 ** (bits - 1) - 1)
    return torch.round(values / step) * step


def without_head(values: torch.Tensor) -> torch.Tensor:
    """Without the first of two heads."""
    return values * (torch.arange(WIDTH) >= WIDTH // 2)[:, None]


def change_of(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda state: state[name].copy_(change(state[name]))


def every(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    def apply(state: dict[str, torch.Tensor]) -> None:
        for name, values in state.items():
            if name != "mask":
                values.copy_(change(values))

    return apply


def exchange_rows(values: np.ndarray) -> None:
    values[[11, 13]] = values[[13, 11]]


def lose_row(values: np.ndarray) -> None:
    values[11] += 1


def nan_row(values: np.ndarray) -> None:
    values[11, 3] = np.nan


ENCODER, DECODER = SCRIPTS[:2]
TABLE = "token_embedding.npy: decoder.token_embedding.weight"
EXCHANGED = "encoder.blocks.0 has the weights of encoder.blocks.1; encoder.blocks.1 has the weights of encoder.blocks.0"
FAULTS: dict[str, tuple[Break, list[str]]] = {
    "a bias is lost": (
        script("decoder", change_of("blocks.1.cross_attn.value.bias", torch.zeros_like)),
        [f"{DECODER}: decoder.blocks.1.cross_attn.value.bias is lost: all 64 values in its place are zero"],
    ),
    "a bias is too small": (
        script("decoder", change_of("blocks.1.mlp.0.bias", lambda values: values * 0.5)),
        [f"{DECODER}: decoder.blocks.1.mlp.0.bias is 0.5 times the checkpoint's"],
    ),
    "a weight has 4 bits": (
        script("encoder", change_of("encoder.blocks.0.mlp.2.weight", lambda values: coarse(values, 4))),
        [f"{ENCODER}: encoder.blocks.0.mlp.2.weight is rounded to 4 bits, one step for each tensor (23 dB)"],
    ),
    "a head is zero": (
        script("encoder", change_of("encoder.blocks.1.attn.value.weight", without_head)),
        [f"{ENCODER}: encoder.blocks.1.attn.value.weight has rows 0 to 31 (head 0) zero"],
    ),
    "positions are shifted": (
        script("decoder", change_of("positional_embedding", lambda values: values.roll(1, 0))),
        [f"{DECODER}: decoder.positional_embedding is shifted by one row: row 1 holds the checkpoint's row 0"],
    ),
    "a kernel is turned round": (
        script("encoder", change_of("encoder.conv1.weight", lambda values: values.flip(2))),
        [f"{ENCODER}: encoder.conv1.weight has its kernel turned round"],
    ),
    "two blocks are exchanged": (
        script("encoder", swap("encoder.blocks.0.", "encoder.blocks.1.")),
        [
            f"{ENCODER}: {EXCHANGED}",
        ],
    ),
    "queries and keys are exchanged": (
        script("decoder", swap("blocks.0.attn.query.weight", "blocks.0.attn.key.weight")),
        [
            f"{DECODER}: decoder.blocks.0.attn.{place}.weight has the numbers of decoder.blocks.0.attn.{source}.weight "
            "in its place"
            for place, source in (("query", "key"), ("key", "query"))
        ],
    ),
    "weights are those of bfloat16": (
        script("encoder", every(lambda values: values.bfloat16().float())),
        [f"{ENCODER}: 37 tensors are rounded to bfloat16, which the type that they are stored in does not say"],
    ),
    "two rows of the table are exchanged": (
        table(exchange_rows),
        [f"{TABLE} has rows exchanged: 11 (',') is that of 13 ('.'), 13 ('.') is that of 11 (',')"],
    ),
    "a row of the table is another": (table(lose_row), [f"{TABLE} differs in row 11 (',') alone, there by -7 dB"]),
    "NaN in the table": (table(nan_row), [f"{TABLE} has 1 value(s) that are NaN or infinite in row 11 (',')"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_torchscript_files_is_told(said, name):
    """The tensor, how it differs, and how many are left; exit code 1."""
    broken, lines = FAULTS[name]
    code, output = said(broken, *SCRIPTS)
    assert (code, output[:-1]) == (1, lines)


def nothing(folder: Path) -> None:
    """Leave the files as they are."""


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (SCRIPTS, f"{ALL}, exact; {TABLES}"),
        (FLAT, f"{ALL}: 63 exact, 14 equal to float32 arithmetic, 12 folded into the next layer; {TABLES}"),
        (SCRIPTS[2:], "1 of 1 tensors of pair.pt, exact"),
    ],
)
def test_nothing_is_said_of_sound_files(said, files, line):
    """One line, and exit code 0: a check that never passes is no check."""
    assert said(nothing, *files) == (0, [line])


def test_the_files_of_another_checkpoint_are_told(said, whole):
    """None of its tensors is there, by names or without."""

    def broken(folder: Path) -> None:
        shutil.copyfile(whole / "other" / "artifacts" / DECODER, folder / DECODER)

    code, output = said(broken, *SCRIPTS)
    assert code == 1
    assert output[0].startswith(f"{DECODER}: 52 of 52 tensors differ, 22 of 22 matrices by -3 to ")
    assert output[0].endswith(": not the weights of pair.pt")
    assert output[1:] == [f"37 of 89 tensors of pair.pt, exact; {TABLES}"]


def flat(role: str, whole: Path, change: Callable[[dict[str, np.ndarray]], None]) -> Break:
    """Change constants of a TFLite file, found by the tensors that they hold."""

    def broken(folder: Path) -> None:
        path = next(folder.glob(f"{role}_*.tflite"))
        finder = Finder(reference.load(checkpoint.describe(whole / "right" / f"{NAME}.pt")))
        keys = {match.target.tensor: match.item.constant.key for match in finder.matches(constants.read(path), role)}
        model = flatfile.read(path)
        values = {name: model.buffers[int(key.split()[1])] for name, key in keys.items()}
        arrays = {name: np.frombuffer(buffer.data, "<f4").copy() for name, buffer in values.items()}
        change(arrays)
        for name, buffer in values.items():
            buffer.data = arrays[name].view(np.uint8)
        flatfile.write(model, path)

    return broken


def flat_noise(arrays: dict[str, np.ndarray]) -> None:
    generator = np.random.default_rng(0)
    for values in arrays.values():
        values += generator.normal(0, 0.1 * float(np.sqrt(np.mean(np.square(values)))), values.size).astype(np.float32)


def flat_swap(arrays: dict[str, np.ndarray]) -> None:
    for name in [name for name in arrays if name.startswith("encoder.blocks.0.")]:
        there = name.replace(".0.", ".1.", 1)
        arrays[name], arrays[there] = arrays[there], arrays[name]


def flat_bias(arrays: dict[str, np.ndarray]) -> None:
    arrays["encoder.blocks.1.attn.out.bias"][:] = 0


FLAT_ENCODER = FLAT[0]
NOISY = (
    "30 of 37 tensors differ, 15 of 15 matrices by 20 to 20 dB (median 20), 3 biases, gains or shifts are not "
    "recognised: not the weights of pair.pt"
)
FLAT_FAULTS: dict[str, tuple[Callable[[dict[str, np.ndarray]], None], str]] = {
    "noise on everything": (
        flat_noise,
        f"{FLAT_ENCODER}: {NOISY}",
    ),
    "two blocks are exchanged": (
        flat_swap,
        f"{FLAT_ENCODER}: {EXCHANGED}",
    ),
    "a bias is zero": (
        flat_bias,
        f"{FLAT_ENCODER}: encoder.blocks.1.attn.out.bias is lost: all 64 values in its place are zero",
    ),
}


@pytest.mark.parametrize("name", FLAT_FAULTS)
def test_a_fault_in_tflite_files_is_told(said, whole, name):
    """Files without names that say anything: by the numbers, and by the order and the company they are used in."""
    change, line = FLAT_FAULTS[name]
    code, output = said(flat("encoder", whole, change), *FLAT)
    assert (code, output[:-1]) == (1, [line])


@pytest.fixture
def judged(whole: Path, tmp_path: Path, parity) -> Callable[[Break], Row]:
    """Break a copy of the TorchScript files, and judge them in a run."""

    def judge(broken: Break) -> Row:
        folder = tmp_path / "artifacts"
        folder.mkdir()
        for name in SCRIPTS:
            shutil.copyfile(whole / "right" / "artifacts" / name, folder / name)
        broken(folder)
        words = ("--checkpoint", whole / "right" / f"{NAME}.pt", "--artifacts", folder, "--language", "en")
        parity("run", *words, "--clips", whole / "warble.wav", "--stages", "pytorch,torchscript", "--run-id", "one")
        return report.load(RunFolder(tmp_path / "reports" / "one")).rows[-1]

    return judge


def test_weights_stand_before_what_diverges(judged):
    """The reason of a row begins with the weights that differ."""
    row = judged(FAULTS["positions are shifted"][0])
    assert row.verdict.outcome is Outcome.DIVERGED
    assert row.verdict.reason.startswith(
        f"weights: {DECODER}: decoder.positional_embedding is shifted by one row: row 1 holds the checkpoint's row 0; "
    )
    assert (row.verdict.rungs[0].rung, row.verdict.rungs[0].grade.value) == ("weights", "drift")


def test_weights_that_are_the_checkpoints_are_said_to_be_where_a_row_diverges(judged):
    """Then it is the graph: here the causal mask is missing."""
    row = judged(script("decoder", lambda state: state["mask"].zero_()))
    assert row.verdict.outcome is Outcome.DIVERGED
    assert row.verdict.reason.endswith(
        f"; weights: {ALL}, exact; {TABLES}; what differs is the graph, or how it is run"
    )


def test_weights_that_differ_without_effect_are_no_green_row(judged):
    """A token that no clip has: all numbers pass, and the file is not the one that was meant."""
    row = judged(table(lambda values: values.__setitem__(50000, 0)))
    assert (row.verdict.outcome, row.verdict.rung) == (Outcome.DRIFT, "weights")
    assert row.verdict.reason.startswith(f"weights: {TABLE} has row 50000 (")


def test_a_run_of_sound_files_says_so(judged):
    """A rung that passes, and nothing in the reason."""
    row = judged(nothing)
    assert (row.verdict.outcome, row.verdict.reason) == (Outcome.PASS, "")
    assert row.verdict.rungs[0].reason == f"{ALL}, exact; {TABLES}"


def test_a_file_of_another_model_is_not_the_checkpoints(parity, tmp_path):
    """Nothing in it differs, since nothing in it is a tensor of the checkpoint: exit code 1."""
    path = lowered.block(tmp_path / "other.tflite")
    result = parity("weights", path)
    assert (result.exit_code, result.output) == (1, "no constant is a tensor of micro.pt\n")

"""A file that is not a checkpoint is refused before anything is built or run, and nothing in it is executed."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.damage import cut
from tests.support.refusals import Bomb, line_of
from whisper_parity.errors import CheckpointError
from whisper_parity.fixtures import scripted
from whisper_parity.model import checkpoint


def saved(**changes: Any) -> dict[str, Any]:
    """A tiny Whisper in openai-whisper's format, its dimensions changed."""
    made = tiny()
    return {"dims": {**made["dims"], **changes}, "model_state_dict": made["model_state_dict"]}


def tiny() -> dict[str, Any]:
    """A tiny Whisper in openai-whisper's format."""
    dims = scripted.dimensions(n_state=8)
    return {"dims": dict(vars(dims)), "model_state_dict": scripted.model(dims, steps=2).state_dict()}


NOT_FITTING = "the weights do not fit the dimensions: "
NO_FORMAT = (
    "Give a checkpoint of openai-whisper, Hugging Face, CTranslate2 or MLX, a state dict, or a name such as base"
)
BAD_CHECKPOINTS: dict[str, tuple[Callable[[], Any], str]] = {
    "random bytes": (lambda: np.random.default_rng(1).bytes(5000), f"no checkpoint of a known format. {NO_FORMAT}"),
    "text": (lambda: b"base.pt\n", f"text, not a checkpoint. {NO_FORMAT}"),
    "empty": (lambda: b"", "the file is empty. Download or copy it again"),
    "a list": (lambda: [1, 2], "no checkpoint: it holds a list. Give a state dict"),
    "without the keys": (
        lambda: {"encoder.weight": torch.zeros(2)},
        "no Whisper: it holds encoder.weight. Give the checkpoint of a Whisper",
    ),
    "without weights": (
        lambda: {"dims": tiny()["dims"]},
        "no weights of a model: it holds the keys dims. Give a state dict",
    ),
    "dims of a wrong type": (lambda: saved(n_mels="80"), "dims must hold n_audio_ctx, n_audio_head"),
    "a dimension that is true": (lambda: saved(n_text_layer=True), "as positive numbers, found {"),
    "a dimension of 0": (lambda: saved(n_text_layer=0), "as positive numbers, found {"),
    "a dimension too many": (lambda: saved(n_ears=2), "Save vars(model.dims) of openai-whisper"),
    "dims that are a list": (lambda: {**tiny(), "dims": [80, 1500]}, "as positive numbers, found [80, 1500]. Save"),
    "unknown mel bands": (lambda: saved(n_mels=64), "n_mels is 64. openai-whisper has filters for 80 and 128"),
    "unknown vocabulary": (lambda: saved(n_vocab=50257), "n_vocab is 50257. Whisper's vocabularies are 51864"),
    "another window's positions": (
        lambda: saved(n_audio_ctx=750),
        f"{NOT_FITTING}encoder.positional_embedding should be [750, 8], found [1500, 8]",
    ),
    "a window of hours": (lambda: saved(n_audio_ctx=10**9), "n_audio_ctx is 1000000000, n_text_ctx 448. Whisper has"),
    "heads that do not divide": (lambda: saved(n_text_head=3), "multiples of n_audio_head 2 and n_text_head 3. Are"),
    "weights of another size": (
        lambda: saved(n_audio_state=16, n_text_state=16),
        f"{NOT_FITTING}encoder.conv1.weight should be [16, 80, 3], found [8, 80, 3]. Is the file complete",
    ),
    "another vocabulary's weights": (
        lambda: saved(n_vocab=51866),
        f"{NOT_FITTING}decoder.token_embedding.weight should be [51866, 8], found [51865, 8]",
    ),
    "a million layers": (lambda: saved(n_audio_layer=10**6), f"{NOT_FITTING}encoder.blocks.1.attn.query.weight"),
    "weights that are a list": (lambda: {**tiny(), "model_state_dict": [1]}, f"{NOT_FITTING}encoder.conv1.weight"),
    "weights that are text": (
        lambda: {**tiny(), "model_state_dict": dict.fromkeys(tiny()["model_state_dict"], "0.5")},
        f"{NOT_FITTING}encoder.conv1.weight should be [8, 80, 3], found none",
    ),
}


@pytest.mark.parametrize("case", BAD_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_refused(refuse, tmp_path, case):
    """The line has the file, what was expected and found, and what to give; nothing is built or run."""
    make, said = BAD_CHECKPOINTS[case]
    path = tmp_path / "model.pt"
    made = make()
    path.write_bytes(made) if isinstance(made, bytes) else torch.save(made, path)
    line = refuse("--checkpoint", path)
    assert line.startswith(f"{path}: ")
    assert said in line


@pytest.mark.parametrize("keep", [0.3, 0.999])
def test_a_checkpoint_that_was_cut_short_is_refused(refuse, scripted_checkpoint, tmp_path, keep):
    """It is like a download that broke off."""
    path = shutil.copy(scripted_checkpoint, tmp_path / "model.pt")
    cut(path, keep)
    half = "a zip archive that was cut short. Its end is missing: the download or the copy broke off. Download"
    assert refuse("--checkpoint", path).startswith(f"{path}: {half}")


@pytest.mark.parametrize("save", [torch.save, lambda made, path: path.write_bytes(pickle.dumps(made))])
@pytest.mark.parametrize("hide", [lambda bomb: bomb, lambda bomb: {"dims": bomb, "model_state_dict": {}}])
def test_a_checkpoint_executes_nothing(refuse, tmp_path, save, hide):
    """A pickle that would make a folder makes none."""
    path, marker = tmp_path / "model.pt", tmp_path / "executed"
    save(hide(Bomb(marker)), path)
    assert refuse("--checkpoint", path).startswith(f"{path}: not a PyTorch checkpoint (")
    assert not marker.exists()


@pytest.mark.parametrize("name", sorted(set(tiny()["model_state_dict"]) - {"encoder.positional_embedding"}))
def test_a_weight_that_is_missing_is_named(tmp_path, name):
    """Whichever it is; the encoder's positions are none: openai-whisper computes them."""
    made = tiny()
    del made["model_state_dict"][name]
    torch.save(made, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=f"fit the dimensions: {re.escape(name)} should be .*, found none. Is"):
        checkpoint.describe(tmp_path / "model.pt", cache=tmp_path)


def test_a_bad_checkpoint_builds_nothing(parity, tmp_path):
    """`parity build` refuses as `parity run` does, and leaves no folder."""
    (tmp_path / "model.pt").write_bytes(b"no model")
    line = line_of(parity("build", "--checkpoint", "model.pt", "--stages", "torchscript", "--out", "made"), 2)
    assert line.startswith(f"{tmp_path / 'model.pt'}: text, not a checkpoint. ")
    assert not (tmp_path / "made").exists()

"""Every format gives the very weights that were written into it, under openai-whisper's names."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from whisper.model import ModelDimensions

from tests.support import checkpoints
from tests.support.checkpoints import State
from whisper_parity.model import checkpoint, vocabulary
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims
from whisper_parity.model.formats import canonical

EMBEDDING = "decoder.token_embedding.weight"


@pytest.fixture(scope="module")
def state() -> State:
    """Weights of the tiny model."""
    return checkpoints.state()


@pytest.fixture
def describe(tmp_path: Path) -> Callable[[Path], Checkpoint]:
    """Describes a checkpoint, with a cache of the test's own."""
    return lambda path: checkpoint.describe(path, cache=tmp_path / "cache")


def require_same(found: Checkpoint, weights: Mapping[str, torch.Tensor]) -> None:
    """The file that openai-whisper loads holds these numbers, in the type that they came in."""
    read = checkpoint.read(found.path)["model_state_dict"]
    assert set(read) == set(weights)
    assert [name for name in weights if not torch.equal(read[name], weights[name])] == []
    assert {tensor.dtype for tensor in read.values()} == {tensor.dtype for tensor in weights.values()}


@dataclass
class UsersDims:
    """Dims as a script of the user's own keeps them: pickled by its name, which no other program knows."""

    values: dict[str, int]

    def __getstate__(self) -> dict[str, int]:
        return self.values


def _saved(content: Callable[[State], Any], name: str = "m.pt") -> Callable[[Path, State], Path]:
    def write(place: Path, weights: State) -> Path:
        torch.save(content(weights), place / name)
        return place / name

    return write


def _prefixed(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def _compiled(weights: State) -> State:
    return {name.replace("encoder.", "encoder._orig_mod."): tensor for name, tensor in weights.items()}


def _lightning(weights: State) -> dict[str, Any]:
    hyper = argparse.Namespace(lr=1e-4, place=Path("data"))
    return {"epoch": 3, "state_dict": {**_prefixed(weights, "model."), "criterion.weight": torch.ones(3)},
            "optimizer_states": [{"state": {}, "param_groups": []}], "hyper_parameters": hyper}  # fmt: skip


def _safetensors(place: Path, weights: State) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, place / "m.safetensors")
    return place / "m.safetensors"


def _bin(place: Path, weights: State) -> Path:
    path = checkpoints.folder(place / "m", weights)
    torch.save(checkpoints.hugging_face(weights), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    return path


def _ctranslate2(place: Path, weights: State) -> Path:
    (place / "m").mkdir()
    (place / "m" / "model.bin").write_bytes(checkpoints.ctranslate2(weights))
    return place / "m"


def _hub(place: Path, weights: State) -> Path:
    """As Hugging Face's programs keep what they download."""
    cached = place / "models--somebody--m"
    checkpoints.folder(cached / "snapshots" / "0123abcd", weights)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abcd\n")
    return cached


OPENAI, HUGGING_FACE = "read from openai-whisper, float32", "read from Hugging Face, float32"
LET_GO = f"{OPENAI}; let go: criterion.weight"
SINUSOIDS = "the encoder's positions are openai-whisper's sinusoids: the file has none"
LET_GO_HEADS = "let go: alignment_heads"
FORMATS: dict[str, tuple[Callable[[Path, State], Path], str]] = {
    "dims as openai-whisper's object": (_saved(lambda w: {"dims": ModelDimensions(**checkpoints.dims()),
                                                          "model_state_dict": w}), ""),
    "dims as a namespace": (_saved(lambda w: {"dims": argparse.Namespace(**checkpoints.dims()),
                                              "model_state_dict": w}), ""),
    "dims as a simple namespace": (_saved(lambda w: {"dims": SimpleNamespace(**checkpoints.dims()),
                                                     "model_state_dict": w}), ""),
    "dims as an object of the user's": (_saved(lambda w: {"dims": UsersDims(checkpoints.dims()),
                                                          "model_state_dict": w}), ""),
    "a bare state dict": (_saved(dict), OPENAI),
    "a bare state dict of parameters": (_saved(lambda w: {k: torch.nn.Parameter(v) for k, v in w.items()}), OPENAI),
    "under state_dict": (_saved(lambda w: {"state_dict": w, "epoch": 1}), OPENAI),
    "under model": (_saved(lambda w: {"model": w, "optimizer": {"state": {}, "param_groups": []}}), OPENAI),
    "DDP": (_saved(lambda w: _prefixed(w, "module.")), OPENAI),
    "compiled": (_saved(lambda w: _prefixed(w, "_orig_mod.")), OPENAI),
    "compiled in part": (_saved(_compiled), OPENAI),
    "Lightning": (_saved(_lightning, "m.ckpt"), LET_GO),
    "a prefix of the user's": (_saved(lambda w: _prefixed(w, "student.whisper.")), OPENAI),
    "the older torch.save": (lambda place, w: _older(place, w), OPENAI),
    "safetensors of openai-whisper's names": (_safetensors, OPENAI),
    "a bare state dict of transformers": (_saved(checkpoints.hugging_face), HUGGING_FACE),
    "a Hugging Face folder": (lambda place, w: checkpoints.folder(place / "m", w), HUGGING_FACE),
    "its file": (lambda place, w: checkpoints.folder(place / "m", w) / "model.safetensors", HUGGING_FACE),
    "without its model. prefix": (lambda place, w: _headless(place, w), HUGGING_FACE),
    "in Hugging Face's cache": (_hub, HUGGING_FACE),
    "shards": (lambda place, w: checkpoints.sharded(place / "m", w), HUGGING_FACE),
    "their index": (lambda place, w: checkpoints.sharded(place / "m", w) / "model.safetensors.index.json",
                    HUGGING_FACE),
    "shards of torch.save": (lambda place, w: checkpoints.sharded(place / "m", w, ".bin"), HUGGING_FACE),
    "pytorch_model.bin": (_bin, HUGGING_FACE),
    "CTranslate2": (_ctranslate2, "read from CTranslate2, float32"),
    "CTranslate2's file": (lambda place, w: _ctranslate2(place, w) / "model.bin", "read from CTranslate2, float32"),
    "MLX": (lambda place, w: checkpoints.mlx(w, place / "m"), f"read from MLX, float32; {SINUSOIDS}; {LET_GO_HEADS}"),
}  # fmt: skip


def _older(place: Path, weights: State) -> Path:
    torch.save(weights, place / "m.pt", _use_new_zipfile_serialization=False)
    return place / "m.pt"


def _headless(place: Path, weights: State) -> Path:
    named = {name.removeprefix("model."): tensor for name, tensor in checkpoints.hugging_face(weights).items()}
    save_file(named, place / "m.safetensors")
    return place / "m.safetensors"


@pytest.mark.parametrize("form", FORMATS)
def test_the_weights_are_those_that_were_written(form, state, describe, tmp_path):
    """Bit for bit; name, dimensions and a remark for the report."""
    write, note = FORMATS[form]
    found = describe(write(tmp_path, state))
    require_same(found, state)
    assert found.dims == Dims(**checkpoints.dims())
    assert (found.name, found.note) == ("m", note)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["a bare state dict", "a Hugging Face folder", "shards", "CTranslate2"])
def test_half_precision_stays_half(form, dtype, state, describe, tmp_path):
    """Nothing is rounded on the way, and the remark says what it was."""
    halved = {name: tensor.to(dtype) for name, tensor in state.items()}
    found = describe(FORMATS[form][0](tmp_path, halved))
    require_same(found, halved)
    assert found.note.endswith(f", {str(dtype).removeprefix('torch.')}")


def test_openai_whispers_own_file_is_run_as_it_is(scripted_checkpoint, describe, tmp_path):
    """Nothing is copied."""
    found = describe(scripted_checkpoint)
    assert (found.path, found.note) == (scripted_checkpoint, "")
    assert not (tmp_path / "cache").exists()


def test_it_is_converted_once_and_known_by_what_was_given(state, describe, tmp_path):
    """A second call takes the converted file; the hash is that of the given files, wherever they lie."""
    path = checkpoints.folder(tmp_path / "m", state)
    first = describe(path)
    written = first.path.stat().st_mtime_ns
    shutil.copytree(path, tmp_path / "elsewhere" / "m")
    second = describe(tmp_path / "elsewhere" / "m")
    assert (second, second.path.stat().st_mtime_ns) == (first, written)
    (path / "README.md").write_text("no part of the model")
    assert describe(path).sha256 == first.sha256
    (path / "generation_config.json").write_text(json.dumps({"no_timestamps_token_id": 50363}))
    assert describe(path).sha256 != first.sha256


def test_a_converted_file_can_be_given_itself(state, describe, tmp_path):
    """Workers are given its path: everything is in it."""
    added = {**state, EMBEDDING: torch.cat([state[EMBEDDING], torch.ones(2, checkpoints.N_STATE)])}
    first = describe(_safetensors(tmp_path, added))
    again = describe(first.path)
    assert (again.path, again.dims, again.note) == (first.path, first.dims, first.note)
    assert first.dims.vocabulary == vocabulary.MULTILINGUAL


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_distil_model_has_any_number_of_layers(layers, describe, tmp_path):
    """They are counted in the weights."""
    weights = checkpoints.state(n_text_layer=layers)
    found = describe(checkpoints.folder(tmp_path / "m", weights, decoder_layers=layers))
    assert (found.dims.n_audio_layer, found.dims.n_text_layer) == (1, layers)
    require_same(found, weights)


def test_another_window_is_read_from_the_weights(describe, tmp_path):
    """A checkpoint that was trained for 10 s."""
    weights = checkpoints.state(n_audio_ctx=500)
    assert describe(_safetensors(tmp_path, weights)).dims.n_frames == 1000


HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 4}


def test_heads_are_those_of_the_configuration(state, describe, tmp_path):
    """Else one for every 64 states, which nothing in the weights can tell from two of 32."""
    path = checkpoints.folder(tmp_path / "m", state, **HEADS)
    found = describe(path)
    assert (found.dims.n_audio_head, found.dims.n_text_head) == (2, 4)
    (path / "config.json").unlink()
    assert describe(path).dims.n_text_head == 1


NAMED = {
    "generation_config.json": lambda n: {"no_timestamps_token_id": n},
    "added_tokens.json": lambda n: {"<|notimestamps|>": n},
    "tokenizer_config.json": lambda n: {"added_tokens_decoder": {str(n): {"content": "<|notimestamps|>"}}},
    "vocabulary.json": lambda n: [*map(str, range(n)), "<|notimestamps|>"],
    "config.json": lambda n: checkpoints.config(bos_token_id=50257, eos_token_id=50256 if n == 50362 else 50257),
}
SIZES = {50362: vocabulary.ENGLISH_ONLY, 50363: vocabulary.MULTILINGUAL, 50364: vocabulary.LARGE_V3}


@pytest.fixture(scope="module")
def added() -> State:
    """The weights with ids of its own behind each of Whisper's vocabularies."""
    return checkpoints.state(n_vocab=51870)


@pytest.mark.parametrize("no_timestamps", SIZES)
@pytest.mark.parametrize("name", NAMED)
def test_added_ids_stand_behind_the_vocabulary_that_a_file_names(name, no_timestamps, added, describe, tmp_path):
    """51870 rows may be any of the three with tokens added; config.json cannot tell the two multilingual ones apart."""
    path = checkpoints.folder(tmp_path / "m", added)
    (path / name).write_text(json.dumps(NAMED[name](no_timestamps)))
    size = SIZES[no_timestamps]
    if name == "config.json" and size == vocabulary.LARGE_V3:
        size = vocabulary.MULTILINGUAL
    found = describe(path)
    assert (found.dims.n_vocab, found.dims.vocabulary) == (51870, size)
    assert found.note.endswith(f"{51870 - size} added ids without text behind Whisper's vocabulary of {size}")


@pytest.mark.parametrize(
    ("n_vocab", "n_mels", "name", "size"),
    [
        (51864, 80, "m", 51864),
        (51865, 80, "m", 51865),
        (51866, 80, "m", 51865),
        (51866, 128, "m", 51866),
        (51867, 80, "m", 51865),
        (51867, 80, "m.en", 51864),
        (51867, 80, "tiny.en-mine", 51864),
        (51872, 128, "m", 51866),
        (51865, 128, "m", 51865),
    ],
)
def test_without_such_a_file_the_mel_bands_tell(n_vocab, n_mels, name, size, describe, tmp_path):
    """128 of them came with large-v3; an English-only model with added tokens is known by its name alone."""
    path = tmp_path / f"{name}.pt"
    weights = checkpoints.state(n_vocab=n_vocab, n_mels=n_mels)
    torch.save({"dims": checkpoints.dims(n_vocab=n_vocab, n_mels=n_mels), "model_state_dict": weights}, path)
    found = describe(path)
    assert (found.dims.n_vocab, found.dims.vocabulary) == (n_vocab, size)
    require_same(found, weights)


def test_an_untied_projection_is_carried(state, describe, tmp_path):
    """Beside the model in the converted file; one that equals the embedding is none."""
    tied = {**checkpoints.hugging_face(state), "proj_out.weight": state[EMBEDDING].clone()}
    torch.save(tied, tmp_path / "m.pt")
    assert describe(tmp_path / "m.pt").note == HUGGING_FACE
    torch.save({**tied, "proj_out.weight": state[EMBEDDING] + 1}, tmp_path / "m.pt")
    found = describe(tmp_path / "m.pt")
    assert found.note == f"{HUGGING_FACE}; the output projection is not the token embedding"
    extras = canonical.extras(checkpoint.read(found.path))
    assert extras is not None
    assert torch.equal(extras.projection, state[EMBEDDING] + 1)
    require_same(found, state)


@pytest.mark.parametrize(
    "name", ["decoder.mask", "alignment_heads", "decoder.alignment_heads", "mel_filters", "encoder.total_ops"]
)
def test_keys_that_take_no_part_are_let_go_with_a_remark(name, state, describe, tmp_path):
    """openai-whisper would refuse them all."""
    content = {"dims": checkpoints.dims(), "model_state_dict": {**state, name: torch.zeros(2, 2)}}
    torch.save(content, tmp_path / "m.pt")
    found = describe(tmp_path / "m.pt")
    assert found.note == f"let go: {name}"
    require_same(found, state)


@pytest.mark.parametrize(("bits", "limit"), [(torch.int8, 127), (torch.int16, 32767)])
def test_ctranslate2s_integers_are_divided_by_their_scale(bits, limit, state, describe, tmp_path):
    """int8 and int16 weights give what CTranslate2 computes with."""
    matrix = state[EMBEDDING]
    scale = limit / matrix.abs().amax(dim=1)
    integers = (matrix * scale[:, None]).round().to(bits)
    table = {"decoder/embeddings/weight": integers, "decoder/embeddings/weight_scale": scale}
    variables = {**checkpoints.variables_of(state), **table}
    (tmp_path / "model.bin").write_bytes(checkpoints.spec("WhisperSpec", variables, checkpoints.TIED))
    found = describe(tmp_path / "model.bin")
    expected = {**state, EMBEDDING: integers.float() / scale[:, None]}
    require_same(found, expected)
    assert found.note.endswith("; its weights were quantised: what is judged is what that left of them")

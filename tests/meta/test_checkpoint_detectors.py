"""What is no checkpoint, or only looks like one, is named truly: what it is, what is wrong with it, the way out."""

# ruff: noqa: ISC004 - sentences in tables

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from whisper.model import ModelDimensions, Whisper

from tests.support import checkpoints
from tests.support.checkpoints import State
from tests.support.refusals import Bomb
from whisper_parity.errors import CheckpointError
from whisper_parity.model import checkpoint
from whisper_parity.system import inputs

EMBEDDING = "decoder.token_embedding.weight"
ORIGINAL = "Give the checkpoint that it was made from (.pt, .safetensors or its Hugging Face folder)"
CONVERTED = f"{ORIGINAL}; the converted files themselves go into the folder of --artifacts"
TRANSFORMERS = "Load it with transformers (from_tf=True or from_flax=True) and call model.save_pretrained(FOLDER)"
READ = "Give a checkpoint of openai-whisper, Hugging Face, CTranslate2 or MLX, a state dict, or a name such as base"
AGAIN = "Download or copy it again"
FLOATS = "Give the checkpoint in float32, float16 or bfloat16, from before it was quantised"
STATE_DICT = "Give a state dict of a Whisper, or openai-whisper's dims and model_state_dict"
MERGE = "Merge it into its base model: model.merge_and_unload().save_pretrained(FOLDER)"
SAVE_WEIGHTS = "Save the weights alone where it was made: torch.save(model.state_dict(), FILE)"
ALONE = (
    "Save its weights where it was made: torch.save({'dims': vars(model.dims), 'model_state_dict': model.state_dict()}"
    ", FILE), or model.save_pretrained(FOLDER) for transformers"
)


@pytest.fixture(scope="module")
def state() -> State:
    """Weights of the tiny model."""
    return checkpoints.state()


def refusal(path: Path, cache: Path) -> str:
    """The line with which a checkpoint is refused, without its path; nothing is left in the cache."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint.describe(path, cache=cache / "cache")
    assert not list((cache / "cache").rglob("*.pt"))
    return str(caught.value)


def saved(content: Any) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()


def scripted_program() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.bin"))
    return file.getvalue()


FOREIGN: dict[str, tuple[Callable[[], bytes], str]] = {
    "whisper.cpp": (lambda: b"lmgg" + bytes(100), f"GGML weights of whisper.cpp. {ORIGINAL}"),
    "GGUF": (lambda: b"GGUF\3\0\0\0" + bytes(100), f"a GGUF file. {ORIGINAL}"),
    "ONNX": (lambda: b"\x08\x08\x12\x07pytorch\x1a\x05" + bytes(50), f"an ONNX model. {ORIGINAL}"),
    "Keras and TensorFlow": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(50),
                             f"HDF5, as Keras and TensorFlow save weights. {TRANSFORMERS}"),
    "Flax": (lambda: b"\x81\xa5model\x82" + bytes(50), f"MessagePack, as Flax saves weights. {TRANSFORMERS}"),
    "a converted model": (lambda: b"\x1c\0\0\0TFL3" + bytes(50), f"a converted model (FlatBuffer TFL3). {CONVERTED}"),
    "ExecuTorch": (lambda: b"\x1c\0\0\0ET12" + bytes(50), f"an ExecuTorch program. {CONVERTED}"),
    "torch.jit": (scripted_program, f"a traced or scripted program of torch.jit, not a checkpoint. {CONVERTED}"),
    "Keras 3": (lambda: zipped("config.json", "model.weights.h5"), f"a model of Keras. {ORIGINAL}"),
    "Core ML": (lambda: zipped("Data/com.apple.CoreML/model.mlmodel"), f"a Core ML model. {ORIGINAL}"),
    "any zip": (lambda: zipped("model/readme.txt"),
                "a zip archive without a checkpoint of PyTorch. Unpack it and give a file"),
    "tar": (tarred, "a tar archive. Unpack it and give what is in it"),
    "gzip": (lambda: gzip.compress(b"model"), "a gzip archive. Unpack it and give what is in it"),
    "Git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
                "a pointer of Git LFS, not the file itself. Fetch the file: git lfs pull, or download it"),
    "a web page": (lambda: b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
                   "a web page, not the file that was to be downloaded. Download it again; the address or a login may "
                   "be wrong"),
    "zeros": (lambda: bytes(5000), f"holds zeros only: an unfinished download or copy. {AGAIN}"),
    "nothing": (lambda: b"", f"the file is empty. {AGAIN}"),
    "noise": (lambda: np.random.default_rng(3).bytes(5000), f"no checkpoint of a known format. {READ}"),
    "text": (lambda: b"hello\n", f"text, not a checkpoint. {READ}"),
    "sound": (lambda: b"RIFF\0\0\0\0WAVEfmt " + bytes(50), "sound, not a checkpoint. Clips are named by --clips"),
    "an optimizer": (lambda: saved({"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 1.0}]}),
                     "the state of an optimizer, not a model. Give the model's own file"),
    "a tensor": (lambda: saved(torch.ones(3)), f"no checkpoint: it holds a tensor. {STATE_DICT}"),
    "settings": (lambda: saved({"lr": 1, "epochs": 3}), f"no weights of a model: it holds the keys lr, "
                 f"epochs. {STATE_DICT}"),
    "another network": (lambda: saved({"wav2vec2.encoder.weight": torch.ones(3)}),
                        "no Whisper: it holds wav2vec2.encoder.weight. Give the checkpoint of a Whisper"),
    "a program of the system": (lambda: pickle.dumps(Bomb(Path("executed")), 2),
                                "not a PyTorch checkpoint (it asks for posix.mkdir: code, not weights). "
                                f"{SAVE_WEIGHTS}"),
    "CTranslate2 of another kind": (lambda: checkpoints.spec("TransformerSpec", {}, {}),
                                    "a CTranslate2 model of another kind (TransformerSpec). Give a Whisper model"),
    "CTranslate2 of another version": (
        lambda: checkpoints.spec("WhisperSpec", {}, {}, version=4),
        "CTranslate2's binary version 4, this program reads 5 and 6. Convert the model again with a current "
        "ct2-transformers-converter"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.safetensors"])
def test_a_foreign_file_is_named_whatever_it_is_called(kind, name, tmp_path):
    """By its content; the ending of its name says nothing."""
    make, line = FOREIGN[kind]
    (tmp_path / name).write_bytes(make())
    assert refusal(tmp_path / name, tmp_path) == f"{tmp_path / name}: {line}"


def test_a_whole_pickled_module_is_named_and_not_run(state, tmp_path):
    """torch.save(model): its class would have to be imported and run."""
    model = Whisper(ModelDimensions(**checkpoints.dims()))
    for content in (model, {"model": model, "epoch": 3}):
        torch.save(content, tmp_path / "m.pt")
        assert refusal(tmp_path / "m.pt", tmp_path).endswith(f" pickled object, whose code would have to run. {ALONE}")


def _without(weights: State, *names: str) -> State:
    return {name: tensor for name, tensor in weights.items() if name not in names}


WRONG: dict[str, tuple[Callable[[State], Any], str]] = {
    "integers": (lambda w: {**w, EMBEDDING: w[EMBEDDING].to(torch.int8)},
                 f"{EMBEDDING} is int8: quantised or not a weight. {FLOATS}"),
    "bitsandbytes": (lambda w: {**w, "encoder.blocks.0.attn.query.weight.absmax": torch.ones(2)},
                     f"quantised weights: it holds encoder.blocks.0.attn.query.weight.absmax. {FLOATS}"),
    "MLX's 4 bits": (lambda w: {**w, "decoder.token_embedding.scales": torch.ones(2)},
                     f"quantised weights: it holds decoder.token_embedding.scales. {FLOATS}"),
    "LoRA": (lambda w: {"base_model.model.model.encoder.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 2)},
             "an adapter (LoRA, PEFT), not a whole model: it holds base_model.model.model.encoder.layers.0.self_attn."
             f"q_proj.lora_A.weight. {MERGE}"),
    "LoRA over its model": (lambda w: {**w, "encoder.blocks.0.attn.query.base_layer.weight": torch.ones(2, 2)},
                            "an adapter (LoRA, PEFT), not a whole model: it holds encoder.blocks.0.attn.query."
                            f"base_layer.weight. {MERGE}"),
    "an encoder alone": (lambda w: {n: t for n, t in w.items() if n.startswith("encoder")},
                         f"no whole Whisper: {EMBEDDING} is missing. Is the file complete?"),
    "two models": (lambda w: {f"{side}.{n}": t for side in ("student", "teacher") for n, t in w.items()},
                   "holds 2 models: student., teacher. Save one of them by itself"),
    "a layer more in part": (lambda w: {**w, "decoder.blocks.2.ln.weight": torch.ones(2)},
                             "openai-whisper's model has no place for decoder.blocks.2.ln.weight. Is it a Whisper with "
                             "parts of its own? Save the weights without them, if it works without them"),
    "a head of one's own": (lambda w: {**w, "classifier.weight": torch.ones(2), "classifier.bias": torch.ones(2)},
                            "openai-whisper's model has no place for classifier.weight, classifier.bias. Is it a "
                            "Whisper with parts of its own? Save the weights without them, if it works without them"),
    "a key that has a bias": (lambda w: {**w, "encoder.blocks.0.attn.key.bias": torch.ones(64)},
                              "openai-whisper's model has no place for encoder.blocks.0.attn.key.bias. Is it a Whisper "
                              "with parts of its own? Save the weights without them, if it works without them"),
    "a projection of another size": (lambda w: {**w, "proj_out.weight": torch.ones(51864, 64)},
                                     "proj_out.weight is [51864, 64], the token embedding [51865, 64]. Were tokens "
                                     "added to one of them only?"),
    "a tensor without numbers": (lambda w: {**w, EMBEDDING: w[EMBEDDING].to("meta")},
                                 f"{EMBEDDING} is an empty (meta) tensor, not a tensor with its numbers. {FLOATS}"),
    "a sparse tensor": (lambda w: {**w, "decoder.ln.bias": torch.ones(64).to_sparse()},
                        f"decoder.ln.bias is sparse_coo, not a tensor with its numbers. {FLOATS}"),
    "a tensor that claims more": (lambda w: {**w, EMBEDDING: torch.ones(1, 1).expand(51865, 64)},
                                  f"{EMBEDDING} claims more numbers than the file holds. Save the model again"),
    "positions by the million": (lambda w: {**w, "encoder.positional_embedding": torch.ones(1, 1).expand(10**9, 64)},
                                 "n_audio_ctx is 1000000000, n_text_ctx 448. Whisper has 1500 and 448; other windows "
                                 "have fewer"),
    "a width of no head": (lambda w: {**w, "encoder.conv1.weight": torch.ones(72, 80, 3)},
                           "the number of attention heads cannot be told from weights of width 72. Put the model's "
                           "config.json beside it, or save it with its dims"),
    "a small vocabulary": (lambda w: {**w, EMBEDDING: torch.ones(50257, 64)},
                           "n_vocab is 50257. Whisper's vocabularies are 51864, 51865 and 51866; with added tokens "
                           "they have more rows"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_weights_that_are_no_whole_whisper_are_named(kind, state, tmp_path):
    """The weight is named, and nothing of the claimed size is made."""
    make, line = WRONG[kind]
    torch.save(make(state), tmp_path / "m.pt")
    assert refusal(tmp_path / "m.pt", tmp_path) == f"{tmp_path / 'm.pt'}: {line}"


def _config(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(checkpoints.config(**changes)), "utf-8")


def _index(folder: Path, change: Callable[[dict[str, str]], Any]) -> None:
    file = folder / "model.safetensors.index.json"
    placed = json.loads(file.read_text())["weight_map"]
    file.write_text(json.dumps({"weight_map": change(placed)}))


SHARD = "model-00002-of-00002.safetensors"
FOLDERS: dict[str, tuple[Callable[[Path, State], Any], str]] = {
    "wav2vec2": (lambda f, w: (checkpoints.folder(f, w), _config(f, model_type="wav2vec2")),
                 "/config.json: says that the model is of the type wav2vec2, not whisper. Give a Whisper"),
    "another activation": (lambda f, w: (checkpoints.folder(f, w), _config(f, activation_function="relu")),
                           "/config.json: activation_function is 'relu', Whisper has 'gelu'. openai-whisper cannot run "
                           "it"),
    "another model's configuration": (lambda f, w: (checkpoints.folder(f, w), _config(f, decoder_layers=4)),
                                      "/config.json: says decoder_layers 4, the weights beside it have 1. Do the two "
                                      "files belong together?"),
    "a damaged configuration": (lambda f, w: (checkpoints.folder(f, w), (f / "config.json").write_text("{")),
                                "/config.json: not JSON (Expecting property name enclosed in double quotes: line 1 "
                                f"column 2 (char 1)). {AGAIN}"),
    "a shard that is missing": (lambda f, w: (checkpoints.sharded(f, w), (f / SHARD).unlink()),
                                f"/{SHARD}: shard 2 of 2 is missing. {AGAIN}"),
    "a shard of another model": (
        lambda f, w: (checkpoints.sharded(f, w), save_file({"other": torch.ones(2)}, f / SHARD)),
        f"/{SHARD}: model.decoder.embed_positions.weight is not in this shard. {AGAIN}"),
    "a shard elsewhere": (lambda f, w: (checkpoints.sharded(f, w), _index(f, lambda p: {"a": "../other.safetensors"})),
                          "/model.safetensors.index.json: names a file in another folder: ../other.safetensors. Give a "
                          "folder of its own"),
    "an index of nothing": (lambda f, w: (checkpoints.sharded(f, w), _index(f, lambda p: {})),
                            f"/model.safetensors.index.json: no index of shards: it has no weight_map. {AGAIN}"),
    "shards without an index": (
        lambda f, w: (checkpoints.sharded(f, w), (f / "model.safetensors.index.json").unlink()),
        ": shards (model-00001-of-00002.safetensors ...) without their index. Copy model.safetensors.index.json, too"),
    "an adapter": (lambda f, w: (f / "adapter_config.json").write_text('{"base_model_name_or_path": "a/whisper"}'),
                   f": an adapter (LoRA, PEFT) for a/whisper, not a whole model. {MERGE}"),
    "TensorFlow alone": (lambda f, w: (f / "tf_model.h5").write_bytes(b"\x89HDF"),
                         f": no checkpoint in this folder: it holds a model of TensorFlow. {ORIGINAL}"),
    "ONNX alone": (lambda f, w: (f / "encoder_model.onnx").write_bytes(b"\x08"),
                   f": no checkpoint in this folder: it holds a model of ONNX. {ORIGINAL}"),
    "nothing": (lambda f, w: None, f": no checkpoint in this folder. {ORIGINAL}"),
    "several": (lambda f, w: [(f / name).write_bytes(b"") for name in ("a.pt", "b.pt", "optimizer.pt")],
                ": several files that could be meant: a.pt, b.pt. Name one of them"),
    "a trainer's folder": (lambda f, w: [checkpoints.folder(f / f"checkpoint-{n}", w) for n in (1000, 2000)],
                           ": no checkpoint in this folder. Name one of the folders in it: checkpoint-1000, "
                           "checkpoint-2000"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_that_is_no_whole_model_is_named(kind, state, tmp_path):
    """With the file in it that is wrong, or missing."""
    make, line = FOLDERS[kind]
    folder = tmp_path / "m"
    folder.mkdir()
    make(folder, state)
    assert refusal(folder, tmp_path) == f"{folder}{line}"


def _cut(content: bytes, keep: float) -> bytes:
    return content[: int(len(content) * keep)]


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.999])
def test_half_a_download_says_so(keep, state, tmp_path):
    """In each of the formats, with how much is there where the file says how long it is."""
    save_file(checkpoints.hugging_face(state), tmp_path / "m.safetensors")
    whole = (tmp_path / "m.safetensors").read_bytes()
    (tmp_path / "m.safetensors").write_bytes(_cut(whole, keep))
    line = f"{tmp_path / 'm.safetensors'}: {int(len(whole) * keep)} of {len(whole)} bytes are there. {AGAIN}"
    assert refusal(tmp_path / "m.safetensors", tmp_path) == line
    content = _cut(checkpoints.ctranslate2(state), keep)
    (tmp_path / "model.bin").write_bytes(content)
    line = f"{tmp_path / 'model.bin'}: ends after {len(content)} bytes, inside what it announces. Is the file complete?"
    assert refusal(tmp_path / "model.bin", tmp_path).startswith(line)
    (tmp_path / "m.pt").write_bytes(_cut(saved(state), keep))
    assert refusal(tmp_path / "m.pt", tmp_path) == (
        f"{tmp_path / 'm.pt'}: a zip archive that was cut short. Its end is missing: the download or the copy broke "
        f"off. {AGAIN}"
    )


def test_sizes_that_a_file_only_claims_cost_nothing(state, tmp_path, monkeypatch):
    """A header of terabytes, and an archive that unpacks to more than any model has."""
    huge = struct.pack("<I", 6) + struct.pack("<H", 12) + b"WhisperSpec\0" + struct.pack("<II", 3, 2**32 - 1)
    (tmp_path / "model.bin").write_bytes(huge)
    assert "inside what it announces" in refusal(tmp_path / "model.bin", tmp_path)
    claimed = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(claimed)) + claimed)
    assert f"of {2**42 + 8 + len(claimed)} bytes are there" in refusal(tmp_path / "m.safetensors", tmp_path)
    monkeypatch.setattr(inputs, "MODEL_BYTES", inputs.GIB // 1024)
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", bytes(2 * inputs.GIB // 1024))
    assert "unpacks to" in refusal(tmp_path / "m.pt", tmp_path)


@pytest.mark.parametrize("place", ["beside", "in dims", "in the weights"])
def test_code_in_a_pickle_is_not_run_wherever_it_stands(place, state, tmp_path):
    """The file is refused by name, though what it asks for would have had no effect on the weights."""
    bomb = Bomb(tmp_path / "executed")
    content = {"dims": checkpoints.dims(), "model_state_dict": dict(state)}
    content |= {"beside": {"extra": bomb}, "in dims": {"dims": bomb},
                "in the weights": {"model_state_dict": {**state, "x": bomb}}}[place]  # fmt: skip
    torch.save(content, tmp_path / "m.pt")
    line = f"{tmp_path / 'm.pt'}: not a PyTorch checkpoint (it asks for posix.mkdir: code, not weights). {SAVE_WEIGHTS}"
    assert refusal(tmp_path / "m.pt", tmp_path) == line
    assert not (tmp_path / "executed").exists()


def test_a_whisper_whose_weights_are_swapped_is_another_checkpoint(state, tmp_path):
    """Nothing is repaired: query and key exchanged give another file with the other numbers."""
    block = "encoder.blocks.0.attn"
    swapped = {**state, f"{block}.query.weight": state[f"{block}.key.weight"].clone()}
    found = []
    for name, weights in (("a", state), ("b", swapped)):
        checkpoints.folder(tmp_path / name, weights)
        found.append(checkpoint.describe(tmp_path / name, cache=tmp_path / "cache"))
    assert found[0].sha256 != found[1].sha256
    read = [checkpoint.read(each.path)["model_state_dict"][f"{block}.query.weight"] for each in found]
    assert torch.equal(read[1], state[f"{block}.key.weight"])
    assert not torch.equal(read[0], read[1])

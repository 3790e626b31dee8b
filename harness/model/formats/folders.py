"""Folders: which of the files in one is the model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from whisper_parity.errors import CheckpointError
from whisper_parity.model.formats import foreign
from whisper_parity.system import inputs
from whisper_parity.system.files import exists

USUAL = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "weights.safetensors", "weights.npz", "model.bin",
)  # fmt: skip
"""As Hugging Face, MLX and CTranslate2 name them; the first that is there is taken, as transformers does."""
VARIANTS = ("model.safetensors.index.*.json", "model.*.safetensors", "pytorch_model.bin.index.*.json",
            "pytorch_model.*.bin")  # fmt: skip
SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".npz")
OF_TRAINING = ("optimizer", "scheduler", "scaler", "rng_state", "training_args", "random_states", "adapter_model")
"""Beginnings of what trainers keep beside a model."""
ELSEWHERE = {
    "tf_model.h5": "TensorFlow", "flax_model.msgpack": "Flax", "saved_model.pb": "TensorFlow", "rust_model.ot": "Rust",
    "openvino_model.xml": "OpenVINO", "openvino_encoder_model.xml": "OpenVINO",
}  # fmt: skip


def model_file(folder: Path) -> Path:
    """The file of a folder that holds the weights, or the index of its shards.

    Raises:
        CheckpointError: none is there, or several that could be meant.
    """
    if found := next((folder / name for name in USUAL if (folder / name).is_file()), None):
        return found
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(f"{folder}: an adapter (LoRA, PEFT){_base(folder)}, not a whole model", hint=MERGE)
    for pattern in VARIANTS:
        if named := sorted(path for path in folder.glob(pattern) if "-of-" not in path.name):
            return named[0]
    return _only_file(folder)


MERGE = "Merge it into its base model: model.merge_and_unload().save_pretrained(FOLDER)"


def _base(folder: Path) -> str:
    config = inputs.read_json(folder / "adapter_config.json", CheckpointError, hint=foreign.AGAIN)
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return f" for {base}" if isinstance(base, str) and base else ""


def _only_file(folder: Path) -> Path:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix in SUFFIXES]
    models = [path for path in files if not path.name.startswith(OF_TRAINING)]
    if shards := [path for path in models if "-of-" in path.name]:
        raise CheckpointError(
            f"{folder}: shards ({shards[0].name} ...) without their index",
            hint=f"Copy {shards[0].name.partition('-0')[0]}{shards[0].suffix}.index.json, too",
        )
    if len(models) == 1:
        return models[0]
    if models:
        raise CheckpointError(f"{folder}: several files that could be meant: {_names(models)}", hint="Name one of them")
    raise CheckpointError(f"{folder}: no checkpoint in this folder{_instead(folder)}", hint=_way(folder))


def _instead(folder: Path) -> str:
    program = next((what for name, what in ELSEWHERE.items() if (folder / name).exists()), "")
    program = program or next((what for end, what in foreign.FOLDERS.items() if folder.suffix == end), "")
    suffixes = {path.suffix for path in folder.iterdir()} | {path.suffix for path in folder.glob("onnx/*")}
    for suffix, what in ((".onnx", "ONNX"), (".gguf", "GGUF"), (".mlmodelc", "Core ML"), (".mlpackage", "Core ML")):
        program = program or (what if suffix in suffixes else "")
    return f": it holds a model of {program}" if program else ""


def _way(folder: Path) -> str:
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir() and any(_holds_model(path)))
    return f"Name one of the folders in it: {', '.join(inner[-3:])}" if inner else foreign.ORIGINAL


def _holds_model(folder: Path) -> Iterator[bool]:
    yield from (True for name in USUAL if (folder / name).is_file())


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:5]) + (" ..." if len(paths) > 5 else "")


def snapshot(folder: Path) -> Path:
    """The snapshot in a folder of Hugging Face's cache (models--ORG--NAME); any other folder as it is."""
    main = folder / "refs" / "main"
    if not folder.name.startswith("models--") or not main.is_file():
        return folder
    revision = inputs.read_text(main, kind=CheckpointError).strip()
    inside = folder / "snapshots" / revision
    return inside if Path(revision).name == revision and exists(inside) else folder


def in_hub(name: str) -> Path | None:
    """The folder of Hugging Face's cache that holds a model ("openai/whisper-base"); None where it does not.

    The cache lies where huggingface_hub's own variables say, else in its usual place.
    """
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return None
    folder = hub / f"models--{name.replace('/', '--')}"
    return folder if exists(folder / "refs" / "main") else None


def name_of(folder: Path) -> str:
    """What a folder's model is called: its own name, or the one that Hugging Face's cache hides above it."""
    cached = folder.parent.parent.name if folder.parent.name == "snapshots" else ""
    return cached.rpartition("--")[2] or folder.name

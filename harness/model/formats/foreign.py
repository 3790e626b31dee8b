"""What a file is that is no checkpoint, by its first bytes, and the way from there to one."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

from whisper_parity.errors import CheckpointError

READ = "Give a checkpoint of openai-whisper, Hugging Face, CTranslate2 or MLX, a state dict, or a name such as base"
AGAIN = "Download or copy it again"
ORIGINAL = "Give the checkpoint that it was made from (.pt, .safetensors or its Hugging Face folder)"
CONVERTED = f"{ORIGINAL}; the converted files themselves go into the folder of --artifacts"
SAVED_BY_TRANSFORMERS = (
    "Load it with transformers (from_tf=True or from_flax=True) and call model.save_pretrained(FOLDER)"
)
HALF = "Its end is missing: the download or the copy broke off"
SIGNS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS, not the file itself",
     "Fetch the file: git lfs pull, or download it"),
    (re.compile(rb"\s*<(!doctype|html|head|body)", re.I), "a web page, not the file that was to be downloaded",
     "Download it again; the address or a login may be wrong"),
    (re.compile(rb"\s*<\?xml"), "XML, not a checkpoint", ORIGINAL),
    (re.compile(rb"lmgg|fmgg|tjgg"), "GGML weights of whisper.cpp", ORIGINAL),
    (re.compile(rb"GGUF"), "a GGUF file", ORIGINAL),
    (re.compile(rb"\x89HDF"), "HDF5, as Keras and TensorFlow save weights", SAVED_BY_TRANSFORMERS),
    (re.compile(rb"\x08[\x01-\x20](\x12.[ -~]|\x1a|\x3a|\x42)", re.S), "an ONNX model", ORIGINAL),
    (re.compile(rb"....TFL3", re.S), "a converted model (FlatBuffer TFL3)", CONVERTED),
    (re.compile(rb"....ET\d\d", re.S), "an ExecuTorch program", CONVERTED),
    (re.compile(rb"[\x81-\x8f][\xa0-\xbf]"), "MessagePack, as Flax saves weights",
     SAVED_BY_TRANSFORMERS),
    (re.compile(rb"\x1f\x8b"), "a gzip archive", "Unpack it and give what is in it"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "a zstd archive", "Unpack it and give what is in it"),
    (re.compile(rb"7z\xbc\xaf|Rar!|\xfd7zXZ|BZh"), "an archive", "Unpack it and give what is in it"),
    (re.compile(rb"RIFF|OggS|fLaC|ID3|\xff\xfb"), "sound, not a checkpoint", "Clips are named by --clips"),
)  # fmt: skip
FOLDERS = {".mlmodelc": "Core ML", ".mlpackage": "Core ML", ".nemo": "NeMo", ".keras": "Keras"}


def refuse(path: Path, head: bytes) -> CheckpointError:
    """The error for a file that no reader takes, naming what it is where that can be told.

    Args:
        path: the file.
        head: its first bytes.
    """
    if not head:
        return CheckpointError(f"{path}: the file is empty", hint=AGAIN)
    if head.startswith(b"PK"):
        return _refuse_zip(path)
    for sign, what, hint in SIGNS:
        if sign.match(head):
            return CheckpointError(f"{path}: {what}", hint=hint)
    if not head.strip(b"\0"):
        return CheckpointError(f"{path}: holds zeros only: an unfinished download or copy", hint=AGAIN)
    if tarfile.is_tarfile(path):
        return CheckpointError(f"{path}: a tar archive", hint="Unpack it and give what is in it")
    if is_text(head):
        return CheckpointError(f"{path}: text, not a checkpoint", hint=_for_text(path))
    return CheckpointError(f"{path}: no checkpoint of a known format", hint=READ)


def _refuse_zip(path: Path) -> CheckpointError:
    if not zipfile.is_zipfile(path):
        return CheckpointError(f"{path}: a zip archive that was cut short", hint=f"{HALF}. {AGAIN}")
    names = zip_names(path)
    if any(name.endswith("/constants.pkl") for name in names):
        return CheckpointError(f"{path}: a traced or scripted program of torch.jit, not a checkpoint", hint=CONVERTED)
    if "model.weights.h5" in names:
        return CheckpointError(f"{path}: a model of Keras", hint=ORIGINAL)
    if any(name.endswith((".mlmodel", "coremldata.bin")) for name in names):
        return CheckpointError(f"{path}: a Core ML model", hint=ORIGINAL)
    return CheckpointError(f"{path}: a zip archive without a checkpoint of PyTorch", hint="Unpack it and give a file")


def zip_names(path: Path) -> list[str]:
    """Names in a zip archive; none where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return []


def is_text(head: bytes) -> bool:
    """Whether the first bytes are text."""
    return not re.search(rb"[\x00-\x08\x0e-\x1f]", head) and bool(head.strip())


def _for_text(path: Path) -> str:
    is_part = path.suffix == ".json" and any((path.parent / name).is_file() for name in WEIGHTS)
    return f"Give the folder that it lies in: {path.parent}" if is_part else READ


WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
           "model.bin")  # fmt: skip

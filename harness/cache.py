"""Small results that are the same on every run: input features, the root's drafts, row-invariance checks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from harness import features, serial
from harness.atomic import replacing
from harness.checkpoint import Checkpoint, file_sha256
from harness.errors import AudioError, OutputError
from harness.features import Features, Window
from harness.fixture import Clip
from harness.policy import DecodingPlan


def clip_features(folder: Path, clip: Clip, n_mels: int) -> Features:
    """A clip's features, from the cache when the same bytes were seen before.

    Raises:
        AudioError: see `harness.audio.load`.
    """
    if not clip.path.is_file():
        return features.compute(clip.path, n_mels)
    try:
        audio_sha256 = file_sha256(clip.path)
    except OSError as error:
        raise AudioError(f"{clip.path}: cannot be read ({error.strerror})", hint="Check its permissions") from error
    parts = [features.VERSION, audio_sha256, n_mels, *(version(name) for name in ("openai-whisper", "av", "torch"))]
    path = folder / "features" / f"{_key(parts)}.safetensors"
    return _load_features(path, audio_sha256) or _save_features(path, features.compute(clip.path, n_mels))


def root_draft(
    folder: Path, checkpoint: Checkpoint, features_sha256: str, plan: DecodingPlan, greedy: Callable[[], list[int]]
) -> list[int]:
    """The root's draft for a window: openai-whisper's own greedy pass, kept. A wrong one costs time, never a token."""
    parts = [checkpoint.sha256, features_sha256, dict(plan.options), version("openai-whisper"), version("torch")]
    found = remembered(folder / "drafts" / f"{_key(parts)}.json", greedy)
    size = checkpoint.dims.n_vocab
    is_draft = isinstance(found, list) and all(type(token) is int and 0 <= token < size for token in found)
    return found if is_draft else greedy()


@cache
def version(package: str) -> str:
    """Version of an installed package, read once."""
    return metadata.version(package)


def remembered(path: Path, compute: Callable[[], Any]) -> Any:
    """A JSON value from a file, computed and written when it is not there or cannot be read."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        value = compute()
        serial.write_text(path, json.dumps(value))
        return value


def invariance_path(folder: Path, artifact_sha256: str, label: str, threads: int) -> Path:
    """Where the row-invariance check of an artifact on a runtime is kept."""
    return folder / "invariance" / f"{_key([artifact_sha256, label, threads])}.json"


def _key(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _load_features(path: Path, audio_sha256: str) -> Features | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads(file.metadata()["facts"])
            mels = file.get_tensor("input_features")
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
    windows = tuple(Window(i, mel, features.array_sha256(mel)) for i, mel in enumerate(mels))
    return Features(windows, float(facts["seconds"]), bool(facts["silent"]), audio_sha256)


def _save_features(path: Path, found: Features) -> Features:
    from safetensors.numpy import save_file

    facts = json.dumps({"seconds": found.seconds, "silent": found.silent})
    try:
        mels = np.stack([window.input_features for window in found.windows])
        with replacing(path) as partial:
            save_file({"input_features": mels}, partial, metadata={"facts": facts})
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})", hint="Choose another --cache") from error
    return found

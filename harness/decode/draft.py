"""The root's draft: openai-whisper's own greedy pass, kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from whisper_parity.decode.policy import DecodingPlan
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.system import cache, serial
from whisper_parity.system.machine import version


def root_draft(
    folder: Path, checkpoint: Checkpoint, features_sha256: str, plan: DecodingPlan, greedy: Callable[[], list[int]]
) -> list[int]:
    """The root's draft for a window: openai-whisper's greedy pass, cached. A wrong one costs time, never a token."""
    parts = [checkpoint.sha256, features_sha256, dict(plan.options), version("openai-whisper"), version("torch")]
    path = folder / "drafts" / f"{serial.digest(parts)}.json"
    cache.touch(path)
    tokens = serial.remembered(path, greedy)
    size = checkpoint.dims.n_vocab
    is_draft = isinstance(tokens, list) and all(type(token) is int and 0 <= token < size for token in tokens)
    return tokens if is_draft else greedy()


def invariance_path(folder: Path, artifact_sha256: str, label: str, threads: int) -> Path:
    """Where the row-invariance check of an artifact on a runtime is kept."""
    return folder / "invariance" / f"{serial.digest([artifact_sha256, label, threads])}.json"

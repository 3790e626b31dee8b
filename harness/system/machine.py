"""The machine and the software that a run's numbers depend on."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from whisper_parity import project

PACKAGES = (
    "torch", "openai-whisper", "litert-torch", "litert-converter", "ai-edge-litert", "ai-edge-quantizer",
    "tflite-runtime", "numpy", "av", "jiwer", "rapidfuzz", "safetensors", "tiktoken",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run took place."""

    platform: str
    processor: str
    cpus: int
    python: str
    packages: dict[str, str]
    commit: str | None
    """Commit of the project's folder; None outside a git checkout."""
    dirty: bool | None
    """Whether files differ from that commit."""


def describe() -> Machine:
    """Describe this machine."""
    commit = _git("rev-parse", "HEAD")
    return Machine(
        platform=platform.platform(),
        processor=_processor(),
        cpus=os.cpu_count() or 1,
        python=platform.python_version(),
        packages=versions(*PACKAGES),
        commit=commit,
        dirty=None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
    )


def versions(*packages: str) -> dict[str, str]:
    """Version of each installed package; one that is missing is left out."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _git(*arguments: str) -> str | None:
    try:
        found = subprocess.run(
            ["git", *arguments], cwd=project.folder(), capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


@cache
def version(package: str) -> str:
    """Version of an installed package, read once."""
    return metadata.version(package)

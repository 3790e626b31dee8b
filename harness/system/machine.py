"""The machine and software on which a run's numbers depend."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from whisper_parity.errors import UnavailableError
from whisper_parity.system import cores, waiting

PACKAGES = ("whisper-parity", "openai-whisper", "numpy", "av", "jiwer", "rapidfuzz", "safetensors", "tiktoken")
"""Distributions on which every number depends; backends name their own."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of a run."""

    platform: str
    processor: str
    cpus: int
    """Cores of the machine."""
    python: str
    packages: dict[str, str]
    commit: str | None
    """Commit of the project's folder; None outside a git checkout."""
    dirty: bool | None
    """Whether files differ from that commit."""
    cores: int = 0
    """Those that the run could use: affinity, quotas; 0 where an earlier version did not record it."""
    waiting: str = ""
    """How idle threads waited: "passive", or "active: " and why; "" where that was not recorded."""


def describe(folder: Path, packages: Iterable[str] = ()) -> Machine:
    """Describe this machine.

    Args:
        folder: the project's folder, for its commit.
        packages: distributions to list besides PACKAGES.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    return Machine(
        platform=platform.platform(),
        processor=processor()[0],
        cpus=os.cpu_count() or 1,
        python=platform.python_version(),
        packages=versions(*dict.fromkeys((*PACKAGES, *packages))),
        commit=commit,
        dirty=None if commit is None else bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
        cores=cores.available(),
        waiting=waiting.HOW,
    )


def versions(*packages: str) -> dict[str, str]:
    """Version of each package, missing ones omitted."""
    installed = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            installed[package] = metadata.version(package)
    return installed


def require_extra(extra: str, *packages: str) -> None:
    """Refuse work whose packages are not there.

    Args:
        extra: of this distribution, which brings them.
        packages: distributions that the work needs.

    Raises:
        UnavailableError: one is missing.
    """
    if missing := [package for package in packages if not versions(package)]:
        raise UnavailableError(
            f"{', '.join(missing)} is not installed", hint=f"Run `pip install 'whisper-parity[{extra}]'`"
        )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


@cache
def processor() -> tuple[str, str]:
    """Name and instruction sets of the processor, by which runtimes choose their kernels; "" where unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    return facts.get("model name") or platform.processor(), facts.get("flags") or facts.get("Features", "")


@cache
def version(package: str) -> str:
    """Version of an installed package, read once."""
    return metadata.version(package)

"""Versions of installed packages, and what to say when one is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import whisper_parity
from whisper_parity.backend.contract import Availability
from whisper_parity.system.machine import require_extra
from whisper_parity.system.machine import versions as of

__all__ = ["of", "of_code", "require", "require_extra"]


def require(*packages: str) -> Availability:
    """Usable when all packages are installed; the reason names versions, or what to install."""
    installed = of(*packages)
    if missing := [package for package in packages if package not in installed]:
        return Availability(False, f"{', '.join(missing)} is not installed: run `pip install {' '.join(missing)}`")
    return Availability(True, ", ".join(f"{name} {installed[name]}" for name in packages))


def of_code(*modules: str) -> dict[str, str]:
    """Hash of our own modules that decide what a file holds: an edit of theirs must not find old files in the cache.

    Args:
        modules: dotted names under `whisper_parity`: "backends.split.modules".
    """
    digest = hashlib.sha256()
    for module in modules:
        digest.update(_source(module).read_bytes())
    return {"whisper-parity": digest.hexdigest()[:12]}


def _source(module: str) -> Path:
    """Where a module's source lies; the folders of an editable install are not inside each other."""
    room, _, rest = module.partition(".")
    folder = Path(__file__).parent if room == "backends" else Path(whisper_parity.__file__).parent / room
    return folder.joinpath(*rest.split(".")).with_suffix(".py")

"""Versions of installed packages, and what to say when one is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.backend import Availability
from harness.machine import versions as of

__all__ = ["of", "of_code", "require"]


def require(*packages: str) -> Availability:
    """Usable when all packages are installed; the reason names versions, or what to install."""
    found = of(*packages)
    if missing := [package for package in packages if package not in found]:
        return Availability(False, f"{', '.join(missing)} is not installed: run `pip install {' '.join(missing)}`")
    return Availability(True, ", ".join(f"{name} {found[name]}" for name in packages))


def of_code(*modules: str) -> dict[str, str]:
    """Hash of our own modules that decide what a file holds: an edit of theirs must not find old files in the cache."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update((Path(__file__).parent / module).read_bytes())
    return {"whisper-parity": digest.hexdigest()[:12]}

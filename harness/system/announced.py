"""Names that installed packages announce in an entry-point group, as `importlib.metadata` has them.

Importing that module takes as long as Python takes to start, which the list of commands cannot afford. So the files
that it reads are read here; what is announced is loaded by the library all the same. Tests hold the two together.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

_ENDS = (".dist-info", ".egg-info")


def values(group: str) -> dict[str, str]:
    """What is announced in a group: name -> "package.module:attribute"."""
    announced: dict[str, str] = {}
    seen: set[str] = set()
    for place in sys.path:
        for project, folder in _projects(place):
            if project not in seen:  # a second one on the path is hidden by the first
                seen.add(project)
                announced |= dict(_section(folder, group))
    return announced


def loaded(value: str) -> Any | None:
    """What "package.module:attribute" names; None where it names nothing that can be read."""
    module, _, attribute = value.partition(":")
    try:
        return getattr(import_module(module), attribute) if module else None
    except Exception:  # noqa: BLE001 - a foreign package may raise anything; then what announces it is asked itself
        return None


def _projects(place: str) -> Iterator[tuple[str, str]]:
    """The projects that are installed in a folder of the path: name, folder of its records."""
    try:
        names = sorted(os.listdir(place or os.curdir))  # noqa: PTH208 - a folder of thousands, for a list of commands
    except OSError:
        return
    for name in names:
        if name.endswith(_ENDS):
            project = name.rpartition(".")[0].partition("-")[0]
            yield re.sub(r"[-_.]+", "_", project).lower(), os.path.join(place, name)  # noqa: PTH118


def _section(folder: str, group: str) -> Iterator[tuple[str, str]]:
    """Entries of a group in a project's records."""
    try:
        with open(os.path.join(folder, "entry_points.txt"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    section = ""
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line.strip("[]").strip()
        elif section == group and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()

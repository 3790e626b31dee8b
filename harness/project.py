"""Where things are: the project's folder and its parity.toml, the user's cache, the data of this package.

The project is the folder of the nearest parity.toml, from the working folder upwards; without one it is the working
folder. Reports, approved results, measured noise and history lie there, and relative paths in parity.toml start there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisper_parity.errors import ConfigError
from whisper_parity.system import inputs

FILE_NAME = "parity.toml"
SECTIONS = ("run", "policies", "tolerances", "backends", "gate")
CACHE_VARIABLE = "WHISPER_PARITY_CACHE"
"""Environment variable that names the cache folder."""
PACKAGE = Path(__file__).resolve().parent
"""Folder of the code that runs."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project's folder and the content of its parity.toml; an absent file is an empty one."""

    folder: Path
    """Absolute."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """[run]: defaults of the options of a run; `run.options` checks the values."""
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """[policies.NAME]: decode policies of one's own."""
    tolerances: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """[tolerances."reference->candidate"]: overrides of the reviewed limits."""
    backends: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """[backends.NAME]: settings of a backend; each one checks its own table."""
    gate: Mapping[str, Any] = field(default_factory=dict)
    """[gate]: approved results and rules of one's own; `gate.settings` checks the values."""

    @property
    def file(self) -> Path:
        """Where its parity.toml lies, if it has one."""
        return self.folder / FILE_NAME

    @property
    def has_file(self) -> bool:
        """Whether a parity.toml marks the folder."""
        return self.file.is_file()

    @property
    def reports(self) -> Path:
        """Folder that gets a run's folder, unless an option says otherwise."""
        return self.folder / "reports"

    @property
    def approved(self) -> Path:
        """Folder of approved results, unless [gate] says otherwise."""
        return self.folder / "fixtures" / "approved"

    @property
    def noise(self) -> Path:
        """Measured noise that tolerances may be multiples of, unless an option says otherwise."""
        return self.approved / "noise.json"

    def at(self, path: str | Path) -> Path:
        """A path of parity.toml, absolute."""
        return Path(os.path.normpath(self.folder / path))


def folder(start: Path | None = None) -> Path:
    """The folder of the nearest parity.toml, from `start` (the working folder) upwards; `start` where there is none."""
    start = Path.cwd() if start is None else start.absolute()
    return next((place for place in (start, *start.parents) if (place / FILE_NAME).is_file()), start)


def around(path: Path) -> Path:
    """The folder of the project that a run's folder lies in; the working folder's project for one that lies in none."""
    place = folder(path)
    return place if (place / FILE_NAME).is_file() else folder()


def find(start: Path | None = None) -> Project:
    """The project of a folder (the working folder).

    Raises:
        ConfigError: its parity.toml is not TOML, or has an unknown section.
    """
    return load(folder(start))


def load(place: Path) -> Project:
    """The project in a folder, with the parity.toml that lies there, if one does.

    Raises:
        ConfigError: not TOML, or an unknown section.
    """
    path = place / FILE_NAME
    if not path.exists():
        return Project(place)
    content = read_toml(path)
    require_known(content, SECTIONS, str(path))
    for section in SECTIONS:
        if not isinstance(table := content.get(section, {}), dict):
            raise ConfigError(f"{path}: [{section}] must be a table, found {table!r:.60}", hint=f"Write [{section}]")
    for section in ("policies", "tolerances", "backends"):
        if not all(isinstance(value, dict) for value in content.get(section, {}).values()):
            raise ConfigError(f"{path}: every entry of [{section}] must be a table", hint=f"Write [{section}.NAME]")
    return Project(place, **content)


def require_known(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse a misspelt key, which nobody would read.

    Raises:
        ConfigError: a key that is not among the known ones.
    """
    if unknown := sorted(set(table) - set(known)):
        raise ConfigError(f"{where}: unknown key {', '.join(unknown)}", hint=f"Known: {', '.join(sorted(known))}")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: unreadable, or not TOML.
    """
    return inputs.read_toml(path, kind=ConfigError, hint="Check the file")


def cache() -> Path:
    """The folder of what can be made again: converted artifacts, features, drafts, native programs."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("whisper-parity")


def packaged(*parts: str) -> Path:
    """A file of this package's data, under `whisper_parity.fixtures`: clips, the micro checkpoint."""
    from importlib.util import find_spec

    spec = find_spec("whisper_parity.fixtures")  # beside this folder in a checkout, inside it where it is installed
    assert spec is not None  # noqa: S101 - a part of this package
    assert spec.origin is not None  # noqa: S101 - it has an __init__.py
    return Path(spec.origin).parent.joinpath(*parts)

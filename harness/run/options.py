"""What a user may choose, and how it is written down."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from whisper_parity import project
from whisper_parity.backend import registry
from whisper_parity.clips.manifest import MANIFEST
from whisper_parity.errors import ConfigError
from whisper_parity.system import files

OPTIONS = "options.json"
"""Name of the file in a run's folder that holds its options."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose; the same names and defaults on the command line, in pytest and in parity.toml."""

    checkpoint: str | None = None
    """openai-whisper name or path; None for the embedded micro checkpoint."""
    stages: tuple[str, ...] = registry.DEFAULT_STAGES
    artifacts: Path | None = None
    """Folder of converted files that are used instead of building."""
    clips: tuple[str, ...] = ("default",)
    """Names, tags, "default", "all", or paths of audio files and folders."""
    manifest: Path = MANIFEST
    policy: str = "whisper"
    language: str | None = None
    """For clips that do not name theirs; None to detect."""
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    mask_value: str = "-inf"
    """Causal mask of built decoders: -inf as in openai-whisper, or a finite value for NPUs."""
    report_dir: Path = field(default_factory=lambda: project.folder() / "reports")
    run_id: str | None = None
    """Name of the run's folder; None for time and checkpoint. An existing run of that name is continued."""
    cache: Path = field(default_factory=project.cache)
    soc: str | None = None
    """SoC that a DLA is compiled for; None as parity.toml says, else MT8371."""
    serial: tuple[str, ...] = ()
    """Devices, as adb names them, used side by side; empty for the only one attached."""
    tflite_converter: str | None = None
    """litert or mtk; None as parity.toml says, else litert."""
    noise: Path | None = None
    """File of measured noise that tolerances are multiples of; None for the approved one."""
    state: bool = False
    """Check state and order by the whole set of sequences, not the small one."""
    require_placement: bool = False
    """A stage of which a part fell back to the CPU, or that does not say where it runs, fails the run."""


def options_from(given: Mapping[str, Any], configured: Mapping[str, Any]) -> Options:
    """Options with parity.toml's [run] under what was given; None means not given.

    Raises:
        ConfigError: a configured value of the wrong type.
    """
    merged = {**configured, **{key: value for key, value in given.items() if value is not None}}
    where = {key: _option(key) if given.get(key) is not None else f"{project.FILE_NAME} [run] {key}" for key in merged}
    return replace(Options(), **{key: _typed(key, value, where[key]) for key, value in merged.items()})


def command(options: Options, clip: str, stages: Sequence[str]) -> str:
    """The shell command that repeats one clip of this run."""
    default = Options()
    words = ["parity", "run", "--clips", clip, "--stages", ",".join(stages)]
    repeated = ("checkpoint", "artifacts", "manifest", "policy", "language", "mask_value", "noise")
    for name in (*repeated, *registry.TARGET_OPTIONS):
        if (value := getattr(options, name)) != getattr(default, name):
            words += [_option(name), ",".join(value) if isinstance(value, tuple) else str(value)]
    return " ".join(_quoted(word) for word in words)


_LISTS = ("stages", "clips", "serial")


_PATHS = ("artifacts", "manifest", "report_dir", "cache", "noise")


_FLAGS = ("state", "require_placement")


def _typed(key: str, value: Any, where: str) -> Any:
    """A value as the option's type: "a,b" or a list for lists, text for paths."""
    if key not in {each.name for each in fields(Options)}:
        raise ConfigError(f"{where}: unknown option {key!r}")
    if key in _LISTS:
        return _words(key, value, where)
    if key in _PATHS and isinstance(value, (str, Path)):
        return Path(value).absolute()
    if key in _FLAGS:
        if type(value) is not bool:
            raise ConfigError(f"{where}: expected true or false, found {value!r:.60}")
        return value
    if key == "threads":
        if type(value) is not int or not 1 <= value <= 1024:
            raise ConfigError(f"{where}: expected a number from 1 to 1024, found {value!r:.60}")
        return value
    if key == "mask_value" and type(value) in (int, float):
        return str(value)
    if not isinstance(value, str) or key in _PATHS:
        raise ConfigError(f"{where}: expected text, found {value!r:.60}", hint="Put it into quotes")
    if key == "run_id" and value != files.safe_name(value):
        raise ConfigError(f"run id {value!r:.60}: use letters, digits, '.', '_' and '-'")
    return value


def _words(key: str, value: Any, where: str) -> tuple[str, ...]:
    if key == "clips" and isinstance(value, str) and files.exists(Path(value)):
        return (value,)  # one file, whatever commas and blanks are in its name
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not words or not all(isinstance(w, str) and w.strip() for w in words):
        raise ConfigError(f"{where}: expected names separated by commas, found {value!r:.60}")
    return tuple(word.strip() for word in words)


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _quoted(word: str) -> str:
    """A word for the shell, on one line: what cannot be printed as the escapes of $'...'."""
    if word.isprintable():
        return shlex.quote(word)
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(plain)}'"

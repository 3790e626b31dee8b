"""A program as data: the preset of the settings, with what the site says laid over it, checked before anything runs."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whisper_parity.backend import account
from whisper_parity.backend.settings import laid_over
from whisper_parity.backends.app import patterns
from whisper_parity.backends.app.patterns import Patterns
from whisper_parity.backends.app.settings import Settings
from whisper_parity.errors import ConfigError
from whisper_parity.model.dims import Dims
from whisper_parity.system import inputs

PRESETS = Path(__file__).with_name("presets")
FIELDS = ("program", "model", "sound", "language", "task", "output")
"""What an argument may name in braces."""
TENSORS = (account.FEATURES, account.ENCODER_OUTPUT)
DTYPES = ("float32", "float16")
SYMBOLS = ("n_mels", "n_frames", "n_audio_ctx", "n_audio_state")
KEYS = ("program", "argv", "environment", "files", "pull", "patterns", "output", "languages", "sound")
"""What a preset may hold."""


@dataclass(frozen=True, slots=True)
class Pull:
    """A tensor that the program writes into a file of its working folder."""

    file: str
    """"{window}" in it stands for the number of a window; without it there is one window."""
    dtype: str
    shape: tuple[str | int, ...]
    """Whole numbers and names of dimensions."""

    def sized(self, dims: Dims) -> tuple[int, ...]:
        """The shape for a checkpoint."""
        return tuple(getattr(dims, part) if isinstance(part, str) else part for part in self.shape)

    def name(self, window: int) -> str:
        """The file of a window."""
        return self.file.replace("{window}", str(window))


@dataclass(frozen=True, slots=True)
class Description:
    """How a program is called, and how its output is read."""

    program: str | None
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    files: tuple[str, ...]
    pull: Mapping[str, Pull]
    patterns: Patterns
    output: str | None
    languages: Mapping[str, str]
    sound: str
    data: Mapping[str, Any] = field(default_factory=dict)
    """All of this as JSON has it."""

    def language(self, code: str | None) -> str:
        """What the program calls a language; "auto" for none unless it calls that otherwise."""
        return self.languages.get(code or "auto", code or "auto")


def presets() -> tuple[str, ...]:
    """Names of the presets."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def of(site: Settings) -> Description:
    """The program that the settings describe.

    Raises:
        ConfigError: an unknown preset, or a value that cannot be used.
    """
    if site.preset not in presets():
        raise ConfigError(
            f"[backends.app] preset {site.preset!r:.60}: expected one of {', '.join(presets())}",
            hint="A program of another kind: take generic-json, and lay argv and patterns over it",
        )
    table = laid_over(inputs.read_toml(PRESETS / f"{site.preset}.toml"), _own(site))
    return _described(table)


def _own(site: Settings) -> dict[str, Any]:
    values = {key: getattr(site, key) for key in KEYS}
    return {key: value for key, value in values.items() if value not in (None, (), {})}


def _described(table: Mapping[str, Any]) -> Description:
    argv = tuple(map(str, table.get("argv", ())))
    _require_argv(argv)
    output = table.get("output")
    if output is not None:
        _require_inside("[backends.app] output", str(output))
    return Description(
        program=table.get("program"),
        argv=argv,
        environment=_environment(table.get("environment", {})),
        files=tuple(map(str, table.get("files", ()))),
        pull={name: _pull(name, entry) for name, entry in table.get("pull", {}).items()},
        patterns=patterns.of(table.get("patterns", {})),
        output=output,
        languages=dict(table.get("languages", {})),
        sound=str(table.get("sound") or "file"),
        data=json.loads(json.dumps({key: table[key] for key in KEYS if key in table})),
    )


def _require_argv(argv: Sequence[str]) -> None:
    """Refuse arguments that call no program, and fields that nobody fills in."""
    for word in argv:
        try:
            named = [name for _, name, _, _ in string.Formatter().parse(word) if name is not None]
        except ValueError as error:
            raise ConfigError(f"[backends.app] argv {word!r:.80}: {error}", hint="Write {{ for a brace") from error
        if unknown := [name for name in named if name not in FIELDS]:
            raise ConfigError(
                f"[backends.app] argv {word!r:.80}: nothing is called {unknown[0]!r}",
                hint=f"Fields: {', '.join(FIELDS)}",
            )
    if not argv or argv[0] != "{program}" or not any("{sound}" in word for word in argv):
        raise ConfigError(
            f"[backends.app] argv: expected {{program}} first and {{sound}} in it, found {' '.join(argv)!r:.120}"
        )


def _environment(table: Mapping[str, Any]) -> dict[str, str]:
    for name, value in table.items():
        if not (name.isascii() and name.isidentifier()) or "\0" in str(value):
            raise ConfigError(f"[backends.app] environment {name!r:.60}: expected the name of a variable")
    return {name: str(value) for name, value in table.items()}


def _pull(name: str, entry: Any) -> Pull:
    where = f"[backends.app.pull.{name}]"
    if name not in TENSORS:
        raise ConfigError(f"{where}: no such tensor", hint=f"Tensors: {', '.join(TENSORS)}")
    if not isinstance(entry, Mapping) or not isinstance(entry.get("file"), str) or set(entry) - {*Pull.__slots__}:
        raise ConfigError(f"{where}: expected file, dtype and shape, found {entry!r:.80}")
    _require_inside(where, entry["file"])
    dtype, shape = str(entry.get("dtype", "float32")), entry.get("shape", ())
    if dtype not in DTYPES:
        raise ConfigError(f"{where} dtype {dtype!r:.40}: expected one of {', '.join(DTYPES)}")
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not shape or not all(map(_is_size, shape)):
        raise ConfigError(f"{where} shape {shape!r:.80}: expected whole numbers and {', '.join(SYMBOLS)}")
    return Pull(entry["file"], dtype, tuple(shape))


def _is_size(part: Any) -> bool:
    return part in SYMBOLS or (isinstance(part, int) and not isinstance(part, bool) and 0 < part < 2**20)


def _require_inside(where: str, name: str) -> None:
    """Refuse a name that leads out of the program's working folder."""
    if not name or name.startswith(("/", "-")) or ".." in Path(name).parts or any(ord(c) < 32 for c in name):
        raise ConfigError(f"{where} {name!r:.80}: expected the name of a file in the program's working folder")

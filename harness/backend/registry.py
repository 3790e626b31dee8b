"""Names of backends and stages."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from whisper_parity.backend.contract import Availability, Backend, Configurable
from whisper_parity.errors import ConfigError, ParityError, UnavailableError, UsageError, first_line, mapped

GROUP = "whisper_parity.backends"
"""Entry-point group in which other packages announce a backend: name = "package.module:Class"."""

BUILT_IN = {
    "whisper": "whisper_parity.backends.whisper:WhisperBackend",
    "pytorch": "whisper_parity.backends.pytorch:PyTorchBackend",
    "torchscript": "whisper_parity.backends.torchscript:TorchScriptBackend",
    "tflite": "whisper_parity.backends.tflite:TFLiteBackend",
    "dla": "whisper_parity.backends.dla:DLABackend",
}

COMMANDS = {
    "device": "whisper_parity.backends.dla.commands:device",
    "inspect": "whisper_parity.backends.tflite.commands:inspect",
    "mtk-check": "whisper_parity.backends.tflite.commands:mtk_check",
}
"""Commands of backends: name -> "module:attribute", imported when they are used."""

TARGET_OPTIONS = {"soc": ("dla", "soc"), "serial": ("dla", "serial"), "tflite_converter": ("tflite", "converter")}
"""Options of a run that are settings of one backend: its name, and the setting's."""

ROOT = "pytorch"
"""Root reference: every later stage is judged against it as well as against its parent."""

DEFAULT_STAGES = ("whisper", "pytorch", "torchscript", "tflite", "dla:simulated")

_settings: dict[str, Mapping[str, Any]] = {}
"""[backends.NAME] of this process's plan; `configure` sets it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of the chain."""

    spec: str
    """As typed: "tflite:int8"."""
    parent: str | None
    """Nearest earlier stage of the same run: where its edge starts."""

    @property
    def backend(self) -> str:
        """The part of its name before the colon."""
        return self.spec.partition(":")[0]

    @property
    def variant(self) -> str:
        """The part of its name behind the colon, or ""."""
        return self.spec.partition(":")[2]

    @property
    def edge(self) -> str:
        """Its edge as the reports write it: "torchscript->tflite"."""
        return f"{self.parent or ''}->{self.spec}"


def names() -> tuple[str, ...]:
    """All registered backends: our own in the order of the chain, then those of other packages by name."""
    return (*BUILT_IN, *sorted(set(_foreign()) - set(BUILT_IN)))


def configure(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Give backends what the site says about them; a plan does it before anything is asked of them.

    Raises:
        ConfigError: a table for a backend that does not exist, or that takes no settings.
    """
    _settings.clear()
    backend.cache_clear()
    for name, table in settings.items():
        if name not in names():
            raise ConfigError(f"[backends.{name}]: no such backend", hint=f"Known: {', '.join(names())}")
        if not isinstance(backend(name), Configurable):
            raise ConfigError(f"[backends.{name}]: {name} has no settings", hint="Delete the table")
        _settings[name] = table
    backend.cache_clear()


@cache
def backend(name: str) -> Backend:
    """Import a backend by name, with its settings.

    Raises:
        UsageError: no such name.
        UnavailableError: it is registered, but its module does not import.
        ConfigError: its settings cannot be used.
    """
    made = _imported(name)
    return made.configured(_settings[name]) if isinstance(made, Configurable) and name in _settings else made


def _imported(name: str) -> Backend:
    target = BUILT_IN.get(name) or (_foreign()[name].value if name in _foreign() else None)
    if target is None:
        raise UsageError(f"no backend called {name!r}", hint=f"Use one of {', '.join(names())}")
    module, _, attribute = target.partition(":")
    try:
        return cast(Backend, getattr(importlib.import_module(module), attribute)())
    except Exception as error:  # a foreign package may raise anything while it is imported
        raise UnavailableError(f"backend {name} ({target}) cannot be imported: {first_line(error)}") from error


def command(name: str) -> Any | None:
    """A backend's group of commands; None when no backend has one of that name."""
    if name not in COMMANDS:
        return None
    module, _, attribute = COMMANDS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def probe(name: str) -> Availability:
    """Whether a registered backend can be used here; a broken one is unavailable, never absent."""
    try:
        with mapped(UnavailableError, f"backend {name} cannot be asked"):
            return backend(name).probe()
    except ParityError as error:
        return Availability(False, str(error))


def plan(specs: tuple[str, ...]) -> tuple[Stage, ...]:
    """Put stages into the order of the chain, add the root when it is missing, and find each one's parent.

    Raises:
        UsageError: an unknown backend or variant.
        UnavailableError: a backend whose module does not import.
    """
    for spec in specs:
        _check(spec)
    wanted = list(dict.fromkeys((*specs, ROOT)))
    ordered = sorted(wanted, key=_depth)
    return tuple(Stage(spec, _parent(spec, wanted)) for spec in ordered)


def _check(spec: str) -> None:
    name, colon, variant = spec.partition(":")
    known = backend(name).variants
    if colon and variant not in known:
        hint = f"Variants: {', '.join(known)}" if known else f"Write {name}"
        raise UsageError(f"stage {spec!r}: {name} has no variant {variant!r}", hint=hint)


def _predecessor(spec: str) -> str | None:
    name, colon, _ = spec.partition(":")
    if colon:
        return name
    return backend(name).after or (None if name in BUILT_IN else ROOT)  # what others add is judged at least by the root


def _depth(spec: str) -> tuple[int, bool]:
    depth, stage = 0, _predecessor(spec)
    while stage is not None:
        depth, stage = depth + 1, _predecessor(stage)
    return depth, ":" in spec


def _parent(spec: str, wanted: list[str]) -> str | None:
    stage = _predecessor(spec)
    while stage is not None and stage not in wanted:
        stage = _predecessor(stage)
    return stage


def _foreign() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}

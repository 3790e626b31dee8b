"""The backends that are installed, with the settings of a site, and the stages that they make."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from whisper_parity.backend import settings, trust
from whisper_parity.backend.contract import Availability, Backend
from whisper_parity.backend.facets import Borrowing, Bound, Configurable, Limited, Spreading, Table
from whisper_parity.backend.stage import Stage, StageName
from whisper_parity.backend.trust import Program
from whisper_parity.errors import ConfigError, ParityError, UnavailableError, UsageError, first_line, mapped
from whisper_parity.project import Project
from whisper_parity.system import closeness

GROUP = "whisper_parity.backends"
"""Entry-point group in which a package announces a backend, ours included: name = "package.module:Class"."""


class Backends:
    """Every installed backend by name, imported when it is asked for."""

    def __init__(self, tables: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Take what the site says.

        Args:
            tables: settings by backend: [backends.NAME] of parity.toml.

        Raises:
            ConfigError: settings that cannot be used, of a backend that has none, or of one that is not installed.
        """
        self._points = {point.name: point for point in entry_points(group=GROUP)}
        self._imported: dict[str, Backend] = {}
        self._settings: dict[str, Any] = {}
        self._lent: set[str] = set()
        for name, table in (tables or {}).items():
            if name not in self._points:
                raise ConfigError(f"[backends.{name}]: no such backend", hint=f"Known: {', '.join(self.names)}")
            self._imported[name] = self._configured(name, table)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All of them in the order of the chain; one that cannot be imported comes last."""
        return tuple(sorted(self._points, key=lambda name: (self._depth(StageName(name)), name)))

    @cached_property
    def root(self) -> str:
        """The backend that every later stage is judged against.

        Raises:
            UnavailableError: none declares itself the root.
        """
        for name in sorted(self._points):
            if self._usable(name) and self.get(name).is_root:
                return name
        raise UnavailableError("no installed backend is the root reference", hint="Install whisper-parity again")

    def get(self, name: str) -> Backend:
        """A backend with its settings.

        Raises:
            UsageError: no such name.
            UnavailableError: it is registered, but its module does not import.
        """
        if name not in self._imported:
            if name not in self._points:
                raise UsageError(f"no backend called {name!r}", hint=_hint(name, self.names))
            self._imported[name] = _import(self._points[name])
        backend = self._imported[name]
        if isinstance(backend, Borrowing) and name not in self._lent:
            self._lent.add(name)
            self._imported[name] = backend = backend.lent(self.get(backend.borrows))
        return backend

    def of(self, stage: str) -> Backend:
        """The backend of a stage."""
        return self.get(StageName.parse(stage).backend)

    def availability(self, name: str) -> Availability:
        """Whether a backend can be used here; a broken one is unavailable, never absent."""
        try:
            with mapped(UnavailableError, f"backend {name} cannot be asked"):
                return self.get(name).availability()
        except ParityError as error:
            return Availability(False, str(error))

    def width(self, stage: str) -> int:
        """How many clips of a stage can be in work at once: on as many devices."""
        backend = self.of(stage)
        return max(1, backend.width(StageName.parse(stage).variant)) if isinstance(backend, Spreading) else 1

    def resource(self, stage: str) -> str:
        """What a stage needs that has room for one process at a time, its devices; "" for one that runs anywhere."""
        backend, variant = self.of(stage), StageName.parse(stage).variant
        if isinstance(backend, Bound):
            return backend.resource(variant)
        return StageName.parse(stage).backend if self.width(stage) > 1 else ""

    def packages(self, stages: Sequence[str]) -> tuple[str, ...]:
        """Distributions that the numbers of these stages depend on."""
        return tuple(dict.fromkeys(package for stage in stages for package in self.of(stage).packages))

    def deciding_settings(self, stage: str) -> dict[str, Any]:
        """The settings of a stage's backend that its numbers depend on; {} for one without."""
        name, backend = StageName.parse(stage).backend, self.of(stage)
        if not isinstance(backend, Configurable):
            return {}
        if name not in self._settings:
            self._settings[name] = settings.read(backend.settings_type, name, {})
        return settings.that_decide(self._settings[name])

    @cached_property
    def default_stages(self) -> tuple[str, ...]:
        """The stages of a run that names none."""
        usable = (name for name in self.names if self._usable(name))
        return tuple(stage for name in usable for stage in self.get(name).default_stages)

    def limits(self) -> Iterator[tuple[Table, Table]]:
        """(tolerances, gate rules) that the backends bring along."""
        for name in self.names:
            if self._usable(name) and isinstance(backend := self.get(name), Limited):
                yield backend.tolerances(), backend.gate_rules()

    def chain(self, specs: Sequence[str]) -> tuple[Stage, ...]:
        """Put stages into the order of the chain, add the root when it is missing, and find each one's parent.

        Raises:
            UsageError: an unknown backend or variant.
            UnavailableError: a backend whose module does not import.
        """
        for spec in specs:
            self._require_known(spec)
        wanted = list(dict.fromkeys((*specs, self.root)))
        ordered = sorted(wanted, key=lambda spec: self._depth(StageName.parse(spec)))
        return tuple(Stage(spec, self._parent(spec, wanted), self._root_of(spec)) for spec in ordered)

    def is_window(self, spec: str) -> bool:
        """Whether a stage is the root under another window: "root:10s"."""
        name = StageName.parse(spec)
        return name.backend == self.root and name.variant not in self.get(self.root).variants and bool(name.n_audio_ctx)

    def _configured(self, name: str, table: Mapping[str, Any]) -> Backend:
        backend = _import(self._points[name])
        if not isinstance(backend, Configurable):
            raise ConfigError(f"[backends.{name}]: {name} has no settings", hint="Delete the table")
        self._settings[name] = settings.read(backend.settings_type, name, table)
        return backend.configured(self._settings[name])

    def _usable(self, name: str) -> bool:
        try:
            self.get(name)
        except ParityError:
            return False
        return True

    def _require_known(self, spec: str) -> None:
        name = StageName.parse(spec)
        variants = self.get(name.backend).variants
        if ":" in spec and name.variant not in variants and not self.is_window(spec):
            hint = f"Variants: {', '.join(variants)}" if variants else f"Write {name.backend}"
            hint = closeness.hint(name.variant or "", variants, hint)
            raise UsageError(f"stage {spec!r}: {name.backend} has no variant {name.variant!r}", hint=hint)

    def _predecessor(self, name: StageName) -> StageName | None:
        after = self.get(name.backend).after
        if name.variant:
            same = StageName(StageName.parse(after).backend, name.variant) if after else None
            base = StageName(name.backend, name.variant.partition("-")[2])  # "name:here-kind" stands behind "name:kind"
            return next((stage for stage in (same, base) if stage and self._has(stage)), StageName(name.backend))
        if after:
            return StageName.parse(after)
        return None if name.backend in self._up_to_root else StageName(self.root)

    def _has(self, name: StageName) -> bool:
        return name.variant in self.get(name.backend).variants

    @cached_property
    def _up_to_root(self) -> frozenset[str]:
        """The root and what stands before it: what else starts a chain is judged by the root at least."""
        chain, name = [self.root], self.get(self.root).after
        while name is not None:
            chain.append(name)
            name = self.get(name).after
        return frozenset(chain)

    def _root_of(self, spec: str) -> str | None:
        """The root, for what stands behind it."""
        before = self._up_to_root - {self.root}
        return (
            None if self.is_window(spec) or spec == self.root or StageName.parse(spec).backend in before else self.root
        )

    def _depth(self, name: StageName) -> tuple[int, bool]:
        depth, before = 0, name
        try:
            while (stage := self._predecessor(before)) is not None:
                depth, before = depth + 1, stage
        except UnavailableError:
            return 1_000, False
        return depth - self.is_window(str(name)), bool(name.variant)

    def _parent(self, spec: str, wanted: Sequence[str]) -> str | None:
        stage = self._predecessor(StageName.parse(spec))
        while stage is not None and str(stage) not in wanted:
            stage = self._predecessor(stage)
        return None if stage is None else str(stage)


def load(site: Project, words: Sequence[str] = ()) -> Backends:
    """The installed backends with the settings of a project, those of the command line over them.

    Args:
        site: the project; where its parity.toml names programs, the user has trusted it.
        words: `--set` words: "name.key=value".

    Raises:
        ConfigError: settings that cannot be used, or a file that is not trusted.
    """
    require_trust(site, words)
    return Backends(settings.laid_over(site.backends, settings.of_words(words)))


def require_trust(site: Project, words: Sequence[str] = ()) -> None:
    """Refuse to go on with programs of a parity.toml that the user has not agreed to.

    Args:
        site: the project.
        words: `--set` words: what they name is the user's own.

    Raises:
        ConfigError: the file is not trusted.
    """
    named, own = programs_in(site), settings.of_words(words)
    if any(program.key.partition(".")[2] not in own.get(program.key.partition(".")[0], {}) for program in named):
        trust.require(site.file, named)


def programs_in(site: Project) -> tuple[Program, ...]:
    """What a parity.toml names for execution; the cache too, since what was built is run as our own."""
    cache = site.run.get("cache")
    return (*([Program("run.cache", str(cache))] if cache else []), *programs(site.backends))


def programs(tables: Mapping[str, Mapping[str, Any]]) -> tuple[Program, ...]:
    """What tables of settings name for execution."""
    backends, installed = Backends(), announced()
    return tuple(
        program
        for name, table in tables.items()
        if name in installed and isinstance(backend := backends.get(name), Configurable)
        for program in settings.programs(backend.settings_type, name, table)
    )


def announced() -> tuple[str, ...]:
    """Names of the installed backends, without importing one."""
    return tuple(sorted(point.name for point in entry_points(group=GROUP)))


def _hint(name: str, names: Sequence[str]) -> str:
    return closeness.hint(name, names, f"Use one of {', '.join(names)}")


def _import(point: EntryPoint) -> Backend:
    return cast(Backend, _loaded(point)())


def _loaded(point: EntryPoint) -> Any:
    module, _, attribute = point.value.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a foreign package may raise anything while it is imported
        raise UnavailableError(f"{point.name} ({point.value}) cannot be imported: {first_line(error)}") from error

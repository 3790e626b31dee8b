"""Commands about the site: what is installed, how it is set, what it names for execution."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from whisper_parity import project
from whisper_parity.errors import UsageError
from whisper_parity.system import amounts
from whisper_parity.system import cache as caching
from whisper_parity.system.cache import Entry
from whisper_parity.system.terminal import say

if TYPE_CHECKING:
    from whisper_parity.backend.trust import Program
    from whisper_parity.run.options import RunOptions


@click.command()
def doctor() -> None:
    """List every backend: available or not, and why, with what to install; and the programs that parity.toml names."""
    from whisper_parity.backend import registry, trust
    from whisper_parity.backend.stage import StageName

    site = project.find()
    programs = registry.programs_in(site)
    is_trusted = not programs or trust.is_trusted(site.file, programs)
    backends = registry.Backends(site.backends)
    unasked = set() if is_trusted else {program.key.partition(".")[0] for program in programs}
    usable = set()
    for name in backends.names:
        if name in unasked:
            say(f"{name:<12} not asked    {site.file} is not trusted: see below")
            continue
        availability = backends.availability(name)
        usable |= {name} if availability.usable else set()
        say(f"{name:<12} {'available  ' if availability.usable else 'unavailable'}  {availability.reason}")
    for program in programs:
        state = "runs" if is_trusted else "would run, once trusted: `parity trust`"
        say(f"{site.file} {program}: {state}")
    needed = {StageName.parse(stage).backend for stage in backends.default_stages if ":" not in stage}
    sys.exit(0 if needed <= usable else 3)


@click.command("backends")
@click.argument("name", required=False)
def backends(name: str | None) -> None:
    """List the installed backends and their settings, as parity.toml and --set take them."""
    from whisper_parity.backend import registry
    from whisper_parity.backend.facets import Configurable
    from whisper_parity.backend.settings import described

    installed = registry.Backends()
    for stage in (name,) if name else installed.names:
        backend = installed.get(stage)
        stages = ", ".join((stage, *(f"{stage}:{variant}" for variant in backend.variants)))
        say(f"{stage}: stages {stages}")
        if isinstance(backend, Configurable):
            for key, default, text in described(backend.settings_type):
                say(f"  {stage}.{key} [{default}]  {text}")


@click.command()
@click.argument("place", type=click.Path(path_type=Path), required=False)
@click.option("--yes", is_flag=True, help="do not ask: for CI, or after reading")
def trust(place: Path | None, yes: bool) -> None:
    """Agree to run the programs that a parity.toml, or a run from elsewhere, names (default: the project's file).

    Once for each content: what changes must be trusted again.
    """
    from whisper_parity.backend import trust as trusting

    file, programs = _named(place)
    if not programs:
        say(f"{file}: names no program, so there is nothing to trust")
        return
    for program in programs:
        say(f"{file}: {program}")
    if not yes and not _agreed():
        raise UsageError(f"{file}: not trusted", hint="Nothing of it was run")
    trusting.trust(file, programs)
    say(f"trusted: {file}")


@click.group("cache")
def cache() -> None:
    """What can be made again: artifacts, traces of the checkpoint's stages, features, drafts."""


CACHE = click.option("--cache", "folder", type=click.Path(path_type=Path), metavar="DIR", help="[the user's folder]")
LIMIT = click.option("--cache-limit", "limit", metavar="SIZE", help="most that it may hold, as 16GiB [that of a run]")


@cache.command()
@CACHE
@LIMIT
def info(folder: Path | None, limit: str | None) -> None:
    """What lies there, by kind: how many, how large, when the oldest was used; and the limit."""
    options = _cache_options(folder, limit)
    entries = caching.entries(options.cache)
    for kind in dict.fromkeys(entry.kind for entry in entries):
        _say_sum(kind, [entry for entry in entries if entry.kind == kind])
    _say_sum("all", entries)
    say(f"{'limit':<12} {amounts.shown(options.cache_bytes)}, of {options.cache}")


@cache.command()
@CACHE
@LIMIT
@click.option("--older", metavar="AGE", help="also what was not used for so long, as 30d or 12h")
@click.option("--all", "everything", is_flag=True, help="whatever is not in use")
def prune(folder: Path | None, limit: str | None, older: str | None, everything: bool) -> None:
    """Remove what was used longest ago, down to the limit; what a running command uses stays."""
    options = _cache_options(folder, limit)
    try:
        age = amounts.seconds(older) if older else None
    except ValueError as error:
        raise UsageError(f"--older {error}") from error
    removed = caching.prune(options.cache, 0 if everything else options.cache_bytes, age)
    _say_sum("removed", removed)
    _say_sum("left", caching.entries(options.cache))


def _cache_options(folder: Path | None, limit: str | None) -> RunOptions:
    """The options of a run that concern the cache."""
    from whisper_parity.run import options

    return options.read({"cache": folder, "cache_limit": limit}, project.find())


def _say_sum(name: str, entries: Sequence[Entry]) -> None:
    """A line about entries: how many, how large, and when the oldest of them was used."""
    total = amounts.shown(sum(entry.size_bytes for entry in entries))
    oldest = max((time.time() - entry.used_s for entry in entries), default=None)
    used = "" if oldest is None else f"   the oldest used {amounts.age(oldest)} ago"
    say(f"{name:<12} {len(entries):>6} {total:>12}{used}")


def _named(place: Path | None) -> tuple[Path, Sequence[Program]]:
    """The file that a place means, and the programs in it."""
    from whisper_parity.backend import registry
    from whisper_parity.run import options, plan
    from whisper_parity.run.folder import RunFolder

    folder = place if place is None or place.is_dir() else place.parent
    run = RunFolder(folder) if folder else None
    if run and run.options.is_file():
        return run.options, plan.programs_of(options.load(run.options, run.path))
    site = project.load(folder.absolute()) if folder else project.find()
    if not site.has_file:
        raise UsageError(f"{site.folder}: neither a {project.FILE_NAME} nor a run is there")
    return site.file, registry.programs_in(site)


def _agreed() -> bool:
    """Ask at the terminal; where nobody can answer, nobody has agreed."""
    return sys.stdin.isatty() and click.confirm("Run these programs from now on?")

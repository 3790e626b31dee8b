"""Commands about the site: what is installed, how it is set, what it names for execution."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from whisper_parity import project
from whisper_parity.cli_options import JSON
from whisper_parity.errors import UsageError
from whisper_parity.project import Project
from whisper_parity.system import amounts
from whisper_parity.system import cache as caching
from whisper_parity.system.cache import Entry
from whisper_parity.system.terminal import document, line, say, stdout

if TYPE_CHECKING:
    from whisper_parity.backend.trust import Program
    from whisper_parity.run.options import RunOptions


@dataclass(frozen=True, slots=True)
class Asked:
    """A backend's answer, or that it was not asked."""

    name: str
    state: str
    """"available", "unavailable", "not asked"."""
    reason: str
    """Versions, or what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Checkup:
    """What `parity doctor` finds."""

    backends: tuple[Asked, ...]
    programs: tuple[str, ...]
    """What parity.toml names for execution."""
    trusted: bool
    """Whether that may run."""
    usable: bool
    """Whether the stages of a run that names none can run."""
    next: str
    """What to do now."""


@click.command()
@JSON
def doctor(as_json: bool) -> None:
    """List every backend: available or not, and why, with what to install; and the programs that parity.toml names.

    The last line says what to do next.
    """
    from whisper_parity.system import serial

    site = project.find()
    checkup = _checkup(site)
    if as_json:
        document(serial.dumps(checkup))
        sys.exit(0 if checkup.usable else 3)
    state = "runs" if checkup.trusted else "would run, once trusted: `parity trust`"
    _show(
        [
            *((f"{asked.name:<12} {asked.state:<11}  {asked.reason}", 26) for asked in checkup.backends),
            *((f"{site.file} {program}: {state}", 2) for program in checkup.programs),
            (f"next: {checkup.next}", 6),
        ]
    )
    sys.exit(0 if checkup.usable else 3)


def _show(lines: Sequence[tuple[str, int]]) -> None:
    """Lines with their indents, unfolded where the package that folds them is what is missing."""
    if importlib.util.find_spec("rich") is None:
        for text, _ in lines:
            say(text)
        return
    console = stdout()
    for text, indent in lines:
        line(console, text, indent=indent)


def _checkup(site: Project) -> Checkup:
    """Ask every backend that may be asked."""
    from whisper_parity.backend import registry, trust
    from whisper_parity.backend.stage import StageName

    programs = registry.programs_in(site)
    is_trusted = not programs or trust.is_trusted(site.file, programs)
    backends = registry.Backends(site.backends)
    unasked = set() if is_trusted else {program.key.partition(".")[0] for program in programs}
    answers = []
    for name in backends.names:
        if name in unasked:
            answers.append(Asked(name, "not asked", f"{site.file} is not trusted: see below"))
            continue
        availability = backends.availability(name)
        answers.append(Asked(name, "available" if availability.usable else "unavailable", availability.reason))
    needed = {StageName.parse(stage).backend for stage in backends.default_stages if ":" not in stage}
    missing = [asked for asked in answers if asked.name in needed and asked.state != "available"]
    words = tuple(map(str, programs))
    return Checkup(tuple(answers), words, is_trusted, not missing, _next(site, missing, is_trusted=is_trusted))


def _next(site: Project, missing: Sequence[Asked], *, is_trusted: bool) -> str:
    """The one thing to do now."""
    if not is_trusted:
        return f"read what {site.file} names above, then `parity trust`"
    if missing:
        return f"{missing[0].name}: {missing[0].reason}"
    if site.has_file:
        return f"`parity run` judges what {site.file} names; then `parity gate`"
    return "`parity run --clips FOLDER` judges your recordings; `parity demo` tries it on clips of its own"


@click.command("backends")
@click.argument("name", required=False)
def backends(name: str | None) -> None:
    """List the installed backends and their settings, as parity.toml and --set take them."""
    from whisper_parity.backend import registry
    from whisper_parity.backend.facets import Configurable
    from whisper_parity.backend.settings import described

    installed = registry.Backends()
    lines = []
    for stage in (name,) if name else installed.names:
        backend = installed.get(stage)
        stages = ", ".join((stage, *(f"{stage}:{variant}" for variant in backend.variants)))
        lines.append((f"{stage}: stages {stages}", 2))
        if isinstance(backend, Configurable):
            settings = described(backend.settings_type)
            lines += [(f"  {stage}.{key} [{default}]  {text}", 6) for key, default, text in settings]
    _show(lines)


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

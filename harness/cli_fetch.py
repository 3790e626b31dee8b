"""The command that gets public clips."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from whisper_parity import project
from whisper_parity.cli_options import PATH
from whisper_parity.run import options as run_options
from whisper_parity.system.terminal import say


@click.command()
@click.argument("names", nargs=-1, metavar="[CLIP ...]")
@click.option("--from", "source", type=PATH, metavar="DIR", help="take them from this folder [download them]")
@click.option("--cache", type=PATH, metavar="DIR", help="folder that gets them [the user's cache folder]")
def fetch(names: tuple[str, ...], source: Path | None, cache: Path | None) -> None:
    """Get the public clips (default: all), by address and hash or from a folder; `--clips fetched` uses them.

    Exit codes: 0 all are there, 2 one is another file or not in the folder, 3 one cannot be reached.
    """
    from whisper_parity.clips import fetching

    options = run_options.read({"cache": cache}, project.find())
    errors: dict[str, int] = {}
    for one in fetching.fetch(fetching.chosen(names), options.cache, source):
        if one.error is None:
            say(f"{one.clip.file}: {'fetched' if one.is_new else 'is there'}: {one.path}")
        elif str(one.error) not in errors:
            errors[str(one.error)] = one.error.exit_code
            say(f"parity: {one.error}", to_stderr=True)
    sys.exit(max(errors.values(), default=0))

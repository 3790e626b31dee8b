"""The command about the weights of converted files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from whisper_parity import project
from whisper_parity.run import options as run_options
from whisper_parity.system.progress import working
from whisper_parity.system.terminal import document, say


@click.command()
@click.argument("place", type=click.Path(path_type=Path), metavar="FILE|DIR")
@click.option("--checkpoint", metavar="NAME|FILE", help="whose weights they are to be [as in parity.toml]")
@click.option("--json", "as_json", is_flag=True, help="one JSON array, every tensor that differs")
def weights(place: Path, checkpoint: str | None, as_json: bool) -> None:
    """Which of a checkpoint's weights do converted files hold, and how do the others differ? Nothing is run.

    Exit codes: 0 all of them, up to the precision of the file's types, 1 some differ, 2 nothing can be read.
    """
    from whisper_parity.backend import registry
    from whisper_parity.model import checkpoint as checkpoints
    from whisper_parity.system import serial
    from whisper_parity.weights.looking import Looking, groups

    site = project.find()
    options = run_options.read({"checkpoint": checkpoint}, site)
    backends = registry.load(site, options.settings)
    looking = Looking(checkpoints.resolve(options.checkpoint, options.cache), options.cache)
    usable = [backends.get(name) for name in backends.names if backends.availability(name).usable]
    with working(f"reading {place}"):
        grouped = list(groups(place, usable, looking.checkpoint))
        looked = [looking.of_files(*group) for group in grouped]
    if as_json:
        document(f"[{','.join(map(serial.dumps, looked))}]")
    else:
        for (backend, _), one in zip(grouped, looked):
            for line in one.sentences:
                say(f"{backend.name}: {line}" if len(looked) > 1 else line)
    sys.exit(max(one.exit_code for one in looked))

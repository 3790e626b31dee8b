"""The command about the log-mel of another program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whisper_parity import project
from whisper_parity.run import options as run_options
from whisper_parity.system.progress import working
from whisper_parity.system.terminal import document, say

if TYPE_CHECKING:
    from whisper_parity.compare.front_end.difference import FrontEndDiff
    from whisper_parity.explain.front_end import FrontEndEffect


@click.command()
@click.argument("sound", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--mels", type=click.Choice(["80", "128"]), help="mel bands that the model takes [by the size]")
@click.option("--window", type=click.IntRange(min=0), default=0, help="which window of 30 s of the sound [0]")
@click.option("--frames", type=click.IntRange(1, 3000), default=3000, help="frames of a window [3000]")
@click.option("--checkpoint", metavar="NAME|FILE", help="also: what do they change in this checkpoint's text?")
@click.option("--policy", metavar="NAME", help="decode policy of that text [as in parity.toml]")
@click.option("--language", metavar="CODE", help="of that text [detected]")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
def features(
    sound: Path, file: Path, mels: str | None, window: int, frames: int, as_json: bool, **given: str | None
) -> None:
    """Is this log-mel Whisper's? How far it is from openai-whisper's of the same sound, and what makes the difference.

    FILE holds the features of one window: .npy, text with one number after the other, or raw float32 or float16 (any
    other name). Exit codes: 0 they are Whisper's, 1 they are not, or the text changes, 2 something cannot be read.
    """
    from whisper_parity.compare.front_end import difference
    from whisper_parity.compare.front_end.file import bands, read
    from whisper_parity.system import serial

    array = read(file, frames)
    n_mels = int(mels) if mels else bands(array, frames, file)
    with working(f"measuring {file}"):
        diff = difference.measure(array, sound, window, n_mels, frames)
        effect = _effect(array, sound, diff, given)
    if as_json:
        document(serial.dumps({"front_end": diff, "effect": effect}))
    else:
        for line in difference.lines(diff):
            say(line)
        for line in _told(effect):
            say(line)
    sys.exit(0 if difference.is_whispers(diff) and not (effect and effect.changes) else 1)


def _effect(array: Any, sound: Path, diff: FrontEndDiff, given: dict[str, str | None]) -> FrontEndEffect | None:
    """What the features change in a checkpoint's text; None where none is named.

    Raises:
        UsageError: features that the checkpoint cannot take.
        UnavailableError: the root cannot run here.
    """
    from whisper_parity.backend import build, registry
    from whisper_parity.decode import policy
    from whisper_parity.explain import crossfeed, front_end
    from whisper_parity.model import checkpoint as checkpoints
    from whisper_parity.run import plan, threads

    if given["checkpoint"] is None:
        return None
    site = project.find()
    policy.check_language(given["language"])
    options = run_options.read(given, site)
    backends = registry.load(site, options.settings)
    weights = checkpoints.resolve(options.checkpoint, options.cache)
    ours, theirs = front_end.pair(array, sound, diff, weights.dims)
    artifact = build.obtain(plan.workshop(options, backends, weights), backends.root)
    count = options.threads or threads.suited(weights.dims)
    with backends.get(backends.root).open(artifact, count) as session:
        halves, named = crossfeed.as_halves(session, backends.root), policy.named(options.policy, site.policies)
        return front_end.effect(halves, named, weights.dims, options.language, ours, theirs)


def _told(effect: FrontEndEffect | None) -> list[str]:
    if effect is None:
        return []
    texts = [f"Whisper's   {effect.reference.text}", f"theirs      {effect.candidate.text}"]
    return [*texts, f"text        {effect.sentence}"]

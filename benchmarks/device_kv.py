"""What a decoder with a KV cache costs over a cable: `python -m benchmarks.device_kv [--checkpoint base.pt]`.

A simulated device behind a real adb. Bytes are those of the cable, both ways; all figures come from one run. The
sound is a clip of ours and tokens are the decoder's own: noise has other logits, which pack otherwise.

    (a) bytes a token: the naive flow (push every input, pull every output) over the runner's, rows of logits wanted
    (b) the same, top-k wanted
    (c) the same over the cache in files, by neuronrt
    (d) time a step beside the device's own compute, rows of logits wanted [ms]
    (e) the same, top-k wanted [ms]
    (f) run time of a step by the runner over one of the decoder without a cache
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.device import simulated, spent
from tests.support import sites
from tests.support.checkout import CHECKOUT
from whisper_parity.backend import build
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.build import Workshop
from whisper_parity.backends.dla.link import device
from whisper_parity.backends.dla.link.device import Device
from whisper_parity.backends.dla.sessions.bystep import NeuronrtSteps
from whisper_parity.backends.dla.sessions.resident import ResidentSession
from whisper_parity.backends.dla.sessions.stepped import ResidentSteps
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.split import layouts
from whisper_parity.backends.split.embedding import TokenEmbedding
from whisper_parity.backends.split.stepping import Core, Steps
from whisper_parity.clips import features

PROMPT = (50258, 50259, 50359, 50363)
CLIP = "en-comma-01.flac"
TOKENS = 25
"""Behind the prompt."""
FEW = 3
"""Tokens of the flows that take seconds each; every further one costs the same."""
Cost = tuple[float, float, float, float]
"""Of one token: bytes over the cable, seconds, seconds beside the device's own, all medians, and the least of the last:
what it is where nothing else runs on the machine."""


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="[the embedded micro checkpoint]")
    parser.add_argument("--cache", type=Path, default=CHECKOUT / "build" / "benchmarks", help="of built artifacts")
    words = parser.parse_args()
    workshop = sites.workshop(words.checkpoint, words.cache)
    artifact = build.obtain(workshop, "dla:simulated-kv")
    with simulated(None) as (simulator, there):
        naive = by_files(simulator, there, artifact, naive=True)
        files = by_files(simulator, there, artifact, naive=False)
        rows, top = by_runner(simulator, there, artifact)
        whole = without_cache(simulator, there, workshop)
    print(
        f"whisper {workshop.checkpoint.name}, simulated device, {len(PROMPT) + TOKENS} tokens, {FEW} of them by files"
    )
    for name, cost in {
        "naive flow": naive,
        "cache in files": files,
        "runner, rows": rows,
        "runner, top-k": top,
    }.items():
        print(f"    {name:<15} {cost[0] / 1e3:12.1f} kB {cost[1] * 1e3:9.1f} ms a token, compute included")
    print(f"(a) naive bytes over the runner's, rows  {naive[0] / rows[0]:8.0f}   goal at least 1000")
    print(f"(b) the same, top-k                      {naive[0] / top[0]:8.0f}")
    print(f"(c) naive bytes over the cache in files  {naive[0] / files[0]:8.0f}")
    for letter, name, cost in (("d", "rows", rows), ("e", "top-k", top)):
        times = f"{cost[3] * 1e3:8.1f} ms at least, {cost[2] * 1e3:.1f} in the middle"
        print(f"({letter}) added time of a step, {name:<15} {times}   goal at most 2")
    print(f"(f) a step over one without a cache      {rows[1] / whole[1]:8.2f}")


def by_runner(simulator: SimulatedDevice, there: Device, artifact: Artifact) -> tuple[Cost, Cost]:
    """A token through the resident runner: rows of logits wanted, and tokens alone."""
    session = ResidentSteps(there, device.facts(there), artifact, layouts.shipped())
    try:
        rows_of = lookup(artifact, session)
        session.begin(session.encode(spoken(artifact)))
        fed = list(PROMPT)

        def row(place: int) -> None:
            logits = rows_of(fed[place], session.feed)
            fed.extend([int(np.argmax(logits))] if place + 1 == len(fed) else [])

        def top(place: int) -> None:
            rows_of(fed[place], lambda token, rows: session.feed_top(token, rows, 8))

        places = range(len(PROMPT) + TOKENS)
        feeds = medians(simulator, there, [partial(row, place) for place in places])
        session.rewind(session.position)
        return feeds, medians(simulator, there, [partial(top, place) for place in places])
    finally:
        session.close()


def by_files(simulator: SimulatedDevice, there: Device, artifact: Artifact, *, naive: bool) -> Cost:
    """A token by neuronrt: with the cache in files on the device, or with everything over the cable."""
    session = NeuronrtSteps(there, device.facts(there), artifact, layouts.shipped())
    try:
        steps: Steps = Core(session.fitted, Naive(session)) if naive else session
        rows_of = lookup(artifact, steps)
        steps.begin(session.encode(spoken(artifact)))
        rows_of(PROMPT[0], steps.feed)  # zeros of the empty cache are written once
        return medians(simulator, there, [partial(rows_of, token, steps.feed) for token in PROMPT[1:]])
    finally:
        session.close()


class Naive:
    """Every input is pushed, every output pulled."""

    def __init__(self, session: NeuronrtSteps) -> None:
        self._session = session

    def __call__(
        self, arrays: Sequence[NDArray[Any]], changed: Collection[int] | None = None
    ) -> Sequence[NDArray[Any]]:  # fmt: skip
        """Run the decoder once."""
        names = [f"naive{place}" for place in range(len(arrays))]
        for name, array in zip(names, arrays):
            self._session.pushed(name, array)
        outputs = self._session.call("decoder", names, [one.port for one in self._session.fitted.outputs], "out")
        return [outputs[place] for place in range(len(outputs))]


def without_cache(simulator: SimulatedDevice, there: Device, workshop: Workshop) -> Cost:
    """A token through the runner by the decoder that computes every position."""
    session = ResidentSession(there, device.facts(there), artifact := build.obtain(workshop, "dla:simulated"))
    try:
        encoding = session.encode(spoken(artifact))
        ends = range(1, FEW + 1)
        return medians(simulator, there, [partial(session.decode, PROMPT[:n], encoding, [n - 1]) for n in ends])
    finally:
        session.close()


def spoken(artifact: Artifact) -> NDArray[np.float32]:
    """input_features of a clip."""
    clip = CHECKOUT / "fixtures" / "clips" / CLIP
    return features.compute(clip, artifact.checkpoint.dims.n_mels).windows[0].input_features


def lookup(artifact: Artifact, steps: Steps) -> Callable[..., Any]:
    """Feeds a token with its rows of the tables."""
    dims = artifact.checkpoint.dims
    tables = {
        name: TokenEmbedding(artifact.path(f"{name}_embedding"), dims, f"{name}_embedding")
        for name in ("token", "position")
    }

    def fed(token: int, feed: Callable[..., Any]) -> Any:
        places = {"token": token, "position": steps.position}
        return feed(token, {name: table.lookup([places[name]], 1)[0, 0] for name, table in tables.items()})

    return fed


def medians(simulator: SimulatedDevice, there: Device, works: Sequence[Callable[[], Any]]) -> Cost:
    """Column by column."""
    moved, seconds, added = zip(*(spent(simulator, there, work) for work in works))
    return (*map(statistics.median, (moved, seconds, added)), min(added))  # type: ignore[return-value]


if __name__ == "__main__":
    main()

"""What stepped decoding costs over the bare calls: `python -m benchmarks.stepped [--checkpoint FILE] [--cache FOLDER]`.

    (a) `torchscript:kv` and `tflite:kv`: a token through the decode loop's adapter, the lookups, mask and cache kept on
        the host, over the bare call of the same decoder on inputs that lie ready
    (b) the same for files of others, in their confined child
    (c) a clip's decoder time in the KV stage beside the fixed-shape stage's: one verified draft, and one token a call
    (d) decoder calls of a clip over its prompt and tokens

Ratios of processor time, which other work moves little, or of wall time where it says so; turn by turn, medians.
Without --checkpoint the model is the embedded micro one; tokens are any: a decoder's time does not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.host import timed
from whisper_parity.backend.artifact import GIVEN, Artifact
from whisper_parity.backend.build import obtain
from whisper_parity.backend.contract import Float32, Halves
from whisper_parity.decode.cached import Cached
from whisper_parity.project import Project
from whisper_parity.run.options import RunOptions
from whisper_parity.run.plan import Plan, make
from whisper_parity.run.sessions import as_session

STAGES = ("torchscript", "torchscript:kv", "tflite", "tflite:kv")
PROMPT = 4


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="[the embedded micro checkpoint]")
    parser.add_argument("--cache", type=Path, help="of artifacts [a new one]")
    parser.add_argument("--tokens", type=int, default=27, help="of the clip, its prompt among them [27]")
    parser.add_argument("--turns", type=int, default=9, help="taken of each [9]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        options = RunOptions(
            checkpoint=arguments.checkpoint, stages=("pytorch", *STAGES), cache=arguments.cache or Path(folder),
            report_dir=Path(folder), run_id="stepped",
        )  # fmt: skip
        bench = Bench(make(options, Project(Path(folder))), stack, arguments.tokens, arguments.turns)
        print(f"{bench.plan.checkpoint.name}, {arguments.tokens} tokens, {bench.plan.threads} threads", flush=True)
        for stage in STAGES[1::2]:
            for line in lines(bench, stage):
                print(line, flush=True)


@dataclass
class Bench:
    """What the lines share."""

    plan: Plan
    stack: ExitStack
    count: int
    turns: int
    sounds: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000)))

    @property
    def tokens(self) -> list[int]:
        """The clip's."""
        return list(range(100, 100 + self.count))

    def artifact(self, stage: str) -> Artifact:
        """Built, or out of the cache."""
        return obtain(self.plan.workshop_of(stage), stage)

    def opened(self, artifact: Artifact) -> Halves:
        """A session, open until the end."""
        backend = self.plan.backends.of(artifact.stage)
        return cast(Halves, as_session(self.stack.enter_context(backend.open(artifact, self.plan.threads))))

    def sound(self) -> Float32:
        """An encoder output that was not seen before: a session begins anew."""
        dims = self.plan.checkpoint.dims
        return np.full((1, dims.n_audio_ctx, dims.n_audio_state), next(self.sounds) * 1e-3, np.float32)

    def medians(self, *calls: Callable[[], object]) -> tuple[list[float], list[float]]:
        """Processor and wall seconds of each, taken turn by turn behind one turn that is not counted."""
        used: list[list[float]] = []
        wall: list[list[float]] = []
        for _ in range(self.turns + 1):
            started = [(time.process_time(), timed(call), time.process_time()) for call in calls]
            used.append([after - before for before, _, after in started])
            wall.append([seconds for _, seconds, _ in started])
        return [statistics.median(one) for one in zip(*used[1:])], [statistics.median(one) for one in zip(*wall[1:])]


def lines(bench: Bench, stage: str) -> Iterator[str]:
    """(a) to (d) of a stage with a KV cache."""
    artifact, plain = bench.artifact(stage), bench.opened(bench.artifact(stage.partition(":")[0]))
    own, given = bench.opened(artifact), bench.opened(replace(artifact, origin=GIVEN))
    bare = partial(repeated, BARE[stage](artifact, bench.plan.threads), bench.count)
    clip, draft = (partial(decoded, bench, session) for session in (own, plain))
    (own_cpu, bare_cpu, draft_cpu), (own_s, bare_s, draft_s) = bench.medians(clip, bare, draft)
    _, (given_s,) = bench.medians(partial(decoded, bench, given))
    stepwise = cpu(partial(one_by_one, bench, plain))
    yield ratio("(a)", f"{stage}, a token / its bare call", own_cpu, bare_cpu, "at most 1.10", 1000 / bench.count)
    yield ratio("(b)", f"{stage} given, a token / its bare call (wall)", given_s, bare_s, "", 1000 / bench.count)
    yield ratio("(c)", f"{stage}, a clip / one verified draft of the plain form", own_cpu, draft_cpu)
    yield ratio("", "the same (wall)", own_s, draft_s)
    yield ratio("", f"{stage}, a clip / the plain form, one token a call", own_cpu, stepwise)
    fed = cast(Cached, own).calls / (bench.turns + 1)
    yield f"(d) {f'{stage}, decoder calls of a clip / its tokens':<66} {fed / bench.count:5.2f}   at most 1.00"


def ratio(letter: str, what: str, one: float, other: float, goal: str = "", each: float = 0.0) -> str:
    """A line; `each`: milliseconds of a token out of seconds of a clip, where a token is meant."""
    scale, unit, digits = (each, "ms", 1) if each else (1.0, "s", 2)
    shown = f"{one * scale:.{digits}f} {unit} over {other * scale:.{digits}f} {unit}"
    return f"{letter:<3} {what:<66} {one / other:5.2f}   {goal:<13} {shown}"


def cpu(call: Callable[[], object]) -> float:
    """Processor seconds of one call in this process, of all its threads."""
    started = time.process_time()
    call()
    return time.process_time() - started


def decoded(bench: Bench, session: Halves) -> None:
    """Every row behind the prompt, twice: as found freely and as asked again."""
    sound = bench.sound()
    for _ in range(2 if isinstance(session, Cached) else 1):
        session.decode(bench.tokens, sound, range(PROMPT - 1, bench.count))


def one_by_one(bench: Bench, session: Halves) -> None:
    """A decoder without a cache, asked for one token after the other."""
    sound = bench.sound()
    for end in range(PROMPT, bench.count + 1):
        session.decode(bench.tokens[:end], sound, [end - 1])


def repeated(call: Callable[[], object], count: int) -> None:
    """A call so often."""
    for _ in range(count):
        call()


def _torchscript(artifact: Artifact, threads: int) -> Callable[[], object]:
    import torch

    from whisper_parity.backends.split import cached_modules

    torch.set_num_threads(threads)
    script: Any = torch.jit.load(str(artifact.path("decoder"))).eval()  # type: ignore[no-untyped-call]
    inputs = tuple(cached_modules.example_inputs(artifact.checkpoint.dims, cached_cross=True).values())

    def call() -> object:
        with torch.no_grad():
            return script(*inputs)

    return call


def _tflite(artifact: Artifact, threads: int) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(artifact.path("decoder")), num_threads=threads)
    interpreter.allocate_tensors()
    return lambda: interpreter.invoke()


BARE: dict[str, Callable[[Artifact, int], Callable[[], object]]] = {
    "torchscript:kv": _torchscript,
    "tflite:kv": _tflite,
}
"""The bare call of a stage's decoder, on inputs that lie ready."""


if __name__ == "__main__":
    main()

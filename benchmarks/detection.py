"""What is caught, and how far its cause is found: known faults of ports, one at a time, beside three common gates.

    python -m benchmarks.detection [--checkpoint FILE] [--clips A,B] [--breakages A,B | --drawn 60 --seed 1 [--int8]]

One run of the micro checkpoint, or of another one, judges sound ports and one port for each breakage of
`fixtures/breakages.py`; what the run does not call pass is explained, and edge, part and unit are held against what was
broken. Beside it, on the same traces: equality of texts, `torch.testing.assert_close`'s criterion at 1e-5 and at 1e-3,
and a PSNR of 35 dB.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from whisper_parity import project
from whisper_parity.backend import registry
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.explain import explain
from whisper_parity.fixtures import drawn, ports
from whisper_parity.fixtures.breakages import BREAKAGES, Breakage
from whisper_parity.judge import tolerance
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import plan as planning
from whisper_parity.run import schedule
from whisper_parity.run.cell import Cell
from whisper_parity.run.options import RunOptions
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import Row
from whisper_parity.run.traces import Traces
from whisper_parity.system.terminal import progress, stdout, unfolded
from whisper_parity.trace.trace import Trace

CLIPS = ("en-comma-01", "zh-comma-01")
SHORT = {"short": {"base": "whisper", "sample_len": 24}}
"""A broken decoder may never end: a policy that stops it in time."""
SOUND = {
    "port": "taken apart", "port:int8": "taken apart, 8-bit weights", "tflite": "TFLite, float32",
    "tflite:fp16": "TFLite, float16 weights",
}  # fmt: skip
"""Stages in which nothing is broken, in words."""
SAID = {True: "yes", False: "-", None: "n/a"}
GATES = ("texts equal", "assert_close 1e-5", "assert_close 1e-3", "PSNR above 35 dB")
PSNR_DB = 35.0


@dataclass(frozen=True)
class Detection:
    """What became of one port."""

    stage: str
    caught: bool
    edge: str
    part: str
    unit: str
    alarms: tuple[bool, ...]
    """Of GATES."""

    @property
    def breakage(self) -> Breakage | None:
        """What was broken; None in a sound port."""
        return ports.breakage(self.stage.removeprefix("port:"))

    @property
    def right(self) -> tuple[bool | None, ...]:
        """Caught, edge right, part right, unit right; None where there is nothing to find.

        Of a sound port, whether it was called broken.
        """
        if self.breakage is None:
            return self.caught, None, None, None
        edge, part = self.edge == f"port->{self.stage}", self.part == self.breakage.part
        unit = self.caught and self.unit == self.breakage.unit if self.breakage.unit else None
        return self.caught, self.caught and edge, self.caught and part, unit


def plan(
    folder: Path, clips: Sequence[str], names: Sequence[str], cache: Path, sound: Sequence[str] = ("port",),
    checkpoint: str | None = None,
) -> Plan:  # fmt: skip
    """A run of sound ports and of those with these breakages; with 8-bit weights they are judged like `tflite:int8`."""
    stages = ("pytorch", *sound, *(f"port:{name}" for name in names))
    options = RunOptions(
        stages=stages, clips=tuple(clips), policy="short", threads=2, run_id="detection", report_dir=folder,
        cache=cache, checkpoint=checkpoint,
    )  # fmt: skip
    rounded = [drawn.INT8, *(name for name in names if drawn.NAME.fullmatch(name) and name.endswith(drawn.INT8))]
    of_int8 = tolerance.load(registry.Backends())["*->tflite:int8"]
    limits = {f"*->port:{name}": of_int8 for name in rounded}
    return planning.make(options, project.Project(Path(), policies=SHORT, tolerances=limits))


def detect(plan: Plan, advance: Callable[[str], None]) -> Iterator[Detection]:
    """Judge every port of a plan, and explain those that do not pass."""
    rows: dict[str, list[Row]] = {}
    with schedule.opened(plan) as running:
        for stage in plan.stages:
            advance(f"{stage.spec} · run")
            rows[stage.spec] = [running.row(Cell(stage, clip)) for clip in plan.clips]
        alarms = {spec: _alarms(plan, running.traces, spec) for spec in rows if spec != plan.root}
    with ExitStack() as stack:
        bench = Bench(plan, stack)
        for spec, raised in alarms.items():
            advance(f"{spec} · explain")
            yield _detection(bench, spec, rows[spec], raised)


def _detection(bench: Bench, spec: str, rows: Sequence[Row], alarms: tuple[bool, ...]) -> Detection:
    bad = [row for row in rows if row.verdict.outcome is not Outcome.PASS]
    if not bad:
        return Detection(spec, False, "", "", "", alarms)
    worst = max(bad, key=lambda row: row.verdict.outcome is Outcome.DIVERGED)
    explained = explain(bench, bench.plan.clip(worst.clip), spec)
    return Detection(spec, True, explained.edge, explained.part, explained.unit, alarms)


def _alarms(plan: Plan, traces: Traces, spec: str) -> tuple[bool, ...]:
    pairs = [(traces.get(plan.root, clip), traces.get(spec, clip)) for clip in plan.clips]
    return tuple(any(gate(r, c) for r, c in pairs) for gate in (_texts, _close(1e-5), _close(1e-3), _psnr))


def _texts(reference: Trace, candidate: Trace) -> bool:
    return reference.header.text != candidate.header.text


def _close(tolerance: float):
    def alarm(reference: Trace, candidate: Trace) -> bool:
        pairs = _tensors(reference, candidate)
        return not all(np.allclose(c, r, rtol=tolerance, atol=tolerance) for r, c in pairs)

    return alarm


def _psnr(reference: Trace, candidate: Trace) -> bool:
    """20 log10(largest magnitude of the reference / rmse), not above 35 dB."""
    for r, c in _tensors(reference, candidate):
        rmse = float(np.sqrt(np.mean((r.astype(np.float64) - c) ** 2)))
        if not math.isfinite(rmse) or (rmse and 20 * math.log10(float(np.abs(r).max()) / rmse) <= PSNR_DB):
            return True
    return False


def _tensors(reference: Trace, candidate: Trace):
    for r, c in zip(reference.windows, candidate.windows):
        yield r.encoder_output, c.encoder_output
        yield r.teacher_forced.logits, c.teacher_forced.logits


def table(found: Sequence[Detection]) -> Table:
    """A line for each breakage, rates below."""
    broken = [each for each in found if each.breakage]
    columns = [*zip(*(each.right for each in broken)), *zip(*(each.alarms for each in broken))]
    grid = Table(show_footer=True, box=box.MARKDOWN)
    grid.add_column("broken", footer=f"{len(broken)} breakages")
    for name, column in zip(("caught", "edge", "part", "unit", *GATES), columns):
        grid.add_column(name, footer=_rate(column), justify="center")
    for each in sorted(found, key=lambda each: each.breakage is not None):
        what = each.breakage.what if each.breakage else f"nothing ({SOUND[each.stage]})"
        grid.add_row(what, *(SAID[value] for value in (*each.right, *each.alarms)))
    return grid


def _rate(column: Sequence[bool | None]) -> str:
    """The share of those that can be right."""
    known = [value for value in column if value is not None]
    return f"{sum(known) / len(known):.0%}" if known else "n/a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", metavar="FILE", help="in place of the micro one")
    parser.add_argument("--clips", default=",".join(CLIPS))
    parser.add_argument("--breakages", default=",".join(BREAKAGES))
    parser.add_argument("--drawn", type=int, metavar="N", help="in their place, N faults that chance chose")
    parser.add_argument("--int8", action="store_true", help="beside the drawn faults, all weights have 8 bits")
    parser.add_argument("--seed", type=int, default=1, choices=ports.SEEDS, help="which N (default: 1)")
    given = parser.parse_args()
    chosen = drawn.names(given.seed, given.drawn, int8=given.int8) if given.drawn else given.breakages.split(",")
    with tempfile.TemporaryDirectory() as folder, ports.installed():
        made = plan(Path(folder), given.clips.split(","), chosen, RunOptions().cache, tuple(SOUND), given.checkpoint)
        with progress(2 * len(made.stages) - 1) as advance:
            found = list(detect(made, advance))
    unfolded(stdout()).print(table(found))
    for each in found:
        if (expected := each.breakage) and False in each.right:
            print(f"{each.stage}: expected {expected.part} {expected.unit}, found {each.part} {each.unit}")


if __name__ == "__main__":
    main()

"""What limits stand on: how far sound ports move a model, and how far subtle faults do, on one checkpoint and more.

    python -m benchmarks.calibration [--checkpoint FILE ...] [--clips A,B] [--faults A,B] [--csv FILE]

One run for each checkpoint (the micro one by itself) records sound ports of every kind of edge: the root with other
threads and another attention, TorchScript, LiteRT, half-precision weights, 8-bit weights, a simulated device; beside
them the faults of `fixtures/breakages.py` that move least. For each kind of edge the table has the worst figure of its
sound ports on each checkpoint, the best one of the faults, and a limit: the worst, with a distance as in FIGURES.
`docs/calibration.md` says how the limits were chosen from it.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from whisper_parity import project
from whisper_parity.compare.comparison import Comparison
from whisper_parity.errors import ParityError
from whisper_parity.fixtures import ports
from whisper_parity.gate import measure
from whisper_parity.judge.tolerance import TIE_SIGMAS
from whisper_parity.run import noise, plan, schedule
from whisper_parity.run.cell import Cell
from whisper_parity.run.options import RunOptions
from whisper_parity.system.progress import progress
from whisper_parity.system.terminal import stdout, unfolded

MICRO_CLIPS = "default"
SHORT = {"short": {"base": "whisper", "sample_len": 100}}
KINDS = {
    "float32": ("torchscript", "tflite", "port"),
    "float16 weights": ("tflite:fp16",),
    "8-bit weights": ("tflite:int8", "port:int8"),
    "simulated device": ("dla:simulated",),
}
"""Sound ports by kind of edge."""
NOISE = ("attention", "threads")
"""Sources of `parity noise` that are float32 edges too."""
FAULTS = (
    "encoder-stale", "encoder-softmax", "encoder-stale-norm", "encoder-gelu", "encoder-epsilon", "encoder-head",
    "encoder-int8", "encoder-norm", "decoder-gelu", "decoder-epsilon", "decoder-head", "cross-head", "decoder-int8",
    "decoder-comma", "decoder-columns", "cross-cut",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that a limit is about."""

    name: str
    of: Callable[[Comparison], float | None]
    higher_is_better: bool
    limit: Callable[[float], tuple[float, ...]]
    """From the worst of all sound ports to [pass, drift], or to the one number of max_tie_margin."""
    how: str


def _decibels(worst: float) -> tuple[float, ...]:
    return tuple(5.0 * math.floor((worst - distance) / 5) for distance in (10, 20))


def _times(*factors: float) -> Callable[[float], tuple[float, ...]]:
    return lambda worst: tuple(_up(factor * worst) for factor in factors)


def _up(value: float) -> float:
    """The next 1, 2 or 5 of a decade."""
    if value <= 0:
        return 0.0
    decade = 10.0 ** math.floor(math.log10(value))
    return next((step * decade for step in (1, 2, 5) if value <= step * decade * 1.0000001), 10 * decade)


FIGURES = (
    Figure("encoder_output_snr_db", measure.encoder_output_snr_db, True, _decibels, "worst - 10 and - 20 dB"),
    Figure("logits_snr_db", measure.logits_snr_db, True, _decibels, "worst - 10 and - 20 dB"),
    Figure("kl_max", measure.kl_max, False, _times(10, 100), "10 and 100 times the worst: 10 and 20 dB"),
    Figure("top_movement", measure.top_movement, False, _times(3, 10), "3 and 10 times the worst: 10 and 20 dB"),
    Figure("max_tie_margin", lambda comparison: comparison.noise, False, _times(TIE_SIGMAS), "3 times the floor"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of one port on one checkpoint: the worst over its clips."""

    checkpoint: str
    kind: str
    """One of KINDS, or "fault"."""
    port: str
    figure: str
    value: float
    outcome: str


def measured(checkpoint: str | None, clips: str | None, faults: Sequence[str], cache: Path) -> list[Measured]:
    """Run every port on a checkpoint, and the root's own noise."""
    with tempfile.TemporaryDirectory() as folder, ports.installed():
        sound = [spec for specs in KINDS.values() for spec in specs]
        chain = [spec for spec in sound if not spec.startswith("port")]
        stages = ("pytorch", *chain, "port", "port:int8", *(f"port:{name}" for name in faults))
        options = RunOptions(
            stages=stages, clips=tuple((clips or MICRO_CLIPS).split(",")), policy="short", threads=2,
            run_id="calibration", report_dir=Path(folder), cache=cache, checkpoint=checkpoint,
        )  # fmt: skip
        return [*_of_run(options), *_of_noise(options)]


def _of_run(options: RunOptions) -> list[Measured]:
    made = plan.make(options, project.Project(Path(), policies=SHORT))
    kinds = {spec: kind for kind, specs in KINDS.items() for spec in specs}
    rows: list[Measured] = []
    with progress(len(made.stages)) as (advance, _), schedule.opened(made) as running:
        for stage in made.stages:
            advance(f"{made.checkpoint.name} · {stage.spec}")
            cells = [running.row(Cell(stage, clip)) for clip in made.clips]
            of_root = stage.spec.startswith("port")
            judged = [(cell.vs_root or cell.vs_parent) if of_root else cell.vs_parent for cell in cells]
            outcomes = "/".join(dict.fromkeys(side.verdict.outcome.value for side in judged if side))
            comparisons = [side.comparison for side in judged if side]
            rows += _worst(made.checkpoint.name, kinds.get(stage.spec, "fault"), stage.spec, comparisons, outcomes)
    return rows


def _worst(
    checkpoint: str, kind: str, port: str, comparisons: Sequence[Comparison], outcomes: str
) -> Iterable[Measured]:
    for figure in FIGURES:
        values = [value for value in map(figure.of, comparisons) if value is not None]
        if values:
            worst = min(values) if figure.higher_is_better else max(values)
            yield Measured(checkpoint, kind, port, figure.name, worst, outcomes)


def _of_noise(options: RunOptions) -> Iterable[Measured]:
    found = noise.measure(dataclasses.replace(options, stages=()), project.Project(Path(), policies=SHORT))
    for source in [source for source in found.sources if source.source in NOISE]:
        for tensor in source.tensors:
            values = {
                f"{tensor.name}_snr_db": tensor.snr_db, "kl_max": tensor.kl_max, "top_movement": tensor.top_movement,
                "max_tie_margin": tensor.movement_rms,
            }  # fmt: skip
            for name, value in values.items():
                if value is not None:
                    yield Measured(found.checkpoint, "float32", f"pytorch, {source.source}", name, value, "")


def table(found: Sequence[Measured]) -> Table:
    """A line for each kind of edge and figure: sound ports of each checkpoint, the faults, the limit."""
    checkpoints = tuple(dict.fromkeys(one.checkpoint for one in found))
    grid = Table(box=box.MARKDOWN)
    for name in ("edge", "figure", *(f"sound, {name}" for name in checkpoints), "nearest fault", "limit", "how"):
        grid.add_column(name)
    for kind in KINDS:
        for figure in FIGURES:
            of_kind = [one for one in found if one.kind == kind and one.figure == figure.name]
            faults = [one for one in found if one.kind == "fault" and one.figure == figure.name]
            if of_kind:
                grid.add_row(kind, figure.name, *_cells(figure, of_kind, faults, checkpoints), figure.how)
    return grid


def _cells(
    figure: Figure, sound: Sequence[Measured], faults: Sequence[Measured], checkpoints: Sequence[str]
) -> list[str]:
    worst = {name: _extreme(figure, [one for one in sound if one.checkpoint == name]) for name in checkpoints}
    nearest = _extreme(figure, faults, best=True)
    limit = figure.limit(_extreme(figure, sound).value)  # type: ignore[union-attr]
    return [*(_shown(one) for one in worst.values()), _shown(nearest), ", ".join(f"{value:g}" for value in limit)]


def _extreme(figure: Figure, rows: Sequence[Measured], *, best: bool = False) -> Measured | None:
    """The worst of some ports, or the best."""
    largest = figure.higher_is_better == best
    return (max if largest else min)(rows, key=lambda one: one.value, default=None)


def _shown(one: Measured | None) -> str:
    return "-" if one is None else f"{one.value:.3g} ({one.port.removeprefix('port:')})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", action="append", default=[], metavar="FILE", help="beside the micro one")
    parser.add_argument("--clips", metavar="A,B", help="of these checkpoints; the micro one has its own")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--without-micro", action="store_true", help="these checkpoints alone")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="every figure of every port")
    given = parser.parse_args()
    faults = tuple(filter(None, given.faults.split(",")))
    runs = [] if given.without_micro else [(None, None)]
    runs += [(checkpoint, given.clips) for checkpoint in given.checkpoint]
    found = [one for run in runs for one in measured(*run, faults, RunOptions().cache)]
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows([dataclasses.astuple(one) for one in found])
    unfolded(stdout()).print(table(found))


if __name__ == "__main__":
    try:
        main()
    except ParityError as error:
        raise SystemExit(f"calibration: {error}") from error

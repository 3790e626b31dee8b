"""What is caught in files of others, and how far its cause is found: known faults, one at a time, beside common gates.

    python -m benchmarks.detection [--kind torchscript|tflite|both] [--frozen] [--checkpoint FILE] [--clips A,B]
        [--breakages A,B | --drawn 60 --seed 1 [--int8] | --sound [A,B]] [--verbose]

Every fault of `fixtures/breakages.py` and `fixtures/graphs.py`, or drawn ones of `fixtures/drawn.py`, becomes a folder
of two files and a token embedding under the usual names, without lineage. It is given by `--artifacts`, judged, and
explained unless it passes; edge, part and unit are held against what was broken. Nothing in the files says what they
were made of. Faults outside the files (a caller that feeds other tokens, or the encoder output of the window before)
are left out. `--sound` writes the sound ports of `fixtures/sound.py` instead: an alarm at one of them is a false one.

Beside it, on the same traces: equality of texts, `torch.testing.assert_close`'s criterion at 1e-5 and at 1e-3, and a
PSNR of 35 dB.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from benchmarks import foreign, gates
from benchmarks.gates import GATES
from whisper_parity import project
from whisper_parity.backend import registry
from whisper_parity.errors import ParityError
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.explain import explain
from whisper_parity.explain.explanation import Explanations
from whisper_parity.fixtures import drawn, graphs, ports, sound
from whisper_parity.fixtures.breakages import BREAKAGES, Breakage, Port
from whisper_parity.judge import tolerance
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.run import plan as planning
from whisper_parity.run import schedule
from whisper_parity.run.cell import Cell
from whisper_parity.run.options import RunOptions
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import Row
from whisper_parity.system.progress import progress
from whisper_parity.system.terminal import stdout, unfolded

CLIPS = ("en-comma-01", "zh-comma-01")
SHORT = {"short": {"base": "whisper", "sample_len": 24}}
"""A broken decoder may never end: a policy that stops it in time."""
SAID = {True: "yes", False: "-", None: "n/a"}
COLUMNS = ("caught", "edge", "part", "unit")


@dataclass(frozen=True)
class Detection:
    """What became of one port."""

    name: str
    """Of the fault, or of a sound variant."""
    stage: str
    caught: bool
    edge: str
    part: str
    unit: str
    alarms: tuple[bool, ...]
    """Of GATES."""
    seconds: float = 0.0
    """That explaining took."""
    finding: str = ""
    """Why it was called so, and what was found."""
    kinds: tuple[str, ...] = ()
    """What kind of wrong its first cause was said to be."""

    @property
    def breakage(self) -> Breakage | None:
        """What was broken; None in a sound port."""
        return ports.breakage(self.name)

    @property
    def what(self) -> str:
        """In words."""
        if breakage := self.breakage:
            return breakage.what
        return f"nothing ({sound.VARIANTS[self.name].what})"

    @property
    def kind_right(self) -> bool | None:
        """Whether the kind that is said is the right one; None where none is said."""
        expected = self.breakage.kind if self.breakage else ""
        return all(bool(expected) and expected in kind for kind in self.kinds) if self.kinds else None

    @property
    def right(self) -> tuple[bool | None, ...]:
        """Caught, edge right, part right, unit right; None where there is nothing to find.

        Of a sound port, whether it was called broken.
        """
        if self.breakage is None:
            return self.caught, None, None, None
        edge, part = self.edge.endswith(f"->{self.stage}"), self.part == self.breakage.part
        unit = self.caught and self.unit == self.breakage.unit if self.breakage.unit else None
        return self.caught, self.caught and edge, self.caught and part, unit


def plan(options: RunOptions, names: Sequence[str] = ()) -> Plan:
    """A run under the short policy; stages of ports whose weights all have 8 bits are judged like `tflite:int8`.

    Args:
        options: of the run; those that every detection needs are set here.
        names: of the faults in its files, or in its stages `port:NAME`.
    """
    made = replace(options, policy="short", run_id="detection", threads=options.threads or 2)
    rounded = [name for name in names if drawn.NAME.fullmatch(name) and name.endswith(drawn.INT8)]
    stages = (spec for spec in made.stages if made.artifacts or spec.removeprefix("port:") in rounded)
    of_int8: Mapping[str, Any] = tolerance.load(registry.Backends())["*->tflite:int8"]
    limits = {f"*->{spec}": of_int8 for spec in stages if rounded}
    return planning.make(made, project.Project(Path(), policies=SHORT, tolerances=limits))


def detect(plan: Plan, names: Mapping[str, str], advance: Callable[[str], None]) -> Iterator[Detection]:
    """Judge stages of a plan, and explain those that do not pass.

    Args:
        plan: a run.
        names: what each stage that is looked at holds.
        advance: is told what is done.
    """
    rows: dict[str, list[Row]] = {}
    with schedule.opened(plan) as running:
        for stage in plan.stages:
            advance(f"{stage.spec} · run")
            rows[stage.spec] = [running.row(Cell(stage, clip)) for clip in plan.clips]
        alarms = {spec: gates.alarms(plan, running.traces, spec) for spec in names if _was_run(rows[spec])}
    with ExitStack() as stack:
        bench = Bench(plan, stack)
        for spec, name in names.items():
            advance(f"{name} · explain")
            yield _detection(bench, name, spec, rows[spec], alarms.get(spec, (True,) * len(GATES)))


def _was_run(rows: Sequence[Row]) -> bool:
    return all(row.vs_parent is not None for row in rows)


def _detection(bench: Bench, name: str, spec: str, rows: Sequence[Row], alarms: tuple[bool, ...]) -> Detection:
    bad = [row for row in rows if row.verdict.outcome is not Outcome.PASS]
    if not bad:
        return Detection(name, spec, False, "", "", "", alarms)
    worst = max(bad, key=lambda row: row.verdict.outcome is Outcome.DIVERGED)
    said = f"{worst.verdict.outcome.value}: {worst.verdict.reason}"
    began = time.perf_counter()
    try:
        explained = explain(bench, bench.plan.clip(worst.clip), spec)
    except ParityError as error:
        return Detection(name, spec, True, "", "", "", alarms, finding=f"{said} | {error}")
    seconds = time.perf_counter() - began
    finding = " | ".join((said, *_findings(explained)))
    return Detection(
        name, spec, True, explained.edge, explained.part, explained.unit, alarms, round(seconds, 2), finding,
        _kinds(explained),
    )  # fmt: skip


def _kinds(explained: Explanations) -> tuple[str, ...]:
    """Of the first cause that is a unit's."""
    return next((tuple(kind.kind for kind in cause.kinds) for cause in explained.causes if cause.unit), ())


def _findings(explained: Explanations) -> Iterator[str]:
    yield from (layer.finding for layer in explained.layers)
    for explanation in explained.found:
        yield from (layer.finding for layer in explanation.layers)
        yield from explanation.missing
    yield from explained.missing


@dataclass(frozen=True)
class Trial:
    """One folder of files to write and to judge."""

    name: str
    kind: str
    frozen: bool = False

    @property
    def variant(self) -> sound.Variant:
        """The form that its files are written in."""
        return sound.VARIANTS.get(self.name, foreign.FROZEN if self.frozen else foreign.PLAIN)

    def port(self, checkpoint: Checkpoint) -> Port:
        """What its files are made of."""
        return foreign.ported(checkpoint, "" if self.name in sound.VARIANTS else self.name)

    @property
    def is_possible(self) -> bool:
        """Whether this representation has such a form."""
        return self.kind in self.variant.kinds


def tried(
    trial: Trial, checkpoint: Checkpoint, options: RunOptions, advance: Callable[[str], None]
) -> Detection | None:
    """Write, judge and explain one folder of files, and remove them; None where the fault is not in files."""
    port = trial.port(checkpoint)
    if not foreign.is_in_files(port):
        return None
    with tempfile.TemporaryDirectory(prefix="parity-files-", ignore_cleanup_errors=True) as files:
        advance(f"{trial.name} · write {trial.kind}")
        foreign.write(port, Path(files), checkpoint, trial.kind, trial.variant)
        stages, report_dir = ("pytorch", trial.kind), Path(files) / "reports"
        given = replace(
            options, stages=stages, artifacts=Path(files), report_dir=report_dir, threads=trial.variant.threads
        )
        (detection,) = detect(plan(given, [trial.name]), {trial.kind: trial.name}, lambda _: None)
        shutil.rmtree(report_dir, ignore_errors=True)
    return detection


def table(found: Sequence[Detection]) -> Table:
    """A line for each breakage, rates below."""
    broken = [each for each in found if each.breakage]
    columns = [*zip(*(each.right for each in broken)), *zip(*(each.alarms for each in broken))]
    grid = Table(show_footer=True, box=box.MARKDOWN)
    grid.add_column("broken", footer=f"{len(broken)} faults")
    rates = [_rate(column) for column in columns] or [""] * (len(COLUMNS) + len(GATES))
    for name, rate in zip(COLUMNS, rates):
        grid.add_column(name, footer=rate, justify="center")
    grid.add_column("kind", footer=_kind_rate(broken), justify="center")
    grid.add_column("explained in", footer=_longest(broken), justify="right")
    for name, rate in zip(GATES, rates[len(COLUMNS) :]):
        grid.add_column(name, footer=rate, justify="center")
    for each in sorted(found, key=lambda each: each.breakage is not None):
        right, alarms = ([SAID[value] for value in values] for values in (each.right, each.alarms))
        grid.add_row(each.what, *right, SAID[each.kind_right], f"{each.seconds:.1f} s" if each.seconds else "", *alarms)
    return grid


def _kind_rate(found: Sequence[Detection]) -> str:
    """How many have their kind named, and of those how many are named right."""
    named = [each for each in found if each.kinds]
    return f"{len(named)} of {len(found)} named, {sum(bool(each.kind_right) for each in named)} right"


def _longest(found: Sequence[Detection]) -> str:
    return f"at most {max((each.seconds for each in found), default=0.0):.1f} s"


def _rate(column: Sequence[bool | None]) -> str:
    """The share of those that can be right."""
    known = [value for value in column if value is not None]
    return f"{sum(known)} of {len(known)}" if known else "n/a"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=(*foreign.KINDS, "both"), default="torchscript")
    parser.add_argument("--frozen", action="store_true", help="TorchScript without submodules and parameters")
    parser.add_argument("--checkpoint", metavar="FILE", help="in place of the micro one")
    parser.add_argument("--clips", default=CLIPS[0])
    parser.add_argument("--breakages", default=",".join((*BREAKAGES, *graphs.FAULTS)))
    parser.add_argument("--drawn", type=int, metavar="N", help="in their place, N faults that chance chose")
    parser.add_argument("--int8", action="store_true", help="beside the drawn faults, all weights have 8 bits")
    parser.add_argument("--seed", type=int, default=1, choices=ports.SEEDS, help="which N (default: 1)")
    parser.add_argument("--sound", nargs="?", const=",".join(sound.VARIANTS), help="sound ports in their place")
    parser.add_argument("--verbose", action="store_true", help="print what was found of each, at once")
    return parser


def _names(given: argparse.Namespace) -> Sequence[str]:
    if given.sound:
        return str(given.sound).split(",")
    if given.drawn:
        return drawn.names(given.seed, given.drawn, int8=given.int8)
    return str(given.breakages).split(",")


def main() -> None:
    """Print a table for each representation, and the misses."""
    given = _parser().parse_args()
    checkpoint = checkpoints.resolve(given.checkpoint)
    options = RunOptions(clips=tuple(given.clips.split(",")), cache=RunOptions().cache, checkpoint=given.checkpoint)
    for kind in foreign.KINDS if given.kind == "both" else (given.kind,):
        trials = [Trial(name, kind, given.frozen) for name in _names(given)]
        possible = [trial for trial in trials if trial.is_possible]
        found: list[Detection] = []
        with progress(len(possible)) as (advance, _):
            for trial in possible:
                if detection := tried(trial, checkpoint, options, advance):
                    found.append(detection)
                    if given.verbose:
                        stdout().print(f"{trial.name}: {_short(detection)}", soft_wrap=True, markup=False)
        unfolded(stdout()).print(f"\n{kind}\n", table(found))
        for each in found:
            if (expected := each.breakage) and each.kind_right is False:
                print(f"{each.name}: expected the kind {expected.kind!r}, found {', '.join(each.kinds)}")
            if expected and False in each.right:
                print(f"{each.name}: expected {expected.part} {expected.unit}; {_short(each)}")
            elif expected is None and each.caught:
                print(f"{each.name}: a false alarm; {_short(each)}")


def _short(detection: Detection) -> str:
    blamed = f"{detection.part} {detection.unit}".strip() or "nothing"
    if not detection.caught:
        return "pass"
    return f"blamed {blamed} in {detection.seconds:.1f} s; {detection.finding}"


if __name__ == "__main__":
    main()

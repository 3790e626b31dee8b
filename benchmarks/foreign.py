"""How far faults are found in files of others: written without lineage, judged by `--artifacts`, explained.

    python -m benchmarks.foreign --kind torchscript|tflite [--breakages A,B | --drawn 60 --seed 1] [--frozen]

Every fault of `fixtures/breakages.py`, or drawn ones of `fixtures/drawn.py`, becomes a folder of two files and a token
embedding under the usual names. Nothing in it says what it was made of; what is said of it is measured in it. Faults
outside the files (a caller that feeds wrong tokens, or the encoder output of the window before) are left out.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table

from benchmarks.detection import CLIPS, SAID, SHORT
from whisper_parity import project
from whisper_parity.backends.split import modules
from whisper_parity.backends.split.embedding import write_token_embedding
from whisper_parity.backends.split.names import tflite_names, torchscript_names
from whisper_parity.backends.torchscript import tracing
from whisper_parity.errors import ParityError
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.explain import explain
from whisper_parity.fixtures import breakages, drawn, ports
from whisper_parity.fixtures.breakages import Breakage, Port
from whisper_parity.judge.verdict import Outcome
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.run import plan as planning
from whisper_parity.run import schedule
from whisper_parity.run.cell import Cell
from whisper_parity.run.options import RunOptions
from whisper_parity.system.terminal import progress, stdout, unfolded

KINDS = ("torchscript", "tflite")


@dataclass(frozen=True)
class Finding:
    """What became of one folder of files."""

    name: str
    outcome: str
    part: str
    unit: str
    why: str
    """The last line of what was found, or why there is nothing."""

    @property
    def breakage(self) -> Breakage | None:
        """What was broken; None in sound files."""
        return ports.breakage(self.name)

    @property
    def right(self) -> tuple[bool | None, ...]:
        """Not called pass, part right, unit right; of sound files whether they were called diverged."""
        caught = self.outcome not in ("pass", "ties")
        if self.breakage is None:
            return caught, None, None
        part, unit = self.part == self.breakage.part, self.unit == self.breakage.unit
        return caught, caught and part, caught and unit


def write(port: Port, folder: Path, checkpoint: Checkpoint, kind: str, *, frozen: bool = False) -> None:
    """Write a port as files of a representation.

    Args:
        port: perhaps broken.
        folder: new.
        checkpoint: what the files are called after.
        kind: "torchscript" or "tflite".
        frozen: TorchScript without submodules and parameters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = torchscript_names(checkpoint) if kind == "torchscript" else tflite_names(checkpoint, "")
    for role, half, inputs in zip(
        ("encoder", "decoder"), (port.encoder, port.decoder), modules.example_inputs(checkpoint.dims)
    ):
        if kind == "torchscript":
            tracing.trace(half.eval(), inputs, folder / names[role])
            if frozen:
                loaded = torch.jit.load(str(folder / names[role])).eval()  # type: ignore[no-untyped-call]
                torch.jit.freeze(loaded).save(str(folder / names[role]))
        else:
            _convert(half.eval(), inputs, folder / names[role])
    write_token_embedding(port.table, folder)


def _convert(half: torch.nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    import litert_torch

    litert_torch.config.show_progress = False
    with modules.explicit_attention(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litert_torch.convert(half, inputs).export(str(path))


def broken(checkpoint: Checkpoint, name: str) -> Port | None:
    """A port with a fault; None where the fault is not in its files."""
    port = breakages.ported(modules.load_model(checkpoint.path))
    with torch.no_grad():
        if fault := ports.breakage(name):
            fault.apply(port)
    return None if port.keeps_encoder_output or port.fed is not list else port


def find(
    folder: Path, cache: Path, kind: str, names: Sequence[str], frozen: bool, advance: Callable[[str], None]
) -> Iterator[Finding]:
    """Judge and explain folders of files, each with one fault."""
    checkpoint = checkpoints.resolve(RunOptions().checkpoint)
    for name in names:
        advance(f"{name} · {kind}")
        if (port := broken(checkpoint, name)) is not None:
            files = folder / kind / (name or "sound")
            write(port, files, checkpoint, kind, frozen=frozen)
            yield _finding(folder, cache, files, kind, name)


def _finding(folder: Path, cache: Path, files: Path, kind: str, name: str) -> Finding:
    options = RunOptions(
        stages=("pytorch", kind), clips=CLIPS[:1], policy="short", threads=2, run_id=f"{kind}-{name or 'sound'}",
        report_dir=folder, cache=cache, artifacts=files,
    )  # fmt: skip
    plan = planning.make(options, project.Project(Path(), policies=SHORT))
    with schedule.opened(plan) as running:
        rows = {stage.spec: running.row(Cell(stage, plan.clips[0])) for stage in plan.stages}
    outcome = rows[kind].verdict.outcome
    if outcome is Outcome.PASS:
        return Finding(name, outcome.value, "", "", rows[kind].verdict.reason)
    with ExitStack() as stack, suppress(ParityError):
        found = explain(Bench(plan, stack), plan.clips[0], kind)
        last = [layer.finding for layer in (*found.layers, *(x for e in found.found for x in e.layers))]
        return Finding(name, outcome.value, found.part, found.unit, " | ".join([*last, *found.missing]))
    return Finding(name, outcome.value, "", "", "not explained")


def main() -> None:
    """Print what was found, and the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, default="torchscript")
    parser.add_argument("--breakages", default=",".join(breakages.BREAKAGES))
    parser.add_argument("--drawn", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="print what was found of each")
    words = parser.parse_args()
    names = drawn.names(words.seed, words.drawn) if words.drawn else words.breakages.split(",")
    total = len(names) + 1
    with tempfile.TemporaryDirectory(prefix="parity-foreign-") as folder, progress(total) as advance:
        cache = RunOptions().cache
        findings = []
        for finding in find(Path(folder), cache, words.kind, ["", *names], words.frozen, advance):
            findings.append(finding)
            if words.verbose:
                stdout().print(f"{finding.name or '(sound)'}: {finding.outcome}: {finding.why}", soft_wrap=True)
    _show(findings)


def _show(findings: Sequence[Finding]) -> None:
    table = Table("fault", "outcome", "caught", "part", "unit", "found")
    for finding in findings:
        table.add_row(
            finding.name or "(sound)", finding.outcome, *(SAID[x] if x is not None else "n/a" for x in finding.right),
            f"{finding.part} {finding.unit}",
        )  # fmt: skip
    unfolded(stdout()).print(table)
    faults = [finding for finding in findings if finding.breakage]
    caught = [finding for finding in faults if finding.right[0]]
    stdout().print(f"caught {len(caught)} of {len(faults)}")
    for place, what in ((1, "part"), (2, "unit")):
        stdout().print(f"{what} right: {sum(bool(finding.right[place]) for finding in caught)} of {len(caught)} caught")


if __name__ == "__main__":
    main()

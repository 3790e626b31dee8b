"""Commands that run something: a run, the demo, a build, the noise floor."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from whisper_parity import project
from whisper_parity.cli_options import JSON, PATH, amounts, options_of
from whisper_parity.cli_page import write_page
from whisper_parity.project import Project
from whisper_parity.run import options as run_options
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import cache
from whisper_parity.system.activity import Kind, step
from whisper_parity.system.ending import continued_by
from whisper_parity.system.progress import progress, working
from whisper_parity.system.terminal import Amount, document, say, stdout
from whisper_parity.system.threads import side_by_side


@click.command()
@options_of("run")
@amounts
@JSON
def run(amount: Amount, as_json: bool, **given: Any) -> None:
    """Take clips through the stages, judge every edge, print the table, write the report.

    The table and the verdict go to stdout, progress and the places of report and page to stderr.
    """
    _run(given, project.find(), amount, as_json)


@click.command()
@amounts
def demo(amount: Amount) -> None:
    """Take the embedded checkpoint through every stage, a simulated device at the end."""
    _run({}, Project(Path.cwd()), amount)


@click.command()
@options_of("build")
@click.option("--out", type=PATH, metavar="DIR", help="copy the artifacts here under their usual names")
def build(out: Path | None, **given: Any) -> None:
    """Build artifacts only, and print where they are."""
    from whisper_parity.backend import artifact as artifacts
    from whisper_parity.backend import build as building
    from whisper_parity.backend import registry
    from whisper_parity.model import checkpoint
    from whisper_parity.run import plan

    site = project.find()
    options = run_options.read(given, site)
    backends = registry.load(site, options.settings)
    stages = [stage.spec for stage in backends.chain(options.stages or backends.default_stages)]
    again = continued_by("the same command goes on with what is not built yet")
    with again, cache.in_use(options.cache), building.prepared(backends, stages):  # converters have their processes
        workshop = plan.workshop(options, backends, checkpoint.resolve(options.checkpoint, options.cache))
        with working(f"building {', '.join(stages)}"):
            built = list(side_by_side(lambda stage: building.obtain(workshop, stage), stages))
    if out is not None:
        building.require_apart(artifact for artifact in built if artifact.origin != artifacts.CHECKPOINT)
    for artifact in built:
        is_copied = out is not None and artifact.origin != artifacts.CHECKPOINT
        folder = building.export(artifact, out) if out and is_copied else artifact.folder
        for role, file in artifact.files.items():
            size = f"{file.size_bytes / 2**20:.1f} MiB"
            say(artifact.stage, role, artifact.origin, size, file.sha256[:12], folder / file.name)


@click.command()
@options_of("noise")
@click.option("--out", type=PATH, metavar="FILE", help="[noise.json among the approved results]")
def noise(out: Path | None, **given: Any) -> None:
    """Measure how much the root alone moves: threads, repeats, half weights, position, mask. Tolerances rest on it."""
    from whisper_parity.report import noise as view
    from whisper_parity.run import noise as measuring
    from whisper_parity.system import serial

    site = project.find()
    options = run_options.read(given, site)
    target = measuring.target(out, options, site)
    with working("measuring the noise floor"), cache.in_use(options.cache):
        measured = measuring.measure(options, site)
    serial.write(target, measured)
    view.show(measured, stdout())
    say(f"noise: {target}", to_stderr=True)


def _run(given: dict[str, Any], site: Project, amount: Amount, as_json: bool = False) -> None:
    """Run, show what came of it, end with its exit code."""
    from whisper_parity.report import console, views
    from whisper_parity.run import plan as plans
    from whisper_parity.run import schedule
    from whisper_parity.run.collect import collect

    quiet = amount is Amount.LINE
    plan = plans.make(run_options.read(given, site), site)
    started, cells, done = time.perf_counter(), len(plan.stages) * len(plan.clips), 0
    again = continued_by(
        f"go on with `{_continuation(plan.folder)}`: what is recorded is kept", lambda: f"{done} of {cells} cells done"
    )
    with again, progress(cells + len(plan.stages), quiet=quiet) as (advance, watch), ExitStack() as stack:
        running = stack.enter_context(schedule.opened(plan))
        with step(Kind.CLIPS):
            for _ in running.rows(advance):
                done += 1
        running.close()
        report = collect(plan, time.perf_counter() - started)
        with step(Kind.PAGE, "writing the page"):
            page = write_page(plan.folder)
    if as_json:
        document(views.as_json(report, None))
    else:
        console.show(report, stdout(), amount)
    remarks = [f"run:    {remark}" for remark in running.remarks]
    for line in () if quiet else (*remarks, f"time:   {watch.spent()}", f"report: {plan.folder.report}", page):
        say(line, to_stderr=True)
    sys.exit(report.exit_code)


def _continuation(run: RunFolder) -> str:
    """The command that was typed, with the name of its run."""
    words = sys.argv[1:]
    return " ".join(
        map(run_options.quoted, ["parity", *words, *([] if "--run-id" in words else ["--run-id", run.name])])
    )

"""The command line: thin; one function of the harness behind each command.

Exit codes: 0 all pass (drift included), 1 diverged or nothing compared, 2 usage or bad input, 3 environment.
"""

from __future__ import annotations

import atexit
import errno
import gc
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from whisper_parity.errors import MachineError, ParityError, first_line, printable
from whisper_parity.report import views
from whisper_parity.run import folder as runs
from whisper_parity.system.threads import side_by_side

if TYPE_CHECKING:
    from whisper_parity.explain.explanation import Explanations

F = TypeVar("F", bound=Callable[..., Any])


class Group(click.Group):
    """A group whose commands report errors as one line and the documented exit code; backends add groups of theirs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, those of backends too."""
        from whisper_parity.backend import registry

        return sorted({*super().list_commands(ctx), *registry.COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by name; a backend's module is imported only for its own."""
        from whisper_parity.backend import registry

        return registry.command(cmd_name) or super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except ParityError as error:
            click.echo(f"parity: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:  # a full disk, a name that is too long, a file that went away: wherever it happens
            if error.errno == errno.EPIPE:  # click ends quietly when a pipe is closed
                raise
            click.echo(f"parity: {printable(first_line(error))}", err=True)
            ctx.exit(MachineError.exit_code)


def run_options(command: F) -> F:
    """The options that `parity run` and `parity build` share; None means: as parity.toml says, else the default."""
    for option in reversed(
        [
            click.option(
                "--checkpoint", metavar="NAME|FILE", help="Whisper name or .pt file [embedded micro checkpoint]"
            ),
            click.option(
                "--stages",
                metavar="A,B",
                help="[whisper to dla:simulated]; variants: tflite:int8",
            ),
            click.option(
                "--artifacts", type=click.Path(path_type=Path), metavar="DIR", help="use converted files from here"
            ),
            click.option("--threads", type=click.IntRange(1, 1024), help="[all cores]"),
            click.option("--mask-value", metavar="X", help="causal mask of built decoders [-inf]"),
            click.option("--soc", metavar="CODE", help="SoC that a DLA is compiled for [MT8371]"),
            click.option("--serial", metavar="A,B", help="devices, as adb names them [the only one attached]"),
            click.option("--tflite-converter", metavar="NAME", help="litert or mtk (docs/mediatek.md) [litert]"),
            click.option(
                "--cache", type=click.Path(path_type=Path), metavar="DIR", help="built artifacts [build/cache]"
            ),
        ]
    ):
        command = option(command)
    return command


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="whisper-parity")
def main() -> None:
    """Is the model that I am about to ship still the same model, and if not, which step broke it?

    Exit codes: 0 all pass, 1 diverged, 2 usage or bad input, 3 environment.
    """
    atexit.register(gc.freeze)  # looking for garbage among torch's objects at the exit takes nearly a second
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 must not stop a report
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@main.command()
@run_options
@click.option("--clips", metavar="A,B", help="names, tags, default, all, or audio files and folders [default]")
@click.option("--manifest", type=click.Path(path_type=Path), metavar="FILE", help="[fixtures/clips/manifest.jsonl]")
@click.option("--policy", metavar="NAME", help="whisper, plain, or one of parity.toml's [whisper]")
@click.option("--language", metavar="CODE", help="of clips that do not name theirs [detected]")
@click.option("--report-dir", type=click.Path(path_type=Path), metavar="DIR", help="[reports]")
@click.option("--run-id", metavar="NAME", help="name of the run; an existing one is continued [time and checkpoint]")
@click.option("--noise", type=click.Path(path_type=Path), metavar="FILE", help="[fixtures/approved/noise.json]")
@click.option("--state", is_flag=True, default=None, help="check state and order by the whole set of sequences")
@click.option("--require-placement", is_flag=True, default=None, help="fail where a stage fell back to the CPU")
def run(**given: Any) -> None:
    """Take clips through the stages, judge every edge, print the table, write the report."""
    from whisper_parity.report import console
    from whisper_parity.system.terminal import stdout

    report = _run(given)
    console.show(report, stdout())
    sys.exit(report.exit_code)


@main.command()
def demo() -> None:
    """Take the embedded checkpoint through every stage, a simulated device at the end: what `make parity` judges."""
    from whisper_parity.report import console
    from whisper_parity.system.terminal import stdout

    report = _run({}, alone=True)
    console.show(report, stdout())
    sys.exit(report.exit_code)


@main.command()
@run_options
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="copy the artifacts here under their usual names"
)
def build(out: Path | None, **given: Any) -> None:
    """Build artifacts only, and print where they are."""
    from whisper_parity import project
    from whisper_parity.backend import build as building
    from whisper_parity.backend import registry
    from whisper_parity.model import checkpoint
    from whisper_parity.run import plan
    from whisper_parity.run.options import options_from
    from whisper_parity.system.terminal import working

    settings = project.find()
    options = options_from(given, settings.run)
    plan.configure_backends(options, settings)
    stages = [stage.spec for stage in registry.plan(options.stages)]
    workshop = plan.workshop(options, checkpoint.resolve(options.checkpoint))
    with working(f"building {', '.join(stages)}"):  # converters are processes of their own
        artifacts = list(side_by_side(lambda stage: building.obtain(workshop, stage), stages))
    for found in artifacts:
        folder = found.folder if out is None or found.origin == "checkpoint" else building.export(found, out)
        for role, file in found.files.items():
            size = f"{file.size_bytes / 2**20:.1f} MiB"
            click.echo(f"{found.stage}\t{role}\t{found.origin}\t{size}\t{file.sha256[:12]}\t{folder / file.name}")


@main.command()
@click.option("--checkpoint", metavar="NAME|FILE", help="Whisper name or .pt file [embedded micro checkpoint]")
@click.option("--clips", metavar="A,B", help="names, tags, default, all, or audio files and folders [default]")
@click.option("--manifest", type=click.Path(path_type=Path), metavar="FILE", help="[fixtures/clips/manifest.jsonl]")
@click.option("--policy", metavar="NAME", help="whisper, plain, or one of parity.toml's [whisper]")
@click.option("--language", metavar="CODE", help="of clips that do not name theirs [detected]")
@click.option("--threads", type=click.IntRange(1, 1024), help="[all cores]")
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="input features [build/cache]")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="[fixtures/approved/noise.json]")
def noise(out: Path | None, **given: Any) -> None:
    """Measure how much the root alone moves: threads, repeats, half weights, position, mask. Tolerances rest on it."""
    from whisper_parity import project
    from whisper_parity.report import noise as view
    from whisper_parity.run import noise as measuring
    from whisper_parity.run.options import options_from
    from whisper_parity.system import serial
    from whisper_parity.system.terminal import stdout, working

    settings = project.find()
    options = options_from(given, settings.run)
    target = measuring.target(out, options)
    with working("measuring the noise floor"):
        found = measuring.measure(options, settings.policies)
    serial.write(target, found)
    view.show(found, stdout())
    click.echo(f"noise: {target}", err=True)


@main.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--n-vocab", type=click.Choice(["51864", "51865", "51866"]), default="51865", help="of result files [51865]"
)
def compare(first: Path, second: Path, n_vocab: str) -> None:
    """Compare two result files (reference, candidate), or two runs."""
    from whisper_parity.compare import results
    from whisper_parity.report import two_runs
    from whisper_parity.system.terminal import stdout

    if first.is_file() and second.is_file() and "report.json" not in (first.name, second.name):
        found = results.compare_files(first, second, int(n_vocab))
        two_runs.show_results(found, stdout())
        sys.exit(found.exit_code)
    compared = two_runs.compare_runs(runs.find(first), runs.find(second))
    two_runs.show_runs(compared, stdout())
    sys.exit(compared.exit_code)


@main.command()
@click.argument("clips", nargs=-1, metavar="[CLIP ...]")
@click.option("--run", "given", type=click.Path(path_type=Path), metavar="RUN", help="folder or name [the newest]")
@click.option("--stage", metavar="NAME", help="only this stage [all that differ]")
@click.option("--detail", is_flag=True, help="look into the blocks: attention, cross attention, MLP")
@click.option("--json", "as_json", is_flag=True, help="one JSON array")
@click.option("--n-vocab", type=click.Choice(["51864", "51865", "51866"]), default="51865", help="of result files")
def explain(
    clips: tuple[str, ...], given: Path | None, stage: str | None, detail: bool, as_json: bool, n_vocab: str
) -> None:
    """Why did this comma move? What changed, at which edge, in which part and layer, and whether it matters.

    CLIP is a clip of the run; two result files (reference, candidate) in place of clips are explained without a run.
    Exit code 1: a row could not be explained.
    """
    from whisper_parity.compare import results
    from whisper_parity.errors import UsageError
    from whisper_parity.explain import explain as explaining
    from whisper_parity.report import explained
    from whisper_parity.run import report as schema
    from whisper_parity.system import serial
    from whisper_parity.system.terminal import stdout

    shown, screen = [], stdout()

    def show(found: Explanations) -> None:
        shown.append(found)
        if not as_json:
            explained.show(found, screen)

    files = [Path(clip) for clip in clips]
    if len(files) == 2 and all(file.is_file() for file in files):
        if given or stage or detail:
            raise UsageError("--run, --stage and --detail are for clips of a run", hint="Two result files have none")
        show(explaining.explain_files(results.compare_files(files[0], files[1], int(n_vocab)), int(n_vocab)))
    else:
        run = runs.find(given)
        _explain_rows(run, clips, stage, detail, show)
        _write_page(run)
    if as_json:
        click.echo(f"[{','.join(serial.dumps(each) for each in shown)}]")
    elif not shown:
        click.echo(explaining.nothing(schema.load(run)))
    if not all(found.compared for found in shown):
        sys.exit(1)


def _explain_rows(
    run: Path, clips: tuple[str, ...], stage: str | None, detail: bool, show: Callable[[Explanations], None]
) -> None:
    from whisper_parity.explain import explain as explaining
    from whisper_parity.run import report as schema
    from whisper_parity.system.terminal import progress

    chosen = explaining.wanted(schema.load(run), clips, stage)
    with progress(len(chosen)) as advance:
        for found in explaining.explain_all(run, chosen, advance, detail):
            show(found)


@main.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--format", "form", default="console", type=click.Choice(views.FORMATS), help="[console]")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="[stdout; html: index.html of the run]")
@click.option("--against", type=click.Path(path_type=Path), metavar="RUN", help="html: lay an earlier run beside it")
@click.option("--plots", type=click.Path(path_type=Path), metavar="DIR", help="write the main plots there instead")
@click.option("--plot-format", default="svg", type=click.Choice(["svg", "png"]), help="[svg]")
def report(
    run: Path | None, form: str, out: Path | None, against: Path | None, plots: Path | None, plot_format: str
) -> None:
    """Show a run again (default: the newest): table, JSON, Markdown, JUnit XML or the page; or export its plots."""
    from whisper_parity.errors import UsageError
    from whisper_parity.run import report as schema

    if against is not None and form != "html":
        raise UsageError("--against belongs to --format html", hint="`parity compare` prints two runs at the terminal")
    folder = runs.find(run)
    found = schema.load(folder)
    if plots is not None:
        from whisper_parity.report.html.export import export

        for path in export(folder, plots, plot_format):
            click.echo(path)
    else:
        _show(folder, form, out, against)
    sys.exit(found.exit_code)


def _show(folder: Path, form: str, out: Path | None, against: Path | None) -> None:
    """Write a run's report in a form to `out`, or to where that form goes."""
    from rich.console import Console

    from whisper_parity.report import console
    from whisper_parity.run import report as schema
    from whisper_parity.system.files import write_text
    from whisper_parity.system.terminal import stdout

    if form == "html":
        from whisper_parity.report.html import page

        click.echo(page.write(folder, out, runs.find(against) if against else None))
    elif form == "console":
        with out.open("w", encoding="utf-8") if out else nullcontext() as file:
            console.show(schema.load(folder), Console(file=file) if file else stdout())
    elif out:
        write_text(out, views.text(form, folder))
    else:
        click.echo(views.text(form, folder), nl=False)


@main.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--approved", metavar="NAME", help="approved result to hold it against [checkpoint and policy]")
def gate(run: Path | None, approved: str | None) -> None:
    """May this run be released? Rules, approved results, statistics (default: the newest run)."""
    from whisper_parity import project
    from whisper_parity.gate import judging, settings
    from whisper_parity.report import ci, gated
    from whisper_parity.run import report as schema
    from whisper_parity.system.terminal import stdout

    folder = runs.find(run)
    judged = judging.gate(folder, settings.of(project.find()), approved)
    gated.show(judged, stdout())
    ci.announce(schema.load(folder), judged.result)
    sys.exit(judged.result.exit_code)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="name of the approved result [checkpoint and policy]")
def approve(run: Path, name: str | None) -> None:
    """Sign a run: its texts, tokens and figures become the approved result, to be reviewed and committed."""
    from whisper_parity import project
    from whisper_parity.gate import approved, settings
    from whisper_parity.run import report as schema

    chosen = settings.of(project.find())
    file, changes = approved.approve(schema.load(runs.find(run)), chosen.folder, name or chosen.approved)
    for line in changes:
        click.echo(printable(line))
    click.echo(f"approved: {file}")


@main.command()
@click.option("--metric", metavar="NAME", help="one figure only, as wer or logits_snr_db [all]")
@click.option("--stage", metavar="NAME", help="one stage only [all]")
def history(metric: str | None, stage: str | None) -> None:
    """Trend of every figure over the runs under reports/, and what changed it: which commit, which artifact."""
    from whisper_parity.report import history as histories
    from whisper_parity.run.options import Options
    from whisper_parity.system.terminal import stdout

    histories.show(histories.rebuild(Options().report_dir), stdout(), metric, stage)


@main.command()
def doctor() -> None:
    """List every backend: available or not, and why, with what to install."""
    from whisper_parity import project
    from whisper_parity.backend import registry
    from whisper_parity.run import plan
    from whisper_parity.run.options import options_from

    settings = project.find()
    plan.configure_backends(options_from({}, settings.run), settings)
    for name in registry.names():
        found = registry.probe(name)
        click.echo(f"{name:<12} {'available  ' if found.usable else 'unavailable'}  {found.reason}")
    needed = {stage for stage in registry.DEFAULT_STAGES if ":" not in stage}
    sys.exit(0 if all(registry.probe(name).usable for name in needed) else 3)


def _run(given: dict[str, Any], *, alone: bool = False) -> Any:
    """Run what was given; `alone` leaves parity.toml aside."""
    from whisper_parity import project
    from whisper_parity.run import evaluation as running
    from whisper_parity.run import orders, plan
    from whisper_parity.run.collect import collect
    from whisper_parity.run.options import options_from
    from whisper_parity.system.terminal import progress

    settings = project.Project(Path.cwd()) if alone else project.find()
    made = plan.make(options_from(given, settings.run), settings)
    started = time.perf_counter()
    with running.evaluation(made) as evaluation, progress(len(made.stages) * (len(made.clips) + 1)) as advance:
        for stage in made.stages:
            shared_out = evaluation.record_side_by_side(stage, made.clips, advance)
            for clip in made.clips:
                if not shared_out:
                    advance(f"{stage.spec} · {clip.name}")
                evaluation.row(stage, clip)
            if made.clips:
                advance(f"{stage.spec} · state and order")
                orders.of_stage(evaluation, stage)
    found = collect(made, time.perf_counter() - started)
    click.echo(f"report: {made.folder / 'report.json'}", err=True)
    _write_page(made.folder)
    return found


def _write_page(run: Path) -> None:
    """Write the run's page; its verdict stands, whether there is a page of it or not."""
    from whisper_parity.report.html import page

    try:
        click.echo(f"page:   {page.write(run)}", err=True)
    except ParityError as error:
        click.echo(f"page:   not written: {error}", err=True)


if __name__ == "__main__":
    main()

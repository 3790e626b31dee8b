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

from whisper_parity import project
from whisper_parity.errors import MachineError, ParityError, first_line, printable
from whisper_parity.project import Project
from whisper_parity.report import views
from whisper_parity.run import options as run_options
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.options import Kind, Option
from whisper_parity.system.threads import side_by_side

if TYPE_CHECKING:
    from whisper_parity.explain.explanation import Explanations
    from whisper_parity.run.report import Report

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
VOCABULARIES = click.Choice(["51864", "51865", "51866"])


class Group(click.Group):
    """A group whose commands report errors as one line and the documented exit code; backends add groups of theirs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, those of backends too."""
        from whisper_parity.backend import registry

        return sorted({*super().list_commands(ctx), *registry.commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by name; a backend's module is imported only for its own."""
        from whisper_parity.backend import registry

        return super().get_command(ctx, cmd_name) or registry.command(cmd_name)

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


def options_of(name: str) -> Callable[[F], F]:
    """The options of a command, from the table; None means: as parity.toml says, else the default."""

    def decorate(command: F) -> F:
        for option in reversed(run_options.of(name)):
            command = _click_option(option)(command)
        return command

    return decorate


def _click_option(option: Option) -> Callable[[F], F]:
    shown = f"{option.help} [{option.default}]" if option.default else option.help
    if option.is_flag:
        return click.option(option.flag, option.name, is_flag=True, default=None, help=shown)
    kinds: dict[Kind, Any] = {Kind.COUNT: click.IntRange(1, run_options.MAX_THREADS), Kind.PATH: PATH}
    return click.option(
        option.flag,
        option.name,
        metavar=option.metavar,
        help=shown,
        type=kinds.get(option.kind),
        multiple=option.is_list,
    )


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
@options_of("run")
def run(**given: Any) -> None:
    """Take clips through the stages, judge every edge, print the table, write the report."""
    from whisper_parity.report import console
    from whisper_parity.system.terminal import stdout

    report = _run(given, project.find())
    console.show(report, stdout())
    sys.exit(report.exit_code)


@main.command()
def demo() -> None:
    """Take the embedded checkpoint through every stage, a simulated device at the end."""
    from whisper_parity.report import console
    from whisper_parity.system.terminal import stdout

    report = _run({}, Project(Path.cwd()))
    console.show(report, stdout())
    sys.exit(report.exit_code)


@main.command()
@options_of("build")
@click.option("--out", type=PATH, metavar="DIR", help="copy the artifacts here under their usual names")
def build(out: Path | None, **given: Any) -> None:
    """Build artifacts only, and print where they are."""
    from whisper_parity.backend import artifact as artifacts
    from whisper_parity.backend import build as building
    from whisper_parity.backend import registry
    from whisper_parity.model import checkpoint
    from whisper_parity.run import plan
    from whisper_parity.system.terminal import working

    site = project.find()
    options = run_options.read(given, site)
    backends = registry.load(site.backends, options.settings)
    stages = [stage.spec for stage in backends.chain(options.stages or backends.default_stages)]
    with building.prepared(backends, stages):  # converters are processes of their own
        workshop = plan.workshop(options, backends, checkpoint.resolve(options.checkpoint))
        with working(f"building {', '.join(stages)}"):
            built = list(side_by_side(lambda stage: building.obtain(workshop, stage), stages))
    for artifact in built:
        is_copied = out is not None and artifact.origin != artifacts.CHECKPOINT
        folder = building.export(artifact, out) if out and is_copied else artifact.folder
        for role, file in artifact.files.items():
            size = f"{file.size_bytes / 2**20:.1f} MiB"
            where = folder / file.name
            click.echo(f"{artifact.stage}\t{role}\t{artifact.origin}\t{size}\t{file.sha256[:12]}\t{where}")


@main.command()
@options_of("noise")
@click.option("--out", type=PATH, metavar="FILE", help="[noise.json among the approved results]")
def noise(out: Path | None, **given: Any) -> None:
    """Measure how much the root alone moves: threads, repeats, half weights, position, mask. Tolerances rest on it."""
    from whisper_parity.report import noise as view
    from whisper_parity.run import noise as measuring
    from whisper_parity.system import serial
    from whisper_parity.system.terminal import stdout, working

    site = project.find()
    options = run_options.read(given, site)
    target = measuring.target(out, options, site)
    with working("measuring the noise floor"):
        measured = measuring.measure(options, site)
    serial.write(target, measured)
    view.show(measured, stdout())
    click.echo(f"noise: {target}", err=True)


@main.command()
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--n-vocab", type=VOCABULARIES, default="51865", help="of result files [51865]")
def compare(first: Path, second: Path, n_vocab: str) -> None:
    """Compare two result files (reference, candidate), or two runs."""
    from whisper_parity.compare import results
    from whisper_parity.report import two_runs
    from whisper_parity.run.folder import REPORT
    from whisper_parity.system.terminal import stdout

    if first.is_file() and second.is_file() and REPORT not in (first.name, second.name):
        comparison = results.compare_files(first, second, int(n_vocab))
        two_runs.show_results(comparison, stdout())
        sys.exit(comparison.exit_code)
    compared = two_runs.compare_runs(_opened(first), _opened(second))
    two_runs.show_runs(compared, stdout())
    sys.exit(compared.exit_code)


@main.command()
@click.argument("clips", nargs=-1, metavar="[CLIP ...]")
@click.option("--run", "given", type=PATH, metavar="RUN", help="folder or name [the newest]")
@click.option("--stage", metavar="NAME", help="only this stage [all that differ]")
@click.option("--detail", is_flag=True, help="look into the blocks: attention, cross attention, MLP")
@click.option("--json", "as_json", is_flag=True, help="one JSON array")
@click.option("--n-vocab", type=VOCABULARIES, default="51865", help="of result files")
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
    from whisper_parity.run import report as records
    from whisper_parity.system import serial
    from whisper_parity.system.terminal import stdout

    shown, screen = [], stdout()

    def show(explanations: Explanations) -> None:
        shown.append(explanations)
        if not as_json:
            explained.show(explanations, screen)

    files = [Path(clip) for clip in clips]
    if len(files) == 2 and all(file.is_file() for file in files):
        if given or stage or detail:
            raise UsageError("--run, --stage and --detail are for clips of a run", hint="Two result files have none")
        show(explaining.explain_files(results.compare_files(files[0], files[1], int(n_vocab)), int(n_vocab)))
    else:
        run = _opened(given)
        _explain_rows(run, clips, stage, detail, show)
        _write_page(run)
    if as_json:
        click.echo(f"[{','.join(map(serial.dumps, shown))}]")
    elif not shown:
        click.echo(explaining.nothing(records.load(run)))
    if not all(explanations.compared for explanations in shown):
        sys.exit(1)


def _explain_rows(
    run: RunFolder, clips: tuple[str, ...], stage: str | None, detail: bool, show: Callable[[Explanations], None]
) -> None:
    from whisper_parity.explain import explain as explaining
    from whisper_parity.run import report as records
    from whisper_parity.system.terminal import progress

    chosen = explaining.wanted(records.load(run), clips, stage)
    with progress(len(chosen)) as advance:
        for explanations in explaining.explain_all(run, chosen, advance, detail):
            show(explanations)


@main.command()
@click.argument("run", type=PATH, required=False)
@click.option("--format", "form", default="console", type=click.Choice(views.FORMATS), help="[console]")
@click.option("--out", type=PATH, metavar="FILE", help="[stdout; html: index.html of the run]")
@click.option("--against", type=PATH, metavar="RUN", help="html: lay an earlier run beside it")
@click.option("--plots", type=PATH, metavar="DIR", help="write the main plots there instead")
@click.option("--plot-format", default="svg", type=click.Choice(["svg", "png"]), help="[svg]")
def report(
    run: Path | None, form: str, out: Path | None, against: Path | None, plots: Path | None, plot_format: str
) -> None:
    """Show a run again (default: the newest): table, JSON, Markdown, JUnit XML or the page; or export its plots."""
    from whisper_parity.errors import UsageError
    from whisper_parity.run import report as records

    if against is not None and form != "html":
        raise UsageError("--against belongs to --format html", hint="`parity compare` prints two runs at the terminal")
    folder = _opened(run)
    exit_code = records.load(folder).exit_code
    if plots is not None:
        from whisper_parity.report.html.export import export

        for path in export(folder, plots, plot_format):
            click.echo(path)
    else:
        _show(folder, form, out, against)
    sys.exit(exit_code)


def _show(folder: RunFolder, form: str, out: Path | None, against: Path | None) -> None:
    """Write a run's report in a form to `out`, or to where that form goes."""
    from rich.console import Console

    from whisper_parity.report import console
    from whisper_parity.run import report as records
    from whisper_parity.system.files import write_text
    from whisper_parity.system.terminal import stdout

    if form == "html":
        from whisper_parity.report.html import page

        click.echo(page.write(folder, out, _opened(against) if against else None))
    elif form == "console":
        with out.open("w", encoding="utf-8") if out else nullcontext() as file:
            console.show(records.load(folder), Console(file=file) if file else stdout())
    elif out:
        write_text(out, views.text(form, folder))
    else:
        click.echo(views.text(form, folder), nl=False)


@main.command()
@click.argument("run", type=PATH, required=False)
@click.option("--approved", metavar="NAME", help="approved result to hold it against [checkpoint and policy]")
def gate(run: Path | None, approved: str | None) -> None:
    """May this run be released? Rules, approved results, statistics (default: the newest run)."""
    from whisper_parity import project
    from whisper_parity.backend import registry
    from whisper_parity.gate import judging, settings
    from whisper_parity.report import ci, gated
    from whisper_parity.run import report as records
    from whisper_parity.system.terminal import stdout

    folder, site = _opened(run), project.find()
    judged = judging.gate(folder, settings.of(site, registry.load(site.backends)), approved)
    gated.show(judged, stdout())
    ci.announce(records.load(folder), judged.result)
    sys.exit(judged.result.exit_code)


@main.command()
@click.argument("run", type=PATH)
@click.option("--name", metavar="NAME", help="name of the approved result [checkpoint and policy]")
def approve(run: Path, name: str | None) -> None:
    """Sign a run: its texts, tokens and figures become the approved result, to be reviewed and committed."""
    from whisper_parity import project
    from whisper_parity.backend import registry
    from whisper_parity.gate import approved, settings
    from whisper_parity.run import report as records

    site = project.find()
    chosen = settings.of(site, registry.load(site.backends))
    file, changes = approved.approve(records.load(_opened(run)), chosen.folder, name or chosen.approved)
    for line in changes:
        click.echo(printable(line))
    click.echo(f"approved: {file}")


@main.command()
@click.option("--metric", metavar="NAME", help="one figure only, as wer or logits_snr_db [all]")
@click.option("--stage", metavar="NAME", help="one stage only [all]")
def history(metric: str | None, stage: str | None) -> None:
    """Trend of every figure over the project's runs, and what changed it: which commit, which artifact."""
    from whisper_parity.report import history as histories
    from whisper_parity.system.terminal import stdout

    histories.show(histories.rebuild(_reports()), stdout(), metric, stage)


@main.command()
def doctor() -> None:
    """List every backend: available or not, and why, with what to install."""
    from whisper_parity.backend import registry
    from whisper_parity.backend.stage import StageName

    backends = registry.load(project.find().backends)
    for name in backends.names:
        availability = backends.availability(name)
        usable = "available  " if availability.usable else "unavailable"
        click.echo(f"{name:<12} {usable}  {availability.reason}")
    needed = [name for name in map(StageName.parse, backends.default_stages) if not name.variant]
    sys.exit(0 if all(backends.availability(name.backend).usable for name in needed) else 3)


@main.command("backends")
@click.argument("name", required=False)
def backends_(name: str | None) -> None:
    """List the installed backends and their settings, as parity.toml and --set take them."""
    from whisper_parity.backend import registry
    from whisper_parity.backend.facets import Configurable
    from whisper_parity.backend.settings import described

    backends = registry.Backends()
    for stage in (name,) if name else backends.names:
        backend = backends.get(stage)
        stages = ", ".join((stage, *(f"{stage}:{variant}" for variant in backend.variants)))
        click.echo(f"{stage}: stages {stages}")
        if isinstance(backend, Configurable):
            for key, default, text in described(backend.settings_type):
                click.echo(f"  {stage}.{key} [{default}]  {text}")


def _reports() -> Path:
    """Where the project's runs lie."""
    return run_options.read({}, project.find()).report_dir


def _opened(run: Path | None) -> RunFolder:
    """A recorded run by path, name, or the newest."""
    return RunFolder.open(run, _reports())


def _run(given: dict[str, Any], site: Project) -> Report:
    from whisper_parity.run import plan as plans
    from whisper_parity.run import schedule
    from whisper_parity.run.collect import collect
    from whisper_parity.system.terminal import progress

    plan = plans.make(run_options.read(given, site), site)
    started = time.perf_counter()
    steps = len(plan.stages) * (len(plan.clips) + 1)
    with schedule.opened(plan) as running, progress(steps) as advance:
        for _ in running.rows(advance):
            pass
    report = collect(plan, time.perf_counter() - started)
    click.echo(f"report: {plan.folder.report}", err=True)
    _write_page(plan.folder)
    return report


def _write_page(run: RunFolder) -> None:
    """Write the run's page; its verdict stands, whether there is a page of it or not."""
    from whisper_parity.report.html import page

    try:
        click.echo(f"page:   {page.write(run)}", err=True)
    except ParityError as error:
        click.echo(f"page:   not written: {error}", err=True)


if __name__ == "__main__":
    main()

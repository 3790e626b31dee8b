"""The command line: thin; one function of the harness behind each command.

Exit codes: 0 all pass (drift included), 1 diverged or nothing compared, 2 usage or bad input, 3 environment; 130 after
Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import atexit
import gc
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from whisper_parity import cli_features, cli_site, cli_weights, project
from whisper_parity.cli_group import Group
from whisper_parity.errors import ParityError
from whisper_parity.project import Project
from whisper_parity.report import views
from whisper_parity.run import options as run_options
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.options import Kind, Option
from whisper_parity.system import cache
from whisper_parity.system.crash import reported
from whisper_parity.system.ending import continued_by
from whisper_parity.system.terminal import document, progress, say, stdout, working
from whisper_parity.system.threads import side_by_side

if TYPE_CHECKING:
    from whisper_parity.explain.explanation import Explanations
    from whisper_parity.run.report import Report

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
VOCABULARIES = click.Choice(["51864", "51865", "51866"])


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

    Exit codes: 0 all pass, 1 diverged, 2 usage or bad input, 3 environment, 130 Ctrl-C, 143 SIGTERM.
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

    report = _run(given, project.find())
    console.show(report, stdout())
    sys.exit(report.exit_code)


@main.command()
def demo() -> None:
    """Take the embedded checkpoint through every stage, a simulated device at the end."""
    from whisper_parity.report import console

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

    site = project.find()
    options = run_options.read(given, site)
    backends = registry.load(site, options.settings)
    stages = [stage.spec for stage in backends.chain(options.stages or backends.default_stages)]
    again = continued_by("the same command goes on with what is not built yet")
    with again, cache.in_use(options.cache), building.prepared(backends, stages):  # converters have their processes
        workshop = plan.workshop(options, backends, checkpoint.resolve(options.checkpoint, options.cache))
        with working(f"building {', '.join(stages)}"):
            built = list(side_by_side(lambda stage: building.obtain(workshop, stage), stages))
    for artifact in built:
        is_copied = out is not None and artifact.origin != artifacts.CHECKPOINT
        folder = building.export(artifact, out) if out and is_copied else artifact.folder
        for role, file in artifact.files.items():
            size = f"{file.size_bytes / 2**20:.1f} MiB"
            say(artifact.stage, role, artifact.origin, size, file.sha256[:12], folder / file.name)


@main.command()
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


@main.command()
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--n-vocab", type=VOCABULARIES, help="vocabulary of result files [found in them]")
@click.option("--json", "as_json", is_flag=True, help="result files: every edit and finding as JSON")
def compare(first: Path, second: Path, n_vocab: str | None, as_json: bool) -> None:
    """Compare two result files (reference, candidate) of any program, or two runs.

    Files may be JSON of openai-whisper, whisper.cpp, faster-whisper, WhisperX, Hugging Face, OpenAI, WhisperKit or
    sherpa-onnx, subtitles, tables or plain text. Exit code 1: they differ, or something is wrong with one of them.
    """
    from whisper_parity.compare import results
    from whisper_parity.errors import UsageError
    from whisper_parity.report import two_results, two_runs
    from whisper_parity.system import serial

    if _are_results(first, second):
        comparison = results.compare_files(first, second, int(n_vocab) if n_vocab else None)
        if as_json:
            document(serial.dumps(comparison))
        else:
            two_results.show(comparison, stdout())
        sys.exit(comparison.exit_code)
    if as_json:
        raise UsageError("--json is for two result files", hint="Two runs are compared at the terminal and on a page")
    compared = two_runs.compare_runs(_opened(first), _opened(second))
    two_runs.show_runs(compared, stdout())
    sys.exit(compared.exit_code)


@main.command()
@click.argument("clips", nargs=-1, metavar="[CLIP ...]")
@click.option("--run", "given", type=PATH, metavar="RUN", help="folder or name [the newest]")
@click.option("--stage", metavar="NAME", help="only this stage [all that differ]")
@click.option("--detail", is_flag=True, help="look into the blocks: attention, cross attention, MLP")
@click.option("--json", "as_json", is_flag=True, help="one JSON array")
@click.option("--n-vocab", type=VOCABULARIES, help="vocabulary of result files [found in them]")
def explain(
    clips: tuple[str, ...], given: Path | None, stage: str | None, detail: bool, as_json: bool, n_vocab: str | None
) -> None:
    """Why did this comma move? What changed, at which edge, in which part and layer, and whether it matters.

    CLIP is a clip of the run; two result files (reference, candidate) in place of clips are explained without a run.
    Exit codes: 0 every row has its answer, 1 one that diverged has none, or one could not be looked at at all.
    """
    from whisper_parity.compare import results
    from whisper_parity.errors import UsageError
    from whisper_parity.explain import explain as explaining
    from whisper_parity.report import explained
    from whisper_parity.run import report as records
    from whisper_parity.system import serial

    shown, screen = [], stdout()

    def show(explanations: Explanations) -> None:
        shown.append(explanations)
        if not as_json:
            explained.show(explanations, screen)

    files = [Path(clip) for clip in clips]
    if len(files) == 2 and _are_results(*files):
        if given or stage or detail:
            raise UsageError("--run, --stage and --detail are for clips of a run", hint="Two result files have none")
        show(explaining.explain_files(results.compare_files(files[0], files[1], int(n_vocab) if n_vocab else None)))
    else:
        run = _opened(given)
        _explain_rows(run, clips, stage, detail, show)
        _write_page(run)
    if as_json:
        document(f"[{','.join(map(serial.dumps, shown))}]")
    elif not shown:
        say(explaining.nothing(records.load(run)))
    if not all(explanations.compared and explanations.answered for explanations in shown):
        sys.exit(1)


def _are_results(first: Path, second: Path) -> bool:
    """Whether two names are those of result files, and not of runs."""
    from whisper_parity.run.folder import REPORT

    def is_file(path: Path) -> bool:
        return path.exists() and not path.is_dir() and path.name != REPORT

    return is_file(first) and (is_file(second) or (bool(second.suffix) and not second.exists()))


def _explain_rows(
    run: RunFolder, clips: tuple[str, ...], stage: str | None, detail: bool, show: Callable[[Explanations], None]
) -> None:
    from whisper_parity.explain import explain as explaining
    from whisper_parity.run import report as records

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
            say(path)
    else:
        _show(folder, form, out, against)
    sys.exit(exit_code)


def _show(folder: RunFolder, form: str, out: Path | None, against: Path | None) -> None:
    """Write a run's report in a form to `out`, or to where that form goes."""
    from rich.console import Console

    from whisper_parity.report import console
    from whisper_parity.run import report as records
    from whisper_parity.system.files import write_text

    if form == "html":
        from whisper_parity.report.html import page

        say(page.write(folder, out, _opened(against) if against else None))
    elif form == "console":
        with out.open("w", encoding="utf-8") if out else nullcontext() as file:
            console.show(records.load(folder), Console(file=file) if file else stdout())
    elif out:
        write_text(out, views.text(form, folder))
    else:
        document(views.text(form, folder))


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

    folder, site = _opened(run), project.find()
    judged = judging.gate(folder, settings.of(site, registry.Backends(site.backends)), approved)
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
    chosen = settings.of(site, registry.Backends(site.backends))
    file, changes = approved.approve(records.load(_opened(run)), chosen.folder, name or chosen.approved)
    for line in changes:
        say(line)
    say(f"approved: {file}")


@main.command()
@click.option("--metric", metavar="NAME", help="one figure only, as wer or logits_snr_db [all]")
@click.option("--stage", metavar="NAME", help="one stage only [all]")
def history(metric: str | None, stage: str | None) -> None:
    """Trend of every figure over the project's runs, and what changed it: which commit, which artifact."""
    from whisper_parity.report import history as histories

    histories.show(histories.rebuild(_reports()), stdout(), metric, stage)


for command in (
    cli_site.doctor,
    cli_site.backends,
    cli_site.cache,
    cli_site.trust,
    cli_weights.weights,
    cli_features.features,
):
    main.add_command(command)


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

    plan = plans.make(run_options.read(given, site), site)
    started = time.perf_counter()
    steps = len(plan.stages) * (len(plan.clips) + 1)
    again = continued_by(f"go on with `{_continuation(plan.folder)}`: what is recorded is kept")
    with again, schedule.opened(plan) as running, progress(steps) as advance:
        for _ in running.rows(advance):
            pass
    report = collect(plan, time.perf_counter() - started)
    say(f"report: {plan.folder.report}", to_stderr=True)
    _write_page(plan.folder)
    return report


def _continuation(run: RunFolder) -> str:
    """The command that was typed, with the name of its run."""
    words = sys.argv[1:]
    return " ".join(
        map(run_options.quoted, ["parity", *words, *([] if "--run-id" in words else ["--run-id", run.name])])
    )


def _write_page(run: RunFolder) -> None:
    """Write the run's page; its verdict stands, whether there is a page of it or not."""
    from whisper_parity.report.html import page

    try:
        with reported(run.crashes):
            say(f"page:   {page.write(run)}", to_stderr=True)
    except ParityError as error:
        say(f"page:   not written: {error}", to_stderr=True)


if __name__ == "__main__":
    main()

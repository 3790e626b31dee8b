"""Commands about recorded runs and result files: compare, explain, show, judge, approve, history."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from whisper_parity import cli_complete, project
from whisper_parity.cli_options import JSON, PATH, VOCABULARIES, amounts, opened, reports
from whisper_parity.cli_page import say_page
from whisper_parity.report import views
from whisper_parity.run.folder import RunFolder
from whisper_parity.system.progress import progress
from whisper_parity.system.terminal import Amount, document, say, stdout

if TYPE_CHECKING:
    from whisper_parity.compare.result import Result
    from whisper_parity.explain.explanation import Explanations
    from whisper_parity.run.report import Report


@click.command()
@click.argument("first", type=PATH, shell_complete=cli_complete.runs_or_files)
@click.argument("second", type=PATH, shell_complete=cli_complete.runs_or_files)
@click.option("--n-vocab", type=VOCABULARIES, help="vocabulary of result files [found in them]")
@click.option(
    "--reference", "truth", type=PATH, metavar="PATH", help="of whole sets: what was said [as the results say it]"
)
@click.option("--language", metavar="CODE", help="of whole sets: language of results that name none [by the script]")
@click.option("--json", "as_json", is_flag=True, help="result files: every edit and finding as JSON")
def compare(
    first: Path, second: Path, n_vocab: str | None, truth: Path | None, language: str | None, as_json: bool
) -> None:
    """Compare two result files (reference, candidate) of any program, of one clip or of a whole test set, or two runs.

    Files may be JSON of openai-whisper, whisper.cpp, faster-whisper, WhisperX, Hugging Face, OpenAI, WhisperKit or
    sherpa-onnx, subtitles, tables or plain text; JSON lines are a set, paired by id or file. Exit code 1: they differ,
    or something is wrong with one of them.
    """
    from whisper_parity.compare import results, sets
    from whisper_parity.compare.readers import reading
    from whisper_parity.errors import UsageError
    from whisper_parity.report import two_results, two_runs
    from whisper_parity.system import serial

    if _are_results(first, second):
        listed = reading.read(first), reading.read(second)
        if sets.are_sets(*listed):
            sys.exit(_compare_sets(first, second, listed, truth, language, as_json))
        if truth or language:
            raise UsageError("--reference and --language are for results of whole sets", hint="Give JSON lines")
        comparison = results.compare_files(first, second, int(n_vocab) if n_vocab else None)
        if as_json:
            document(serial.dumps(comparison))
        else:
            two_results.show(comparison, stdout())
        sys.exit(comparison.exit_code)
    if as_json or truth or language:
        raise UsageError(
            "--json, --reference and --language are for result files",
            hint="Two runs are compared at the terminal and on a page",
        )
    compared = two_runs.compare_runs(opened(first), opened(second))
    two_runs.show_runs(compared, stdout())
    sys.exit(compared.exit_code)


def _compare_sets(
    first: Path,
    second: Path,
    listed: tuple[Sequence[Result], Sequence[Result]],
    truth: Path | None,
    language: str | None,
    as_json: bool,
) -> int:
    """Show two sets of results; the exit code."""
    from whisper_parity.compare import sets
    from whisper_parity.decode import policy
    from whisper_parity.gate import sets as judged
    from whisper_parity.report import two_sets
    from whisper_parity.system import serial

    policy.check_language(language)
    truths = sets.truths_of(truth) if truth else None
    compared = sets.compare_sets(first, second, listed, truths, language)
    report = two_sets.SetReport(compared, judged.describe(compared))
    if as_json:
        document(serial.dumps(report))
    else:
        two_sets.show(report, stdout())
    return compared.exit_code


@click.command()
@click.argument("clips", nargs=-1, metavar="[CLIP ...]", shell_complete=cli_complete.rows)
@click.option(
    "--run", "given", type=PATH, metavar="RUN", help="folder or name [the newest]", shell_complete=cli_complete.runs
)
@click.option("--stage", metavar="NAME", help="only this stage [all that differ]", shell_complete=cli_complete.stage)
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
        run = opened(given)
        _explain_rows(run, clips, stage, detail, show)
        say_page(run)
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
    with progress(len(chosen)) as (advance, _):
        for explanations in explaining.explain_all(run, chosen, advance, detail):
            show(explanations)


@click.command()
@click.argument("run", type=PATH, required=False, shell_complete=cli_complete.runs)
@click.option("--format", "form", default="console", type=click.Choice(views.FORMATS), help="[console]")
@click.option("--out", type=PATH, metavar="FILE", help="[stdout; html: index.html of the run]")
@click.option("--against", type=PATH, metavar="RUN", help="html: lay an earlier run beside it")
@click.option("--plots", type=PATH, metavar="DIR", help="write the main plots there instead")
@click.option("--plot-format", default="svg", type=click.Choice(["svg", "png"]), help="[svg]")
@amounts
def report(
    run: Path | None,
    form: str,
    out: Path | None,
    against: Path | None,
    plots: Path | None,
    plot_format: str,
    amount: Amount,
) -> None:
    """Show a run again (default: the newest): table, JSON, Markdown, JUnit XML or the page; or export its plots."""
    from whisper_parity.errors import UsageError
    from whisper_parity.run import report as records

    if against is not None and form != "html":
        raise UsageError("--against belongs to --format html", hint="`parity compare` prints two runs at the terminal")
    folder = opened(run)
    loaded = records.load(folder)
    if plots is not None:
        from whisper_parity.report.html.export import export

        for path in export(folder, plots, plot_format):
            say(path)
    else:
        _show(folder, loaded, form, out, against, amount)
    sys.exit(loaded.exit_code)


def _show(folder: RunFolder, loaded: Report, form: str, out: Path | None, against: Path | None, amount: Amount) -> None:
    """Write a run's report in a form to `out`, or to where that form goes."""
    from rich.console import Console

    from whisper_parity.report import console
    from whisper_parity.system.files import write_text

    if form == "html":
        from whisper_parity.report.html import page

        say(page.write(folder, out, opened(against) if against else None))
    elif form == "console":
        with out.open("w", encoding="utf-8") if out else nullcontext() as file:
            console.show(loaded, Console(file=file) if file else stdout(), amount)
    elif out:
        write_text(out, views.text(form, folder))
    else:
        document(views.text(form, folder))


@click.command()
@click.argument("run", type=PATH, required=False, shell_complete=cli_complete.runs)
@click.option("--approved", metavar="NAME", help="approved result to hold it against [checkpoint and policy]")
@amounts
@JSON
def gate(run: Path | None, approved: str | None, amount: Amount, as_json: bool) -> None:
    """May this run be released? Rules, approved results, statistics (default: the newest run)."""
    from whisper_parity.backend import registry
    from whisper_parity.gate import judging, settings
    from whisper_parity.report import ci, gated
    from whisper_parity.run import report as records
    from whisper_parity.system import serial

    folder, site = opened(run), project.find()
    judged = judging.gate(folder, settings.of(site, registry.Backends(site.backends)), approved)
    if as_json:
        document(serial.dumps(judged.result))
    else:
        gated.show(judged, stdout(), amount)
    ci.announce(records.load(folder), judged.result, to_stderr=as_json)
    sys.exit(judged.result.exit_code)


@click.command()
@click.argument("run", type=PATH, shell_complete=cli_complete.runs)
@click.option("--name", metavar="NAME", help="name of the approved result [checkpoint and policy]")
def approve(run: Path, name: str | None) -> None:
    """Sign a run: its texts, tokens and figures become the approved result, to be reviewed and committed."""
    from whisper_parity.backend import registry
    from whisper_parity.gate import approved, settings
    from whisper_parity.run import report as records

    site = project.find()
    chosen = settings.of(site, registry.Backends(site.backends))
    file, changes = approved.approve(records.load(opened(run)), chosen.folder, name or chosen.approved)
    for line in changes:
        say(line)
    say(f"approved: {file}")


@click.command()
@click.option("--metric", metavar="NAME", help="one figure only, as wer or logits_snr_db [all]")
@click.option("--stage", metavar="NAME", help="one stage only [all]", shell_complete=cli_complete.stage)
def history(metric: str | None, stage: str | None) -> None:
    """Trend of every figure over the project's runs, and what changed it: which commit, which artifact."""
    from whisper_parity.report import history as histories

    histories.show(histories.rebuild(reports()), stdout(), metric, stage)

"""`pytest -m parity`: one item per clip and stage, one table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from harness import config as settings
from harness import plan as planning
from harness import registry
from harness.errors import ParityError
from harness.fixture import BadClip, Clip
from harness.machine import versions
from harness.plan import Options, Plan
from harness.registry import Stage
from harness.report.collection import collect
from harness.report.schema import Row
from harness.run import Evaluation, evaluation

HELP = {
    "checkpoint": "Whisper name or .pt file (default: the embedded micro checkpoint)",
    "stages": "stages separated by commas, variants as tflite:int8",
    "artifacts": "folder of converted files that are used instead of building",
    "clips": "names, tags, default, all, or audio files and folders, separated by commas",
    "manifest": "JSON-lines manifest of clips",
    "policy": "decode policy: whisper, plain, or one of parity.toml's",
    "language": "language of clips that do not name theirs (default: detected)",
    "threads": "threads of every runtime",
    "mask_value": "causal mask of built decoders: -inf, or a finite value for NPUs",
    "report_dir": "folder that gets the run's folder",
    "run_id": "name of the run; an existing one is continued",
    "cache": "folder of built artifacts",
    "soc": "SoC that a DLA is compiled for",
    "serial": "devices as adb names them, separated by commas",
}

_OPTIONS = pytest.StashKey[Options]()
_STARTED = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """One --parity-* option for each field of `harness.plan.Options`."""
    group = parser.getgroup("parity", "parity of model representations")
    for each in fields(Options):
        kind = int if each.name == "threads" else str
        group.addoption(
            f"--parity-{each.name.replace('_', '-')}", dest=f"parity_{each.name}", type=kind, help=HELP[each.name]
        )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; fix the run's name before any worker needs it."""
    config.addinivalue_line("markers", "parity: judge every stage on every clip")
    for name in registry.names():
        config.addinivalue_line("markers", f"{name}: concerns the backend {name}")
    config.stash[_STARTED] = time.perf_counter()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under pytest-xdist: workers write into the controller's run."""
    node.workerinput["parity_run_id"] = _options(node.config).run_id


def pytest_report_header(config: pytest.Config) -> str | None:
    """Versions that the numbers depend on."""
    if "not parity" in (config.option.markexpr or ""):
        return None
    packages = ("torch", "openai-whisper", "ai-edge-litert", "litert-torch", "numpy")
    found = ", ".join(f"{name} {version}" for name, version in versions(*packages).items())
    options = _options(config)
    return f"parity: stages {', '.join(options.stages)}; policy {options.policy}; {found}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Stage by stage, so that each model is opened once."""
    if "parity_cell" not in metafunc.fixturenames:
        return
    try:
        stages, (clips, bad) = planning.cells(_options(metafunc.config))
    except ParityError as error:
        raise pytest.UsageError(str(error)) from error
    cells: list[Any] = [
        pytest.param((stage, clip), id=f"{stage.spec}-{clip.name}", marks=_mark(stage))
        for stage in stages
        for clip in clips
    ]
    cells += [pytest.param((None, clip), id=f"manifest-{clip.name}") for clip in bad]
    metafunc.parametrize("parity_cell", cells)


@pytest.fixture(scope="session")
def parity_evaluation(request: pytest.FixtureRequest) -> Iterator[Evaluation]:
    """The run that all parity items share."""
    try:
        made = _plan(request.config)
    except ParityError as error:
        raise pytest.UsageError(str(error)) from error
    with evaluation(made) as running:
        yield running


@pytest.fixture
def parity_row(
    parity_cell: tuple[Stage | None, Clip | BadClip], parity_evaluation: Evaluation, request: pytest.FixtureRequest
) -> Row | BadClip:
    """The judged row of this item; its numbers become properties of the JUnit report."""
    stage, clip = parity_cell
    if stage is None or isinstance(clip, BadClip):
        assert isinstance(clip, BadClip)  # noqa: S101 - narrows the pair for the type checker
        return clip
    row = parity_evaluation.row(stage, clip)
    request.node.user_properties += [
        ("clip", row.clip), ("stage", row.stage), ("verdict", row.verdict.outcome.value), ("label", row.label),
    ]  # fmt: skip
    return row


def assert_parity(row: Row | BadClip) -> None:
    """Fail with the reason and the command that repeats it, unless the row passed, drifted or is the reference."""
    __tracebackhide__ = True
    if isinstance(row, BadClip):
        pytest.fail(row.error, pytrace=False)
    if row.verdict.outcome.exit_code:
        pytest.fail(f"{row.verdict.outcome.value}: {row.verdict.reason}\n{row.reproduce}", pytrace=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember that a parity item ran, in this process or in a worker."""
    if "parity" in report.keywords and report.when == "call":
        _Ran.any = True


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Collect the rows into the report and print the table."""
    if not _Ran.any or hasattr(config, "workerinput"):
        return
    _Ran.any = False
    from rich.console import Console

    from harness.report import console
    from harness.report.html import page

    made = _plan(config)
    report = collect(made, time.perf_counter() - config.stash[_STARTED])
    terminalreporter.section("parity")
    console.show(report, Console(file=terminalreporter._tw._file))
    terminalreporter.write_line(f"report: {made.folder / 'report.json'}")
    try:
        terminalreporter.write_line(f"page:   {page.write(made.folder)}")
    except ParityError as error:  # the verdict stands, whether there is a page of it or not
        terminalreporter.write_line(f"page:   not written: {error}")


class _Ran:
    """Whether a parity item ran: pytest hands the log hook no config to keep it in."""

    any = False


def _options(config: pytest.Config) -> Options:
    if _OPTIONS not in config.stash:
        given = {each.name: getattr(config.option, f"parity_{each.name}") for each in fields(Options)}
        if hasattr(config, "workerinput"):
            given["run_id"] = config.workerinput["parity_run_id"]
        try:
            options = planning.options_from(given, settings.load(Path.cwd()).run)
        except ParityError as error:
            raise pytest.UsageError(str(error)) from error
        config.stash[_OPTIONS] = replace(options, run_id=options.run_id or planning.new_run_id(options))
    return config.stash[_OPTIONS]


def _plan(config: pytest.Config) -> Plan:
    return planning.make(_options(config), settings.load(Path.cwd()))


def _mark(stage: Stage) -> pytest.MarkDecorator:
    return getattr(pytest.mark, stage.backend)  # type: ignore[no-any-return]

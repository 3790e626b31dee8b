"""`pytest -m parity`: one item per clip and stage, one table at the end."""

from __future__ import annotations

import atexit
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from whisper_parity import project as settings
from whisper_parity.backend import registry
from whisper_parity.backend.registry import Stage
from whisper_parity.clips.clip import BadClip, Clip
from whisper_parity.errors import ParityError
from whisper_parity.gate import settings as gate_settings
from whisper_parity.gate.judging import Judgement
from whisper_parity.gate.result import RuleResult
from whisper_parity.gate.rules import UNJUDGED
from whisper_parity.gate.settings import Settings
from whisper_parity.judge.verdict import Outcome
from whisper_parity.run import order, orders, placement, plan
from whisper_parity.run.collect import collect, stage_info
from whisper_parity.run.evaluation import Evaluation, evaluation
from whisper_parity.run.options import Options, options_from
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import Report, Row, StateCheck
from whisper_parity.system.machine import versions

if TYPE_CHECKING:
    from rich.console import Console

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
    "tflite_converter": "who writes TFLite files: litert, or mtk for MediaTek's converter",
    "noise": "file of measured noise that tolerances are multiples of",
    "state": "check state and order by the whole set of sequences",
    "require_placement": "fail where a stage fell back to the CPU, or does not say where it runs",
}


@dataclass(frozen=True, slots=True)
class StageChecks:
    """What is known of a stage once its clips have run."""

    states: tuple[StateCheck, ...]
    misplaced: tuple[str, ...]
    """Why it does not meet `require_placement`; empty when that was not asked for."""


Judged = Row | BadClip | StageChecks
"""What an item is judged by: a clip's row, a line of the manifest that gives no clip, or a stage's own checks."""

_OPTIONS = pytest.StashKey[Options]()
_STARTED = pytest.StashKey[float]()
_REPORT = pytest.StashKey[Report]()
_GATED = pytest.StashKey[Judgement]()

INTERRUPTED = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR)
GATE_FILE = "parity-gate"
"""Where the gate's items seem to stand; they are no functions, one is made for each rule when the run is over."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """One --parity-* option for each field of `whisper_parity.run.options.Options`."""
    group = parser.getgroup("parity", "parity of model representations")
    for each in fields(Options):
        form: dict[str, Any] = {"type": int if each.name == "threads" else str}
        if isinstance(each.default, bool):
            form = {"action": "store_const", "const": True}
        group.addoption(
            f"--parity-{each.name.replace('_', '-')}", dest=f"parity_{each.name}", help=HELP[each.name], **form
        )
    group.addoption("--parity-gate", action="store_true", help="judge the whole run by the gate's rules at the end")
    group.addoption("--parity-explain", action="store_true", help="explain every difference at the end")
    group.addoption("--parity-approved", metavar="NAME", help="approved result (default: checkpoint and policy)")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; fix the run's name before any worker needs it."""
    config.addinivalue_line("markers", "parity: judge every stage on every clip")
    for name in registry.names():
        config.addinivalue_line("markers", f"{name}: concerns the backend {name}")
    config.stash[_STARTED] = time.perf_counter()
    _Ran.gated = config.option.parity_gate
    if config.option.parity_gate:
        _gate_settings()  # what cannot be used is said before an hour of work


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
        stages, (clips, bad) = plan.cells(_options(metafunc.config))
    except ParityError as error:
        raise pytest.UsageError(str(error)) from error
    cells: list[Any] = [
        pytest.param(
            (stage, clip), id=f"{stage.spec}-{clip.name}" if clip else f"state-{stage.spec}", marks=_mark(stage)
        )
        for stage in stages
        for clip in (*clips, *([None] if clips else []))  # None: the stage's state and order, while it is open
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
    parity_cell: tuple[Stage | None, Clip | BadClip | None],
    parity_evaluation: Evaluation,
    request: pytest.FixtureRequest,
) -> Judged:
    """The judged row of this item, its numbers properties of the JUnit report; or the checks of its stage."""
    stage, clip = parity_cell
    if stage is None or isinstance(clip, BadClip):
        assert isinstance(clip, BadClip)  # noqa: S101 - narrows the pair for the type checker
        return clip
    if clip is None:
        return _stage_checks(parity_evaluation, stage)
    row = parity_evaluation.row(stage, clip)
    request.node.user_properties += [
        ("clip", row.clip), ("stage", row.stage), ("verdict", row.verdict.outcome.value), ("label", row.label),
    ]  # fmt: skip
    return row


def assert_parity(row: Judged) -> None:
    """Fail with the reason and the command that repeats it, unless the row passed, drifted or is the reference.

    The item of a stage's state fails when a result depends on what ran before it, or when the stage is not placed as
    required; it is skipped, with the reason, when nothing could be checked. Under --parity-gate a divergence is an
    expected failure, shown with its reason: the rules say what it weighs.
    """
    __tracebackhide__ = True
    if isinstance(row, BadClip):
        pytest.fail(row.error, pytrace=False)
    if isinstance(row, StageChecks):
        _assert_stage(row)
        return
    if row.verdict.outcome is Outcome.DIVERGED and _Ran.gated:
        pytest.xfail(f"left to the gate: {row.verdict.reason}")
    if row.verdict.outcome.exit_code:
        pytest.fail(f"{row.verdict.outcome.value}: {row.verdict.reason}\n{row.reproduce}", pytrace=False)


def _assert_stage(found: StageChecks) -> None:
    __tracebackhide__ = True
    bad = [order.describe(check) for check in found.states if check.exit_code]
    if bad := [*bad, *(f"placement required: {line}" for line in found.misplaced)]:
        pytest.fail("\n".join(bad), pytrace=False)
    if not any(check.checked for check in found.states):
        pytest.skip("; ".join(order.describe(check) for check in found.states))


def _stage_checks(evaluation: Evaluation, stage: Stage) -> StageChecks:
    checks = orders.of_stage(evaluation, stage)
    required = evaluation.plan.options.require_placement
    return StageChecks(checks, tuple(placement.misplaced([stage_info(evaluation.plan, stage)])) if required else ())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember that a parity item ran, in this process or in a worker."""
    if "parity" in report.keywords and report.when == "call":
        _Ran.any = True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Collect the rows into the report, and let the gate judge it: once, in the controller, before others report."""
    config = session.config
    if _Ran.any:
        atexit.register(gc.freeze)  # as in cli.main: nothing is looked for among torch's objects at the exit
    if hasattr(config, "workerinput") or config.option.collectonly or session.exitstatus in INTERRUPTED:
        return
    if _Ran.any:
        config.stash[_REPORT] = collect(_plan(config), time.perf_counter() - config.stash[_STARTED])
    if config.option.parity_gate:
        reports = _gate_items(config)
        session.testscollected += len(reports) // 2
        for report in reports:
            config.hook.pytest_runtest_logreport(report=report)
            if report.failed:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table, and what the gate says."""
    _Ran.any = False
    if _REPORT not in config.stash:
        return
    from rich.console import Console

    from whisper_parity.report import console, gated
    from whisper_parity.report.html import page

    screen = Console(file=terminalreporter._tw._file, emoji=False)
    terminalreporter.section("parity")
    console.show(config.stash[_REPORT], screen)
    if _GATED in config.stash:
        gated.show(config.stash[_GATED], screen)
    folder = _plan(config).folder
    if config.option.parity_explain:
        terminalreporter.section("parity explain")
        _explain(config.stash[_REPORT], folder, screen)
    terminalreporter.write_line(f"report: {folder / 'report.json'}")
    try:
        terminalreporter.write_line(f"page:   {page.write(folder)}")
    except ParityError as error:  # the verdict stands, whether there is a page of it or not
        terminalreporter.write_line(f"page:   not written: {error}")


def _explain(report: Report, run: Path, screen: Console) -> None:
    from whisper_parity.explain import explain
    from whisper_parity.report import explained

    chosen = explain.wanted(report, (), None)
    try:
        for found in explain.explain_all(run, chosen, lambda _: None, detail=False):
            explained.show(found, screen)
    except ParityError as error:
        screen.print(f"not explained: {error}", markup=False, soft_wrap=True)
    if not chosen:
        screen.print(explain.nothing(report), markup=False)


def _gate_items(config: pytest.Config) -> list[pytest.TestReport]:
    """One finished item for each rule of the gate, with its limit and its actual as properties."""
    if _REPORT not in config.stash:
        return _item("ran", "no parity item ran, so there is nothing to judge: select them with -m parity", ())
    from whisper_parity.gate import judging
    from whisper_parity.report import ci

    try:
        judged = judging.gate(_plan(config).folder, _gate_settings(), config.option.parity_approved)
    except ParityError as error:
        return _item("configuration", str(error), ())
    config.stash[_GATED] = judged
    ci.announce(config.stash[_REPORT], judged.result)
    return [report for rule in judged.result.rules for report in _item_of(rule)]


def _item_of(rule: RuleResult) -> list[pytest.TestReport]:
    place = ",".join(part for part in (rule.edge, rule.language) if part)
    said = f"{rule.actual}\nlimit: {rule.limit} ({rule.source})"
    said += f"\nclips: {', '.join(rule.clips[:20])}" if rule.clips else ""
    properties = tuple((name, str(getattr(rule, name))) for name in ("edge", "language", "limit", "actual", "source"))
    skipped = f"{UNJUDGED}: {rule.actual} ({rule.source})" if rule.limit == UNJUDGED else ""
    return _item(rule.rule + (f"[{place}]" if place else ""), "" if rule.passed else said, properties, skipped)


def _item(
    name: str, failure: str, properties: tuple[tuple[str, str], ...], skipped: str = ""
) -> list[pytest.TestReport]:
    """Reports as pytest makes them of an item: its call, and its teardown, which completes it."""
    shared: dict[str, Any] = {"location": (GATE_FILE, None, name), "keywords": {"parity_gate": 1}, "duration": 0.0}
    shared |= {"nodeid": f"{GATE_FILE}::{name}", "user_properties": [("gate", name), *properties]}
    outcome: Any = "failed" if failure else "skipped" if skipped else "passed"
    said: Any = failure or ((GATE_FILE, 0, skipped) if skipped else None)
    call = pytest.TestReport(outcome=outcome, longrepr=said, when="call", **shared)
    return [call, pytest.TestReport(outcome="passed", longrepr=None, when="teardown", **shared)]


def _gate_settings() -> Settings:
    try:
        return gate_settings.of(settings.find())
    except ParityError as error:
        raise pytest.UsageError(str(error)) from error


class _Ran:
    """What hooks and helpers without a config need to know of this process's session."""

    any = False
    """A parity item ran."""
    gated = False
    """--parity-gate was given."""


def _options(config: pytest.Config) -> Options:
    if _OPTIONS not in config.stash:
        given = {each.name: getattr(config.option, f"parity_{each.name}") for each in fields(Options)}
        if hasattr(config, "workerinput"):
            given["run_id"] = config.workerinput["parity_run_id"]
        try:
            options = options_from(given, settings.find().run)
        except ParityError as error:
            raise pytest.UsageError(str(error)) from error
        config.stash[_OPTIONS] = replace(options, run_id=options.run_id or plan.new_run_id(options))
    return config.stash[_OPTIONS]


def _plan(config: pytest.Config) -> Plan:
    return plan.make(_options(config), settings.find())


def _mark(stage: Stage) -> pytest.MarkDecorator:
    return getattr(pytest.mark, stage.backend)  # type: ignore[no-any-return]

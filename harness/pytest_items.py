"""What `pytest -m parity` collects, reports and judges: one item for each clip and stage, one table at the end."""

from __future__ import annotations

import atexit
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from whisper_parity import project, pytest_gate
from whisper_parity.backend import registry
from whisper_parity.backend.given import require_folder
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.stage import Stage
from whisper_parity.clips.clip import BadClip, ClipSet
from whisper_parity.errors import ParityError, printable
from whisper_parity.gate import settings as gate_settings
from whisper_parity.gate.judging import Judgement
from whisper_parity.judge.verdict import Outcome
from whisper_parity.project import Project
from whisper_parity.pytest_request import MARKER, named_file
from whisper_parity.run import collect, order, owner, placement
from whisper_parity.run import options as run_options
from whisper_parity.run import plan as plans
from whisper_parity.run.batches import batches
from whisper_parity.run.cell import Cell
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.options import OPTIONS, RunOptions
from whisper_parity.run.plan import Plan
from whisper_parity.run.report import Report
from whisper_parity.run.schedule import Schedule, opened
from whisper_parity.run.tasks import every_cell
from whisper_parity.system import terminal
from whisper_parity.system.crash import reported
from whisper_parity.system.machine import versions

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

PLUGIN = "parity-run"
INTERRUPTED = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR)


def register(config: pytest.Config) -> None:
    """Have a session judge the project: its parity.toml is collected wherever tests are looked for."""
    for name in registry.announced():
        config.addinivalue_line("markers", f"{name}: concerns the backend {name}")
    run = ParityRun(config)
    config.pluginmanager.register(run, PLUGIN)
    file = run.project.folder / project.FILE_NAME
    searched = [config.invocation_params.dir / str(word).partition("::")[0] for word in config.args]
    chosen = config.args_source is pytest.Config.ArgsSource.ARGS
    if file.is_file() and not chosen and not any(file.is_relative_to(path) for path in searched):
        config.args.append(str(file))


def collected(path: Path, parent: pytest.Collector) -> ParityFile | None:
    """The project's parity.toml as a file of tests; None for another one."""
    run = run_of(parent.config)
    return ParityFile.from_parent(parent, path=path) if path.parent == run.project.folder else None


def run_of(config: pytest.Config) -> ParityRun:
    """The run of a session that was asked for parity."""
    run = config.pluginmanager.get_plugin(PLUGIN)
    assert isinstance(run, ParityRun)  # noqa: S101 - registered where parity is asked for
    return run


class ParityFile(pytest.File):
    """parity.toml: stage by stage, so that each model is opened once."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item for each clip and stage, one for the order checks of a stage, one for each bad line."""
        try:
            stages, selected = run_of(self.config).selection()
        except ParityError as error:
            raise self.CollectError(str(error)) from error
        shares = batches(selected.clips)
        for batch in shares:
            for stage in stages:
                for clip in batch:
                    yield CellItem.from_parent(self, name=f"{stage.spec}-{clip.name}", cell=Cell(stage, clip))
                if batch == shares[-1]:
                    yield OrderItem.from_parent(self, name=f"state-{stage.spec}", stage=stage)
        for bad in selected.bad:
            yield BadClipItem.from_parent(self, name=f"manifest-{bad.name}", bad=bad)


class _Item(pytest.Item):
    """An item of the run, marked by its backend."""

    def __init__(self, *, backend: str | None = None, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.add_marker(MARKER)
        if backend:
            self.add_marker(backend)

    @property
    def run(self) -> ParityRun:
        return run_of(self.config)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands: in parity.toml, on no line."""
        return self.path, None, self.name


class CellItem(_Item):
    """One clip in one stage, its numbers properties of the JUnit report.

    It fails with the reason and the command that repeats it, unless the row passed, drifted or is the reference. Under
    --parity-gate a divergence is an expected failure, shown with its reason: the rules say what it weighs.
    """

    def __init__(self, *, cell: Cell, **keywords: Any) -> None:
        super().__init__(backend=cell.stage.name.backend, **keywords)
        self.cell = cell

    def runtest(self) -> None:
        """Record and judge."""
        __tracebackhide__ = True
        row = self.run.schedule.row(self.cell)
        outcome, reason = row.verdict.outcome, row.verdict.reason
        self.user_properties += [
            ("clip", row.clip), ("stage", row.stage), ("verdict", outcome.value), ("label", printable(row.label)),
        ]  # fmt: skip
        if outcome is Outcome.DIVERGED and self.config.option.parity_gate:
            pytest.xfail(printable(f"left to the gate: {reason}"))
        if outcome.exit_code:
            pytest.fail(f"{printable(f'{outcome.value}: {reason}')}\n{printable(row.reproduce)}", pytrace=False)


class OrderItem(_Item):
    """Whether a stage's results depend on what ran before, and where it ran, once its clips have run.

    It is skipped, with the reason, when nothing could be checked.
    """

    def __init__(self, *, stage: Stage, **keywords: Any) -> None:
        super().__init__(backend=stage.name.backend, **keywords)
        self.stage = stage

    def runtest(self) -> None:
        """Check, while the stage is open."""
        __tracebackhide__ = True
        plan, checks = self.run.plan, self.run.schedule.order_checks(self.stage)
        bad = [order.describe(check) for check in checks if check.exit_code]
        if plan.options.require_placement:
            info = collect.stage_info(self.run.schedule.journal, self.stage)
            bad += [f"placement required: {line}" for line in placement.misplaced([info])]
        if bad:
            pytest.fail("\n".join(map(printable, bad)), pytrace=False)
        if not any(check.checked for check in checks):
            pytest.skip(printable("; ".join(order.describe(check) for check in checks)))


class BadClipItem(_Item):
    """A line of the manifest that gives no clip."""

    def __init__(self, *, bad: BadClip, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.bad = bad

    def runtest(self) -> None:
        """Say what is wrong with it."""
        __tracebackhide__ = True
        pytest.fail(self.bad.error, pytrace=False)


class ParityRun:
    """The run that a session's parity items share, and what is made of it at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._started = time.perf_counter()
        self._stack = ExitStack()
        self._cells: dict[tuple[str, str], None] = {}
        self._ran = False
        self._is_owned = False
        self._report: Report | None = None
        self._judgement: Judgement | None = None
        self._nothing = ""
        file = named_file(config)
        folder = file.parent if file else project.folder(config.invocation_params.dir)
        self.project: Project = _usable(lambda: project.load(folder))
        if self.options.artifacts is not None:  # what cannot be used is reported before an hour of work
            _usable(partial(require_folder, self.options.artifacts))
        if config.option.parity_gate:
            _ = self._gate

    @property
    def is_worker(self) -> bool:
        """Whether this is a worker of pytest-xdist; the controller reports."""
        return hasattr(self.config, "workerinput")

    @cached_property
    def options(self) -> RunOptions:
        """Those of the command line over parity.toml; the run's name is fixed before any worker needs it."""
        given = {name: getattr(self.config.option, f"parity_{name}") for name in OPTIONS}
        if self.is_worker:
            given["run_id"] = self.config.workerinput["parity_run_id"]  # type: ignore[attr-defined]
        options = _usable(lambda: run_options.read(given, self.project))
        return replace(options, run_id=options.run_id or plans.new_run_id(options))

    @cached_property
    def backends(self) -> Backends:
        """The installed backends with the project's settings, read once a session."""
        return registry.load(self.project, self.options.settings)

    def selection(self) -> tuple[tuple[Stage, ...], ClipSet]:
        """Stages and clips; given files may bring a stage of their own, the root under their window."""
        if self.options.artifacts is None:
            return plans.selection(self.options, self.backends)
        return self.plan.stages, ClipSet(self.plan.clips, self.plan.bad_clips, self.plan.clip_notes)

    @cached_property
    def plan(self) -> Plan:
        """What is run."""
        return _usable(lambda: plans.make(self.options, self.project))

    @cached_property
    def schedule(self) -> Schedule:
        """What records and judges; opened by the first item."""
        wanted = [cell for cell in every_cell(self.plan) if cell.key in self._cells]
        return _usable(lambda: self._stack.enter_context(opened(self.plan, wanted, alone=not self.is_worker)))

    @cached_property
    def _gate(self) -> gate_settings.Settings:
        return _usable(lambda: gate_settings.of(self.project, self.backends))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Under pytest-xdist: workers write into the controller's run."""
        if not self._is_owned:
            folder = RunFolder(self.options.report_dir / str(self.options.run_id))
            _usable(lambda: self._stack.enter_context(owner.owned(folder)))
            self._is_owned = True
        node.workerinput["parity_run_id"] = self.options.run_id

    def pytest_report_header(self) -> str:
        """Versions that the numbers depend on."""
        backends = _usable(lambda: self.backends)
        stages = self.options.stages or backends.default_stages
        packages = versions("openai-whisper", "numpy", *_usable(lambda: backends.packages(stages)))
        named = ", ".join(f"{name} {version}" for name, version in packages.items())
        return f"parity: stages {', '.join(stages)}; policy {self.options.policy}; {named}"

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember what -k, -m and --lf have left."""
        self._cells.update({item.cell.key: None for item in session.items if isinstance(item, CellItem)})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember that a cell ran, in this process or in a worker."""
        if MARKER in report.keywords and report.when == "call":
            self._ran = True
            properties = dict(report.user_properties)
            if "clip" in properties:
                self._cells[str(properties["clip"]), str(properties["stage"])] = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Collect the rows into the report, let the gate judge it: once, in the controller, before others report."""
        self._stack.close()
        if self._ran:
            atexit.register(gc.freeze)  # as in cli.main: nothing is looked for among torch's objects at the exit
        if self.is_worker or self.config.option.collectonly or session.exitstatus in INTERRUPTED:
            return
        if self._ran:
            self._report = collect.collect(self.plan, time.perf_counter() - self._started, tuple(self._cells))
        if self.config.option.parity_gate:
            self._add_gate_items(session)
        self._nothing = self._why_nothing()
        if self._nothing:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table, and what the gate says."""
        if self._report is not None:
            self._show(terminalreporter, self._report)
        if self._nothing:
            terminalreporter.write_line(printable(f"parity: nothing was compared: {self._nothing}"), red=True)

    def _why_nothing(self) -> str:
        """Why a session that was asked for parity compared nothing; "" when it did: it must not end green."""
        if self._report is None:
            file = self.project.folder / project.FILE_NAME
            if not file.is_file():
                return f"no {project.FILE_NAME} in {self.project.folder} or above it"
            return f"no item of {file} was selected, or it was not among the tests that were named"
        rows = [row for row in self._report.rows if (row.clip, row.stage) in self._cells]
        if any(row.judged or row.verdict.outcome.exit_code for row in rows):
            return ""
        return "only references are left of the selection" if self._report.subset else "ask for two stages and one clip"

    def _add_gate_items(self, session: pytest.Session) -> None:
        """One finished item for each rule of the gate, with its limit and its actual as properties."""
        reports = self._judged() if self._report else pytest_gate.of_failure("ran", "no parity item ran")
        session.testscollected += len(reports) // 2
        for report in reports:
            self.config.hook.pytest_runtest_logreport(report=report)
            if report.failed:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _judged(self) -> list[pytest.TestReport]:
        from whisper_parity.gate import judging
        from whisper_parity.report import ci

        assert self._report is not None  # noqa: S101 - asked by the caller
        try:
            self._judgement = judging.gate(self.plan.folder, self._gate, self.config.option.parity_approved)
        except ParityError as error:
            return pytest_gate.of_failure("configuration", str(error))
        ci.announce(self._report, self._judgement.result)
        return pytest_gate.of_rules(self._judgement.result.rules)

    def _show(self, terminalreporter: Any, report: Report) -> None:
        from rich.console import Console

        from whisper_parity.report import console, gated
        from whisper_parity.report.html import page

        screen = Console(file=terminalreporter._tw._file, emoji=False)
        terminalreporter.section("parity")
        amount = terminal.Amount.ALL if self.config.option.verbose > 0 else terminal.Amount.SCREEN
        console.show(report, screen, amount)
        if self._judgement:
            gated.show(self._judgement, screen, amount)
        if self.config.option.parity_explain:
            terminalreporter.section("parity explain")
            self._explain(report, screen)
        terminal.line(screen, f"report: {self.plan.folder.report}")
        try:
            with reported(self.plan.folder.crashes):
                terminal.line(screen, f"page:   {page.write(self.plan.folder)}")
        except ParityError as error:  # the verdict stands, whether there is a page of it or not
            terminal.line(screen, f"page:   not written: {error}")

    def _explain(self, report: Report, screen: Console) -> None:
        from whisper_parity.explain import explain
        from whisper_parity.report import explained

        chosen: Sequence[tuple[str, str]] = explain.wanted(report, (), None)
        try:
            for explanations in explain.explain_all(self.plan.folder, chosen, lambda _: None, detail=False):
                explained.show(explanations, screen)
        except ParityError as error:
            terminal.line(screen, f"not explained: {error}")
        if not chosen:
            terminal.line(screen, explain.nothing(report))


def _usable(make: Callable[[], T]) -> T:
    """What `make` gives; what a user got wrong ends the session in one line."""
    try:
        return make()
    except ParityError as error:
        raise pytest.UsageError(str(error)) from error

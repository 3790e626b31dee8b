"""The harness stays light, and its two faces agree."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from whisper_parity import cli, cli_run, pytest_plugin
from whisper_parity.backend.registry import Backends
from whisper_parity.cli_complete import VARIANTS
from whisper_parity.cli_group import COMMANDS, SENTENCES, announced
from whisper_parity.errors import ConfigError
from whisper_parity.project import Project
from whisper_parity.run import options as run_options
from whisper_parity.run.options import OPTIONS, Kind, RunOptions
from whisper_parity.system import announced as packages

HEAVY = ("torch", "whisper", "av", "litert_torch", "ai_edge_litert", "safetensors", "pydantic", "scipy")
PLOTTING = ("altair", "jinja2", "vl_convert", "playwright")


def imported_by(statement: str) -> set[str]:
    """Heavy modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY + PLOTTING} if name in sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import whisper_parity.cli, whisper_parity.run.schedule, whisper_parity.run.collect",
        "import whisper_parity.pytest_items",
        "from whisper_parity.gate import judging, paired; from whisper_parity.report import console, gated, history",
        "from whisper_parity.report import ci, json_schema, junit, markdown, views",
        "from whisper_parity.explain import explain; from whisper_parity.report import explained",
        "from whisper_parity.report.html import export, page",
        "from whisper_parity.compare import comparison, logits, tensor, text",
        "from whisper_parity.backend.registry import Backends; b = Backends(); [b.get(name) for name in b.names]",
        "from click.testing import CliRunner; from whisper_parity import cli; CliRunner().invoke(cli.main, ['--help'])",
    ],
)
def test_importing_the_harness_imports_nothing_heavy(statement):
    """`parity --help` and pytest's collection cost no torch."""
    assert imported_by(statement) == set()


def test_the_shell_is_answered_without_a_backend():
    """`parity run --stages <TAB>` takes a tenth of a second: nobody waits for a key."""
    code = (
        "import os, sys; os.environ.update(_PARITY_COMPLETE='bash_complete', COMP_WORDS='parity run --stages tfl')\n"
        "from whisper_parity import cli; sys.argv = ['parity']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print(*(name for name in sys.modules if name in ('numpy', 'rich', 'whisper_parity.backend.registry')))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    stages = ("tflite", *(f"tflite:{variant}" for variant in Backends().get("tflite").variants))
    assert ended.stdout.splitlines() == [*(f"plain,{stage}" for stage in stages), ""]


@pytest.mark.parametrize("name", Backends().names)
def test_what_completion_says_of_a_backend_is_what_it_has(name):
    """Its variants, from a module that imports nothing."""
    announced = packages.values(VARIANTS)
    assert name in announced, "install this project again: `make setup`"
    assert packages.loaded(announced[name]) == Backends().get(name).variants


OF_HELP = {"system.announced", "cli", "cli_group", "errors", "backends.sentences", "system.heap", "system.waiting"}
"""Modules of ours that `parity --help` may import, beside packages of which these are parts."""


def test_the_list_of_commands_imports_no_command():
    """Its sentences stand in a table: `parity --help` takes at most four times as long as Python takes to start."""
    code = (
        "import sys; from whisper_parity import cli; sys.argv = ['parity', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print(*(name for name in sys.modules if name.startswith('whisper_parity.') or name in ('numpy', 'rich')))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, last = ended.stdout.splitlines()
    imported = {name.removeprefix("whisper_parity.") for name in last.split()}
    assert imported <= OF_HELP | {name.rpartition(".")[0] for name in OF_HELP}
    assert all(f"  {name} " in ended.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize(
    "group", [COMMANDS, SENTENCES, "whisper_parity.backends", VARIANTS, "console_scripts", "pytest11", "x"]
)
def test_what_packages_announce_is_read_as_the_library_reads_it(group):
    """Names and values of every installed package."""
    assert packages.values(group) == {point.name: point.value for point in entry_points(group=group)}


def test_a_broken_package_does_not_break_the_list(tmp_path, monkeypatch):
    """Its sentence is asked of the command, and a command that cannot be imported says so in its place."""
    records = tmp_path / "odd-1.dist-info"
    records.mkdir()
    (records / "METADATA").write_text("Name: odd\nVersion: 1\n")
    (records / "entry_points.txt").write_text(
        f"# a remark\n[{COMMANDS}]\nodd = no_such_module:command\n\n[{SENTENCES}]\nodd=no_such_module:TEXT\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(cli.main, ["--help"])
    assert result.exit_code == 0
    assert "odd (no_such_module:command) cannot be imported" in " ".join(result.stdout.split())
    refused = CliRunner().invoke(cli.main, ["odd"])
    assert (refused.exit_code, refused.stderr.startswith("parity: odd (no_such_module:command) cannot be")) == (3, True)


@pytest.mark.parametrize("name", [*cli.COMMANDS, *announced()])
def test_the_list_names_every_command_that_is_there(name):
    """Each one can be imported under its name, and what the list says fits a line of 80 columns."""
    context = click.Context(cli.main)
    command = cli.main.get_command(context, name)
    assert command is not None
    assert command.name == name
    sentence = cli.main.sentence(context, name)
    assert 10 < len(sentence) <= 64
    assert sentence[0].isupper()


def test_every_face_of_a_run_offers_the_same_options():
    """Command line, pytest and parity.toml are read from one table; defaults stand there alone."""
    offered = cli_run.run
    assert {option.name for option in offered.params} == {*OPTIONS, "quiet", "verbose", "as_json"}
    assert set(OPTIONS) == {field.name for field in fields(RunOptions)}
    assert not any(isinstance(option.default, (str, int, Path)) for option in offered.params)
    parser = pytest.Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    added = {option.dest for option in parser.getgroup("parity").options}
    assert {f"parity_{name}" for name in OPTIONS} < added


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_a_run_can_be_set_in_parity_toml_or_says_that_it_cannot(name):
    """A key that is offered is read."""
    option = OPTIONS[name]
    typed = {Kind.FLAG: True, Kind.COUNT: 3, Kind.NUMBER: 7, Kind.LENGTH: 2.5, Kind.MASK: "-7", Kind.SIZE: "3GiB"}
    value = typed.get(option.kind, "x")
    project = Project(Path("/project"), run={name: value})
    if not option.configurable:
        with pytest.raises(ConfigError, match="unknown key"):
            run_options.read({}, project)
        return
    expected = {Kind.PATH: Path("/project/x"), Kind.NAMES: ("x",), Kind.CLIPS: ("x",)}.get(option.kind, value)
    assert getattr(run_options.read({}, project), name) == expected


def test_every_public_function_of_the_flow_has_a_docstring():
    """Shapes, units and errors are written where the function is."""
    from whisper_parity.clips import audio, features
    from whisper_parity.compare import comparison
    from whisper_parity.decode import loop
    from whisper_parity.judge import verdict

    for module in (audio, comparison, loop, features, verdict):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                assert function.__doc__, f"{module.__name__}.{name}"

"""The harness stays light, and its two faces agree."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields

import pytest

from whisper_parity import cli, pytest_plugin
from whisper_parity.run.options import Options

HEAVY = ("torch", "whisper", "av", "litert_torch", "ai_edge_litert", "safetensors", "pydantic", "scipy")
PLOTTING = ("altair", "jinja2", "vl_convert", "playwright")


def imported_by(statement: str) -> set[str]:
    """Heavy modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY + PLOTTING} if name in sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import whisper_parity.cli, whisper_parity.run.plan, whisper_parity.run.evaluation, whisper_parity.pytest_plugin",
        "from whisper_parity.gate import judging, paired; from whisper_parity.report import console, gated, history",
        "from whisper_parity.report import ci, json_schema, junit, markdown, views",
        "from whisper_parity.explain import explain; from whisper_parity.report import explained",
        "from whisper_parity.report.html import export, page",
        "from whisper_parity.compare import comparison, logits, tensor, text",
        "import whisper_parity.backend.registry as r; [r.backend(name) for name in r.BUILT_IN]",
        "from click.testing import CliRunner; from whisper_parity.cli import main; CliRunner().invoke(main, ['--help'])",
    ],
)
def test_importing_the_harness_imports_nothing_heavy(statement):
    """`parity --help` and pytest's collection cost no torch."""
    assert imported_by(statement) == set()


def test_harness_never_imports_backends():
    """The flow knows no representation: backends are reached through the registry alone."""
    code = (
        "import sys, whisper_parity.run.evaluation, whisper_parity.cli, whisper_parity.pytest_plugin;"
        "print(any(name.startswith('backends') for name in sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_command_line_pytest_and_parity_toml_offer_the_same_options():
    """Same names everywhere, each one a field of Options, with defaults there alone."""
    names = {each.name for each in fields(Options)}
    offered = {option.name for option in cli.main.commands["run"].params}
    assert offered == names == set(pytest_plugin.HELP)
    assert all(
        option.default is None or not isinstance(option.default, (str, int))
        for option in cli.main.commands["run"].params
    )


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

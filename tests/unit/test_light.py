"""The harness stays light, and its two faces agree."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields

import pytest

from harness import cli, pytest_plugin
from harness.config import RUN_KEYS
from harness.plan import Options

HEAVY = ("torch", "whisper", "av", "litert_torch", "ai_edge_litert", "safetensors", "pydantic", "scipy")
PLOTTING = ("altair", "jinja2", "vl_convert", "playwright")


def imported_by(statement: str) -> set[str]:
    """Heavy modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY + PLOTTING} if name in sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import harness.cli, harness.plan, harness.run, harness.report.console, harness.pytest_plugin",
        "import harness.gate.judging, harness.gate.paired, harness.report.gated, harness.report.history",
        "import harness.report.markdown, harness.report.junit, harness.report.ci, harness.report.json_schema",
        "import harness.attribution.explain, harness.report.explained",
        "import harness.report.html.page, harness.report.html.export, harness.report.views",
        "import harness.compare, harness.metrics.tensor, harness.metrics.logits, harness.metrics.text",
        "import harness.registry as r; [r.backend(name) for name in r.BUILT_IN]",
        "from click.testing import CliRunner; from harness.cli import main; CliRunner().invoke(main, ['--help'])",
    ],
)
def test_importing_the_harness_imports_nothing_heavy(statement):
    """`parity --help` and pytest's collection cost no torch."""
    assert imported_by(statement) == set()


def test_harness_never_imports_backends():
    """The flow knows no representation: backends are reached through the registry alone."""
    code = (
        "import sys, harness.run, harness.cli, harness.pytest_plugin;"
        "print(any(name.startswith('backends') for name in sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_command_line_pytest_and_parity_toml_offer_the_same_options():
    """Same names everywhere, each one a field of Options, with defaults there alone."""
    names = {each.name for each in fields(Options)}
    offered = {option.name for option in cli.main.commands["run"].params}
    assert offered == names == set(pytest_plugin.HELP)
    assert names >= RUN_KEYS
    assert all(
        option.default is None or not isinstance(option.default, (str, int))
        for option in cli.main.commands["run"].params
    )


def test_every_public_function_of_the_flow_has_a_docstring():
    """Shapes, units and errors are written where the function is."""
    from harness import audio, compare, decode, features, verdict

    for module in (audio, compare, decode, features, verdict):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                assert function.__doc__, f"{module.__name__}.{name}"

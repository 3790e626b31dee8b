"""The pytest plug-in: `pytest -m parity` judges what parity.toml names, and costs other tests nothing.

Hooks only, and nothing heavy: an installed plug-in is loaded by every pytest run. Items, report and gate are in
`pytest_items`, which is imported when parity is asked for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from whisper_parity import project
from whisper_parity.run.options import OPTIONS, Kind, Option

if TYPE_CHECKING:
    from whisper_parity.pytest_items import ParityFile

MARKER = "parity"
_ASKED_FOR = re.compile(rf"(?<!\w){MARKER}(?!\w)")
_LEFT_OUT = re.compile(rf"(?<!\w)not\s+\(?\s*{MARKER}(?!\w)")


def pytest_addoption(parser: pytest.Parser) -> None:
    """One --parity-* option for each option of a run, and those of the gate."""
    group = parser.getgroup("parity", "parity of model representations")
    for option in OPTIONS.values():
        group.addoption(f"--parity-{option.flag[2:]}", dest=f"parity_{option.name}", **_form(option))
    group.addoption("--parity-gate", action="store_true", help="judge the whole run by the gate's rules at the end")
    group.addoption("--parity-explain", action="store_true", help="explain every difference at the end")
    group.addoption("--parity-approved", metavar="NAME", help="approved result [checkpoint and policy]")


def _form(option: Option) -> dict[str, Any]:
    text = {"help": f"{option.help} [{option.default}]" if option.default else option.help}
    if option.is_flag:
        return {"action": "store_const", "const": True, **text}
    if option.is_list:
        return {"action": "append", "metavar": option.metavar, **text}
    return {"type": int if option.kind is Kind.COUNT else str, "metavar": option.metavar, **text}


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; where parity is asked for, what collects, reports and judges it."""
    config.addinivalue_line("markers", f"{MARKER}: judge every stage on every clip")
    if is_wanted(config):
        from whisper_parity import pytest_items

        pytest_items.register(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ParityFile | None:
    """The project's parity.toml is a file of tests: one item for each clip and stage."""
    if file_path.name != project.FILE_NAME or not is_wanted(parent.config):
        return None
    from whisper_parity import pytest_items

    return pytest_items.collected(file_path, parent)


def is_wanted(config: pytest.Config) -> bool:
    """Whether parity is asked for: by -m, by naming parity.toml, or by --parity-gate."""
    expression = config.option.markexpr or ""
    if _LEFT_OUT.search(expression):
        return False
    return bool(_ASKED_FOR.search(expression)) or config.option.parity_gate or named_file(config) is not None


def named_file(config: pytest.Config) -> Path | None:
    """The parity.toml that was named as an argument; None where none was."""
    paths = (config.invocation_params.dir / str(word).partition("::")[0] for word in config.args)
    return next((path for path in paths if path.name == project.FILE_NAME and path.is_file()), None)

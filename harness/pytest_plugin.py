"""The pytest plug-in: `pytest -m parity` judges what parity.toml names, and costs other tests nothing.

Hooks only, and nothing heavy: an installed plug-in is loaded by every pytest run. Items, report and gate are in
`pytest_items`, which is imported when parity is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from whisper_parity import project
from whisper_parity.pytest_request import MARKER, is_wanted
from whisper_parity.run.options import OPTIONS, Kind, Option

if TYPE_CHECKING:
    from whisper_parity.pytest_items import ParityFile

TYPES = {Kind.COUNT: int, Kind.NUMBER: int, Kind.LENGTH: float}
"""Of options that are no text."""


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
    return {"type": TYPES.get(option.kind, str), "metavar": option.metavar, **text}


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

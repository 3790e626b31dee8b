"""The house: rooms in the order of the flow, and imports that run one way only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

ORDER = (
    "errors", "system", "project", "clips", "model", "backend", "weights", "decode", "trace", "compare", "judge", "run",
    "explain", "gate", "report", "faces",
)  # fmt: skip
"""A room imports only rooms that stand before it."""
FACES = {
    "cli",
    "cli_complete",
    "cli_features",
    "cli_fetch",
    "cli_group",
    "cli_options",
    "cli_page",
    "cli_run",
    "cli_runs",
    "cli_site",
    "cli_weights",
    "pytest_plugin",
    "pytest_request",
    "pytest_items",
    "pytest_gate",
}
HARNESS = CHECKOUT / "harness"
REPRESENTATIONS = ("torchscript", "tflite", "dla", "litert", "mtk", "neuron")


def room_of(parts: tuple[str, ...]) -> str | None:
    """Room of a module, given its name under whisper_parity; None for what is no part of the harness."""
    if not parts or parts[0] in ("backends", "fixtures"):
        return None
    return "faces" if parts[0] in FACES else parts[0]


def imports(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(line, module under whisper_parity) of every import in a file, those in functions included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "whisper_parity":
            for alias in node.names:
                yield node.lineno, (*node.module.split(".")[1:], alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "whisper_parity":
                    yield node.lineno, tuple(alias.name.split(".")[1:])


def modules() -> list[Path]:
    return sorted(path for path in HARNESS.rglob("*.py") if path != HARNESS / "__init__.py")


def test_every_module_is_in_a_room_of_the_order():
    """A new room takes its place in the flow."""
    rooms = {room_of(path.relative_to(HARNESS).with_suffix("").parts) for path in modules()}
    assert rooms == set(ORDER)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(HARNESS)))
def test_imports_run_towards_the_beginning_of_the_flow(path: Path):
    """No import of a room further on, at the top of a module or inside a function: so there is no circle of rooms."""
    own = room_of(path.relative_to(HARNESS).with_suffix("").parts)
    assert own is not None
    later = [
        f"line {line}: {'.'.join(module)}"
        for line, module in imports(path)
        if (room := room_of(module)) is not None and ORDER.index(room) > ORDER.index(own)
    ]
    assert later == []


def test_modules_of_a_room_do_not_import_each_other_in_a_circle():
    """Also inside a room."""
    names = {".".join(path.relative_to(HARNESS).with_suffix("").parts): path for path in modules()}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    arrows = {
        name: {module for _, parts in imports(path) for module in _known(parts, names)} - {name}
        for name, path in names.items()
    }
    free: set[str] = set()
    while standing := {name for name in arrows if name not in free and arrows[name] <= free}:
        free |= standing
    assert set(arrows) - free == set()


def _known(parts: tuple[str, ...], names: dict[str, Path]) -> set[str]:
    candidates = (".".join(parts), ".".join(parts[:-1]))
    return {name for name in candidates if name in names}


def test_the_harness_never_imports_a_backend_or_names_a_representation():
    """They are reached through the registry alone; a file that says otherwise is named."""
    importing = [str(path) for path in modules() for _, parts in imports(path) if parts[:1] == ("backends",)]
    assert importing == []
    texts = [*HARNESS.rglob("*.py"), *HARNESS.rglob("*.toml")]
    naming = [
        f"{path.relative_to(HARNESS)}: {word}"
        for path in texts
        for word in REPRESENTATIONS
        if word in path.read_text("utf-8").lower()
    ]
    assert naming == []


def test_the_wheel_holds_every_package():
    """The list in pyproject.toml is the folders on disk under their import names."""
    import tomllib

    listed = set(tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"])
    roots = {"harness": "whisper_parity", "backends": "whisper_parity.backends", "fixtures": "whisper_parity.fixtures"}
    packages = {
        ".".join((name, *path.parent.relative_to(CHECKOUT / folder).parts))
        for folder, name in roots.items()
        for path in (CHECKOUT / folder).rglob("*.py")
    }
    assert listed == packages

"""The typing tests cover what there is: a backend, or a session, that is not in them is named."""

from __future__ import annotations

import ast

from tests.support import sites
from tests.support.checkout import CHECKOUT

CONTRACTS = CHECKOUT / "tests" / "typing" / "contracts.py"


def test_every_backend_is_held_against_its_protocol():
    """mypy reads tests/typing with the rest; here is what it cannot know: whether all are there."""
    names = {node.id for node in ast.walk(ast.parse(CONTRACTS.read_text("utf-8"))) if isinstance(node, ast.Name)}
    backends = {type(sites.backends().get(name)).__name__ for name in sites.backends().names}
    sessions = {
        node.name
        for path in (CHECKOUT / "backends").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
        and {"encode", "decode", "usage"} <= {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    }
    assert sessions
    assert (backends | sessions) - names == set()


def test_mypy_reads_them():
    """`make lint` checks this folder."""
    assert "mypy tests/typing/contracts.py" in (CHECKOUT / "Makefile").read_text("utf-8")

"""Text of any origin is shown, and never obeyed: by the terminal, a CI system or a reader of XML."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.checkout import CHECKOUT
from whisper_parity.errors import ParityError, printable
from whisper_parity.system import serial

TERMINAL = CHECKOUT / "harness" / "system" / "terminal.py"
CI = CHECKOUT / "harness" / "report" / "ci.py"
SOURCES = sorted(path for room in ("harness", "backends") for path in (CHECKOUT / room).rglob("*.py"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("safe\u202egnp.exe", r"safe\u202egnp.exe"),
        ("one\ntwo\u2028three\x85four", r"one\ntwo\u2028three\x85four"),
        ("::error::no", r"\x3a:error::no"),
        ("text ::add-mask::no", r"text \x3a:add-mask::no"),
        ("##[error]no", r"\x23#[error]no"),
        ("##vso[task.complete]", r"\x23#vso[task.complete]"),
        ("\udc80", r"\udc80"),
        ("c10::Error: 12:30", "c10::Error: 12:30"),
        ("可，以 。\u3000はい", "可，以 。\u3000はい"),
        ("نمی\u200cدانم", "نمی\u200cدانم"),
        ("# a title", "# a title"),
    ],
)
def test_what_would_be_obeyed_is_escaped_and_the_rest_is_kept(text: str, shown: str):
    """Escape sequences, direction marks, line breaks and CI commands, not spelling."""
    assert printable(text) == shown


@given(st.text())
def test_printable_text_is_one_line_without_commands(text: str):
    """For every text; a second time nothing changes."""
    shown = printable(text)
    assert len(f"{shown}x".splitlines()) == 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    assert "##[" not in shown
    assert not any(word.startswith("::") for word in shown.split())
    assert printable(shown) == shown


@dataclass(frozen=True)
class Holder:
    """One text."""

    text: str


@given(st.text())
def test_json_holds_every_text_and_shows_no_control(text: str):
    """JSON lets C1 controls and direction marks stand; a terminal would obey them."""
    document = serial.dumps(Holder(text))
    assert json.loads(document)["text"] == text
    assert not any(127 <= ord(c) < 160 or 0x202A <= ord(c) <= 0x202E or 0x2066 <= ord(c) <= 0x2069 for c in document)


def test_an_error_of_ours_is_one_harmless_line():
    """Its message may quote a file."""
    assert str(ParityError("a\n::error::b", hint="c\x1b[2J")) == r"a \x3a:error::b. c\x1b[2J"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_nothing_prints_but_the_terminal(path: Path):
    """A text that is printed elsewhere would reach the terminal raw: tables are made of `terminal.cell`."""
    if path in (TERMINAL, CI):
        return
    raw = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and _prints(node.func) and not _is_harmless(node)
    ]
    assert raw == []


def _prints(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id == "print"
    return isinstance(function, ast.Attribute) and function.attr in ("echo", "secho", "print", "write_line")


def _is_harmless(call: ast.Call) -> bool:
    """A table that a function of the same module draws, or one that was drawn before; a text made printable."""
    argument = call.args[0] if call.args else None
    if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name):
        return argument.func.id.endswith("table") or argument.func.id == "printable"
    return isinstance(argument, ast.Name) and argument.id == "grid"

"""stdout for data, stderr for progress. Whatever is shown to a person leaves through `say`, `line` and `cell`.

Text that comes from files (transcripts, names, messages of libraries) must not drive the terminal or a CI system: these
three make it printable, and nothing else prints (tests/unit/test_printing.py).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

import click

from whisper_parity.errors import printable

if TYPE_CHECKING:
    from rich.console import Console


_GLUE = "\ue000"
"""Stands for a blank that no line is folded at: a character of no meaning, which no printable text holds."""
_UNIT = re.compile(r"(\d|WER|CER) (dB|s|%|nat|logit|steps?|clips?|rules?|tokens?|[KMG]i?B|\d|n/a)(?![A-Za-z])")


class Amount(Enum):
    """How much of a result is shown."""

    LINE = "its verdict, in one line (-q)"
    SCREEN = "what needs attention"
    ALL = "everything (-v)"


def say(*columns: object, to_stderr: bool = False) -> None:
    """Write one line: columns with tabs between them."""
    click.echo("\t".join(printable(str(column)) for column in columns), err=to_stderr)


def document(text: str) -> None:
    """Write a whole document (JSON, Markdown, XML), whose own form has made every text in it harmless."""
    click.echo(text, nl=not text.endswith("\n"))


def line(console: Console, text: str, style: str = "", indent: int = 2) -> None:
    """Print one line, not taken for markup; at a terminal folded between words, the rest indented."""
    whole = printable(text)
    for part in folded(whole, console, indent) if console.is_terminal else [whole]:
        console.print(part, style=style, highlight=False, soft_wrap=True, markup=False, emoji=False)


def folded(text: str, console: Console, indent: int) -> list[str]:
    """A line as lines of the console's width; a number and its unit stay together."""
    from rich.text import Text

    def lines(part: str, width: int) -> list[str]:
        return [str(line).rstrip() for line in Text(part).wrap(console, max(12, width))]

    glued = _UNIT.sub(rf"\1{_GLUE}\2", text)
    first = lines(glued, console.width)[0]
    rest = glued[len(first) :].lstrip()
    wrapped = [first, *(" " * indent + part for part in lines(rest, console.width - indent) if rest)]
    return [part.replace(_GLUE, " ") for part in wrapped]


def command(console: Console, text: str, style: str = "") -> None:
    """Print a command: whole, on lines of its own, so that it can be copied."""
    console.print(printable(text), style=style, highlight=False, soft_wrap=True, markup=False, emoji=False)


def cell(text: str) -> str:
    """A text as a cell of a table: markup that shows it as it is."""
    from rich.markup import escape

    return escape(printable(text))


def stdout() -> Console:
    """The console for data, unmodified; colour only at a terminal without NO_COLOR."""
    from rich.console import Console

    return Console(emoji=False)


def unfolded(console: Console) -> Console:
    """The same console at a terminal; elsewhere one that never folds a table's lines, for searching."""
    from rich.console import Console

    return console if console.is_terminal else Console(file=console.file, width=500, no_color=True, emoji=False)

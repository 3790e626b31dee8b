"""stdout for data, stderr for progress: consoles and progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def stdout() -> Console:
    """The console for data, unmodified; colour only at a terminal without NO_COLOR."""
    return Console(emoji=False)


def unfolded(console: Console) -> Console:
    """The same console at a terminal; elsewhere one that never folds a table's lines, for searching."""
    return console if console.is_terminal else Console(file=console.file, width=500, no_color=True, emoji=False)


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr with the current item; nothing when stderr is no terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=total)
        done = -1

        def advance(description: str) -> None:
            nonlocal done
            done += 1
            bar.update(task, completed=done, description=description)

        yield advance


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on stderr during one long operation."""
    with Console(stderr=True).status(what):
        yield

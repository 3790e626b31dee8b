"""A run's page, written at the end of a command."""

from __future__ import annotations

from whisper_parity.errors import ParityError
from whisper_parity.run.folder import RunFolder
from whisper_parity.system.crash import reported
from whisper_parity.system.terminal import say


def write_page(run: RunFolder) -> str:
    """Write the run's page, and give the line that says where it is, or why there is none: the verdict stands."""
    from whisper_parity.report.html import page

    try:
        with reported(run.crashes):
            return f"page:   {page.write(run)}"
    except ParityError as error:
        return f"page:   not written: {error}"


def say_page(run: RunFolder) -> None:
    """Write the run's page, and say where it is."""
    say(write_page(run), to_stderr=True)

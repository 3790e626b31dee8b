"""How every command ends: an error is one line and the documented exit code."""

from __future__ import annotations

import errno
from typing import Any

import click

from whisper_parity import project
from whisper_parity.errors import MachineError, ParityError, first_line
from whisper_parity.system.crash import reported
from whisper_parity.system.ending import exit_code, signals
from whisper_parity.system.terminal import say

CLICK_ENDS = (click.exceptions.Exit, click.Abort, click.ClickException)
"""How click ends a command; no errors of a program."""


class Group(click.Group):
    """A group whose commands report errors as one line and the documented exit code; backends add groups of theirs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, those of backends too."""
        from whisper_parity.backend import registry

        return sorted({*super().list_commands(ctx), *registry.commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by name; a backend's module is imported only for its own."""
        from whisper_parity.backend import registry

        return super().get_command(ctx, cmd_name) or registry.command(cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            with signals(), reported(project.cache() / "crashes", *CLICK_ENDS):
                return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            how = f"; {interruption.args[0]}" if interruption.args else ""
            say(f"parity: interrupted{how}", to_stderr=True)
            ctx.exit(exit_code(interruption))
        except ParityError as error:
            say(f"parity: {error}", to_stderr=True)
            ctx.exit(error.exit_code)
        except OSError as error:  # a full disk, a name that is too long, a file that went away: wherever it happens
            if error.errno == errno.EPIPE:  # click ends quietly when a pipe is closed
                raise
            say(f"parity: {first_line(error)}", to_stderr=True)
            ctx.exit(MachineError.exit_code)

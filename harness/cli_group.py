"""How commands are found, and how every one of them ends: an error is one line and the documented exit code.

A command is imported when it is run, so that help and completion cost what they show and no more.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from whisper_parity.system import announced as packages

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Resolved = tuple[str | None, click.Command | None, list[str]]
COMMANDS = "whisper_parity.commands"
"""Entry-point group in which a package announces a command of `parity`: name = "package.module:click command"."""
SENTENCES = "whisper_parity.command_help"
"""The same for what `parity --help` says of it: name = "package.light_module:text"; else the command is imported."""

VARIABLE = "_PARITY_COMPLETE"
"""By which the shell asks for completion."""


class Group(click.Group):
    """A group whose commands report errors as one line and the documented exit code; backends add groups of theirs."""

    def __init__(self, *words: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **options: Any) -> None:
        """Take the commands of this program.

        Args:
            words: as click's.
            lazy: name -> ("module:attribute" under whisper_parity, what the list of commands says of it).
            options: as click's.
        """
        super().__init__(*words, **options)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, those of backends too."""
        return sorted({*super().list_commands(ctx), *self.lazy, *announced()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by name; its module is imported now."""
        if cmd_name in self.lazy:
            module, _, attribute = self.lazy[cmd_name][0].partition(":")
            command: click.Command = getattr(import_module(f"whisper_parity.{module}"), attribute)
            return command
        return super().get_command(ctx, cmd_name) or _plugged_in(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A command by the word that was typed; a close one is offered for one that is not there."""
        is_option = args[0][:1] == "-"
        if not is_option and not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            from whisper_parity.system.closeness import meant

            ctx.fail(f"No such command {args[0]!r}. {meant(args[0], self.list_commands(ctx))}".rstrip())
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.sentence(ctx, name)) for name in self.list_commands(ctx)])

    def sentence(self, ctx: click.Context, name: str) -> str:
        """What the list says of a command; of another package's, as it announces it, else by its own docstring."""
        if name in self.lazy:
            return self.lazy[name][1]
        from whisper_parity.errors import ParityError

        try:
            sentence = "" if name in self.commands else _sentence(name)
            command = None if sentence else self.get_command(ctx, name)
        except ParityError as error:
            return str(error)
        return sentence or (command.get_short_help_str(80) if command else "")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so, without importing one, and the options of the group."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=self.sentence(ctx, name)) for name in names]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def main(self, *words: Any, **options: Any) -> Any:
        """As click's; where the shell asks for completion, bash is answered in our way."""
        if os.environ.get(VARIABLE):
            import_module("whisper_parity.cli_complete")  # which says how bash is answered
        return super().main(*words, **{"complete_var": VARIABLE, **options})

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        from whisper_parity import project
        from whisper_parity.errors import MachineError, ParityError, first_line
        from whisper_parity.system.crash import reported
        from whisper_parity.system.ending import exit_code, signals
        from whisper_parity.system.terminal import say

        ends = (click.exceptions.Exit, click.Abort, click.ClickException)  # of click's commands, no errors
        try:
            with signals(), reported(project.cache() / "crashes", *ends):
                return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            how, done = (*interruption.args, "", "")[:2]
            if done:
                say(f"parity: interrupted: {done}", to_stderr=True)
            say(f"parity: {how}" if done else f"parity: interrupted{f'; {how}' if how else ''}", to_stderr=True)
            ctx.exit(exit_code(interruption))
        except ParityError as error:
            say(f"parity: {error}", to_stderr=True)
            ctx.exit(error.exit_code)
        except OSError as error:  # a full disk, a name that is too long, a file that went away: wherever it happens
            if error.errno == errno.EPIPE:  # click ends quietly when a pipe is closed
                raise
            say(f"parity: {first_line(error)}", to_stderr=True)
            ctx.exit(MachineError.exit_code)


def announced() -> list[str]:
    """Names of the commands of other packages, without importing one."""
    return list(packages.values(COMMANDS))


def _sentence(name: str) -> str:
    """What a package announces of its command; "" where it announces nothing that can be read."""
    return str(packages.loaded(packages.values(SENTENCES).get(name, "")) or "")


def _plugged_in(name: str) -> Any | None:
    """The command that an installed package announces under a name; None where none does.

    Raises:
        UnavailableError: its module does not import.
    """
    from importlib.metadata import entry_points

    point = next(iter(entry_points(group=COMMANDS, name=name)), None)
    try:
        return point.load() if point else None
    except Exception as error:  # a foreign package may raise anything while it is imported
        from whisper_parity.errors import UnavailableError, first_line

        where = point.value if point else ""
        raise UnavailableError(f"{name} ({where}) cannot be imported: {first_line(error)}") from error

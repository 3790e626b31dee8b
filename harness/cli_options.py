"""Options that commands share, and the order in which a run is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from whisper_parity import cli_complete, project
from whisper_parity.run import options as run_options
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.options import Kind, Option
from whisper_parity.system.terminal import Amount

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
VOCABULARIES = click.Choice(["51864", "51865", "51866"])
JSON = click.option("--json", "as_json", is_flag=True, help="all of it as JSON")


def options_of(name: str) -> Callable[[F], F]:
    """The options of a command, from the table; None means: as parity.toml says, else the default."""

    def decorate(command: F) -> F:
        for option in reversed(run_options.of(name)):
            command = _click_option(option)(command)
        return command

    return decorate


def _click_option(option: Option) -> Callable[[F], F]:
    shown = f"{option.help} [{option.default}]" if option.default else option.help
    if option.is_flag:
        return click.option(option.flag, option.name, is_flag=True, default=None, help=shown)
    kinds: dict[Kind, Any] = {
        Kind.COUNT: click.IntRange(1, run_options.MAX_THREADS), Kind.PATH: PATH, Kind.NUMBER: int, Kind.LENGTH: float,
    }  # fmt: skip
    return click.option(
        option.flag,
        option.name,
        metavar=option.metavar,
        help=shown,
        type=kinds.get(option.kind),
        multiple=option.is_list,
        shell_complete=cli_complete.VALUES.get(option.name),
    )


def amounts(command: F) -> F:
    """-v and -q of a command that shows a result, as one value."""

    def chosen(flag: Amount) -> Callable[[click.Context, click.Parameter, bool], None]:
        def choose(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
            if value:
                context.params["amount"] = flag
            context.params.setdefault("amount", Amount.SCREEN)

        return choose

    for flags, amount, text in (
        (("-q", "--quiet"), Amount.LINE, "one line"),
        (("-v", "--verbose"), Amount.ALL, "everything, what passed too"),
    ):
        command = click.option(*flags, is_flag=True, expose_value=False, callback=chosen(amount), help=text)(command)
    return command


def reports() -> Path:
    """Where the project's runs lie."""
    return run_options.read({}, project.find()).report_dir


def opened(run: Path | None) -> RunFolder:
    """A recorded run by path, name, or the newest."""
    return RunFolder.open(run, reports())

"""What the shell offers for a value: stages, clips, runs, policies, languages; and how to switch that on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from whisper_parity.cli_group import VARIABLE
from whisper_parity.errors import ParityError
from whisper_parity.system import announced as packages

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
SHELLS = ("bash", "zsh", "fish")
BACKENDS = "whisper_parity.backends"
VARIANTS = "whisper_parity.variants"
"""Entry-point group in which a package announces the variants of a backend: name = "package.light_module:tuple"."""
MOST_CLIPS = 1000
"""Of a set that are offered by name."""


def _of(names: Callable[[click.Context], Iterable[str]], *, is_list: bool = False) -> Completer:
    """A completer of names, of the last one behind a comma where a value holds several."""

    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        given, comma, last = incomplete.rpartition(",") if is_list else ("", "", incomplete)
        try:
            offered = [name for name in dict.fromkeys(names(context)) if name.startswith(last)]
        except (ParityError, OSError):  # nothing to offer in a folder whose parity.toml cannot be read
            return []
        taken = given.split(",") if is_list else []
        return [CompletionItem(f"{given}{comma}{name}") for name in offered if name not in taken]

    return complete


def _stages(_context: click.Context) -> Iterable[str]:
    """Every stage of the installed backends, variants too; one that announces its variants is not imported."""
    variants = packages.values(VARIANTS)
    for name in packages.values(BACKENDS):
        yield name
        announced = packages.loaded(variants.get(name, ""))
        yield from (f"{name}:{variant}" for variant in (announced if isinstance(announced, tuple) else _asked(name)))


def _asked(name: str) -> Iterable[str]:
    """The variants of a backend by itself, which takes long; none where it does not import."""
    from whisper_parity.backend.registry import Backends

    with suppress(ParityError):
        return Backends().get(name).variants
    return ()


def _clips(context: click.Context) -> Iterable[str]:
    """Names and tags of the manifest that was given, of parity.toml's, or of the embedded one."""
    from whisper_parity import project
    from whisper_parity.clips import selection
    from whisper_parity.run import options

    chosen = options.read({"manifest": context.params.get("manifest")}, project.find()).manifest
    clips = list(islice(selection.listed(chosen), MOST_CLIPS))
    yield from ("default", "all")
    yield from (clip.name for clip in clips)
    yield from sorted({tag for clip in clips for tag in clip.entry.tags})


def _runs(_context: click.Context) -> Iterable[str]:
    """The project's runs, the newest first."""
    from whisper_parity import project
    from whisper_parity.run import options
    from whisper_parity.run.folder import recorded

    return (run.name for run in recorded(options.read({}, project.find()).report_dir))


def _rows(context: click.Context) -> Iterable[str]:
    """The clips of a run: the one that was named, or the newest."""
    from whisper_parity import project
    from whisper_parity.run import options
    from whisper_parity.run.folder import RunFolder
    from whisper_parity.run.journal import Journal
    from whisper_parity.system import inputs

    given: Path | None = context.params.get("given")
    run = RunFolder.open(given, options.read({}, project.find()).report_dir)
    if keys := Journal(run.journal).keys("cell"):
        return dict.fromkeys(clip for clip, _ in keys)
    return dict.fromkeys(row["clip"] for row in inputs.read_json(run.report)["rows"])  # of an earlier version


def _policies(_context: click.Context) -> Iterable[str]:
    """The policies built in, and those of parity.toml."""
    from whisper_parity import project
    from whisper_parity.decode import policy

    return (*policy.BUILT_IN, *project.find().policies)


stages, stage = _of(_stages, is_list=True), _of(_stages)
runs, rows = _of(_runs), _of(_rows)


def runs_or_files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The runs of that name; where there is none, the shell's own files."""
    return runs(context, parameter, incomplete) or [CompletionItem(incomplete, type="file")]


VALUES: dict[str, Completer] = {
    "stages": stages,
    "clips": _of(_clips, is_list=True),
    "policy": _of(_policies),
    "run_id": runs,
}
"""By option of a run."""


class Bash(BashComplete):
    """Bash, which breaks words at a colon: a variant is asked for and given back behind it."""

    source_template = BashComplete.source_template.replace(
        'COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD', 'COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_CWORD=0'
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words of the line up to the cursor, and the one that is being typed."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        incomplete = "" if line[-1:].isspace() else words.pop()
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """One value, without what stands before the last colon on the line already."""
        _, incomplete = self.get_completion_args()
        typed = incomplete.rpartition(":")[0]
        value = item.value[len(typed) + 1 :] if typed and item.value.startswith(f"{typed}:") else item.value
        return f"{item.type},{value}"


add_completion_class(Bash)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what switches completion on: stages, clips, runs and policies too.

    bash: eval "$(parity completion bash)" in ~/.bashrc; zsh the same in ~/.zshrc; fish: parity completion fish | source
    """
    from whisper_parity.system.terminal import document

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - a shell of click's
    document(kind(context.find_root().command, {}, "parity", VARIABLE).source())

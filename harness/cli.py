"""The command line: thin; one function of the harness behind each command, imported when it is asked for.

Exit codes: 0 all pass (drift included), 1 diverged or nothing compared, 2 usage or bad input, 3 environment; 130 after
Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import atexit
import gc
import sys

import click

from whisper_parity.cli_group import Group

COMMANDS = {
    "approve": ("cli_runs:approve", "Sign a run: what the gate holds later ones against."),
    "backends": ("cli_site:backends", "The installed backends and their settings."),
    "build": ("cli_run:build", "Build artifacts only, and print where they are."),
    "cache": ("cli_site:cache", "What can be made again: how much it is, and removing it."),
    "compare": ("cli_runs:compare", "Two result files of any program, or two runs."),
    "completion": ("cli_complete:completion", "Complete commands and values in your shell."),
    "demo": ("cli_run:demo", "The embedded checkpoint through every stage."),
    "doctor": ("cli_site:doctor", "What is installed, what is missing, what to do next."),
    "explain": ("cli_runs:explain", "Why a clip differs: which edge, part and layer."),
    "features": ("cli_features:features", "Is this log-mel of another program Whisper's?"),
    "fetch": ("cli_fetch:fetch", "Public clips, by address and hash or from a folder."),
    "gate": ("cli_runs:gate", "May this run be released?"),
    "history": ("cli_runs:history", "The trend of every figure over the project's runs."),
    "noise": ("cli_run:noise", "How much the root alone moves: tolerances rest on it."),
    "report": ("cli_runs:report", "A run again: table, JSON, Markdown, JUnit, page, plots."),
    "run": ("cli_run:run", "Take clips through the stages and judge every edge."),
    "trust": ("cli_site:trust", "Agree to run the programs that a file names."),
    "weights": ("cli_weights:weights", "Which of a checkpoint's weights do converted files hold?"),
}
"""Name -> where the command is, and what `parity --help` says of it without importing it."""


@click.group(cls=Group, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="whisper-parity")
def main() -> None:
    """Is the model that I am about to ship still the same model, and if not, which step broke it?

    Exit codes: 0 all pass, 1 diverged, 2 usage or bad input, 3 environment, 130 Ctrl-C, 143 SIGTERM.
    """
    atexit.register(gc.freeze)  # looking for garbage among torch's objects at the exit takes nearly a second
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 must not stop a report
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()

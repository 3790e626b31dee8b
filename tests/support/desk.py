"""A clean clone with the reader's own files, and a shell in it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import warm as warming
from tests.support.checkout import CHECKOUT
from tests.support.documents import Block, Command

PROGRAMS = {"python": "", "python3": "", "pip": "-m pip --disable-pip-version-check"}
"""What a virtual environment has in its bin, by the arguments of this Python."""
WARM = {"parity": "whisper_parity.cli", "pytest": "pytest"}
"""The same, and forked from a process that has imported what they import; but where a wheel was installed."""
LIMIT_S = 600
MARK = "@@@ command"
ADDRESS = "127[.]0[.]0[.]1:[0-9]*"
_UNWANTED = ("CI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "VIRTUAL_ENV", "PYTHONPATH", "COLUMNS")
_STATED = {
    "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
    "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_QUIET": "1", "PIP_NO_BUILD_ISOLATION": "0",
    "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    command: Command
    exit_code: int
    printed: tuple[str, ...]
    """Both streams, as a terminal shows them."""


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with the project's files as git has them, and a shell."""

    folder: Path
    cache: Path

    @classmethod
    def laid(cls, folder: Path, cache: Path, own: Path, warm: Path) -> Desk:
        """Copy what git does not ignore, and the reader's files beside it.

        Args:
            folder: is made.
            cache: of artifacts, shared with other tests.
            own: what the reader has.
            warm: socket of a `warmed` process.
        """
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (CHECKOUT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, folder / name)
        shutil.copytree(own, folder, dirs_exist_ok=True, copy_function=os.link)
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, words in PROGRAMS.items():
            _write(programs / name, f'exec {sys.executable} {words} "$@"')
        for name, module in WARM.items():
            forked = f'exec {sys.executable} -S {warming.__file__} run {warm} {module} "$@"'
            cold = 'test -n "$COLD" || test -d "$PYTHONPATH/whisper_parity"'
            _write(programs / name, f'{cold} || {forked}\nexec {sys.executable} -m {module} "$@"')
        (folder / ".venv" / ".setup").touch()
        return cls(folder, cache)

    def run(self, blocks: Sequence[Block]) -> list[Ran]:
        """Run blocks in one shell, up to the first command that does not end as it should."""
        script = "\n".join(line for number, block in enumerate(blocks) for line in _lines(block, number))
        for shown in _addresses(blocks):  # those of the page stand for what was given
            script = script.replace(shown, "$address")
        with subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-c", script],
            cwd=self.folder, env=self._environment(), text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as shell:  # fmt: skip
            try:
                printed = shell.communicate(timeout=LIMIT_S)[0]
            finally:
                _end(shell.pid)
        return _ran(printed, [command for block in blocks if not block.is_meanwhile for command in block.commands])

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
        kept = {name: value for name, value in kept.items() if not name.startswith("PYTEST")}
        site = self.folder / "site"  # pip installs here, and leaves this Python's packages alone
        return {
            **kept, **_STATED, "PATH": f"{self.folder / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PIP_TARGET": str(site), "PYTHONPATH": str(site), "WHISPER_PARITY_CACHE": str(self.cache),
        }  # fmt: skip


@contextmanager
def warmed(path: Path) -> Iterator[Path]:
    """A process that forks commands (see `warm`), at a socket; what is left of them ends with it."""
    words = [sys.executable, warming.__file__, "serve", str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
        try:
            assert server.stdout
            assert server.stdout.readline() == "ready\n"
            yield path
        finally:
            _end(server.pid)


def _write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _lines(block: Block, number: int) -> list[str]:
    """A block as lines of a script that ends where a command does not end as it should."""
    before = [f"{{ {block.before}\n}} >/dev/null || exit"] if block.before else []
    if block.is_meanwhile:
        return [*before, *_meanwhile(block, f"meanwhile-{number}.log")]
    lines = []
    for command in block.commands:
        check = f'code=$?; printf "\\n{MARK} %s\\n" "$code"; test "$code" = {command.exit_code} || exit'
        lines += [command.text, check]
    return [*before, *lines]


def _meanwhile(block: Block, log: str) -> list[str]:
    """Its commands in the background; goes on once they have printed as many lines as are shown."""
    wanted = sum(len(command.shown) for command in block.commands)
    words = "\n".join(command.text for command in block.commands)
    wait = f'for _ in $(seq 600); do test "$(wc -l <{log})" -ge {wanted} && break; sleep 0.1; done'
    given = f"address=$(grep -om1 '{ADDRESS}' {log})"
    return [f"{{ export COLD=1; {words}\n}} >{log} 2>&1 &", wait, given]


def _addresses(blocks: Sequence[Block]) -> set[str]:
    """The addresses that the page shows of what runs in the background."""
    lines = (line for block in blocks if block.is_meanwhile for command in block.commands for line in command.shown)
    return {address for line in lines for address in re.findall(ADDRESS, line)}


def _ran(printed: str, commands: Sequence[Command]) -> list[Ran]:
    """What each command wrote."""
    ran: list[Ran] = []
    lines: list[str] = []
    for line in printed.splitlines():
        if line.startswith(MARK):
            ran.append(Ran(commands[len(ran)], int(line.removeprefix(MARK)), tuple(lines)))
            lines = []
        else:
            lines.append(line)
    if len(ran) < len(commands) and lines:
        ran.append(Ran(commands[len(ran)], -1, tuple(lines)))
    return ran


def _end(group: int) -> None:
    """End what is left of the shell's processes."""
    try:
        os.killpg(group, signal.SIGTERM)
    except ProcessLookupError:
        return

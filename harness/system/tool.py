"""Become another program that may write into named folders only: `python -m ...tool FOLDERS PROGRAM WORDS...`.

FOLDERS is a JSON list. The program is one that the user trusts, the file on which it works is not.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from whisper_parity.system import confine
from whisper_parity.system.process import python_module


def command(words: Sequence[str], writable: Sequence[Path]) -> list[str]:
    """The command that runs another one, confined."""
    folders = json.dumps([str(path.absolute()) for path in writable])
    return python_module("whisper_parity.system.tool", folders, *words)


def main(folders: str, *words: str) -> None:
    """Confine this process and become the program."""
    confine.confine_tool([Path(folder) for folder in json.loads(folders)])
    os.execv(words[0], words)  # noqa: S606 - a list, no shell


if __name__ == "__main__":
    main(*sys.argv[1:])

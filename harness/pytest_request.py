"""Whether a pytest session asks for parity, and for which project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from whisper_parity import project

MARKER = "parity"
_ASKED_FOR = re.compile(rf"(?<!\w){MARKER}(?!\w)")
_LEFT_OUT = re.compile(rf"(?<!\w)not\s+\(?\s*{MARKER}(?!\w)")


def is_wanted(config: pytest.Config) -> bool:
    """Whether parity is asked for: by -m, by naming parity.toml, or by --parity-gate."""
    expression = config.option.markexpr or ""
    by_marker = bool(_ASKED_FOR.search(expression)) and not _LEFT_OUT.search(expression)
    return by_marker or config.option.parity_gate or named_file(config) is not None


def named_file(config: pytest.Config) -> Path | None:
    """The parity.toml that was named as an argument; None where none was."""
    paths = (config.invocation_params.dir / str(word).partition("::")[0] for word in config.args)
    return next((path for path in paths if path.name == project.FILE_NAME and path.is_file()), None)

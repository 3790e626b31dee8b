"""Our modules as separate processes."""

from __future__ import annotations

import signal
import sys

_RUN = (  # `python -m` would put the working folder first on sys.path, with whatever a user keeps there
    "import sys; '' in sys.path and sys.path.remove(''); import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def python_module(module: str, *words: str) -> list[str]:
    """The command of `python -m module words` that never imports from the working folder."""
    return [sys.executable, "-c", _RUN, module, *words]


def exit_status(code: int) -> str:
    """How a process ended, by `returncode`: "exit code 1", "signal 6, Aborted"."""
    return f"exit code {code}" if code >= 0 else f"signal {-code}, {signal.strsignal(-code)}"

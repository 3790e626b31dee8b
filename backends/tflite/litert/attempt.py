"""Load a file and run it once, in a separate process: `python -m ....attempt FILE MODULE THREADS`; see trial.py."""

from __future__ import annotations

import importlib
import sys

from whisper_parity.errors import first_line


def main(path: str, module: str, threads: str) -> None:
    """Load a file and run it once on uninitialised inputs; on failure exit with the reason."""
    try:
        interpreter = importlib.import_module(module).Interpreter(model_path=path, num_threads=int(threads))
        interpreter.allocate_tensors()
        interpreter.invoke()
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(first_line(error))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What a trying process does: `python -m whisper_parity.backends.tflite.litert.attempt FILE MODULE THREADS`; its last line says why not."""

from __future__ import annotations

import importlib
import sys

from whisper_parity.errors import first_line


def main(path: str, module: str, threads: str) -> None:
    """Load a file and run it once, as the harness would, on whatever its inputs hold."""
    try:
        interpreter = importlib.import_module(module).Interpreter(model_path=path, num_threads=int(threads))
        interpreter.allocate_tensors()
        interpreter.invoke()
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(first_line(error))


if __name__ == "__main__":
    main(*sys.argv[1:])

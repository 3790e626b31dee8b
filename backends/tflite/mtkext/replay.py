"""Run a file once on given inputs, in a separate process: `python -m ....replay FILE MODULE THREADS INPUTS OUTPUTS`.

INPUTS and OUTPUTS are .npz files with arrays in graph order; on failure the last line of stderr is the reason.
"""

from __future__ import annotations

import importlib
import sys

import numpy as np

from whisper_parity.errors import first_line


def main(path: str, module: str, threads: str, inputs: str, outputs: str) -> None:
    """Load a file, run it once, and write its outputs."""
    try:
        interpreter = importlib.import_module(module).Interpreter(model_path=path, num_threads=int(threads))
        interpreter.allocate_tensors()
        with np.load(inputs, allow_pickle=False) as arrays:
            for number, detail in enumerate(interpreter.get_input_details()):
                interpreter.set_tensor(detail["index"], arrays[f"arr_{number}"])
        interpreter.invoke()
        np.savez(outputs, *(interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()))
    except (ValueError, RuntimeError, OSError, KeyError) as error:
        sys.exit(first_line(error))


if __name__ == "__main__":
    main(*sys.argv[1:])

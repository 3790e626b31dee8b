"""What a replaying process does: `python -m whisper_parity.backends.tflite.mtkext.replay FILE MODULE THREADS INPUTS OUTPUTS`.

Runs a file once on given inputs; its last line says why it could not. The arrays travel as .npz files, in graph order.
"""

from __future__ import annotations

import importlib
import sys

import numpy as np

from whisper_parity.errors import first_line


def main(path: str, module: str, threads: str, inputs: str, outputs: str) -> None:
    """Load a file, run it once, and write what it gave."""
    try:
        interpreter = importlib.import_module(module).Interpreter(model_path=path, num_threads=int(threads))
        interpreter.allocate_tensors()
        with np.load(inputs, allow_pickle=False) as given:
            for number, detail in enumerate(interpreter.get_input_details()):
                interpreter.set_tensor(detail["index"], given[f"arr_{number}"])
        interpreter.invoke()
        np.savez(outputs, *(interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()))
    except (ValueError, RuntimeError, OSError, KeyError) as error:
        sys.exit(first_line(error))


if __name__ == "__main__":
    main(*sys.argv[1:])

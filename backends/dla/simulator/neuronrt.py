"""A stand-in for MediaTek's neuronrt on a simulated device: same flags and output, computed by LiteRT on the host.

Environment: PARITY_SIM_FAULT, PARITY_SIM_COMPUTE_MS, PARITY_SIM_RUNTIME_MAJOR, as in the stand-in runtime.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backends.dla.simulator import container

BAD_DATA, INFERENCE_FAILED, CLI_ERROR = 4, 6, 1


def say(text: str) -> None:
    """Print a line as the tool would."""
    sys.stdout.write(f"{text}\n")


def fault() -> str:
    """The name of the fault to inject; "" for none."""
    return os.environ.get("PARITY_SIM_FAULT", "").partition(":")[0]


class Model:
    """A loaded container."""

    def __init__(self, path: Path) -> None:
        """Read and check the file.

        Raises:
            ValueError: the runtime would refuse it.
        """
        from ai_edge_litert.interpreter import Interpreter

        self.header, model = container.read(path.read_bytes())
        major = int(os.environ.get("PARITY_SIM_RUNTIME_MAJOR", "8"))
        if self.header.major != major:
            raise ValueError(f"DLA file is V{self.header.major}, mismatching runtime V{major}")
        if fault() == "bad_data":
            raise ValueError("NeuronRuntime_loadNetworkFromFile: BAD_DATA (4)")
        threads = int(os.environ.get("PARITY_SIM_THREADS", "2"))
        self.interpreter = Interpreter(model_content=model, num_threads=threads)
        self.interpreter.allocate_tensors()

    def run(self, inputs: list[bytes]) -> list[NDArray[Any]]:
        """Run one inference, float32 inputs and outputs rounded to fp16 like on an NPU without float32."""
        for detail, data in zip(self.interpreter.get_input_details(), inputs, strict=True):
            values = _rounded(np.frombuffer(data, detail["dtype"]))
            self.interpreter.set_tensor(detail["index"], values.reshape(detail["shape"]))
        self.interpreter.invoke()
        outputs = [self.interpreter.get_tensor(d["index"]) for d in self.interpreter.get_output_details()]
        return [_rounded(array) for array in outputs]

    def describe(self) -> None:
        """Print the I/O map."""
        for title, details in (
            ("Input", self.interpreter.get_input_details()),
            ("Output", self.interpreter.get_output_details()),
        ):
            say(f"{title}:")
            for handle, detail in enumerate(details):
                say(f"  Handle = {handle}, <{' x '.join(str(int(n)) for n in detail['shape'])}>")


def _rounded(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


def corrupt(outputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Apply the injected fault to the outputs."""
    if fault() == "nan_output":
        outputs[0].reshape(-1)[0] = np.nan
    if fault() == "swapped_output":
        outputs = [np.roll(array, array.size // 2) for array in outputs]
    if fault() == "short_output":
        outputs = [array.reshape(-1)[: array.size // 2] for array in outputs]
    if fault() == "wrong_shape":
        outputs = [np.append(array.reshape(-1), array.reshape(-1)[:16]) for array in outputs]
    return outputs


def infer(model: Model, inputs: list[Path], outputs: list[Path], count: int) -> int:
    """Run, write the outputs and print the time; return the exit code."""
    details = model.interpreter.get_input_details()
    data = [path.read_bytes() for path in inputs]
    expected = [np.dtype(detail["dtype"]).itemsize * int(np.prod(detail["shape"])) for detail in details]
    if [len(buffer) for buffer in data] != expected:
        say(f"ERROR: input sizes {[len(buffer) for buffer in data]}, expected {expected}")
        return CLI_ERROR
    started = time.monotonic()
    if fault() == "hang":
        time.sleep(3600)
    if fault() == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault() == "out_of_memory":
        say("[apusys][error]memAlloc: Cannot allocate memory\nERROR: APUSysEngine::BuildCmd() failed")
        return CLI_ERROR
    if fault() == "inference_error":
        say(f"ERROR: NeuronRuntime_inference failed with {INFERENCE_FAILED}")
        return CLI_ERROR
    for _ in range(count):
        results = model.run(data)
        time.sleep(float(os.environ.get("PARITY_SIM_COMPUTE_MS", "0")) / 1000)
    if fault() not in ("no_output", "stale_output"):
        for path, array in zip(outputs, corrupt(results)):
            path.write_bytes(array.tobytes())
    say(f"Total inference time = {(time.monotonic() - started) * 1000:.0f} ms")
    return 0


def main() -> int:
    """Behave like the tool, as far as its behaviour is public."""
    parser = argparse.ArgumentParser(prog="neuronrt (stand-in)", allow_abbrev=False)
    parser.add_argument("-m", dest="mode", default="null")
    parser.add_argument("-a", dest="model", type=Path)
    parser.add_argument("-d", dest="describe", action="store_true")
    parser.add_argument("-i", dest="inputs", action="append", type=Path, default=[])
    parser.add_argument("-o", dest="outputs", action="append", type=Path, default=[])
    parser.add_argument("-c", dest="count", type=int, default=1)
    parser.add_argument("-b", dest="boost", type=int, default=100)
    parser.add_argument("-v", dest="version", action="store_true")
    args = parser.parse_args()
    if args.version:
        say(f"Version: {container.VERSION} (stand-in of the simulator)")
        return 0
    try:
        model = Model(args.model)
    except (OSError, ValueError, TypeError) as error:
        say(f"ERROR: cannot load {args.model}: {error}")
        return BAD_DATA
    if args.describe:
        model.describe()
        return 0
    if args.mode != "hw":
        say("mode null: nothing is run")
        return 0
    return infer(model, args.inputs, args.outputs, args.count)


if __name__ == "__main__":
    sys.exit(main())

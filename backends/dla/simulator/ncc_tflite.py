"""A stand-in for ncc-tflite, run with `python -m`: IN.tflite --arch=... -o OUT.dla.

It compiles nothing. It rounds the weights to fp16, like an NPU without float32, and wraps them in a container with
the metadata of a real file, so that everything after the compiler can be tested without an SDK.

Environment: PARITY_SIM_NCC_FAULT = fail | no_output | cpu_target | hang | crash.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

from whisper_parity.backends.dla.simulator import container
from whisper_parity.backends.dla.simulator.container import Header, Tensor


def say(text: str) -> None:
    """Print a line as the tool would."""
    sys.stdout.write(f"{text}\n")


def compile_stand_in(source: Path, target: Path, arch: str, soc: str | None) -> None:
    """Write the container of a TFLite file."""
    from whisper_parity.backends.tflite.litert.convert import quantise

    with tempfile.TemporaryDirectory() as folder:
        fp16_file = Path(folder) / "fp16.tflite"
        quantise("fp16", source, fp16_file)
        model = fp16_file.read_bytes()
        inputs, outputs = _tensors(fp16_file)
    major = int(os.environ.get("PARITY_SIM_DLA_MAJOR", "8"))
    header = Header(container.VERSION, major, arch, soc, False, inputs, outputs, _targets(arch))
    container.write(target, header, model)


def _tensors(model: Path) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model))
    sides = interpreter.get_input_details(), interpreter.get_output_details()
    return tuple(  # type: ignore[return-value]
        tuple(Tensor(d["name"], tuple(int(n) for n in d["shape"]), d["dtype"].__name__) for d in side) for side in sides
    )


def _targets(arch: str) -> tuple[str, ...]:
    """The engines of the plan: the MDLA of the arch, plus the CPU for the fault cpu_target."""
    mdla = re.search(r"mdla(\d+)\.(\d+)", arch)
    name = f"MDLA_{mdla[1]}_{mdla[2]}" if mdla else "MDLA"
    return (name, "CPU") if os.environ.get("PARITY_SIM_NCC_FAULT") == "cpu_target" else (name,)


def _inject_fault() -> None:
    fault = os.environ.get("PARITY_SIM_NCC_FAULT")
    if fault == "fail":
        say("OP[12]: GELU unsupported operation\nERROR: NEURON_UNMAPPABLE")
        sys.exit(1)
    if fault == "hang":
        time.sleep(3600)
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)


def main() -> int:
    """Behave like the tool, as far as its behaviour is public."""
    parser = argparse.ArgumentParser(prog="ncc-tflite (stand-in)", allow_abbrev=False)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("-o", "-d", dest="out", type=Path)
    parser.add_argument("--arch", default="mdla5.3")
    parser.add_argument("--version", "-v", action="store_true")
    parser.add_argument("--show-exec-plan", action="store_true")
    args, _ = parser.parse_known_args()
    if args.version:
        say(f"Version: {container.VERSION} (stand-in of the simulator: compiles nothing)")
        return 0
    if args.model is None or not args.model.is_file():
        say(f"ERROR: cannot open {args.model}")
        return 1
    _inject_fault()
    if os.environ.get("PARITY_SIM_NCC_FAULT") != "no_output":
        compile_stand_in(args.model, args.out or args.model.with_suffix(".dla"), args.arch, None)
    if args.show_exec_plan:
        for target in _targets(args.arch):
            say(f"ExecutionStep: {args.model.stem}\n  Target: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

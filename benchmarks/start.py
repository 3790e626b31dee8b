"""How long the command line takes to answer, beside a Python that does nothing: `python -m benchmarks.start`."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

PARITY = ("-c", "from whisper_parity.cli import main; main(prog_name='parity')")
CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "python -c pass": (("-c", "pass"), ""),
    "parity --help": ((*PARITY, "--help"), ""),
    "parity run --help": ((*PARITY, "run", "--help"), ""),
    "completion of a command": (PARITY, "parity ga"),
    "completion of a run": (PARITY, "parity gate "),
    "completion of a clip": (PARITY, "parity run --clips "),
    "completion of a stage": (PARITY, "parity run --stages "),
}
"""What is measured: arguments of Python, and the line that the shell asks about."""


def seconds(words: tuple[str, ...], line: str, times: int) -> float:
    """Median time of a command [s]."""
    shell = {"_PARITY_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "0"} if line else {}
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], env={**os.environ, **shell}, capture_output=True, check=True)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    """Measure all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=11, metavar="N", help="runs of each [11]")
    times = parser.parse_args().times
    least = None
    for name, (words, line) in CASES.items():
        taken = seconds(words, line, times)
        least = least or taken
        sys.stdout.write(f"{name:<26} {taken * 1000:6.0f} ms   {taken / least:5.1f} x\n")


if __name__ == "__main__":
    main()

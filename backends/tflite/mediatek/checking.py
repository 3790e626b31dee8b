"""Find the right reading of MTKEXT ops: lower each, run it, and compare with MediaTek's own interpreter."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backends import provenance
from whisper_parity.backends.tflite.litert import trial
from whisper_parity.backends.tflite.mtkext import flatfile, ops
from whisper_parity.backends.tflite.mtkext.inspection import Port
from whisper_parity.backends.tflite.mtkext.lowering import lower
from whisper_parity.backends.tflite.mtkext.ops import Assumptions, Value
from whisper_parity.backends.tflite.mtkext.tensors import ARRAY_TYPES
from whisper_parity.compare import tensor
from whisper_parity.errors import ArtifactError, BackendError, ParityError, UnavailableError

FITS_DB = 80.0
"""Least SNR of a fitting reading, float32 against float32: erf and tanh GELU differ by about 70 dB."""
INPUT_LIMIT = 2**28
"""Most elements of a generated input."""
TOKENS = 100
"""Bound of generated integers."""

Arrays = list[NDArray[Any]]
Execute = Callable[[Arrays], Sequence[NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Fit:
    """One reading of a file, compared with the reference."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"ser_json_inf_nan": "strings"}

    changes: Mapping[str, Value]
    """Differences from the default reading; empty for the default itself."""
    snr_db: float | None
    """Of the worst output; None if it could not be compared."""
    max_abs_err: float | None
    """Over all outputs."""
    problem: str
    """Why it could not be compared, else ""."""

    @property
    def fits(self) -> bool:
        """Whether it equals the reference, within float32."""
        return self.snr_db is not None and self.snr_db >= FITS_DB


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of `parity mtk-check --json`."""

    file: str
    reference: str
    """MediaTek's interpreter and its version."""
    seed: int
    fits: tuple[Fit, ...]
    """Best first."""


def readings(path: Path) -> tuple[Assumptions, ...]:
    """The distinct readings of a file, the default first.

    Raises:
        ArtifactError: not a TFLite file.
    """
    return ops.readings(tuple(ops.custom_ops(flatfile.read(path))))


def sample(ports: Sequence[Port], seed: int) -> Arrays:
    """Generate inputs: standard normal reals, small natural numbers, the whole range of 8 and 16 bits.

    Raises:
        ArtifactError: an input without a fixed size, too large, or of an unsupported type.
    """
    generator = np.random.default_rng(seed)
    return [_sample(port, generator) for port in ports]


def check(path: Path, ports: Sequence[Port], execute: Execute, seed: int, threads: int) -> tuple[Fit, ...]:
    """Compare every reading of a file with a reference on the same inputs.

    Args:
        path: the file with its custom ops.
        ports: its inputs.
        execute: runs the file unchanged in MediaTek's interpreter.
        seed: of the generated inputs.
        threads: of LiteRT.

    Returns:
        The fits, best first.

    Raises:
        ArtifactError: not a TFLite file, or inputs that cannot be generated.
        UnavailableError: no interpreter for the lowered files.
        BackendError: the reference's outputs are empty or not finite.
    """
    arrays = sample(ports, seed)
    reference = [np.asarray(array) for array in execute(arrays)]
    if not reference or any(array.size == 0 or tensor.count_nonfinite(_real(array)) for array in reference):
        raise BackendError(f"{path}: MediaTek's interpreter gave nothing, or numbers that are not finite")
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        fits = [_fit(path, Path(folder), reading, arrays, reference, threads) for reading in readings(path)]
    return tuple(sorted(fits, key=_rank))


def replay(path: Path, arrays: Arrays, threads: int) -> Arrays:
    """Run a file once with LiteRT in a separate process, which a hostile file can crash or hang.

    Raises:
        ArtifactError: it cannot be loaded or run.
        UnavailableError: no TFLite interpreter.
    """
    module = _module()
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        inputs_file, outputs_file = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(inputs_file, *arrays)  # positional, in graph order
        arguments = [str(path.absolute()), module, str(threads), str(inputs_file), str(outputs_file)]
        if reason := trial.failure("whisper_parity.backends.tflite.mtkext.replay", arguments, [Path(folder)]):
            raise ArtifactError(f"{path}: cannot be run by LiteRT ({reason})")
        with np.load(outputs_file, allow_pickle=False) as outputs:
            return [outputs[f"arr_{number}"] for number in range(len(outputs.files))]


def _module() -> str:
    from whisper_parity.backends.tflite import INTERPRETERS

    for package, (module, _) in INTERPRETERS.items():
        if provenance.of(package):
            return module
    raise UnavailableError("no TFLite interpreter is installed", hint="Run `pip install ai-edge-litert`")


def _sample(port: Port, generator: np.random.Generator) -> NDArray[Any]:
    if port.dtype not in ARRAY_TYPES or not 0 < math.prod(port.shape) <= INPUT_LIMIT:
        raise ArtifactError(f"input {port.name} {port.dtype} {list(port.shape)}: no input can be generated for it")
    dtype = np.dtype(ARRAY_TYPES[port.dtype])
    if dtype.kind == "f":
        return generator.standard_normal(port.shape).astype(dtype)
    if dtype.itemsize <= 2 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, port.shape, dtype, endpoint=True)
    return generator.integers(0, 2 if dtype.kind == "b" else TOKENS, port.shape).astype(dtype)


def _fit(path: Path, folder: Path, reading: Assumptions, arrays: Arrays, reference: Arrays, threads: int) -> Fit:
    changes = ops.differences(reading)
    try:
        lower(path, folder / "lowered.tflite", reading)
        outputs = replay(folder / "lowered.tflite", arrays, threads)
    except UnavailableError:
        raise
    except ParityError as error:
        return Fit(changes, None, None, str(error))
    if problem := _mismatch(reference, outputs):
        return Fit(changes, None, None, problem)
    comparisons = [tensor.measure(reference=_real(r), candidate=_real(c)) for r, c in zip(reference, outputs)]
    snr_db = min(comparison.snr_db for comparison in comparisons)
    return Fit(changes, snr_db, max(comparison.max_abs_err for comparison in comparisons), "")


def _mismatch(reference: Arrays, outputs: Arrays) -> str:
    """Why two sets of outputs cannot be compared; "" if they can."""
    expected, actual = ([(array.dtype.name, array.shape) for array in side] for side in (reference, outputs))
    if expected != actual:
        return f"the reference gives {expected}, the lowered file {actual}"
    if nonfinite := sum(tensor.count_nonfinite(_real(array)) for array in outputs):
        return f"{nonfinite} numbers of the lowered file are not finite"
    return ""


def _real(array: NDArray[Any]) -> NDArray[np.floating[Any]]:
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _rank(fit: Fit) -> tuple[bool, float]:
    return fit.snr_db is None, -(fit.snr_db or 0.0)

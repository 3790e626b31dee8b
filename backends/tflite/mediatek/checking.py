"""Which reading of MTKEXT ops is the right one: each is lowered, run, and held against MediaTek's own interpreter."""

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
"""Least SNR of a reading that fits, float32 against float32: erf and tanh GELU differ by about 70 dB."""
INPUT_LIMIT = 2**28
"""Elements of an input that is made up."""
TOKENS = 100
"""Made-up integers are below this."""

Arrays = list[NDArray[Any]]
Execute = Callable[[Arrays], Sequence[NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Fit:
    """One reading of a file, held against the reference."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"ser_json_inf_nan": "strings"}

    changes: Mapping[str, Value]
    """What the reading sets differently from the defaults; nothing for the default one."""
    snr_db: float | None
    """Of the worst output; None when it could not be compared."""
    max_abs_err: float | None
    """Over all outputs."""
    problem: str
    """Why it could not be compared."""

    @property
    def fits(self) -> bool:
        """Whether it computes what the reference computes, within float32."""
        return self.snr_db is not None and self.snr_db >= FITS_DB


@dataclass(frozen=True, slots=True)
class Checked:
    """What `parity mtk-check --json` writes."""

    file: str
    reference: str
    """MediaTek's interpreter and its version; what the file was held against."""
    seed: int
    fits: tuple[Fit, ...]
    """Best first."""


def readings(path: Path) -> tuple[Assumptions, ...]:
    """The readings of a file that differ, the default first.

    Raises:
        ArtifactError: not a TFLite file.
    """
    return ops.readings(tuple(ops.custom_ops(flatfile.read(path))))


def sample(ports: Sequence[Port], seed: int) -> Arrays:
    """Made-up inputs: standard normal reals, small natural numbers, the whole range of 8 and 16 bits.

    Raises:
        ArtifactError: an input without a fixed size, too large, or of a type that is not made up.
    """
    generator = np.random.default_rng(seed)
    return [_sample(port, generator) for port in ports]


def check(path: Path, ports: Sequence[Port], execute: Execute, seed: int, threads: int) -> tuple[Fit, ...]:
    """Hold every reading of a file against a reference on the same inputs.

    Args:
        path: the file with its custom ops.
        ports: its inputs.
        execute: runs the file as it is: MediaTek's interpreter.
        seed: of the made-up inputs.
        threads: of LiteRT.

    Returns:
        The fits, best first.

    Raises:
        ArtifactError: not a TFLite file, or inputs that cannot be made up.
        UnavailableError: no interpreter for the lowered files.
        BackendError: the reference gave no finite numbers.
    """
    arrays = sample(ports, seed)
    reference = [np.asarray(each) for each in execute(arrays)]
    if not reference or any(each.size == 0 or tensor.count_nonfinite(_real(each)) for each in reference):
        raise BackendError(f"{path}: MediaTek's interpreter gave nothing, or numbers that are not finite")
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        found = [_fit(path, Path(folder), each, arrays, reference, threads) for each in readings(path)]
    return tuple(sorted(found, key=_badness))


def replay(path: Path, arrays: Arrays, threads: int) -> Arrays:
    """Run a file once by LiteRT in a process of its own: a hostile file can kill or stop it.

    Raises:
        ArtifactError: it cannot be loaded or run.
        UnavailableError: no TFLite interpreter.
    """
    module = _module()
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        given, gave = Path(folder) / "given.npz", Path(folder) / "gave.npz"
        np.savez(given, *arrays)  # positional, in graph order
        words = [str(path.absolute()), module, str(threads), str(given), str(gave)]
        if reason := trial.failure("whisper_parity.backends.tflite.mtkext.replay", words):
            raise ArtifactError(f"{path}: cannot be run by LiteRT ({reason})")
        with np.load(gave, allow_pickle=False) as outputs:
            return [outputs[f"arr_{number}"] for number in range(len(outputs.files))]


def _module() -> str:
    from whisper_parity.backends.tflite import INTERPRETERS

    for package, (module, _) in INTERPRETERS.items():
        if provenance.of(package):
            return module
    raise UnavailableError("no TFLite interpreter is installed", hint="Run `pip install ai-edge-litert`")


def _sample(port: Port, generator: np.random.Generator) -> NDArray[Any]:
    if port.dtype not in ARRAY_TYPES or not 0 < math.prod(port.shape) <= INPUT_LIMIT:
        raise ArtifactError(f"input {port.name} {port.dtype} {list(port.shape)}: cannot be made up")
    kind = np.dtype(ARRAY_TYPES[port.dtype])
    if kind.kind == "f":
        return generator.standard_normal(port.shape).astype(kind)
    if kind.itemsize <= 2 and kind.kind in "iu":
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max, port.shape, kind, endpoint=True)
    return generator.integers(0, 2 if kind.kind == "b" else TOKENS, port.shape).astype(kind)


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
    found = [tensor.measure(reference=_real(r), candidate=_real(c)) for r, c in zip(reference, outputs)]
    return Fit(changes, min(each.snr_db for each in found), max(each.max_abs_err for each in found), "")


def _mismatch(reference: Arrays, outputs: Arrays) -> str:
    """The first broken premise of a comparison; "" when there is none."""
    theirs, ours = ([(each.dtype.name, each.shape) for each in side] for side in (reference, outputs))
    if theirs != ours:
        return f"the reference gives {theirs}, the lowered file {ours}"
    if bad := sum(tensor.count_nonfinite(_real(each)) for each in outputs):
        return f"{bad} numbers of the lowered file are not finite"
    return ""


def _real(array: NDArray[Any]) -> NDArray[np.floating[Any]]:
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _badness(fit: Fit) -> tuple[bool, float]:
    return fit.snr_db is None, -(fit.snr_db or 0.0)

"""How far a candidate tensor is from its reference.

Every sum runs in float64. Formulas, for r = reference and c = candidate, both flattened, n elements:

    max_abs_err        max |c - r|
    mean_abs_err       sum |c - r| / n
    rmse               sqrt(sum (c - r)^2 / n)
    snr_db             10 log10(sum r^2 / sum (r - c)^2)    the reference is the signal
    cosine_similarity  sum r c / (|r| |c|)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

HIGHER_IS_BETTER = {
    "max_abs_err": False,
    "mean_abs_err": False,
    "rmse": False,
    "snr_db": True,
    "cosine_similarity": True,
}
"""Direction of each metric, read by the gate so that none is judged backwards."""


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """The distance between two tensors of equal shape, all elements finite."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_inf_nan": "strings"}

    max_abs_err: float
    max_abs_err_index: tuple[int, ...]
    """Where the largest difference is."""
    max_abs_ref: float
    """Largest magnitude of the reference, the scale for absolute errors."""
    mean_abs_err: float
    rmse: float
    snr_db: float
    """+inf when identical, -inf when the reference is all zero and the candidate is not."""
    cosine_similarity: float | None
    """None when one of the two has length zero: no direction to compare."""


def measure(*, reference: FloatArray, candidate: FloatArray) -> TensorDiff:
    """All metrics of one pair of tensors.

    Args:
        reference: float [...], finite.
        candidate: float, the same shape, finite.

    Raises:
        ValueError: shapes differ, an array is empty, or an element is not finite (the caller judges those first).
    """
    _require_comparable(reference, candidate)
    pairs = zip(_blocks(reference), _blocks(candidate))
    sums = [_sums(ref.astype(np.float64), cand.astype(np.float64)) for ref, cand in pairs]
    block = max(range(len(sums)), key=lambda index: sums[index].max_abs_err)
    signal, noise = math.fsum(part.signal for part in sums), math.fsum(part.noise for part in sums)
    dot, candidate_energy = math.fsum(part.dot for part in sums), math.fsum(part.candidate_energy for part in sums)
    worst = block * BLOCK + sums[block].worst
    return TensorDiff(
        max_abs_err=sums[block].max_abs_err,
        max_abs_err_index=tuple(int(i) for i in np.unravel_index(worst, reference.shape)),
        max_abs_ref=max(part.max_abs_ref for part in sums),
        mean_abs_err=math.fsum(part.abs_err for part in sums) / reference.size,
        rmse=math.sqrt(noise / reference.size),
        snr_db=snr_db(signal, noise),
        cosine_similarity=_cosine(dot, signal, candidate_energy),
    )


BLOCK = 1 << 16
"""Elements of which sums are taken at once: float64 copies of them stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """What a block adds to the metrics."""

    dot: float
    signal: float
    candidate_energy: float
    noise: float
    abs_err: float
    max_abs_err: float
    worst: int
    """Where that is in the block."""
    max_abs_ref: float


def _blocks(tensor: FloatArray) -> list[FloatArray]:
    flat = tensor.ravel()
    return [flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK)]


def _sums(ref: FloatArray, cand: FloatArray) -> _Sums:
    error = np.abs(cand - ref)
    worst = int(error.argmax())
    return _Sums(
        _product(ref, cand), _product(ref, ref), _product(cand, cand), _product(error, error), float(error.sum()),
        float(error[worst]), worst, float(np.abs(ref).max()),
    )  # fmt: skip


def _product(one: FloatArray, other: FloatArray) -> float:
    """Sum of the products in this thread: BLAS would wake others, and wait for them longer than this takes."""
    return float(np.einsum("i,i->", one, other))


def snr_db(signal: float, noise: float) -> float:
    """10 log10(signal / noise) of two energies [dB]; identical is +inf, error on a zero reference is -inf."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def count_nonfinite(tensor: FloatArray) -> int:
    """How many elements are NaN or infinite."""
    return int(tensor.size - np.count_nonzero(np.isfinite(tensor)))


def first_nonfinite(tensor: FloatArray) -> tuple[int, ...]:
    """Index of the first element, in memory order, that is NaN or infinite."""
    return tuple(int(i) for i in np.argwhere(~np.isfinite(tensor))[0])


def _require_comparable(reference: FloatArray, candidate: FloatArray) -> None:
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes differ: reference {reference.shape}, candidate {candidate.shape}")
    if reference.size == 0:
        raise ValueError("nothing to compare: the tensors are empty")
    if count_nonfinite(reference) or count_nonfinite(candidate):
        raise ValueError("not finite: judge NaN and Inf before values")


def _cosine(dot: float, signal: float, candidate_energy: float) -> float | None:
    if signal == 0 or candidate_energy == 0:
        return None
    return max(-1.0, min(1.0, dot / math.sqrt(signal) / math.sqrt(candidate_energy)))

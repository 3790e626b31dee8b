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
    ref = reference.astype(np.float64).ravel()
    error = candidate.astype(np.float64).ravel()
    dot, candidate_energy = float(ref @ error), float(error @ error)
    error -= ref
    signal, noise = float(ref @ ref), float(error @ error)
    np.abs(error, out=error)
    worst = int(error.argmax())
    return TensorDiff(
        max_abs_err=float(error[worst]),
        max_abs_err_index=tuple(int(i) for i in np.unravel_index(worst, reference.shape)),
        max_abs_ref=float(np.abs(ref, out=ref).max()),
        mean_abs_err=float(error.mean()),
        rmse=math.sqrt(noise / error.size),
        snr_db=snr_db(signal, noise),
        cosine_similarity=_cosine(dot, signal, candidate_energy),
    )


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

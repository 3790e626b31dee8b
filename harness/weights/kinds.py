"""In which way a constant differs from its tensor, in words: only what holds of every element is said."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from whisper_parity.backend.constants import Float32
from whisper_parity.model import vocabulary
from whisper_parity.model.dims import Dims
from whisper_parity.weights import fit
from whisper_parity.weights.fit import Fit, Grade
from whisper_parity.weights.reference import PROJECTION, TABLE

TABLES = (TABLE, PROJECTION)
"""Tensors whose rows are tokens."""
SHOWN = 5
"""Rows that a sentence lists."""
FACTOR_DB = 100.0
"""Least SNR of a tensor times one number for that to be said."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor and what stands in its place, in the tensor's shape."""

    tensor: str
    reference: Float32
    held: Float32
    fit: Fit
    dims: Dims


def describe(pair: Pair) -> str:
    """How it differs; at least by how much."""
    for kind in _KINDS:
        if words := kind(pair):
            return words
    return f"differs by {_db(pair.fit.snr_db)}"


def _db(snr_db: float) -> str:
    return f"{snr_db:.0f} dB"


def _not_finite(pair: Pair) -> str:
    count = pair.fit.not_finite
    return f"has {count} value(s) that are NaN or infinite{_where(pair)}" if count else ""


def _rounded(pair: Pair) -> str:
    return "is rounded to bfloat16" if pair.fit.grade is Grade.BFLOAT16 else ""


def _zero(pair: Pair) -> str:
    if pair.fit.grade is not Grade.ZERO:
        return ""
    return f"is lost: all {pair.held.size} values in its place are zero"


def _few_rows(pair: Pair) -> str:
    """Rows that alone differ: what they hold instead, if it is told."""
    rows = pair.fit.rows
    if not rows or len(rows) == len(pair.reference):
        return ""
    taken = [_row_of(pair, row) for row in rows] if pair.reference.ndim > 1 else []
    if taken and all(place is not None for place in taken):
        names = [f"{_name(pair, row)} is that of {_name(pair, place or 0)}" for row, place in zip(rows, taken)]
        return f"has rows exchanged: {_listed(names)}"
    if not np.any(pair.held[list(rows)]):
        return f"has {_places(pair)} zero"
    part = list(rows)
    within = fit.measure(pair.reference[part], pair.held[part]).snr_db
    return f"differs in {_places(pair)} alone, there by {_db(within)}"


def _row_of(pair: Pair, row: int) -> int | None:
    """The checkpoint's row that stands in a row's place; None for none."""
    same = np.flatnonzero((pair.reference == pair.held[row]).reshape(len(pair.reference), -1).all(axis=1))
    return int(same[0]) if same.size == 1 else None


def _shifted(pair: Pair) -> str:
    for count in (1, -1):
        if len(pair.reference) > 2 and np.array_equal(np.roll(pair.reference, count, axis=0), pair.held):
            return (
                f"is shifted by one row: row {1 if count > 0 else 0} holds the checkpoint's row {0 if count > 0 else 1}"
            )
    return ""


def _reordered(pair: Pair) -> str:
    """The same rows, or the same columns, in another order."""
    if pair.reference.ndim != 2:
        return ""
    for axis, name in ((0, "rows"), (1, "columns")):
        wanted, held = np.moveaxis(pair.reference, axis, 0), np.moveaxis(pair.held, axis, 0)
        if np.array_equal(_sorted(wanted), _sorted(held)):
            return f"has its {name} in another order"
    return ""


def _sorted(rows: Float32) -> Float32:
    """Rows in an order of their own."""
    sums = np.ascontiguousarray(rows)[:, :8]
    order = np.lexsort(sums.T)
    ordered: Float32 = rows[order]
    return ordered


def _columns(pair: Pair) -> str:
    """Columns that alone differ."""
    if pair.reference.ndim != 2:
        return ""
    differs = np.flatnonzero((pair.reference != pair.held).any(axis=0))
    width, count = pair.reference.shape[1], len(differs)
    if not 0 < count <= width // 2:
        return ""
    is_zero = not np.any(pair.held[:, differs])
    spans = _spans([int(place) for place in differs])
    if len(spans) > SHOWN:
        return ""
    where = f"columns {_listed(spans)}{_of_heads(pair, 1, [int(place) for place in differs])}"
    return f"has {where} zero" if is_zero else f"differs in {where} alone"


def _flipped(pair: Pair) -> str:
    if pair.reference.ndim == 3 and np.array_equal(pair.reference[..., ::-1], pair.held):
        return "has its kernel turned round"
    return ""


def _factor(pair: Pair) -> str:
    """The tensor times one number."""
    reference, held = (values.astype(np.float64).reshape(-1) for values in (pair.reference, pair.held))
    energy = float(reference @ reference)
    if not energy or not np.isfinite(held).all():
        return ""
    factor = float(reference @ held) / energy
    rest = held - factor * reference
    if factor and float(rest @ rest) < 10 ** (-FACTOR_DB / 10) * factor**2 * energy:
        return f"is {factor:.4g} times the checkpoint's"
    return ""


def _coarse(pair: Pair) -> str:
    bits, shared = fit.coarse_bits(pair.reference, pair.held)
    return f"is rounded to {bits} bits, one step for each {shared} ({_db(pair.fit.snr_db)})" if bits else ""


_KINDS: tuple[Callable[[Pair], str], ...] = (
    _not_finite, _rounded, _zero, _few_rows, _shifted, _reordered, _flipped, _factor, _coarse, _columns,
)  # fmt: skip


def _where(pair: Pair) -> str:
    return f" in {_places(pair)}" if pair.fit.rows else ""


def _places(pair: Pair) -> str:
    """Rows by what they are: tokens of a table, else spans."""
    rows = pair.fit.rows
    if pair.tensor in TABLES:
        names = [_name(pair, row) for row in rows]
        return f"row{'s' if len(rows) > 1 else ''} {_listed(names)}"
    word = "row" if pair.reference.ndim > 1 else "value"
    return f"{word}{'s' if len(rows) > 1 else ''} {_listed(_spans(rows))}{_of_heads(pair, 0, rows)}"


def _name(pair: Pair, row: int) -> str:
    """A row of the vocabulary with its token."""
    is_token = pair.tensor in TABLES and row < pair.dims.vocabulary
    return f"{row} ({vocabulary.token_text(pair.dims.vocabulary, [row])!r})" if is_token else str(row)


def _spans(places: Sequence[int]) -> list[str]:
    """Neighbouring places joined: "0 to 63"."""
    spans: list[list[int]] = []
    for place in places:
        if spans and place == spans[-1][1] + 1:
            spans[-1][1] = place
        else:
            spans.append([place, place])
    return [str(first) if first == last else f"{first} to {last}" for first, last in spans]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _of_heads(pair: Pair, axis: int, places: Sequence[int]) -> str:
    """Where these rows or columns are whole attention heads: "(head 2)", behind a space."""
    sides = "query|key|value" if axis == 0 else "out"
    if not re.search(rf"attn\.({sides})\.", pair.tensor):
        return ""
    is_encoder = pair.tensor.startswith("encoder.")
    count = pair.dims.n_audio_head if is_encoder else pair.dims.n_text_head
    width = pair.reference.shape[axis] // count
    heads = [head for head in range(count) if set(range(head * width, (head + 1) * width)) <= set(places)]
    if len(heads) * width != len(places) or len(heads) == count:
        return ""
    return f" (head {', '.join(map(str, heads))})"

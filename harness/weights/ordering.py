"""Weights in an order that a network does not feel: heads of an attention, hidden channels of an MLP, consistently.

    scores    q k^T: the rows of queries and keys in the same order, heads as a whole
    mixing    out v: the rows of values and the columns of the output in the same order, heads as those of the scores
    MLP       the rows of the first layer and the columns of the second in the same order

What is in another order without its partners is a difference like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.constants import Float32
from whisper_parity.weights import fit, layout
from whisper_parity.weights.finding import Finder, Match
from whisper_parity.weights.fit import Fit

SUBLAYER = re.compile(r"((?:en|de)coder\.blocks\.\d+\.(?:attn|cross_attn|mlp))\.")
COLUMNS = ("out.weight", "mlp.2.weight")
"""Tensors whose columns are in the order of heads or hidden channels; of the others of a group, the rows are."""
GROUPS: Mapping[str, Sequence[Sequence[str]]] = {
    "attn": (("query.weight", "query.bias", "key.weight"), ("value.weight", "value.bias", "out.weight")),
    "mlp": (("0.weight", "0.bias", "2.weight"),),
}
"""By kind of sublayer: what has to be in the same order, the matrix that tells the order first."""

Order = NDArray[np.int64]


def settled(finder: Finder, matches: Sequence[Match]) -> tuple[Match, ...]:
    """Matches of which those in a consistent order are as good as in their place.

    Args:
        finder: of the checkpoint.
        matches: of one file.
    """
    by_tensor = {match.target.tensor: match for match in matches if not match.target.span}
    sublayers = dict.fromkeys(found[1] for name in by_tensor if (found := SUBLAYER.match(name)))
    fits: dict[str, Fit] = {}
    for sublayer in sublayers:
        fits |= _of_sublayer(finder, sublayer, by_tensor)
    return tuple(
        replace(match, fit=fits[match.target.tensor]) if match.target.tensor in fits else match for match in matches
    )


def _of_sublayer(finder: Finder, sublayer: str, by_tensor: Mapping[str, Match]) -> dict[str, Fit]:
    """Fits of a sublayer's tensors in the order of its heads or hidden channels; empty unless that is consistent."""
    kind = "mlp" if sublayer.endswith("mlp") else "attn"
    groups = [[by_tensor[name] for name in _names(sublayer, group) if name in by_tensor] for group in GROUPS[kind]]
    if not any(match.fit.grade is fit.Grade.DIFFERS for group in groups for match in group):
        return {}
    orders = [_order(finder, group) for group in groups]
    if any(order is None for order in orders) or not _heads_agree(finder, sublayer, kind, orders):
        return {}
    fits = {
        match.target.tensor: _fit(finder, match, order)
        for group, order in zip(groups, orders) for match in group
        if order is not None
    }  # fmt: skip
    return {} if any(found.grade is fit.Grade.DIFFERS for found in fits.values()) else fits


def _names(sublayer: str, group: Sequence[str]) -> Iterator[str]:
    yield from (f"{sublayer}.{name}" for name in group)


def _order(finder: Finder, group: Sequence[Match]) -> Order | None:
    """The order in which the first matrix of a group has its rows; None where it has others."""
    if not group or not group[0].target.tensor.endswith("weight"):
        return None
    return permutation(*_arrays(finder, group[0]))


def _heads_agree(finder: Finder, sublayer: str, kind: str, orders: Sequence[Order | None]) -> bool:
    """Whether heads stay whole, and those of scores and of values go to the same places."""
    if kind == "mlp":
        return True
    width = int(finder.weights.head_width(sublayer))
    heads = [(order // width).reshape(-1, width) for order in orders if order is not None]
    return all(bool((head == head[:, :1]).all()) and np.array_equal(head, heads[0]) for head in heads)


def _fit(finder: Finder, match: Match, order: Order) -> Fit:
    reference, held = _arrays(finder, match)
    axis = int(match.target.tensor.endswith(COLUMNS))
    computed = bool(match.target.power or match.target.norm)
    return fit.measure(np.take(reference, order, axis), held, computed=computed)


def _arrays(finder: Finder, match: Match) -> tuple[Float32, Float32]:
    """What was looked for and what stands there, in the same shape."""
    reference = finder.weights.target(match.target)
    values = match.item.of(match.item.constant.values())
    return reference, np.asarray(layout.arranged(values, match.order, reference.shape))


def permutation(reference: Float32, held: Float32) -> Order | None:
    """Which row of the reference each row of an array is; None where they are not the same rows."""
    ours, theirs = layout.row_marks(reference), layout.row_marks(held)
    order = np.empty(len(ours), np.int64)
    order[np.argsort(theirs, kind="stable")] = np.argsort(ours, kind="stable")
    return order if np.array_equal(reference[order], held) else None

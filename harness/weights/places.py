"""Whether weights stand where they belong: by the file's own names, and by the order in which it takes them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from whisper_parity.weights.finding import Finder, Match

IN_ORDER = re.compile(r"((?:en|de)coder)\.blocks\.(\d+)\.(attn\.(?:query|key|value|out)|mlp\.[02])\.weight")
"""Weights that hidden states run through, block by block; what cross attention does to the audio may be done ahead."""


def misplaced(finder: Finder, matches: Sequence[Match], component: str) -> dict[str, Match]:
    """By the tensor whose place it is: what stands there, a tensor of the checkpoint with other numbers."""
    return {**dict(_by_name(finder, matches, component)), **dict(_by_order(finder, matches))}


def _by_name(finder: Finder, matches: Iterable[Match], component: str) -> Iterator[tuple[str, Match]]:
    held: dict[str, set[str]] = {}
    for match in matches:
        held.setdefault(match.item.constant.key, set()).add(match.target.tensor)
    for match in matches:
        name = finder.named(match.item.constant, component)
        if not name or name in held[match.item.constant.key] or match.item.span or match.target.span:
            continue
        if not _are_alike(finder, name, match.target.tensor):
            yield name, match


def _by_order(finder: Finder, matches: Iterable[Match]) -> Iterator[tuple[str, Match]]:
    """Blocks that the file runs through in another order than the checkpoint's."""
    kinds: dict[tuple[str, str], list[tuple[int, int, Match]]] = {}
    for match in matches:
        name, order = IN_ORDER.fullmatch(match.target.tensor), match.item.constant.order
        if name and order is not None and not match.target.span:
            kinds.setdefault((name[1], name[3]), []).append((order, int(name[2]), match))
    for (component, kind), uses in kinds.items():
        ranked = sorted(uses, key=lambda use: use[:2])
        layers = [layer for _, layer, _ in ranked]
        if max(Counter(layers).values()) > 1 or len({order for order, _, _ in ranked}) < len(ranked):
            continue  # used twice, or side by side: the order says nothing
        for place, (_, layer, match) in zip(sorted(layers), ranked):
            tensor = f"{component}.blocks.{place}.{kind}.weight"
            if place != layer and not _are_alike(finder, tensor, match.target.tensor):
                yield tensor, match


def _are_alike(finder: Finder, first: str, second: str) -> bool:
    weights = finder.weights
    return weights.shape(first) == weights.shape(second) and np.array_equal(
        weights.values(first), weights.values(second)
    )

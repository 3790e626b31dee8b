"""The look-up: which constant of a file is which tensor of the checkpoint.

A tensor is recognised by a sample of its elements under each order of axes. Equal samples, as they are or rounded, are
looked up in a table; the others are held against all of their size at once, so that arrays are never compared whole
before they are likely to be the same. What was recognised is then compared whole (`fit`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.constants import Constant, Float32
from whisper_parity.weights import fit, layout, naming, pairing, reference
from whisper_parity.weights.fit import Fit
from whisper_parity.weights.layout import Order
from whisper_parity.weights.reference import TABLE, Span, Target, Weights

NEAR = 0.8
"""Most error energy, as a part of the tensor's, of a matrix that is still recognised: others have about 2."""
NEAR_VECTOR = 0.1
"""The same for biases, gains and shifts, which resemble each other."""
APART = 4.0
"""How many times further the second-best tensor must be for a vector to be recognised."""
FIRST_ROWS = 8
"""Rows by which a table of another length is recognised."""
PARTS_LIMIT = 256
"""Most parts that one constant is cut into: stacked layers, heads."""
ROUNDINGS: tuple[Callable[[Float32], Float32], ...] = (np.asarray, *(rounding for _, rounding in fit.ROUNDINGS))

Key = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Item:
    """A constant of the file, or a part of it."""

    constant: Constant
    span: Span | None = None
    """Along an axis of its squeezed shape."""
    unrolled: tuple[int, ...] = ()
    """Axes of the kernel that it holds as a matrix."""

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Its numbers, of those of the whole constant."""
        if self.unrolled:
            return values.reshape(self.unrolled)
        if self.span is None:
            return values
        return np.asarray(self.span.of(values.reshape(layout.squeezed(values.shape))))

    def steps(self) -> Float32 | None:
        """Its quantisation steps, in the shape of `values`; None for floats."""
        steps = self.constant.steps()
        return None if steps is None else self.of(np.broadcast_to(steps, self.constant.shape))


@dataclass(frozen=True, slots=True)
class Match:
    """A constant, or a part of it, that is a tensor of the checkpoint, or a part of it."""

    target: Target
    item: Item
    order: Order
    fit: Fit

    @property
    def how(self) -> str:
        """The layout in words; "" for the tensor as it is."""
        cut = f"{self.item.span} of {self.item.constant.key}" if self.item.span else ""
        return ", ".join(filter(None, [str(self.target), layout.words(self.order), cut]))


class Finder:
    """The checkpoint's tensors, ready to be looked up in any number of files."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.names = frozenset(weights.names)
        self._last: tuple[Constant, Float32] | None = None

    def matches(self, constants: Sequence[Constant], component: str) -> tuple[Match, ...]:
        """What a file's constants are.

        Args:
            constants: of one file.
            component: "encoder" or "decoder", whose tensors are expected; "" for all of the checkpoint's.
        """
        numbers = [constant for constant in constants if constant.is_number and constant.stored.size > 1]
        found = [match for constant in numbers for match in self._equal(constant, component)]
        found += self._resized(_left(numbers, found), component, found)
        found += self._reordered(_left(numbers, found), self._missing(found, component))
        found += self._near_matrices(_left(numbers, found), self._missing(found, component))
        found += self._beside(_left(numbers, found), self._missing(found, component), found)
        found += self._named(_left(numbers, found), self._missing(found, component), component, found)
        found += self._near_vectors(_left(numbers, found), self._missing(found, component), found)
        return tuple(found)

    def named(self, constant: Constant, component: str) -> str:
        """The tensor that a constant's names stand for; "" where they do not say."""
        return naming.tensor(constant.names, component, self.names)

    def wanted(self, component: str) -> tuple[str, ...]:
        """Tensors of a component; all for ""."""
        prefix = f"{component}." if component else ""
        apart = {TABLE} - {self.weights.projection}  # in a file of its own, where the projection is another one
        return tuple(name for name in self.weights.names if name.startswith(prefix) and name not in apart)

    def _values(self, item: Item) -> Float32:
        """An item's numbers; those of the last constant are kept, since its parts are asked for one by one."""
        if self._last is None or self._last[0] is not item.constant:
            self._last = item.constant, item.constant.values()
        return item.of(self._last[1])

    @cached_property
    def _table(self) -> Mapping[Key, tuple[Target, ...]]:
        """By size and sample, as it is and rounded: what it may be."""
        plain = (target for name in self.weights.names for target in self.weights.variants(name))
        folded = (target for target in self.weights.folded() if target.tensor.endswith("weight"))
        return _entered((target, self._size(target), self._sample(target)) for target in (*plain, *folded))

    def _size(self, target: Target) -> int:
        if target.norm and target.tensor.endswith("bias"):
            return self.weights.shape(f"{target.tensor.removesuffix('bias')}weight")[0]
        return math.prod(self.weights.shape(target.tensor))

    def _sample(self, target: Target) -> Float32:
        return self.weights.sample(target, layout.positions(self._size(target)))

    @cached_property
    def _parts(self) -> Mapping[Key, tuple[Target, ...]]:
        """The same for the heads of attention: rows of queries, keys and values, columns of the output."""
        return _entered(self._heads())

    def _heads(self) -> Iterator[tuple[Target, int, Float32]]:
        for name in self.weights.names:
            kind = name.rsplit(".", 2)[-2:]
            if "attn." not in name or kind[0] not in ("query", "key", "value", "out") or kind == ["out", "bias"]:
                continue
            width, axis = int(self.weights.head_width(name)), int(kind[0] == "out")
            for whole in self.weights.variants(name):
                values = self.weights.target(whole)
                for start in range(0, values.shape[axis], width):
                    span = Span(axis, start, start + width)
                    part = span.of(values)
                    yield Target(name, span, whole.power), part.size, layout.sample(part, _as_is(part))

    def _equal(self, constant: Constant, component: str) -> list[Match]:
        """Tensors, parts of tensors or several tensors that a constant is, by equal samples."""
        for item in (Item(constant), *self._kernels(constant)):
            if found := self._looked_up(item, component, self._table):
                return found
        cuts = [self._cut(constant, axis) for axis in range(len(layout.squeezed(constant.shape)))]
        for items in cuts:
            found = [match for item in items for match in self._looked_up(item, component, self._table)]
            if found:
                return found
        if constant.stored.size in self._head_sizes:
            return self._looked_up(Item(constant), component, self._parts)
        return []

    @cached_property
    def _head_sizes(self) -> frozenset[int]:
        dims = self.weights.dims
        widths = {dims.n_audio_state // dims.n_audio_head, dims.n_text_state // dims.n_text_head}
        return frozenset({*widths, *(width * dims.n_text_state for width in widths)})

    def _kernels(self, constant: Constant) -> Iterator[Item]:
        """A matrix as the kernel of a convolution that is computed as a product."""
        shapes = {self.weights.shape(name) for name in self.weights.names if "conv" in name}
        axes = layout.squeezed(constant.shape)
        for kernel in shapes if len(axes) == 2 else ():
            for shape in permutations(kernel):
                if len(kernel) == 3 and axes in ((shape[0], shape[1] * shape[2]), (shape[0] * shape[1], shape[2])):
                    yield Item(constant, unrolled=shape)

    def _cut(self, constant: Constant, axis: int) -> list[Item]:
        """A constant in parts as long as the model is wide: stacked queries, keys and values."""
        width, length = self.weights.dims.n_text_state, layout.squeezed(constant.shape)[axis]
        if length % width or not 1 < length // width <= PARTS_LIMIT:
            return []
        return [Item(constant, Span(axis, start, start + width)) for start in range(0, length, width)]

    def _looked_up(self, item: Item, component: str, table: Mapping[Key, tuple[Target, ...]]) -> list[Match]:
        values = self._values(item)
        for order in layout.orders(values.shape):
            targets = table.get(_key(values.size, layout.sample(values, order)), ())
            if chosen := self._chosen(targets, item.constant, component):
                return [self._match(target, item, order) for target in chosen]
        return []

    def _chosen(self, targets: Sequence[Target], constant: Constant, component: str) -> list[Target]:
        """Of tensors that are alike, the one that the file names, else all."""
        inside = [target for target in targets if target.tensor.startswith(component)] or list(targets)
        name = self.named(constant, component) if len(inside) > 1 else ""
        return [target for target in inside if target.tensor == name] or inside

    def _match(self, target: Target, item: Item, order: Order) -> Match:
        reference = self.weights.target(target)
        values, steps = self._values(item), item.steps()
        held = np.asarray(layout.arranged(values, order, reference.shape))
        grid = None
        if steps is not None:
            ends = item.of(item.constant.ends())
            grid = fit.Grid(*(layout.arranged(part, order, reference.shape) for part in (steps, ends)))
        return Match(
            target, item, order, fit.measure(reference, held, grid, computed=bool(target.power or target.norm))
        )

    def _missing(self, found: Iterable[Match], component: str) -> list[str]:
        held = {match.target.tensor for match in found}
        return [name for name in self.wanted(component) if name not in held]

    def _resized(self, constants: Sequence[Constant], component: str, found: Sequence[Match]) -> list[Match]:
        """Tables with fewer rows (a shorter window) or more of them (a padded vocabulary), by their first rows."""
        tables = [name for name in self._missing(found, component) if name.endswith("embedding") or "token_emb" in name]
        resized = []
        for constant in constants:
            for name in tables:
                resized += self._first_rows(constant, name)
        return resized

    def _first_rows(self, constant: Constant, name: str) -> list[Match]:
        shape, wanted = layout.squeezed(constant.shape), self.weights.shape(name)
        if len(shape) != 2:
            return []
        for order in ((0, 1), (1, 0)):
            rows, width = shape[order[0]], shape[order[1]]
            if width != wanted[1] or rows == wanted[0] or not self._begins(constant, order, name):
                continue
            count = min(rows, wanted[0])
            target = Target(name, Span(0, 0, count)) if count < wanted[0] else Target(name)
            item = Item(constant, Span(order[0], 0, count)) if count < rows else Item(constant)
            return [self._match(target, item, order)]
        return []

    def _begins(self, constant: Constant, order: Order, name: str) -> bool:
        """Whether a constant's first rows are near to a tensor's."""
        values = self._values(Item(constant))
        rows = values.reshape(layout.squeezed(values.shape)).transpose(order)[:FIRST_ROWS]
        wanted = self.weights.first_rows(name, len(rows))
        return bool(pairing.distances(wanted.reshape(1, -1), rows.reshape(-1))[0] < NEAR)

    def _reordered(self, constants: Sequence[Constant], missing: Sequence[str]) -> list[Match]:
        """Matrices with the rows, or the columns, of a missing one in another order."""
        variants = [target for name in missing for target in self.weights.variants(name)]
        variants += [target for target in self.weights.folded() if target.tensor in missing]
        targets = [
            target for target in variants if self._is_matrix(target) and len(self.weights.shape(target.tensor)) == 2
        ]
        sizes = {self._size(target) for target in targets}
        items = [item for constant in constants for item in self._items(constant, sizes)]
        marks: dict[tuple[int, int, int], Target] = {}
        if items:
            for target in targets:
                values = self.weights.target(target)
                marks |= {(axis, len(values), mark): target for axis, mark in enumerate(layout.unordered(values))}
        return [match for item in items if (match := self._of_marks(item, marks))]

    def _of_marks(self, item: Item, marks: Mapping[tuple[int, int, int], Target]) -> Match | None:
        values = self._values(item)
        values = values.reshape(layout.squeezed(values.shape))
        for order in ((0, 1), (1, 0)) if values.ndim == 2 else ():
            lying = values.transpose(order)
            for axis, mark in enumerate(layout.unordered(lying)):
                if target := marks.get((axis, len(lying), mark)):
                    return self._match(target, item, order)
        return None

    def _near_matrices(self, constants: Sequence[Constant], missing: Sequence[str]) -> list[Match]:
        """What is left of weights: those of which most of the energy is there."""
        targets = [target for name in missing for target in self.weights.variants(name)]
        targets += [target for target in self.weights.folded() if target.tensor in missing]
        samples = [(target, self._sample(target)) for target in targets if self._is_matrix(target)]
        sizes = {self._size(target) for target, _ in samples}
        items = [item for constant in constants for item in self._items(constant, sizes)]
        return [
            self._match(target, item, order)
            for target, item, order in pairing.paired(
                [(t, layout.sample(v, _as_is(v))) for t, v in samples], items, self._values, NEAR, 0.0
            )
        ]

    def _is_matrix(self, target: Target) -> bool:
        return not target.tensor.endswith("bias") and len(self.weights.shape(target.tensor)) > 1

    def _items(self, constant: Constant, sizes: set[int]) -> list[Item]:
        """A constant whole where a tensor of its size is missing, else in parts that have one."""
        if constant.stored.size in sizes:
            return [*self._kernels(constant)] or [Item(constant)]
        shape = layout.squeezed(constant.shape)
        cuts = [self._cut(constant, axis) for axis in range(len(shape))]
        return [
            item
            for axis, items in enumerate(cuts)
            for item in items
            if constant.stored.size * self.weights.dims.n_text_state // shape[axis] in sizes
        ]

    def _beside(self, constants: Sequence[Constant], missing: Sequence[str], found: Sequence[Match]) -> list[Match]:
        """The bias that the file adds in the operation that takes a weight which was found."""
        weights = {match.item.constant.key: match for match in found if match.target.tensor.endswith(".weight")}
        beside = []
        for constant in constants:
            owners = [weights[key] for key in constant.beside if key in weights]
            target = self._bias_of(owners[0]) if len(owners) == 1 else None
            if target is None or not (target.norm or target.tensor in missing):
                continue
            if constant.stored.size == self.weights.shape(owners[0].target.tensor)[0]:
                beside.append(self._match(target, Item(constant), _as_is(constant.stored)))
        return beside

    def _bias_of(self, match: Match) -> Target | None:
        """The bias that belongs to a weight as it was found; None for parts, and where there is none."""
        whole, name = match.target, f"{match.target.tensor.removesuffix('weight')}bias"
        if whole.span or match.item.span or not (whole.norm or name in self.names):
            return None
        return Target(name, power=whole.power, norm=whole.norm)

    def _named(
        self, constants: Sequence[Constant], missing: Sequence[str], component: str, found: Sequence[Match]
    ) -> list[Match]:
        """What the file calls by a missing tensor's name, however far it is from it."""
        weights = [match for match in found if match.target.norm and match.target.tensor.endswith("weight")]
        biases = {target.tensor: target for match in weights if (target := self._bias_of(match))}
        named = []
        for constant in constants:
            name = self.named(constant, component)
            if name in missing and layout.squeezed(constant.shape) == layout.squeezed(self.weights.shape(name)):
                target = biases.get(name, Target(name))  # its weight has a norm folded in: so has the bias
                named.append(self._match(target, Item(constant), _as_is(constant.stored)))
        return named

    def _near_vectors(
        self, constants: Sequence[Constant], missing: Sequence[str], found: Sequence[Match]
    ) -> list[Match]:
        """Biases, gains and shifts that are near to one missing tensor, and to no other."""
        vectors = [name for name in missing if len(self.weights.shape(name)) == 1]
        wanted = [target for name in vectors for target in self.weights.variants(name)]
        held = {match.target.tensor for match in found}
        folded = [
            self._bias_of(match) for match in found if match.target.norm and match.target.tensor.endswith("weight")
        ]
        wanted += [target for target in folded if target and target.tensor not in held]
        targets = [(target, self._sample(target)) for target in wanted]
        items = [Item(constant) for constant in constants if len(layout.squeezed(constant.shape)) == 1]
        return [
            self._match(target, item, order)
            for target, item, order in pairing.paired(targets, items, self._values, NEAR_VECTOR, APART)
        ]


def _left(constants: Sequence[Constant], found: Iterable[Match]) -> list[Constant]:
    """Constants that are nothing yet."""
    used = {match.item.constant.key for match in found}
    return [constant for constant in constants if constant.key not in used]


def _as_is(values: NDArray[Any]) -> Order:
    return tuple(range(len(layout.squeezed(values.shape))))


def _key(size: int, sample: NDArray[Any]) -> Key:
    return size, (np.asarray(sample, np.float32) + np.float32(0)).tobytes()  # the sum makes -0 the same as 0


def _entered(targets: Iterable[tuple[Target, int, Float32]]) -> dict[Key, tuple[Target, ...]]:
    table: dict[Key, dict[Target, None]] = {}
    for target, size, sample in targets:
        for rounding in ROUNDINGS:
            table.setdefault(_key(size, rounding(sample)), {})[target] = None
    return {key: tuple(entries) for key, entries in table.items()}


def units(matches: Iterable[Match]) -> dict[str, tuple[str, ...]]:
    """By key of a constant: the units (`backend.taps`) whose weights it holds, in the order of the file."""
    by_key: dict[str, dict[str, None]] = {}
    for match in matches:
        by_key.setdefault(match.item.constant.key, {})[reference.unit(match.target.tensor)] = None
    return {key: tuple(entries) for key, entries in by_key.items()}

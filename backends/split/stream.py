"""Where the residual stream of a Whisper half passes from unit to unit, in a graph of any representation.

Found by structure, never by names, shapes or weights, so that files of every origin are read alike. A *cut* is a value
that every path from the half's input to its output passes. In a transformer the residual stream is cut between
sublayers and nowhere inside them (the residual runs beside each). Every sublayer and the last norm begin with a
normalisation, so that the cuts which feed one are the ends of units, in the order of the graph:

    encoder   1 + 2 x layers     positions | attention | MLP | attention | ... , then ln_post to the output
    decoder   1 + 3 x layers     positions | attention | cross attention | MLP | ... , then ln and the projection

Where a norm was left out, or one was added, their number is another one. Then sublayers are told by residual sums:
a cut that adds to an earlier cut what was computed of it. A norm that is left out is a unit that gives what it takes.
A file in which neither has the right number is refused: it is no Whisper of these dimensions, or written otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from whisper_parity.backend import taps
from whisper_parity.errors import UnavailableError
from whisper_parity.model.dims import Dims

NORM, PASS, SUM, SCALE, PRODUCT, SHAPE, OTHER = "norm", "pass", "sum", "scale", "product", "shape", "other"
"""Roles of nodes: begins a normalisation (a mean, a variance, or all of it); changes no value but its layout or type,
or leaves some out (the rows before the last); adds; multiplies element by element; multiplies by a matrix; reads the
shape and no values; anything else."""
FIRST = {"encoder": "encoder.positions", "decoder": "decoder.positions"}


@dataclass(frozen=True, slots=True)
class Node:
    """One operation; values are numbers."""

    role: str
    inputs: tuple[int, ...]
    """The tensor that it works on comes first."""
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tap:
    """A unit of a file and where it lies in the graph."""

    unit: str
    before: int
    """The value that it takes."""
    behind: int
    """The value that it gives."""
    fed: str = ""
    """The unit whose input it takes: another one where that is not told apart and belongs to this."""

    @property
    def is_empty(self) -> bool:
        """Whether it gives what it takes."""
        return self.before == self.behind


@dataclass(frozen=True)
class Flow:
    """The graph of one half, seen from one of its inputs."""

    nodes: Sequence[Node]
    """Each one behind those that it takes values of."""
    source: int
    output: int
    fused: Collection[int] = field(default=())
    """Values that a whole normalisation gives in one operation."""

    @cached_property
    def _maker(self) -> Mapping[int, Node]:
        """The node of each value that depends on the source."""
        maker: dict[int, Node] = {}
        for node in self.nodes:
            if node.role != SHAPE and any(value == self.source or value in maker for value in node.inputs):
                maker |= dict.fromkeys(node.outputs, node)
        return maker

    @cached_property
    def _path(self) -> Sequence[Node]:
        """The nodes on a way from source to output."""
        wanted, path = {self.output}, []
        for node in reversed(self.nodes):
            if wanted & set(node.outputs) and all(value in self._maker for value in node.outputs):
                path.append(node)
                wanted |= {value for value in node.inputs if self.carries(value)}
        return path[::-1]

    def carries(self, value: int) -> bool:
        """Whether a value depends on the source."""
        return value == self.source or value in self._maker

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """Values that all paths pass, in order, source and output among them; empty where no path leads there.

        In the order of the nodes, a value is a cut when nothing that was given before it is taken behind it.
        """
        if not self._path:
            return ()
        last = {value: place for place, node in enumerate(self._path) for value in node.inputs if self.carries(value)}
        last[self.output] = len(self._path)
        open_until, cuts = last[self.source], [self.source]
        for place, node in enumerate(self._path):
            taken = [value for value in node.outputs if value in last]
            if open_until <= place and len(taken) == 1:
                cuts.append(taken[0])
            open_until = max([open_until, *(last[value] for value in taken)])
        return tuple(cuts)

    @cached_property
    def streams(self) -> tuple[int, ...]:
        """The cuts that feed a normalisation; of one that changes only its layout, the first."""
        streams: list[int] = []
        for value in self.cuts:
            if self._feeds_norm(value) and (not streams or self.origin(value) != self.origin(streams[-1])):
                streams.append(value)
        return tuple(streams)

    @cached_property
    def residuals(self) -> tuple[int, ...]:
        """The cut that the first residual sum adds to, and the cuts that residual sums give."""
        ends: list[int] = []
        earlier: dict[int, int] = {}
        for cut in self.cuts:
            node = self._maker.get(cut)
            if node is not None and node.role == SUM and all(self.carries(value) for value in node.inputs[:2]):
                added = [earlier[origin] for value in node.inputs[:2] if (origin := self.origin(value)) in earlier]
                ends += [*(added[:1] if not ends else ()), cut] if added else []
            earlier.setdefault(self.origin(cut), cut)
        return tuple(ends)

    def origin(self, value: int) -> int:
        """The value that this one is, but for layout and type."""
        while (maker := self._maker.get(value)) is not None and maker.role == PASS:
            value = next(given for given in maker.inputs if self.carries(given))
        return value

    def maker(self, value: int) -> Node | None:
        """The node that gives a value, but for layout and type; None for the source."""
        return self._maker.get(self.origin(value))

    @cached_property
    def _takers(self) -> Mapping[int, Sequence[Node]]:
        takers: dict[int, list[Node]] = {}
        for node in self._path:
            for value in node.inputs:
                takers.setdefault(value, []).append(node)
        return takers

    def _feeds_norm(self, value: int) -> bool:
        takers = self._takers.get(value, ())
        return any(
            (node.role == NORM and node.inputs[0] == value)
            or (node.role == PASS and any(self._feeds_norm(given) for given in node.outputs))
            for node in takers
        )

    def first_product(self, value: int) -> int | None:
        """The cut that the first matrix product behind a value takes, which may be itself; None where there is none."""
        cuts = set(self.cuts[self.cuts.index(value) :])
        for node in self._path:
            if node.role == PRODUCT and (taken := cuts & set(node.inputs)):
                return taken.pop()
        return None

    def apart(self, value: int) -> int | None:
        """The summand of a value that depends on the source, where the other does not; of sums in a row, the first.

        None where the value is no such sum.
        """
        summand = None
        while (operand := self._operand(value if summand is None else summand, (SUM,))) is not None:
            summand = operand
        return summand

    def is_affine(self, value: int) -> bool:
        """Whether a value ends a normalisation: its shift or scale, which do not depend on the source, are in."""
        return self.origin(value) in self.fused or self._operand(value, (SUM, SCALE)) is not None

    def _operand(self, value: int, roles: Sequence[str]) -> int | None:
        maker = self.maker(value)
        if maker is None or maker.role not in roles:
            return None
        carrying = [given for given in maker.inputs[:2] if self.carries(given)]
        return carrying[0] if len(carrying) == 1 and len(maker.inputs) > 1 else None


def found(nodes: Sequence[Node], inputs: Sequence[int], output: int, fused: Collection[int], component: str, dims: Dims,
          what: str) -> tuple[Tap, ...]:  # fmt: skip
    """All units of a half, sublayers among them, in the order of the graph.

    Where a graph does not keep two units apart (positions added outside, the last norm's scale folded into the
    projection), the first has no tap and the second holds both.

    Args:
        nodes: of the graph, each behind those that it takes values of.
        inputs: of the graph: the stream begins at one of them.
        output: of the graph.
        fused: values that a whole normalisation gives in one operation.
        component: "encoder" or "decoder".
        dims: of the checkpoint.
        what: the file, for messages.

    Raises:
        UnavailableError: the graph's structure is not that of this half.
    """
    expected = _count(component, dims)
    flows = [Flow(nodes, source, output, fused) for source in inputs]
    counts = [len(flow.streams) for flow in flows]
    for ends in ("streams", "residuals"):
        for flow in flows:
            if len(streams := getattr(flow, ends)) == expected:
                return _taps(flow, streams, component, dims)
    raise UnavailableError(
        f"{what}: its layers are not told apart: expected {expected} normalisations of one residual stream in the "
        f"{component}, found {max(counts, default=0)}{_blocks(component, max(counts, default=0), expected)}"
    )


def selected(graph: Sequence[Tap], wanted: Sequence[str]) -> tuple[Tap, ...]:
    """The wanted units of a graph, each from the end of the wanted one before it; the last unit always.

    Args:
        graph: all units that a file keeps apart.
        wanted: in the order of the graph.
    """
    fed, first = {}, ""
    for unit in dict.fromkeys((*wanted, graph[-1].unit)):
        first = first or unit
        if any(tap.unit == unit for tap in graph):
            fed[unit], first = first, ""
    chosen = [tap for tap in graph if tap.unit in fed]
    starts = [graph[0].before, *(tap.behind for tap in chosen)]
    return tuple(Tap(tap.unit, before, tap.behind, fed[tap.unit]) for before, tap in zip(starts, chosen))


def _count(component: str, dims: Dims) -> int:
    layers = dims.n_audio_layer if component == "encoder" else dims.n_text_layer
    return 1 + layers * (1 + len(taps.SUBLAYERS[component]))


def _blocks(component: str, count: int, expected: int) -> str:
    """How many blocks have so many normalisations, where that is a number of blocks."""
    each = 1 + len(taps.SUBLAYERS[component])
    if count <= 1 or (count - 1) % each:
        return ""
    return f", which are those of {(count - 1) // each} blocks where the checkpoint has {(expected - 1) // each}"


def _taps(flow: Flow, streams: Sequence[int], component: str, dims: Dims) -> tuple[Tap, ...]:
    ends = dict(_ends(flow, streams, component, dims))
    order = [unit for unit in taps.units(dims, component, detail=True) if unit in ends]
    values = [flow.source, *(ends[unit] for unit in order)]
    return tuple(Tap(unit, before, behind) for unit, before, behind in zip(order, values, values[1:]))


def _ends(flow: Flow, streams: Sequence[int], component: str, dims: Dims) -> Iterator[tuple[str, int]]:
    """Units and the values that they give."""
    first, *rest = streams
    if component == "encoder" and (conv := flow.apart(first)) is not None:
        yield "encoder.conv", conv
    yield FIRST[component], first
    blocks = [unit for unit in taps.units(dims, component, detail=True) if ".blocks." in unit]
    yield from zip(blocks, rest, strict=True)
    if component == "decoder" and (ln := flow.first_product(streams[-1])) is not None:
        is_left_out = flow.origin(ln) == flow.origin(streams[-1])
        if is_left_out or flow.is_affine(ln):
            yield "decoder.ln", streams[-1] if is_left_out else flow.origin(ln)
    yield taps.FINAL[component], flow.output

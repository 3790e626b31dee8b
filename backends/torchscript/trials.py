"""What a TorchScript file takes and gives, found by running it on zeros: its inputs state no shapes.

The usual form is tried first. Other lengths to try are those that the file itself holds: rows of its tables, numbers in
its code, numbers in what torch says when a shape does not fit. Nothing is taken from a file's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product, zip_longest
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from whisper_parity.backend.interface import Half, Port
from whisper_parity.backend.layout import Bound, Fitted, Layout, expanded
from whisper_parity.backends.split import interface as split
from whisper_parity.backends.split.fitting import (
    HINT,
    PLAIN_INPUTS,
    SEVERAL,
    by_names,
    fitting_of,
    subsets,
    values,
    whole,
)
from whisper_parity.backends.split.interface import Choices
from whisper_parity.errors import ArtifactError
from whisper_parity.model.dims import Dims

LENGTHS_LIMIT = 60
"""Lengths to try at most; a file holds a few dozen."""
FEW = 5
"""Tokens of a second trial: whether their number is free."""
LOOKUPS = ("aten::embedding", "aten::index_select", "aten::index", "aten::gather", "aten::one_hot")
"""Operators of which a decoder that takes ids has one."""

T = TypeVar("T")
Run = Callable[[Sequence[NDArray[Any]]], Any]
"""Runs a file; raises ArtifactError where it fails."""
Reading = tuple[Half, bool, bool]
"""(ports, takes ids, gives the last row alone)."""


def encoder(where: str, module: Any, run: Run, dims: Dims, choices: Choices) -> Half:
    """The encoder's ports.

    Args:
        where: the file, for messages.
        module: loaded.
        run: runs it.
        dims: of the checkpoint.
        choices: of the user.

    Raises:
        ArtifactError: it fails on all that an encoder of these dimensions can be fed, or gives something else.
    """
    inputs = arguments(module)
    split.require_inputs(where, "encoder", 1, inputs, [])
    trial = _Trial(run)

    def read(length: int) -> Half | None:
        for port in _features(inputs[0], dims.n_mels, 2 * length):
            if (outputs := trial.outputs([port])) is not None:
                return Half((port,), split.encoded(where, outputs, length, dims, choices))
        return None

    return _read(trial, module, (dims.n_audio_ctx, dims.n_audio_state), read)


def decoder(where: str, module: Any, run: Run, dims: Dims, n_audio_ctx: int, choices: Choices) -> Reading:
    """The decoder's ports, see `split.decoder`; arguments and errors as of `encoder`."""
    inputs = arguments(module)
    split.require_inputs(where, "decoder", 2, inputs, [])
    trial = _Trial(run)
    ids, numbers = ("int64", "int32"), split.NUMBERS
    kinds = (*ids, *numbers) if _looks_up(module) else (*numbers, *ids)

    def read(length: int) -> Reading | None:
        for tokens, encoding in _fed(inputs, kinds, length, dims, n_audio_ctx):
            if (outputs := trial.outputs([tokens, encoding])) is not None:
                return _reading(where, trial, (tokens, encoding), outputs, dims, choices)
        return None

    return _read(trial, module, (dims.n_text_ctx, dims.n_text_state), read)


def stepped(
    where: Mapping[str, str], modules: Mapping[str, Any], runs: Mapping[str, Run], layouts: Sequence[Layout], dims: Dims
) -> Fitted:
    """The layout of a decoder with a KV cache, and what its encoder takes and gives.

    Inputs are told apart by their names where these tell all, else by the order of the layout; what a layout leaves
    open (the slots of the cache, types) is tried.

    Args:
        where: the files, for messages, by component.
        modules: loaded.
        runs: run them.
        layouts: that are known.
        dims: of the checkpoint.

    Raises:
        ArtifactError: they fit no layout, or several.
    """
    features, given = _windows(where["encoder"], modules["encoder"], _Trial(runs["encoder"]), dims)
    n_audio_ctx, trial = features.sizes[1] // 2, _Trial(runs["decoder"])
    names = [port.name for port in arguments(modules["decoder"])]
    fitting = [
        fitted for layout in layouts
        if (fitted := _in_layout(layout, trial, modules["decoder"], names, dims, n_audio_ctx))
    ]  # fmt: skip
    if len(fitting) != 1:
        raise _unfitted(where["decoder"], names, layouts, fitting, dims, trial)
    return fitting_of(where["encoder"], fitting[0], features, given, dims)


def _windows(where: str, module: Any, trial: _Trial, dims: Dims) -> tuple[Port, list[Port]]:
    """The encoder's input, and all that it gives."""
    inputs = arguments(module)
    split.require_inputs(where, "encoder", 1, inputs, [])

    def read(length: int) -> tuple[Port, list[Port]] | None:
        for port in _features(inputs[0], dims.n_mels, 2 * length):
            if (outputs := trial.outputs([port])) is not None:
                return port, outputs
        return None

    return _read(trial, module, (dims.n_audio_ctx, dims.n_audio_state), read)


def _in_layout(
    layout: Layout, trial: _Trial, module: Any, names: Sequence[str], dims: Dims, n_audio_ctx: int
) -> Fitted | None:
    """The decoder in one layout; None where it does not run so, or gives something else."""
    sides = [
        taken for taken in subsets(layout.inputs) if len(expanded(taken, dims.n_text_layer, layout.order)) == len(names)
    ]
    lengths = (n for n in (dims.n_text_ctx, *_shorter(module, dims)) for _ in sides[:1])
    for slots in islice(lengths, LENGTHS_LIMIT):
        symbols = values(dims, slots, n_audio_ctx)
        bound = by_names(expanded(sides[0], symbols["L"], layout.order), names)
        for inputs in _typed(layout, bound, symbols):
            outputs = trial.outputs([one.port for one in inputs])
            given = () if outputs is None else whole(layout.outputs, outputs, symbols, layout.order)
            if given:
                return Fitted(layout, symbols, inputs, given)
    return None


def _shorter(module: Any, dims: Dims) -> list[int]:
    known = {*_lengths(module, dims.n_text_state)}
    return sorted((n for n in known if FEW <= n < dims.n_text_ctx), reverse=True)


def _typed(layout: Layout, bound: Sequence[Bound], symbols: Mapping[str, int]) -> Iterator[tuple[Bound, ...]]:
    """The inputs with shapes, in every choice of types: all numbers of a file have one, all whole numbers too."""
    for number, whole_number in product(split.NUMBERS, ("int32", "int64")):
        kinds = {"number": number, "integer": whole_number}
        of_roles = {one.role: layout.tensor("inputs", one.role) for one in bound}
        types = [[kinds.get(kind, kind) for kind in tensor.dtypes] for tensor in of_roles.values() if tensor]
        for chosen in product(*types):
            by_role = dict(zip(of_roles, chosen))
            yield tuple(
                replace(one, port=replace(one.port, shape=tensor.sizes(symbols), dtype=by_role[one.role]))
                for one in bound
                if (tensor := of_roles[one.role])
            )


def _unfitted(
    where: str, names: Sequence[str], layouts: Sequence[Layout], fitting: Sequence[Fitted], dims: Dims, trial: _Trial
) -> ArtifactError:
    if fitting:
        several = ", ".join(fitted.layout.name for fitted in fitting)
        return ArtifactError(f"{where}: its inputs and outputs fit several layouts: {several}", hint=SEVERAL)
    if len(names) == PLAIN_INPUTS:
        reason = f"{where}: this decoder has no KV cache: it has 2 inputs"
        return ArtifactError(reason, hint="Name the stage torchscript")
    counts = {layout: len(expanded(layout.inputs, dims.n_text_layer, layout.order)) for layout in layouts}
    nearest = min(counts, key=lambda layout: abs(counts[layout] - len(names)))
    roles = [
        tensor.role if layer is None else f"{tensor.role}.{layer}"
        for tensor, layer in expanded(nearest.inputs, dims.n_text_layer, nearest.order)
    ]
    pairs = ", ".join(f"{role} = {name}" for role, name in zip_longest(roles, names, fillvalue="none"))
    failed = f"; it fails on these: {trial.failure}" if trial.failure and len(roles) == len(names) else ""
    return ArtifactError(
        f"{where}: no layout of a decoder with a KV cache fits; nearest is {nearest.name}, {len(roles)} inputs where "
        f"the file has {len(names)}: {pairs:.900}{failed:.300}",
        hint=HINT,
    )


def arguments(module: Any) -> list[Port]:
    """What `forward` must be given, shapes unknown."""
    schema = module.forward.schema.arguments[1:]
    needed = [argument.name for argument in schema if not argument.has_default_value()]
    return [Port(name, index, (), (0, 0)) for index, name in enumerate(needed)]


def flattened(output: Any, name: str = "") -> list[tuple[str, Tensor]]:
    """All tensors of an output with their names or places: those of tuples, lists and dicts in their order."""
    if isinstance(output, Tensor):
        return [(name, output)]
    if isinstance(output, dict):
        items: Sequence[tuple[Any, Any]] = [*output.items()]
    elif isinstance(output, (tuple, list)):
        items = [*zip(getattr(output, "_fields", range(len(output))), output)]
    else:
        return []
    return [pair for key, value in items for pair in flattened(value, f"{name}.{key}".lstrip("."))]


class _Trial:
    """Runs a file on zeros; remembers why it failed first, and the numbers that torch named."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.failure: ArtifactError | None = None
        self.named: list[int] = []

    def outputs(self, ports: Sequence[Port]) -> list[Port] | None:
        """Ports of all outputs; None where it fails."""
        try:
            ordered = sorted(ports, key=lambda port: port.index)
            output = self._run([np.zeros(port.shape, port.dtype) for port in ordered])
        except ArtifactError as error:
            self.failure = self.failure or error
            self.named += [int(number) for number in re.findall(r"\b[0-9]{1,5}\b", str(error))]
            return None
        return [
            Port(name, index, tuple(tensor.shape), (0, 0), str(tensor.dtype).removeprefix("torch."))
            for index, (name, tensor) in enumerate(flattened(output))
        ]


def _read(trial: _Trial, module: Any, usual: tuple[int, int], read: Callable[[int], T | None]) -> T:
    """What `read` makes of the usual length, else of the longest that the file takes.

    A file that takes any length up to that of its table takes shorter ones too: the longest is its own.
    """
    length, columns = usual
    if (reading := read(length)) is not None:
        return reading
    known = {*trial.named, *_lengths(module, columns)}
    for other in islice(sorted((n for n in known if 1 < n < length), reverse=True), LENGTHS_LIMIT):
        if (reading := read(other)) is not None:
            return reading
    assert trial.failure is not None  # noqa: S101 - every reading is None after a failure
    raise trial.failure


def _features(port: Port, n_mels: int, n_frames: int) -> Iterator[Port]:
    sizes = (n_mels, n_frames)
    shapes = ((1, n_mels, n_frames), (n_mels, n_frames), (1, 1, n_mels, n_frames), (1, n_mels, 1, n_frames))
    for kind, shape in product(split.NUMBERS, shapes):
        turned = tuple({n_mels: n_frames, n_frames: n_mels}.get(size, size) for size in shape)
        yield replace(port, shape=shape, sizes=sizes, dtype=kind)
        yield replace(port, shape=turned, sizes=sizes, dtype=kind, transposed=True)


def _fed(
    inputs: Sequence[Port], kinds: Sequence[str], count: int, dims: Dims, n_audio_ctx: int
) -> Iterator[tuple[Port, Port]]:
    """(tokens, encoder_output) in every form that a decoder may take them in; the usual one first."""
    rows, columns = n_audio_ctx, dims.n_audio_state
    encodings = [((1, rows, columns), False), ((1, columns, rows), True), ((rows, columns), False)]
    for kind, (shape, transposed), (first, second) in product(kinds, encodings, (inputs, inputs[::-1])):
        is_table = kind in split.NUMBERS
        width, sizes = ((dims.n_text_state,), (count, dims.n_text_state)) if is_table else ((), (1, count))
        for number, batch in product((kind,) if is_table else split.NUMBERS, ((1,), ())):
            encoding = replace(second, shape=shape, sizes=(rows, columns), dtype=number, transposed=transposed)
            yield replace(first, shape=(*batch, count, *width), sizes=sizes, dtype=kind), encoding


def _reading(
    where: str, trial: _Trial, fed: tuple[Port, Port], outputs: list[Port], dims: Dims, choices: Choices
) -> Reading:
    tokens, encoding = fed
    axis = tokens.shape.index(max(tokens.sizes) if split.is_ids(tokens) else tokens.sizes[0])
    free = replace(tokens, free_axis=axis)
    few = trial.outputs([free.of_length(FEW), encoding]) if split.is_last_row(outputs, dims) else None
    output, last = split.logits(where, outputs, free if few and split.is_last_row(few, dims) else tokens, dims, choices)
    return Half((free if last else tokens, encoding), output), split.is_ids(tokens), last


def _looks_up(module: Any) -> bool:
    return any(node.kind() in LOOKUPS for node in _nodes(module))


def _nodes(module: Any) -> Iterator[Any]:
    """Every node of `forward`, and of what it calls."""
    graph = module.forward.inlined_graph
    for kind in ("prim::Constant", *LOOKUPS):
        yield from graph.findAllNodes(kind, True)


def _lengths(module: Any, columns: int) -> Iterator[int]:
    """Rows of tables, and numbers in the code, of which a length may be one, or half of one."""
    for tensor in module.state_dict().values():
        yield from _rows(tensor, columns)
    for node in _nodes(module):
        kind = node.kindOf("value") if "value" in node.attributeNames() else ""
        if kind == "i":
            yield from (int(node.i("value")), int(node.i("value")) // 2)
        elif kind == "t":
            yield from _rows(node.t("value"), columns)


def _rows(tensor: Any, columns: int) -> Iterator[int]:
    shape = [size for size in getattr(tensor, "shape", ()) if size != 1]
    if len(shape) == 2 and (columns in shape or shape[0] == shape[1]):
        yield from shape
    elif isinstance(tensor, Tensor) and tensor.numel() == 1 and not tensor.is_floating_point():
        yield from (int(tensor), int(tensor) // 2)

"""What may be wrong before and behind the blocks: convolutions, positions, embeddings, logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from whisper_parity.backend.facets import Trial
from whisper_parity.backends.pytorch.graph import Changes, Graph, Node, constant
from whisper_parity.backends.pytorch.kinds import BITS, Kind, alone, plain, stepped, weight_changed
from whisper_parity.backends.pytorch.kinds_layers import ACTIVATIONS
from whisper_parity.backends.pytorch.units import norm

SHIFTS = (1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 4.0, -4.0)
FACTORS = (0.0, 0.5, 0.7, 0.9, 1.1, 1.4, 2.0)
TEMPERATURES = (0.2, 0.5, 0.8, 0.9, 1.1, 1.5, 2.0, 5.0)
TIMESCALES = (100.0, 1000.0, 5000.0, 20000.0, 100000.0)
"""Of the sinusoids, in place of Whisper's 10000."""
PADDINGS = (
    ("at the end alone", (0, 2), "constant"),
    ("in front alone", (2, 0), "constant"),
    ("in a circle", (1, 1), "circular"),
    ("by reflection", (1, 1), "reflect"),
    ("by its outermost values", (1, 1), "replicate"),
)
"""In place of one zero on each side."""


def of_convolutions(chart: Graph) -> Iterator[Kind]:
    """The kinds of the encoder's two convolutions."""
    for words, function in ACTIVATIONS.items():
        for names in (("conv1", "conv2"), ("conv1",), ("conv2",)):
            changes = {f"{name}.active": Node(function, (f"{name}.out",)) for name in names}
            behind = f" behind {' and '.join(names)}"
            yield plain(words.removesuffix("6") + behind, words + behind, changes)
    for name, stride in (("conv1", 1), ("conv2", 2)):
        yield from _padding(chart, name, stride)
        weight = f"{name}.weight"
        yield weight_changed(chart, weight, f"the kernel of {name} turned round", lambda kernel: kernel.flip(2))
        if chart.value(weight).shape[0] == chart.value(weight).shape[1]:
            yield weight_changed(chart, weight, f"{weight} transposed", lambda kernel: kernel.transpose(0, 1))


def _padding(chart: Graph, name: str, stride: int) -> Iterator[Kind]:
    place, inputs = f"{name}.out", chart.nodes[f"{name}.out"].inputs
    for words, pads, mode in PADDINGS:
        changes = {place: Node(_padded(pads, mode, stride), inputs)}
        yield plain(f"padding of {name}", f"{name} padded {words}", changes)


def _padded(pads: tuple[int, int], mode: str, stride: int) -> Callable[..., Tensor]:
    return lambda x, kernel, bias: F.conv1d(F.pad(x, pads, mode=mode), kernel, bias, stride=stride)


def of_positions(chart: Graph) -> Iterator[Kind]:
    """Positions that are another row's, too small, of another order."""
    table = chart.value("positions")
    words = "the positions shifted by {value:g}"
    for rows in (_rolled, _held, _zeroed):
        yield Kind(Trial("shifted positions", words, SHIFTS), _shifted(rows, table))
    yield plain("size of the positions", "no positions", _table(torch.zeros_like(table)))
    yield plain("size of the positions", "the positions added twice", _table(table * 2))
    trial = Trial("size of the positions", "the positions {value:.3g} times as large", FACTORS, fitted=True)
    yield Kind(trial, lambda factor: _table(table * factor))
    sines, cosines = table.chunk(2, dim=1)
    for words, other in (
        ("sines and cosines in each other's place", torch.cat([cosines, sines], dim=1)),
        ("sines and cosines interleaved", torch.stack([sines, cosines], dim=2).flatten(1)),
        ("positions that run backwards", table.flip(0)),
    ):
        yield plain("order of the positions", words, _table(other))


def of_sinusoids(chart: Graph) -> Iterator[Kind]:
    """Sinusoids of another timescale, by the formula of `whisper.model.sinusoids`."""
    from whisper.model import sinusoids

    length, width = chart.value("positions").shape
    trial = Trial("timescale of the positions", "positions of timescale {value:.4g}", TIMESCALES, fitted=True)
    yield Kind(trial, lambda scale: _table(sinusoids(length, width, scale)))
    yield plain(
        "timescale of the positions", "a timescale that is divided by half the width, not by one less",
        _table(sinusoids(length, width, 10000 ** ((width / 2 - 1) / (width / 2)))),
    )  # fmt: skip


def of_embeddings(chart: Graph, tokens: Tensor, table: Tensor) -> Iterator[Kind]:
    """Embeddings of other tokens, or of another size.

    Args:
        chart: the decoder's positions.
        tokens: int64 [len(rows)]: those whose embeddings the rows are fed.
        table: float32 [n_vocab, n_state].
    """
    root = math.sqrt(table.shape[1])
    for words, factor in (("times sqrt(width)", root), ("divided by sqrt(width)", 1 / root)):
        yield plain("size of the embeddings", f"embeddings {words}", _times(chart, "hidden", factor))
    trial = Trial("size of the embeddings", "embeddings {value:.3g} times as large", FACTORS, fitted=True)
    yield Kind(trial, lambda factor: _times(chart, "hidden", factor))
    rows, largest = table[tokens], table.abs().max()
    words = "token embeddings rounded to {value:g} bits, one scale for"
    coarse = (("the table", largest), ("a row", rows.abs().amax(1, keepdim=True)))
    for shared, limit in coarse:
        yield Kind(Trial("bits of the embeddings", f"{words} {shared}", BITS), _coarse(rows, limit))
    trial = Trial("ids of the tokens", "the embeddings of ids that are shifted by {value:g}", (1.0, -1.0, 2.0, -2.0))
    yield Kind(trial, lambda by: {"hidden": constant(table[(tokens + int(by)) % len(table)][None])})
    trial = Trial("order of the tokens", "tokens shifted by {value:g} positions", (1.0, -1.0))
    yield Kind(trial, lambda by: {"hidden": chart.nodes["hidden"].then(lambda x: x.roll(int(by), dims=1))})


def of_logits(chart: Graph) -> Iterator[Kind]:
    """What the logits are scaled by, turned into, or projected with."""
    made = chart.nodes["output"]
    yield plain("logits", "log-probabilities in place of logits", {"output": made.then(lambda x: x.log_softmax(-1))})
    yield plain("logits", "probabilities in place of logits", {"output": made.then(lambda x: x.softmax(-1))})
    trial = Trial("logits", "logits divided by a temperature of {value:.3g}", TEMPERATURES, fitted=True)
    yield Kind(trial, lambda temperature: _times(chart, "output", 1 / temperature))
    trial = Trial("rows of the projection", "the rows of the projection shifted by {value:g}", (1.0, -1.0, 2.0, -2.0))
    yield Kind(trial, lambda by: {"output": made.then(lambda logits: logits.roll(int(by), dims=2))})
    words = "the rows of the projection normalised"
    yield weight_changed(chart, "projection.weight", words, lambda rows: F.normalize(rows) * rows.norm(dim=1).mean())
    fed, inputs = chart.nodes["hidden"], ("hidden.fed", "ln.weight", "ln.bias")
    for words, make in (("the gain of the last norm applied twice", _gain), ("the last norm applied twice", norm)):
        yield alone(words, {"hidden.fed": fed, "hidden": Node(make, inputs)})


def _gain(hidden: Tensor, gain: Tensor, _shift: Tensor) -> Tensor:
    return hidden * gain


def _times(chart: Graph, place: str, factor: float) -> Changes:
    return {place: chart.nodes[place].then(lambda values: values * factor)}


def _shifted(rows: Callable[[Tensor, int], Tensor], table: Tensor) -> Callable[[float], Changes]:
    return lambda by: _table(rows(table, int(by)))


def _coarse(rows: Tensor, largest: Tensor) -> Callable[[float], Changes]:
    return lambda bits: {"hidden": constant(stepped(rows, largest / (2 ** (bits - 1) - 1))[None])}


def _rolled(table: Tensor, by: int) -> Tensor:
    return table.roll(by, dims=0)


def _held(table: Tensor, by: int) -> Tensor:
    """Rows past an end are that end's."""
    return table[(torch.arange(len(table)) - by).clamp(0, len(table) - 1)]


def _zeroed(table: Tensor, by: int) -> Tensor:
    """Rows past an end are zero."""
    places = torch.arange(len(table)) - by
    return _held(table, by) * ((places >= 0) & (places < len(table)))[:, None]


def _table(values: Tensor) -> Changes:
    return {"positions": constant(values)}

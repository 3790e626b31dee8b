"""Units of Whisper (`backend.taps`) as graphs of named values, by openai-whisper's own weights.

Whisper's modules compute a unit in one call; a trial changes a place inside. The arithmetic is that of `whisper.model`
with attention written out; `tests/unit/test_trials.py` holds every unit against the modules themselves.

A block is computed for chosen rows: the keys and values of its self attention need all of them, the rest does not.
Names: `attn_ln.weight`, `attn.query.weight` ... are the checkpoint's; `attn.normed`, `.asked` (those of its rows that
ask), `.mask`, `.query`, `.key`, `.value`,
`.scores`, `.masked`, `.weights`, `.mixed`, `.out`, `.sum` and `mlp.normed`, `.hidden`, `.active`, `.out`, `.sum` are
values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from whisper_parity.backend.taps import Step
from whisper_parity.backends.pytorch.graph import Graph, Node, constant

EPSILON = 1e-5
"""Of every LayerNorm of Whisper."""
ATTENTION, CROSS, MLP = "attn", "cross_attn", "mlp"


@dataclass(frozen=True, slots=True)
class Fed:
    """What a unit is fed."""

    hidden: Tensor
    """float32 [1, n_rows, n_state]; features [1, n_mels, n_frames] for the convolutions, embeddings for the decoder's
    positions."""
    rows: Tensor
    """int64: the rows of the output that are asked for."""
    encoder_output: Tensor | None = None
    """float32 [1, n_audio_ctx, n_audio_state]."""


def graph(model: Any, step: Step, fed: Fed) -> Graph:
    """The unit of a model as a graph, its output float32 [1, len(rows), n_columns].

    Args:
        model: openai-whisper's.
        step: the unit.
        fed: its inputs.
    """
    half = model.encoder if step.unit.startswith("encoder.") else model.decoder
    if step.part == "conv":
        return _convolutions(half, fed)
    if step.part == "positions":
        return _positions(half.positional_embedding, fed)
    if step.part == "norm":
        return _last_norm(half.ln_post if half is model.encoder else half.ln, fed)
    if step.part == "logits":
        return _projection(half, fed)
    mask = None if half is model.encoder else half.mask
    return _block(half.blocks[step.layer], _sublayers(half, step.part), fed, mask)


def norm(hidden: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """LayerNorm as Whisper has it: in float32, whatever comes in and goes out."""
    return F.layer_norm(hidden.float(), hidden.shape[-1:], gain.float(), shift.float(), EPSILON).to(hidden.dtype)


def sublayers(chart: Graph) -> tuple[str, ...]:
    """The sublayers of a block that a graph computes."""
    return tuple(name for name in (ATTENTION, CROSS, MLP) if f"{name}.sum" in chart.nodes)


def heads(values: Tensor, count: int) -> Tensor:
    """[1, n, n_state] -> [1, n_head, n, width]."""
    return in_groups(values, count).transpose(1, 2)


def in_groups(values: Tensor, count: int) -> Tensor:
    """[..., n] -> [..., count, n / count]."""
    return values.reshape(*values.shape[:-1], count, -1)


def _parameters(module: Any, name: str) -> dict[str, Node]:
    return {f"{name}.{key}": constant(value.detach()) for key, value in module.named_parameters()}


def _convolutions(encoder: Any, fed: Fed) -> Graph:
    nodes = {
        "features": constant(fed.hidden),
        **_parameters(encoder.conv1, "conv1"), **_parameters(encoder.conv2, "conv2"),
        "conv1.out": Node(lambda x, w, b: F.conv1d(x, w, b, padding=1), ("features", "conv1.weight", "conv1.bias")),
        "conv1.active": Node(F.gelu, ("conv1.out",)),
        "conv2.out": Node(
            lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1), ("conv1.active", "conv2.weight", "conv2.bias")
        ),
        "conv2.active": Node(F.gelu, ("conv2.out",)),
        "output": Node(lambda x: x.permute(0, 2, 1)[:, fed.rows], ("conv2.active",)),
    }  # fmt: skip
    return Graph(nodes, "output")


def _positions(table: Tensor, fed: Fed) -> Graph:
    nodes = {
        "hidden": constant(fed.hidden[:, fed.rows]),
        "positions": constant(table.detach()),
        "output": Node(lambda x, p: x + p[fed.rows], ("hidden", "positions")),
    }
    return Graph(nodes, "output")


def _last_norm(module: Any, fed: Fed) -> Graph:
    inputs = ("hidden", "ln.weight", "ln.bias")
    nodes = {"hidden": constant(fed.hidden[:, fed.rows]), **_parameters(module, "ln"), "ln.normed": Node(norm, inputs)}
    return Graph(nodes, "ln.normed")


def _projection(decoder: Any, fed: Fed) -> Graph:
    nodes = {
        "hidden": constant(fed.hidden[:, fed.rows]),
        "projection.weight": constant(decoder.token_embedding.weight.detach()),
        **_parameters(decoder.ln, "ln"),
        "output": Node(F.linear, ("hidden", "projection.weight")),
    }
    return Graph(nodes, "output")


def _sublayers(half: Any, part: str) -> tuple[str, ...]:
    """The sublayers that a unit of a block is made of."""
    if part != "block":
        return (part,)
    return (ATTENTION, MLP) if half.blocks[0].cross_attn is None else (ATTENTION, CROSS, MLP)


def _block(block: Any, parts: Sequence[str], fed: Fed, mask: Tensor | None) -> Graph:
    nodes: dict[str, Node] = {"hidden": constant(fed.hidden), "rows": constant(fed.hidden[:, fed.rows])}
    if fed.encoder_output is not None:
        nodes["audio"] = constant(fed.encoder_output)
    stream = "rows"
    for part in parts:
        nodes |= _parameters(getattr(block, f"{part}_ln"), f"{part}_ln")
        if part == MLP:
            nodes |= _mlp(block.mlp, stream)
        else:
            nodes |= _attention(getattr(block, part), part, stream, fed, mask if part == ATTENTION else None)
        stream = f"{part}.sum"
    return Graph(nodes, stream)


def _attention(module: Any, name: str, stream: str, fed: Fed, mask: Tensor | None) -> dict[str, Node]:
    """An attention on the residual stream; its own keys are of all rows, those of the audio are fed."""

    def scores(query: Tensor, key: Tensor) -> Tensor:
        scale = (query.shape[-1] // module.n_head) ** -0.25
        return torch.matmul(heads(query, module.n_head) * scale, (heads(key, module.n_head) * scale).transpose(-1, -2))

    def mixed(weights: Tensor, value: Tensor) -> Tensor:
        return torch.matmul(weights.to(value.dtype), heads(value, module.n_head)).transpose(1, 2).flatten(2)

    keys, asked = ("audio", f"{name}.normed") if name == CROSS else (f"{name}.normed", f"{name}.asked")
    nodes = _parameters(module, name) | {
        f"{name}.normed": _norm(name, stream if name == CROSS else "hidden"),
        f"{name}.query": Node(F.linear, (asked, f"{name}.query.weight", f"{name}.query.bias")),
        f"{name}.key": Node(F.linear, (keys, f"{name}.key.weight")),
        f"{name}.value": Node(F.linear, (keys, f"{name}.value.weight", f"{name}.value.bias")),
        f"{name}.scores": Node(scores, (f"{name}.query", f"{name}.key")),
        f"{name}.masked": Node(lambda values: values, (f"{name}.scores",)),
        f"{name}.weights": Node(lambda values: values.float().softmax(-1).to(values.dtype), (f"{name}.masked",)),
        f"{name}.mixed": Node(mixed, (f"{name}.weights", f"{name}.value")),
        f"{name}.out": Node(F.linear, (f"{name}.mixed", f"{name}.out.weight", f"{name}.out.bias")),
        f"{name}.sum": Node(torch.add, (stream, f"{name}.out")),
    }
    if name != CROSS:
        nodes[asked] = Node(lambda rows: rows[:, fed.rows], (f"{name}.normed",))
    if mask is not None:
        nodes[f"{name}.mask"] = constant(mask[fed.rows][:, : fed.hidden.shape[1]])
        nodes[f"{name}.masked"] = Node(lambda x, added: x + added.to(x.dtype), (f"{name}.scores", f"{name}.mask"))
    return nodes


def _mlp(module: Any, stream: str) -> dict[str, Node]:
    return {
        **_parameters(module, MLP),
        "mlp.normed": _norm(MLP, stream),
        "mlp.hidden": Node(F.linear, ("mlp.normed", "mlp.0.weight", "mlp.0.bias")),
        "mlp.active": Node(F.gelu, ("mlp.hidden",)),
        "mlp.out": Node(F.linear, ("mlp.active", "mlp.2.weight", "mlp.2.bias")),
        "mlp.sum": Node(torch.add, (stream, "mlp.out")),
    }


def _norm(name: str, stream: str) -> Node:
    return Node(norm, (stream, f"{name}_ln.weight", f"{name}_ln.bias"))


def other_layers(model: Any, step: Step) -> dict[str, Mapping[str, Tensor]]:
    """The tensors of the half's other blocks by unit, named as in a block's graph."""
    side = step.unit.partition(".")[0]
    blocks = getattr(model, side).blocks
    return {
        f"{side}.blocks.{place}": {name: value.detach() for name, value in block.named_parameters()}
        for place, block in enumerate(blocks)
        if place != step.layer
    }

"""A backend whose models are broken on purpose, one thing in each variant; its probes are broken the same way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from backends import split
from backends.torchscript import TorchScriptBackend, mask_value, tracing
from harness.artifact import Artifact, Options
from harness.attribution import taps

COMMA, FULL_STOP = 11, 13


@dataclass(frozen=True)
class Breakage:
    """What is broken, and what has to be found."""

    change: Callable[[Any], None]
    component: str
    culprit: str
    nonfinite: int = 0
    """Values that are not finite in the culprit's output."""
    sublayer: str = ""
    """What is found with detail, where that is another unit."""


class ThroughHalf(nn.Module):
    """Sums of an MLP in fp16 that leave its range."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """What is over 65504 becomes infinite."""
        return (self.mlp(hidden) * 1e5).half().float() / 1e5


def without_head(attention: Any, head: int = 0) -> None:
    """An attention head whose values are zero."""
    size = attention.value.out_features // attention.n_head
    rows = slice(head * size, (head + 1) * size)
    attention.value.weight[rows] = 0
    attention.value.bias[rows] = 0


def rounded_to_int8(block: nn.Module) -> None:
    """Every matrix of a block in 8 bits, one scale for each row."""
    for module in block.modules():
        if isinstance(module, nn.Linear):
            scale = module.weight.abs().amax(1, keepdim=True) / 127
            module.weight.copy_((module.weight / scale).round() * scale)


def shift(values: torch.Tensor) -> None:
    values.copy_(values.clone().roll(1, 0))


def swap(table: torch.Tensor, first: int, second: int) -> None:
    table[[first, second]] = table[[second, first]].clone()


def set_value(values: torch.Tensor, place: Any, value: float) -> None:
    values[place] = value


def approximate(block: Any) -> None:
    block.mlp[1] = nn.GELU(approximate="tanh")


def overflow(block: Any) -> None:
    block.mlp = ThroughHalf(block.mlp)


BREAKAGES = {
    "encoder-conv": Breakage(lambda m: m.encoder.conv1.bias.add_(0.1), "encoder", "encoder.conv"),
    "encoder-positions": Breakage(lambda m: shift(m.encoder.positional_embedding), "encoder", "encoder.positions"),
    "encoder-head": Breakage(
        lambda m: without_head(m.encoder.blocks[1].attn), "encoder", "encoder.blocks.1", 0, "encoder.blocks.1.attn"
    ),
    "encoder-gelu": Breakage(lambda m: approximate(m.encoder.blocks[2]), "encoder", "encoder.blocks.2"),
    "encoder-int8": Breakage(
        lambda m: rounded_to_int8(m.encoder.blocks[0].mlp), "encoder", "encoder.blocks.0", 0, "encoder.blocks.0"
    ),
    "encoder-epsilon": Breakage(
        lambda m: setattr(m.encoder.blocks[1].mlp_ln, "eps", 1e-3), "encoder", "encoder.blocks.1"
    ),
    "encoder-last-epsilon": Breakage(lambda m: setattr(m.encoder.ln_post, "eps", 1e-2), "encoder", "encoder.ln_post"),
    "encoder-nan": Breakage(
        lambda m: set_value(m.encoder.positional_embedding, (700, 3), torch.nan), "encoder", "encoder.positions", 1
    ),
    "encoder-overflow": Breakage(lambda m: overflow(m.encoder.blocks[1]), "encoder", "encoder.blocks.1", -1),
    "decoder-embedding": Breakage(
        lambda m: swap(m.decoder.token_embedding.weight, COMMA, FULL_STOP), "decoder", "decoder.positions"
    ),
    "decoder-positions": Breakage(lambda m: shift(m.decoder.positional_embedding), "decoder", "decoder.positions"),
    "decoder-head": Breakage(
        lambda m: without_head(m.decoder.blocks[1].attn, 1), "decoder", "decoder.blocks.1", 0, "decoder.blocks.1.attn"
    ),
    "decoder-cross-head": Breakage(
        lambda m: without_head(m.decoder.blocks[0].cross_attn),
        "decoder",
        "decoder.blocks.0",
        0,
        "decoder.blocks.0.cross_attn",
    ),
    "decoder-gelu": Breakage(lambda m: approximate(m.decoder.blocks[1]), "decoder", "decoder.blocks.1"),
    "decoder-epsilon": Breakage(lambda m: setattr(m.decoder.ln, "eps", 1e-2), "decoder", "decoder.ln"),
    "decoder-int8": Breakage(lambda m: rounded_to_int8(m.decoder.blocks[0]), "decoder", "decoder.blocks.0"),
    "decoder-nan": Breakage(
        lambda m: set_value(m.decoder.positional_embedding, (5, 0), torch.nan), "decoder", "decoder.positions", 1
    ),
    "decoder-mask": Breakage(lambda m: None, "decoder", "decoder.blocks.0"),
}


class BrokenBackend(TorchScriptBackend):
    """TorchScript of a broken checkpoint; the variant says how, "sound" is not broken."""

    name = "broken"
    after: str | None = "pytorch"
    variants: tuple[str, ...] = ("sound", "unfaithful", *BREAKAGES)

    def tools(self) -> dict[str, str]:
        """This file decides too."""
        return super().tools() | {"broken": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]}

    def build(self, parent: Artifact, out: Path, variant: str, options: Options) -> None:
        """Break, then trace. What is shipped of "unfaithful" is broken, its probes are not."""
        model, checkpoint = split.load_model(parent.path("checkpoint")), parent.checkpoint
        found = taps.of_options(options, checkpoint.dims)
        with torch.no_grad():
            if variant in BREAKAGES:
                BREAKAGES[variant].change(model)
            if variant == "unfaithful" and not found:
                without_head(model.encoder.blocks[0].attn)
        mask = 0.0 if variant == "decoder-mask" else mask_value(options)
        if found:
            tracing.write_probe(model, checkpoint, out, self.probe_names(checkpoint, variant, found), mask, found)
        else:
            tracing.write(model, checkpoint, out, self.file_names(checkpoint, variant), mask)

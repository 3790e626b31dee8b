"""Whisper's halves with taps, as torch modules: the hidden states of the reference itself.

Whisper's own modules do the arithmetic; this file only calls them in order. It repeats the single lines that Whisper
computes outside its submodules: GELU after the convolutions, the positional sum, the residual sums around tapped
sublayers. `tests/integration/test_probes.py` requires the final outputs to equal the ordinary modules' bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from whisper.model import AudioEncoder

from whisper_parity.backend import taps
from whisper_parity.backend.taps import Step, Taps
from whisper_parity.backends.split.modules import SplitDecoder, SplitEncoder
from whisper_parity.model.dims import Dims


class EncoderSteps(nn.Module):
    """The encoder, step by step."""

    def __init__(self, encoder: SplitEncoder, graph: Sequence[Step], wanted: Sequence[str]) -> None:
        super().__init__()
        self.encoder: AudioEncoder = encoder.encoder
        self.graph, self.wanted = tuple(graph), tuple(wanted)

    def step(self, step: Step, hidden: Tensor) -> Tensor:
        """Return a unit's output, float32 [1, n_audio_ctx, n_audio_state]."""
        encoder: Any = self.encoder
        if step.part == "conv":
            return F.gelu(encoder.conv2(F.gelu(encoder.conv1(hidden)))).permute(0, 2, 1)
        if step.part == "positions":
            hidden_sum: Tensor = (hidden + encoder.positional_embedding).to(hidden.dtype)
            return hidden_sum
        if step.part == "norm":
            return encoder.ln_post(hidden)  # type: ignore[no-any-return]
        return _residual(encoder.blocks[step.layer], step.part, hidden)


class EntireEncoder(EncoderSteps):
    """input_features -> the wanted hidden states and the encoder output."""

    def forward(self, input_features: Tensor) -> tuple[Tensor, ...]:
        """Run the whole encoder."""
        hidden, outputs = input_features, {}
        for step in self.graph:
            outputs[step.unit] = hidden = self.step(step, hidden)
        return tuple(outputs[unit] for unit in self.wanted)


class SingleEncoder(EncoderSteps):
    """An input for each wanted unit -> its output."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run each unit on its own input."""
        steps = [step for step in self.graph if step.unit in self.wanted]
        return tuple(self.step(step, hidden) for step, hidden in zip(steps, inputs))


class DecoderSteps(nn.Module):
    """The decoder after its token lookup, step by step."""

    def __init__(self, decoder: SplitDecoder, graph: Sequence[Step], wanted: Sequence[str]) -> None:
        super().__init__()
        self.decoder = decoder
        self.graph, self.wanted = tuple(graph), tuple(wanted)

    def step(self, step: Step, hidden: Tensor, encoder_output: Tensor | None) -> Tensor:
        """Return a unit's output, float32 [1, n_text_ctx, n_text_state], or [1, n_text_ctx, n_vocab] for the logits."""
        decoder = self.decoder
        if step.part == "positions":
            return hidden + decoder.positional_embedding
        if step.part == "norm":
            return decoder.ln(hidden)  # type: ignore[no-any-return]
        if step.part == "logits":
            return decoder.projection(hidden)  # type: ignore[no-any-return]
        return _residual(decoder.blocks[step.layer], step.part, hidden, encoder_output, decoder.mask)


class EntireDecoder(DecoderSteps):
    """token_embeddings, encoder_output -> the wanted hidden states and the logits."""

    def forward(self, token_embeddings: Tensor, encoder_output: Tensor) -> tuple[Tensor, ...]:
        """Run the whole decoder."""
        hidden, outputs = token_embeddings, {}
        for step in self.graph:
            outputs[step.unit] = hidden = self.step(step, hidden, encoder_output)
        return tuple(outputs[unit] for unit in self.wanted)


class SingleDecoder(DecoderSteps):
    """An input for each wanted unit, plus the encoder output if one takes it -> each unit's output."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run each unit on its own input."""
        steps = [step for step in self.graph if step.unit in self.wanted]
        encoder_output = inputs[-1] if any(step.takes_encoder_output for step in steps) else None
        return tuple(self.step(step, hidden, encoder_output) for step, hidden in zip(steps, inputs))


def _residual(
    block: Any, part: str, hidden: Tensor, encoder_output: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Run a residual block, or one of its sublayers with its residual sum."""
    if part == "attn":
        return hidden + block.attn(block.attn_ln(hidden), mask=mask)[0]  # type: ignore[no-any-return]
    if part == "cross_attn":
        return hidden + block.cross_attn(block.cross_attn_ln(hidden), encoder_output)[0]  # type: ignore[no-any-return]
    if part == "mlp":
        return hidden + block.mlp(block.mlp_ln(hidden))  # type: ignore[no-any-return]
    return block(hidden, encoder_output, mask=mask)  # type: ignore[no-any-return]


def probe(selection: Taps, component: str, half: nn.Module, dims: Dims) -> nn.Module:
    """The module of one probe; its inputs and outputs are `taps.ports`, in order.

    Args:
        selection: the taps.
        component: "encoder" or "decoder".
        half: the ordinary module, whose weights it shares.
        dims: of the checkpoint.
    """
    graph = taps.steps(dims, component, selection.of(component))
    wanted = tuple(taps.ports(selection, component, dims).outputs)
    if isinstance(half, SplitEncoder):
        module_class: Any = EntireEncoder if selection.kind == taps.ENTIRE else SingleEncoder
    else:
        module_class = EntireDecoder if selection.kind == taps.ENTIRE else SingleDecoder
    module: nn.Module = module_class(half, graph, wanted).eval()
    return module

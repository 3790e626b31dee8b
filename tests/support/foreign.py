"""Whisper's halves as other people's scripts write them: files that none of our builds made."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from whisper_parity.backends.split import modules
from whisper_parity.model.dims import Dims

Trace = Callable[..., Any]


class Decoder(nn.Module):
    """openai-whisper's own decoder behind a lookup that the caller makes."""

    def __init__(self, decoder: Any, *, positions: bool = True) -> None:
        super().__init__()
        self.decoder, self.positions = decoder, positions

    def forward(self, embeddings: Tensor, audio: Tensor) -> Tensor:
        """float32 [1, n_text_ctx, n_text_state], [1, n_audio_ctx, n_audio_state] -> logits."""
        hidden = embeddings + self.decoder.positional_embedding if self.positions else embeddings
        for block in self.decoder.blocks:
            hidden = block(hidden, audio, mask=self.decoder.mask)
        return self.decoder.ln(hidden) @ self.decoder.token_embedding.weight.T  # type: ignore[no-any-return]


class InPlace(nn.Module):
    """An encoder whose residual stream is one tensor, added to in place."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor) -> Tensor:
        """As the encoder's."""
        encoder = self.encoder
        hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(features)))).permute(0, 2, 1).clone()
        hidden += encoder.positional_embedding
        for block in encoder.blocks:
            hidden += block.attn(block.attn_ln(hidden))[0]
            hidden += block.mlp(block.mlp_ln(hidden))
        return encoder.ln_post(hidden)  # type: ignore[no-any-return]


class ByHand(nn.Module):
    """A normalisation written out."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.gain, self.shift, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, hidden: Tensor) -> Tensor:
        """As nn.LayerNorm's."""
        centred = hidden - hidden.mean(-1, keepdim=True)
        return centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + self.eps) * self.gain + self.shift


def _quantised(module: nn.Module) -> nn.Module:
    """Dynamic 8-bit linear layers, as torch.ao makes them."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            plain = nn.Linear(child.in_features, child.out_features, bias=child.bias is not None)
            plain.weight, plain.bias = child.weight, child.bias
            plain.qconfig = torch.ao.quantization.default_dynamic_qconfig  # type: ignore[assignment]
            setattr(module, name, torch.ao.nn.quantized.dynamic.Linear.from_float(plain))
        else:
            _quantised(child)
    return module


def _normed_by_hand(module: nn.Module) -> nn.Module:
    for name, child in list(module.named_children()):
        setattr(module, name, ByHand(child) if isinstance(child, nn.LayerNorm) else _normed_by_hand(child))
    return module


def _same(traced: Any) -> Any:
    return traced


def _frozen(traced: Any) -> Any:
    return torch.jit.freeze(traced.eval())


def _optimised(traced: Any) -> Any:
    return torch.jit.optimize_for_inference(traced.eval())


def _plain(model: Any) -> tuple[nn.Module, nn.Module]:
    return model.encoder, Decoder(model.decoder)


KINDS: dict[str, tuple[Callable[[Any], tuple[nn.Module, nn.Module]], Trace]] = {
    "traced": (_plain, _same),
    "frozen": (_plain, _frozen),
    "optimised for inference": (_plain, _optimised),
    "in place, positions outside": (
        lambda model: (InPlace(model.encoder), Decoder(model.decoder, positions=False)), _same,
    ),
    "norms by hand, frozen": (
        lambda model: (_normed_by_hand(model.encoder), Decoder(_normed_by_hand(model.decoder))), _frozen,
    ),
    "dynamic int8": (lambda model: (_quantised(model.encoder), Decoder(_quantised(model.decoder))), _same),
}  # fmt: skip
"""How the halves are made of a model, and what becomes of their traces."""


def write(kind: str, checkpoint: Path, dims: Dims, folder: Path, spoil: Callable[[Any], None] = _same) -> None:
    """Write encoder.pt and decoder.pt of a kind.

    Args:
        kind: of KINDS.
        checkpoint: whose model it is.
        dims: of the checkpoint.
        folder: of the files.
        spoil: what is broken in the model before.
    """
    halves, finish = KINDS[kind]
    model = modules.load_model(checkpoint)
    with torch.no_grad(), modules.explicit_attention(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spoil(model)
        for name, half, inputs in zip(("encoder", "decoder"), halves(model), modules.example_inputs(dims)):
            traced = torch.jit.trace(half.eval(), inputs, check_trace=False)  # type: ignore[no-untyped-call]
            finish(traced).save(str(folder / f"{name}.pt"))

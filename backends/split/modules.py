"""Whisper as two modules that an NPU can run: fixed shapes, no token lookup."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import whisper
from torch import Tensor, nn
from whisper.model import AudioEncoder, ResidualAttentionBlock, TextDecoder, Whisper, disable_sdpa

from whisper_parity.errors import CheckpointError, first_line
from whisper_parity.model import vocabulary
from whisper_parity.model.checkpoint import read
from whisper_parity.model.dims import Dims
from whisper_parity.model.formats import canonical


class SplitEncoder(nn.Module):
    """input_features float32 [1, n_mels, 3000] -> encoder_output float32 [1, n_audio_ctx, n_audio_state]."""

    def __init__(self, encoder: AudioEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_features: Tensor) -> Tensor:
        """Run Whisper's encoder."""
        return self.encoder(input_features)  # type: ignore[no-any-return]


class SplitDecoder(nn.Module):
    """token_embeddings float32 [1, 448, n_text_state], encoder_output -> logits float32 [1, 448, n_vocab].

    The caller looks up tokens (the NPU has no GATHER). The positional embedding and the causal mask are buffers; the
    output projection shares the weights of the token embedding.
    """

    positional_embedding: Tensor
    mask: Tensor

    def __init__(self, decoder: TextDecoder, mask_value: float) -> None:
        super().__init__()
        n_ctx, n_state = decoder.positional_embedding.shape
        self.blocks: list[ResidualAttentionBlock] = decoder.blocks  # type: ignore[assignment]
        self.ln = decoder.ln
        self.projection = nn.Linear(n_state, decoder.token_embedding.num_embeddings, bias=False)
        self.projection.weight = decoder.token_embedding.weight
        self.register_buffer("positional_embedding", decoder.positional_embedding.detach())
        self.register_buffer("mask", torch.full((n_ctx, n_ctx), mask_value).triu_(1))

    def forward(self, token_embeddings: Tensor, encoder_output: Tensor) -> Tensor:
        """Run Whisper's decoder after its token lookup."""
        hidden = token_embeddings + self.positional_embedding
        for block in self.blocks:
            hidden = block(hidden, encoder_output, mask=self.mask)
        return self.projection(self.ln(hidden))  # type: ignore[no-any-return]


class AddedTokens(Whisper):  # type: ignore[misc]
    """openai-whisper's model with ids behind its vocabulary; languages are told by that, not by the number of ids."""

    vocabulary: int

    @property
    def is_multilingual(self) -> bool:
        """Whether the vocabulary has language tokens."""
        return vocabulary.is_multilingual(self.vocabulary)

    @property
    def num_languages(self) -> int:
        """Languages of the vocabulary."""
        return vocabulary.num_languages(self.vocabulary)


class UntiedEmbedding(nn.Embedding):
    """Looks tokens up in one table; `weight` is another, by which openai-whisper projects onto the vocabulary.

    So openai-whisper's decoder stays as it is: it calls the embedding for the one, and reads its weight for the other.
    """

    def __init__(self, table: Tensor, projection: Tensor) -> None:
        super().__init__(table.shape[0], table.shape[1], _weight=projection)
        self.table = nn.Parameter(table)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids -> embeddings."""
        return nn.functional.embedding(tokens, self.table)


def load_model(checkpoint: Path) -> Whisper:
    """Load a checkpoint with openai-whisper, on the CPU, for inference.

    What openai-whisper's format has no place for is added: ids behind the vocabulary, an output projection of its own.

    Raises:
        CheckpointError: its weights do not match its dimensions.
    """
    model = _loaded(checkpoint)
    extras = canonical.extras(read(checkpoint))
    if extras and extras.projection is not None:
        table = model.decoder.token_embedding.weight.detach()
        model.decoder.token_embedding = UntiedEmbedding(table, extras.projection.float())
    if extras and extras.vocabulary != model.dims.n_vocab:
        model.__class__ = AddedTokens  # the same object with two properties more, and no copy of its weights
        model.vocabulary = extras.vocabulary
    return model


def _loaded(checkpoint: Path) -> Whisper:
    try:
        return whisper.load_model(str(checkpoint), device="cpu").eval()
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{checkpoint}: the weights do not fit the dimensions ({first_line(error)})",
            hint="Is the file complete?",
        ) from error


def split(model: Whisper, mask_value: float = -math.inf) -> tuple[SplitEncoder, SplitDecoder]:
    """Encoder and decoder of a model; they share its weights."""
    return SplitEncoder(model.encoder).eval(), SplitDecoder(model.decoder, mask_value).eval()


def example_inputs(dims: Dims) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Zero inputs for encoder and decoder."""
    features = torch.zeros(1, dims.n_mels, dims.n_frames)
    embeddings = torch.zeros(1, dims.n_text_ctx, dims.n_text_state)
    return (features,), (embeddings, torch.zeros(1, dims.n_audio_ctx, dims.n_audio_state))


@contextmanager
def explicit_attention() -> Iterator[None]:
    """Run inference with attention as explicit matrix products, so that converters see the mask as a tensor."""
    with torch.no_grad(), disable_sdpa():  # type: ignore[no-untyped-call]
        yield

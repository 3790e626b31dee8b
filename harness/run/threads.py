"""How many threads a model is worth, where nobody says."""

from __future__ import annotations

from whisper_parity.model.dims import Dims
from whisper_parity.system import cores, waiting

FLOP_A_THREAD = 25e9
"""Arithmetic of one pass that occupies a thread: below it threads wait for each other longer than they compute.

Whisper base has 151e9, tiny 71e9, the embedded micro model 13e9.
"""


def suited(dims: Dims, workers: int = 1) -> int:
    """As many as the model occupies and the cores allow; one where waiting threads would spin.

    Args:
        dims: of the model.
        workers: processes that share the cores.
    """
    if waiting.spins():
        return 1
    return max(1, min(cores.available() // workers, round(flop(dims) / FLOP_A_THREAD)))


def flop(dims: Dims) -> float:
    """Floating point operations of one encoder and one decoder pass: two for each product of a matrix product.

    A block has 12 n^2 weights (attention 4, MLP 8) and compares every position with every other one twice; the decoder
    has a second attention, over the encoder's output, and the projection onto the vocabulary.
    """
    audio, text, n, m = dims.n_audio_ctx, dims.n_text_ctx, dims.n_audio_state, dims.n_text_state
    stem = 3 * n * (dims.n_frames * dims.n_mels + audio * n)
    encoder = dims.n_audio_layer * (12 * n * n * audio + 2 * audio * audio * n)
    decoder = dims.n_text_layer * (14 * m * m * text + 2 * n * m * audio + 2 * (text + audio) * text * m)
    return 2.0 * (stem + encoder + decoder + dims.n_vocab * m * text)

"""Between an encoder's output and the keys and values of cross attention that some encoders give in its place.

An encoder with the projections of cross attention in its file gives keys = x Wk^T and values = x Wv^T + b of each
layer. What is judged is x. It is solved from the values of all layers (least squares in float64), with the checkpoint's
own projections; the other way they are applied as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend.contract import Float32
from whisper_parity.model.checkpoint import Checkpoint, read

Float64 = NDArray[np.float64]
NOTE = (
    "the encoder gives keys and values of cross attention alone: its output is solved from them by the checkpoint's "
    "own projections"
)


class Projections:
    """Those of cross attention, of all layers of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.key_scale = 1.0
        """What the file's keys are multiplied by, against openai-whisper's: found when an output is solved."""

    def output(self, cross: Mapping[str, Float32]) -> Float32:
        """encoder_output float32 [1, A, d] of keys and values [L, A, d]."""
        keys, values = (np.asarray(cross[name], np.float64) for name in ("cross_keys", "cross_values"))
        of_keys, of_values, biases = self._weights
        stacked = np.concatenate([layer - bias for layer, bias in zip(values, biases)], axis=1)
        output, *_ = np.linalg.lstsq(np.concatenate(of_values), stacked.T, rcond=None)
        expected = output.T @ of_keys[0].T
        self.key_scale = float((keys[0] * expected).sum() / max((expected * expected).sum(), np.finfo(float).tiny))
        return np.asarray(output.T[None], np.float32)

    def projected(self, encoder_output: Float32) -> dict[str, Float32]:
        """Keys and values float32 [L, A, d] of an encoder's output [1, A, d], as the file would give them."""
        of_keys, of_values, biases = self._weights
        rows = np.asarray(encoder_output[0], np.float64)
        keys = np.stack([rows @ weight.T for weight in of_keys]) * self.key_scale
        values = np.stack([rows @ weight.T + bias for weight, bias in zip(of_values, biases)])
        return {"cross_keys": keys.astype(np.float32), "cross_values": values.astype(np.float32)}

    @cached_property
    def _weights(self) -> tuple[list[Float64], list[Float64], list[Float64]]:
        """Of keys, of values, and the values' biases, by layer."""
        state = read(self._checkpoint.path)["model_state_dict"]
        layers = range(self._checkpoint.dims.n_text_layer)

        def tensors(name: str) -> list[Float64]:
            return [state[f"decoder.blocks.{layer}.cross_attn.{name}"].double().numpy() for layer in layers]

        return tensors("key.weight"), tensors("value.weight"), tensors("value.bias")

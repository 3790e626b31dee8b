"""The byte layout of a device's input and output tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whisper_parity.backend.contract import Float32
from whisper_parity.model.dims import Dims

PADDING = 64
"""Largest row padding, in elements, that was seen with native inputs and outputs."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of elements, dense and little-endian."""

    rows: int
    columns: int
    """Elements of a row without padding."""
    stride: int
    """Elements of a row with padding."""
    dtype: str
    """"float32" or "float16"."""

    @property
    def row_bytes(self) -> int:
        """Bytes from one row to the next."""
        return self.stride * np.dtype(self.dtype).itemsize

    def unpack(self, data: bytes, rows: int) -> Float32:
        """The first `rows` rows in `data` as float32 [rows, columns]."""
        values = np.frombuffer(data, np.dtype(self.dtype).newbyteorder("<")).reshape(rows, self.stride)
        return values[:, : self.columns].astype(np.float32)


def of_size(size: int, rows: int, columns: int, *, native: bool) -> Layout | None:
    """The layout with `size` bytes; None if there is none.

    Native outputs are float16 with possibly padded rows; all others are dense float32. The size alone cannot tell them
    apart: half a float32 output is as large as a whole float16 one.
    """
    if not native:
        return Layout(rows, columns, columns, "float32") if size == rows * columns * 4 else None
    stride, rest = divmod(size, rows * 2)
    if rest == 0 and columns <= stride <= columns + PADDING:
        return Layout(rows, columns, stride, "float16")
    return None


def pack(array: Float32, dtype: str) -> bytes:
    """The bytes of a device's input."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<")).tobytes()


def expected(rows: int, columns: int, *, native: bool) -> str:
    """The size that `of_size` accepts, for error messages."""
    return f"{rows * columns * 2} and padding (float16)" if native else f"{rows * columns * 4} (float32)"


def encoder_output(dims: Dims) -> tuple[int, int]:
    """Rows and columns of the encoder's output."""
    return dims.n_audio_ctx, dims.n_audio_state


def logits(dims: Dims) -> tuple[int, int]:
    """Rows and columns of the decoder's output."""
    return dims.n_text_ctx, dims.n_vocab

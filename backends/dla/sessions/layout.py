"""How a tensor lies in the bytes that a device takes and gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whisper_parity.backend.contract import Float32
from whisper_parity.model.dims import Dims

PADDING = 64
"""Most elements by which a row was seen to be padded where a model is compiled with native inputs and outputs."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of elements, dense and little-endian."""

    rows: int
    columns: int
    """Elements of a row that count."""
    stride: int
    """Elements of a row with its padding."""
    dtype: str
    """"float32" or "float16"."""

    @property
    def row_bytes(self) -> int:
        """Bytes from one row to the next."""
        return self.stride * np.dtype(self.dtype).itemsize

    def unpack(self, data: bytes, rows: int) -> Float32:
        """The first `rows` rows in `data` as float32 [rows, columns]."""
        found = np.frombuffer(data, np.dtype(self.dtype).newbyteorder("<")).reshape(rows, self.stride)
        return found[:, : self.columns].astype(np.float32)


def of_size(size: int, rows: int, columns: int, *, native: bool) -> Layout | None:
    """The layout that has so many bytes; None when none has.

    What was compiled with native outputs is float16, its rows may be padded; all else is dense float32. The two are not
    guessed from the size: half an output has the size of the other.
    """
    if not native:
        return Layout(rows, columns, columns, "float32") if size == rows * columns * 4 else None
    stride, rest = divmod(size, rows * 2)
    if rest == 0 and columns <= stride <= columns + PADDING:
        return Layout(rows, columns, stride, "float16")
    return None


def pack(array: Float32, dtype: str) -> bytes:
    """An input as a device takes it."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<")).tobytes()


def expected(rows: int, columns: int, *, native: bool) -> str:
    """What `of_size` accepts, in words."""
    return f"{rows * columns * 2} and padding (float16)" if native else f"{rows * columns * 4} (float32)"


def encoder_output(dims: Dims) -> tuple[int, int]:
    """Rows and columns of the encoder's output."""
    return dims.n_audio_ctx, dims.n_audio_state


def logits(dims: Dims) -> tuple[int, int]:
    """Rows and columns of the decoder's output."""
    return dims.n_text_ctx, dims.n_vocab

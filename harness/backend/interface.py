"""How a given file takes and gives its numbers: read from the file, never from its name.

Everybody's arrays are [1, rows, columns] float32: input_features [1, n_mels, n_frames], encoder_output
[1, n_audio_ctx, n_audio_state], token embeddings [1, n_text_ctx, n_text_state], logits [1, n_text_ctx, n_vocab]; token
ids are [1, n]. A file may have them transposed, with fewer or more axes of one, as integers with a scale, or longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a file."""

    name: str
    """As the file calls it; "" where it does not."""
    index: int
    """Its place among the file's inputs, or outputs."""
    shape: Shape
    """As the file takes or gives it; an axis of free length has the length that is used."""
    sizes: tuple[int, int]
    """(rows, columns) in our order."""
    dtype: str = "float32"
    transposed: bool = False
    """Columns come before rows in the file."""
    scale: float = 0.0
    """Of integers that stand for numbers: value = scale * (integer - zero_point). 0 for all others."""
    zero_point: int = 0
    free_axis: int | None = None
    """Axis of `shape` that may have any length; it counts tokens."""

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Port:
        """A port as JSON has it."""
        rows, columns = fields["sizes"]
        return cls(**{**fields, "shape": tuple(fields["shape"]), "sizes": (rows, columns)})

    @property
    def is_plain(self) -> bool:
        """Whether it takes and gives our arrays as they are."""
        return self.dtype == "float32" and not self.transposed and self.shape == (1, *self.sizes)

    def of_length(self, count: int) -> Port:
        """The same for so many tokens."""
        if self.free_axis is None or self.shape[self.free_axis] == count:
            return self
        before, shape = self.shape[self.free_axis], list(self.shape)
        shape[self.free_axis] = count
        rows, columns = (count if size == before else size for size in self.sizes)
        return replace(self, shape=tuple(shape), sizes=(rows, columns))

    def pack(self, values: Float32) -> NDArray[Any]:
        """Our array [1, rows, columns], or ids [1, n], as the file takes it."""
        if self.is_plain:
            return values
        matrix = values.reshape(self.sizes)
        return self._encoded((matrix.T if self.transposed else matrix).reshape(self.shape))

    def unpack(self, array: NDArray[Any], rows: Sequence[int] | None = None) -> Float32:
        """What a file gave as float32 [1, rows, columns]; with rows asked for, those of them [len(rows), columns].

        Raises:
            ValueError: it is not of the port's shape.
        """
        if array.shape != self.shape:
            raise ValueError(f"expected {list(self.shape)}, found {list(array.shape)}")
        matrix = array.reshape(self.sizes[::-1]).T if self.transposed else array.reshape(self.sizes)
        return self._decoded(matrix)[None] if rows is None else self._decoded(matrix[list(rows)])

    def _encoded(self, values: NDArray[Any]) -> NDArray[Any]:
        kind = np.dtype(self.dtype)
        if kind.kind in "iu" and self.scale:
            limits = np.iinfo(kind)
            values = np.clip(np.rint(values / self.scale) + self.zero_point, limits.min, limits.max)
        return np.ascontiguousarray(values, kind)

    def _decoded(self, values: NDArray[Any]) -> Float32:
        if values.dtype.kind in "iu" and self.scale:
            return ((values.astype(np.float32) - self.zero_point) * np.float32(self.scale)).astype(np.float32)
        return np.array(values, np.float32)

    def __str__(self) -> str:
        """As a message shows it: "mel float32 [1, 80, 3000]"; what states no shape, by its name."""
        if not self.shape:
            return self.name
        return f"{self.name} {self.dtype} {list(self.shape)}".strip()


@dataclass(frozen=True, slots=True)
class Half:
    """One file: what it takes, in our order, and the output that is used."""

    inputs: tuple[Port, ...]
    """The encoder's input_features; the decoder's tokens (or their embeddings), then encoder_output."""
    output: Port

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Half:
        """A half as JSON has it."""
        return cls(tuple(map(Port.parse, fields["inputs"])), Port.parse(fields["output"]))

    def packed(self, arrays: Sequence[Float32]) -> list[NDArray[Any]]:
        """Our arrays in the file's order and form; an input of free length takes the array's."""
        ports = [port.of_length(array.shape[1]) for port, array in zip(self.inputs, arrays, strict=True)]
        filled = {port.index: port.pack(array) for port, array in zip(ports, arrays)}
        return [filled[index] for index in sorted(filled)]


@dataclass(frozen=True, slots=True)
class Interface:
    """Both files of a given stage."""

    encoder: Half
    decoder: Half
    takes_ids: bool = False
    """The decoder looks tokens up by itself."""
    last_row: bool = False
    """The decoder gives the logits of the last token alone, and takes any number of tokens."""
    notes: tuple[str, ...] = ()
    """What a reader of the report must know of these files."""

    def half(self, component: str) -> Half:
        """The encoder's file or the decoder's."""
        return self.encoder if component == "encoder" else self.decoder

    @property
    def tables(self) -> tuple[str, ...]:
        """Roles of the files beside the halves from which rows are looked up."""
        return () if self.takes_ids else ("token_embedding",)

    @property
    def n_audio_ctx(self) -> int:
        """Positions of the encoder's output: half the frames of its window."""
        return self.encoder.output.sizes[0]

    @property
    def n_text_ctx(self) -> int:
        """Tokens that the decoder has room for."""
        port = self.decoder.inputs[0]
        return port.sizes[1] if self.takes_ids else port.sizes[0]

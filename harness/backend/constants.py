"""What a shipped file holds: its constants, read without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scales:
    """How whole numbers stand for real ones: value = scale * (stored - zero_point)."""

    scale: Float32
    """float32 [n]: one for the whole constant, one for each slice along `axis`, or [blocks] in its order."""
    zero_point: NDArray[np.int64]
    """int64 [n] or [1]."""
    axis: int | None
    """Axis of the stored array that the scales run along; None for one scale, or for blocks."""
    block: int = 0
    """Neighbouring values along the last axis that share a scale; 0 where there are no blocks."""

    def over(self, numbers: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Scales or zero points [n], spread so that they can be multiplied with an array of that shape."""
        if self.block:
            blocks = numbers.reshape(*shape[:-1], -1) if numbers.size > 1 else numbers.reshape([1] * len(shape))
            return np.repeat(blocks, self.block, axis=-1)[..., : shape[-1]] if numbers.size > 1 else blocks
        if self.axis is None or numbers.size == 1:
            return numbers.reshape([1] * len(shape))
        return numbers.reshape([-1 if axis == self.axis else 1 for axis in range(len(shape))])


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant of a shipped file, its numbers left where they lie until they are asked for."""

    key: str
    """What tells it apart in the file: a parameter's path, "constant 3", "buffer 12"."""
    dtype: str
    """Type of the stored numbers: "float32", "float16", "bfloat16", "int8", "int4", ..."""
    stored: NDArray[Any]
    """As stored, in its shape; bfloat16 as the upper halves of float32, 4 bits unpacked to int8."""
    scales: Scales | None = None
    names: tuple[str, ...] = ()
    """What the file calls it: paths of a module; empty where it has no names that say anything."""
    order: int | None = None
    """Rank of the first operation that takes it, in an order in which the file can be run; None where not known."""
    beside: tuple[str, ...] = ()
    """Keys of the constants that the same operation takes: a bias and its weight."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(int(size) for size in self.stored.shape)

    @property
    def is_number(self) -> bool:
        """Whether it holds real numbers, whole ones with scales among them."""
        return self.scales is not None or self.stored.dtype.kind == "f" or self.dtype == "bfloat16"

    def values(self) -> Float32:
        """The real numbers, float32 in the stored shape; a view where they are stored so."""
        if self.dtype == "bfloat16":
            return (self.stored.astype(np.uint32) << 16).view(np.float32)
        if self.scales is None:
            with np.errstate(over="ignore"):
                return np.asarray(self.stored, np.float32)
        zero, scale = (self.scales.over(item, self.shape) for item in (self.scales.zero_point, self.scales.scale))
        return np.asarray((self.stored.astype(np.float32) - zero.astype(np.float32)) * scale, np.float32)

    def ends(self) -> NDArray[np.bool_]:
        """Where a whole number is at an end of its type's range, or one before it, as symmetric quantisers cut."""
        bits = {"int4": 4, "int16": 16}.get(self.dtype, 8)
        low, high = (0, 2**bits - 1) if self.dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return np.asarray((self.stored >= high) | (self.stored <= low + 1))

    def steps(self) -> Float32 | None:
        """Distance of neighbouring values, float32, of a shape that spreads over the stored one; None for floats."""
        return None if self.scales is None else np.asarray(self.scales.over(self.scales.scale, self.shape), np.float32)

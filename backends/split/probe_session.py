"""An open probe on the host: feed it and cut its outputs, whatever runtime runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.taps import Taps
from whisper_parity.errors import ArtifactError
from whisper_parity.model.dims import Dims

Run = Callable[[str, Mapping[str, Float32]], Mapping[str, Float32]]
"""(component, arrays by port) -> outputs by unit."""


class HostProbe:
    """Implement `whisper_parity.backend.contract.Probing` with a function that runs one file."""

    def __init__(
        self, label: str, selection: Taps, dims: Dims, run: Run, lookup: Callable[[Sequence[int]], Float32]
    ) -> None:
        """Take the function and its ports.

        Args:
            label: what really runs.
            selection: the taps that it was built with.
            dims: of the checkpoint.
            run: runs a file.
            lookup: tokens -> float32 [1, n_text_ctx, n_text_state], zero after the last one.
        """
        self.label = label
        self._taps, self._dims, self._run, self._lookup = selection, dims, run, lookup

    def tapped(self, component: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32]:
        """See `whisper_parity.backend.contract.Probing`.

        Raises:
            UsageError: inputs that this probe does not take.
            ArtifactError: outputs of another shape or type.
        """
        ports = taps.ports(self._taps, component, self._dims)
        outputs = self._run(component, taps.fed(ports, inputs, self._lookup))
        count = taps.rows(component, self._dims, inputs)
        return {unit: _cut(unit, outputs[unit], shape, count) for unit, shape in ports.outputs.items()}


def _cut(unit: str, output: Float32, shape: tuple[int, ...], count: int) -> Float32:
    if output.shape != shape or output.dtype != np.float32:
        raise ArtifactError(f"tap {unit}: expected float32 {list(shape)}, found {output.dtype} {list(output.shape)}")
    return np.array(output[:, :count])

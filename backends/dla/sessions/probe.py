"""A probe on a device, through neuronrt: several inputs and outputs per call, as files.

A DLA file keeps no names: neuronrt numbers its tensors by handle. We take handle i to be the i-th input or output of
the TFLite file that was compiled, whose order is recorded beside the probe. MediaTek does not document that, so the
shapes of the I/O map are checked here, readers of the taps compare the final output with the shipped file's, and
`probe_order` under [backends.dla] reverses the order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.taps import Taps
from whisper_parity.backends.dla import probes
from whisper_parity.backends.dla.link.device import Device, Facts
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.backends.dla.sessions.neuronrt import Workplace, plain
from whisper_parity.backends.split.embedding import TokenEmbedding
from whisper_parity.backends.split.inside import FileProbe
from whisper_parity.backends.tflite.surgery import Copy, Shape
from whisper_parity.backends.tflite.tapping import CopyTaps
from whisper_parity.errors import ArtifactError


class NeuronrtProbe(Workplace):
    """The files of one probe on one device."""

    def __init__(self, device: Device, facts: Facts, artifact: Artifact, selection: Taps) -> None:
        """Push the files and check the I/O maps.

        Raises:
            DeviceError: no tool, a file that it refuses, or tensors that do not match.
            ArtifactError: the order of its tensors was not recorded.
        """
        super().__init__(device, facts, artifact, selection.components)
        self._table = TokenEmbedding(artifact.path("token_embedding"), self._dims) if selection.of("decoder") else None
        self._copies = {role: self._checked(role, artifact) for role in selection.components}
        self._rows = 0
        files = {role: _File(self, role) for role in selection.components}
        self.via = f"{self.via}, probe"
        self._units = FileProbe(self.via, selection, self._dims, CopyTaps(self._copies, files), self._lookup)
        device.shell("mkdir", "-p", self._folder)

    def tapped(self, component: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32]:
        """See `whisper_parity.backend.contract.Probing`; only meaningful rows leave the device.

        Raises:
            DeviceError: the tool failed.
        """
        self._rows = taps.rows(component, self._dims, inputs)
        return self._units.tapped(component, inputs)

    def run(self, role: str, arrays: Mapping[str, Float32]) -> dict[str, Float32]:
        """Call the tool once; arrays and outputs go by the names of ports in files."""
        copy = self._copies[role]
        names = [f"in{number}" for number in range(len(copy.inputs))]
        for name, port in zip(names, copy.inputs):
            self._put(role, arrays[taps.file_port(port)], name)
        tables = {f"out{number}": _Table.of(shape) for number, shape in enumerate(copy.outputs.values())}
        layouts = self._run(role, names, {name: (table.rows, table.columns) for name, table in tables.items()})
        outputs = {}
        for (unit, shape), (name, table) in zip(copy.outputs.items(), tables.items()):
            rows, layout = table.needed(self._dims.n_text_ctx, self._rows), layouts[name]
            self._cut(name, layout, range(rows))
            output = np.zeros((table.rows, table.columns), np.float32)
            output[:rows] = layout.unpack(self._fetch("rows", rows * layout.row_bytes), rows)
            outputs[taps.file_port(unit)] = output.reshape(shape)
        return outputs

    def close(self) -> None:
        """Remove the run's files and the probe itself: it is used once, and a device has little space."""
        with suppress(DeviceError):
            self.device.shell("rm", "-f", *self._models.values(), limit_s=10.0)
        super().close()

    def _lookup(self, tokens: Sequence[int], count: int) -> Float32:
        if self._table is None:
            raise ArtifactError("expected a probe with the decoder, found one of the encoder alone")
        return self._table.lookup(tokens, count)

    def _checked(self, role: str, artifact: Artifact) -> Copy:
        """The ports by handle, their shapes checked against the file's I/O map."""
        copy = probes.recorded(artifact.path("compilation"), role)
        if self.device.settings.probe_order == "reversed":
            copy = replace(copy, inputs=_reversed(copy.inputs), outputs=_reversed(copy.outputs))
        io_map = self._read_map(role)
        expected = [_plain(side.values()) for side in (copy.inputs, copy.outputs)]  # type: ignore[arg-type]
        actual = [_plain(side) for side in (io_map.inputs, io_map.outputs)]
        if expected != actual:
            message = f"{role} probe: expected inputs {expected[0]} and outputs {expected[1]} by handle, "
            message += f"the file has {actual[0]} and {actual[1]}"
            raise DeviceError(Fault.SHAPE, self.device.serial, message, hint='Try probe_order = "reversed"')
        return copy


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a probe, run as a loaded copy is."""

    probe: NeuronrtProbe
    role: str

    def run_all(self, arrays: Mapping[str, Float32]) -> dict[str, Float32]:
        """All outputs by port."""
        return self.probe.run(self.role, arrays)


@dataclass(frozen=True, slots=True)
class _Table:
    """An output as rows."""

    rows: int
    columns: int

    @classmethod
    def of(cls, shape: Shape) -> _Table:
        """Its last axis is the columns."""
        return cls(math.prod(shape[:-1]), shape[-1])

    def needed(self, n_text_ctx: int, count: int) -> int:
        """Rows that mean something: those of the tokens, where each position has one."""
        return count if self.rows == n_text_ctx else self.rows


def _reversed(side: Mapping[str, Any]) -> dict[str, Any]:
    return {name: side[name] for name in reversed([*side])}


def _plain(shapes: Iterable[Shape]) -> list[Shape]:
    return [plain(tuple(shape)) for shape in shapes]

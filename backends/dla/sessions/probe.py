"""A probe on a device, through neuronrt: several inputs and outputs per call, as files.

A DLA file keeps no names: neuronrt numbers its tensors by handle. We take handle i to be the i-th input or output of
the TFLite file that it was compiled from, whose order `build` recorded beside it. MediaTek does not document that, so
the shapes of the I/O map are checked here, readers of the taps compare the final output with the shipped file's, and
`probe_order` under [backends.dla] reverses the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backend.taps import Ports, Taps
from whisper_parity.backends.dla.link.device import Device, Facts
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.backends.dla.sessions.neuronrt import Workplace, plain
from whisper_parity.backends.split.embedding import TokenEmbedding
from whisper_parity.errors import ArtifactError, InputError
from whisper_parity.system import inputs


@dataclass(frozen=True, slots=True)
class Handles:
    """The ports of one file, in the order of their handles."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class NeuronrtProbe(Workplace):
    """The files of one probe on one device."""

    def __init__(self, device: Device, facts: Facts, artifact: Artifact, selection: Taps) -> None:
        """Push the files and check the I/O maps.

        Raises:
            DeviceError: no tool, a file that it refuses, or tensors that do not match.
            ArtifactError: the order of its tensors was not recorded.
        """
        super().__init__(device, facts, artifact, selection.components)
        self._taps = selection
        self._table = TokenEmbedding(artifact.path("token_embedding"), self._dims) if selection.of("decoder") else None
        self._handles = {role: self._checked_handles(role, artifact) for role in selection.components}
        self.via = f"{self.via}, probe"
        device.shell("mkdir", "-p", self._folder)

    def tapped(self, component: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32]:
        """See `whisper_parity.backend.contract.Probing`; only meaningful rows leave the device.

        Raises:
            DeviceError: the tool failed.
        """
        ports, handles = self._ports(component), self._handles[component]
        arrays = taps.fed(ports, inputs, self._lookup)
        names = [f"in{number}" for number in range(len(handles.inputs))]
        for name, port in zip(names, handles.inputs):
            self._put(component, arrays[port], name)
        outputs = {f"out{number}": ports.outputs[unit][1:] for number, unit in enumerate(handles.outputs)}
        layouts = self._run(component, names, outputs)  # type: ignore[arg-type]
        count, values = taps.rows(component, self._dims, inputs), {}
        for unit, (name, layout) in zip(handles.outputs, layouts.items()):
            self._cut(name, layout, range(count))
            values[unit] = layout.unpack(self._fetch("rows", count * layout.row_bytes), count)[None]
        return {unit: values[unit] for unit in ports.outputs}

    def close(self) -> None:
        """Remove the run's files and the probe itself: it is used once, and a device has little space."""
        with suppress(DeviceError):
            self.device.shell("rm", "-f", *self._models.values(), limit_s=10.0)
        super().close()

    def _ports(self, component: str) -> Ports:
        return taps.ports(self._taps, component, self._dims)

    def _lookup(self, tokens: Sequence[int]) -> Float32:
        if self._table is None:
            raise ArtifactError("expected a probe with the decoder, found one of the encoder alone")
        return self._table.lookup(tokens)

    def _checked_handles(self, role: str, artifact: Artifact) -> Handles:
        """Ports by handle, their shapes checked against the file's I/O map."""
        ports, handles = self._ports(role), recorded(artifact.path("compilation"), role, self._ports(role))
        if self.device.settings.probe_order == "reversed":
            handles = Handles(handles.inputs[::-1], handles.outputs[::-1])
        io_map = self._read_map(role)
        expected = [[plain(ports.inputs[name]) for name in handles.inputs]]
        expected += [[plain(ports.outputs[unit]) for unit in handles.outputs]]
        actual = [[plain(shape) for shape in side] for side in (io_map.inputs, io_map.outputs)]
        if expected != actual:
            message = f"{role} probe: expected inputs {expected[0]} and outputs {expected[1]} by handle, "
            message += f"the file has {actual[0]} and {actual[1]}"
            raise DeviceError(Fault.SHAPE, self.device.serial, message, hint='Try probe_order = "reversed"')
        return handles


def recorded(path: Path, role: str, ports: Ports) -> Handles:
    """Read the order that `build` recorded with the compilation.

    Raises:
        ArtifactError: no such record, or it names other ports.
    """
    try:
        record = inputs.read_json(path)["ports"][role]
        sides = tuple(record["inputs"]), tuple(record["outputs"])
    except (InputError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: no record of the order of the {role}'s tensors", hint="Build the probe again"
        ) from error
    names_by_port = [{taps.file_port(name): name for name in side} for side in (ports.inputs, ports.outputs)]
    if any(set(side) != set(names) for side, names in zip(sides, names_by_port)):
        raise ArtifactError(f"{path}: its tensors are not those of the {role}'s probe", hint="Build the probe again")
    return Handles(*(tuple(names[port] for port in side) for side, names in zip(sides, names_by_port)))

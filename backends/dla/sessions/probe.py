"""A probe on a device, by neuronrt: several inputs and outputs of one call, as files.

A DLA file keeps no names: neuronrt knows its tensors by handle. We take handle number i to be the i-th input or output
of the TFLite file that it was compiled from, whose order `build` wrote beside it. MediaTek does not document that;
`probe_order` under [backends.dla] turns it round, the shapes of the I/O map are compared, and the final output is held
against the shipped file's by who reads the taps.
"""

from __future__ import annotations

import json
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
from whisper_parity.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class Handles:
    """Ports of one file by handle."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class NeuronrtProbe(Workplace):
    """The files of one probe on one device."""

    def __init__(self, device: Device, facts: Facts, artifact: Artifact, found: Taps) -> None:
        """Push what is needed, and read the I/O maps.

        Raises:
            DeviceError: no tool, a file that it refuses, tensors that do not fit.
            ArtifactError: the order of its tensors was not recorded.
        """
        super().__init__(device, facts, artifact, found.components)
        self._taps = found
        self._table = TokenEmbedding(artifact.path("token_embedding"), self._dims) if found.of("decoder") else None
        self._handles = {role: self._checked_handles(role, artifact) for role in found.components}
        self.via = f"{self.via}, probe"
        device.shell("mkdir", "-p", self._folder)

    def tapped(self, component: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32]:
        """See `whisper_parity.backend.contract.Probing`; only the rows that mean something leave the device.

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
        count, found = taps.rows(component, self._dims, inputs), {}
        for unit, (name, lies) in zip(handles.outputs, layouts.items()):
            self._cut(name, lies, range(count))
            found[unit] = lies.unpack(self._fetch("rows", count * lies.row_bytes), count)[None]
        return {unit: found[unit] for unit in ports.outputs}

    def close(self) -> None:
        """Remove the run's files and the probe itself: it is measured once, and a device has little room."""
        with suppress(DeviceError):
            self.device.shell("rm", "-f", *self._models.values(), limit_s=10.0)
        super().close()

    def _ports(self, component: str) -> Ports:
        return taps.ports(self._taps, component, self._dims)

    def _lookup(self, tokens: Sequence[int]) -> Float32:
        if self._table is None:
            raise ArtifactError("a probe of the encoder was asked for the decoder")
        return self._table.lookup(tokens)

    def _checked_handles(self, role: str, artifact: Artifact) -> Handles:
        """Ports by handle, their shapes held against the I/O map of the file."""
        ports, handles = self._ports(role), recorded(artifact.path("compilation"), role, self._ports(role))
        if self.device.settings.probe_order == "reversed":
            handles = Handles(handles.inputs[::-1], handles.outputs[::-1])
        there = self._read_map(role)
        ours = [[plain(ports.inputs[name]) for name in handles.inputs]]
        ours += [[plain(ports.outputs[unit]) for unit in handles.outputs]]
        theirs = [[plain(shape) for shape in side] for side in (there.inputs, there.outputs)]
        if ours != theirs:
            message = f"{role} probe: expected inputs {ours[0]} and outputs {ours[1]} by handle, "
            message += f"the file has {theirs[0]} and {theirs[1]}"
            raise DeviceError(Fault.SHAPE, self.device.serial, message, hint='Try probe_order = "reversed"')
        return handles


def recorded(path: Path, role: str, ports: Ports) -> Handles:
    """The order that `build` wrote into the record of the compilation.

    Raises:
        ArtifactError: it is not there, or names other ports.
    """
    try:
        record = json.loads(path.read_text("utf-8"))["ports"][role]
        inputs, outputs = tuple(record["inputs"]), tuple(record["outputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: no order of the {role}'s tensors", hint="Build the probe again") from error
    ours = [{taps.file_port(name): name for name in side} for side in (ports.inputs, ports.outputs)]
    if set(inputs) != set(ours[0]) or set(outputs) != set(ours[1]):
        raise ArtifactError(f"{path}: names other tensors than the {role}'s probe has", hint="Build the probe again")
    return Handles(tuple(ours[0][name] for name in inputs), tuple(ours[1][name] for name in outputs))

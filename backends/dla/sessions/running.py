"""Choose what runs an artifact on a device: the resident runner if it starts, else neuronrt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Float32
from whisper_parity.backends.dla.link.device import Device, Facts
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.backends.dla.sessions.neuronrt import NeuronrtSession
from whisper_parity.backends.dla.sessions.probe import NeuronrtProbe
from whisper_parity.backends.dla.sessions.resident import ResidentSession
from whisper_parity.errors import BuildError, ParityError, UnavailableError

UNFIT = frozenset({Fault.LIBRARY, Fault.NAMESPACE, Fault.NO_TOOL})
"""Faults at the runner's start after which neuronrt may still work, since it loads the runtime its own way."""


class Running(Protocol):
    """**Protocol:** a session on a device."""

    via: str
    """"runner 1.0 (NeuronRuntimeV2 8.2.31)" or "neuronrt 8.2.16"."""
    notes: tuple[str, ...]

    @property
    def temperature_c(self) -> float | None:
        """The device's temperature; None if it cannot be read."""

    def encode(self, input_features: Float32) -> Float32:
        """See `whisper_parity.backend.contract.Halves`."""

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """See `whisper_parity.backend.contract.Halves`."""


@contextmanager
def started(device: Device, facts: Facts, artifact: Artifact) -> Iterator[Running | NeuronrtProbe]:
    """Start what `mode` asks for; "auto" is the runner, or neuronrt if that does not start. Probes need neuronrt.

    Raises:
        DeviceError: neither starts, or the files are refused.
        BuildError, UnavailableError: mode is "runner", and none can be built for this device.
    """
    session = _start(device, facts, artifact)
    try:
        yield session
    finally:
        session.close()


def _start(device: Device, facts: Facts, artifact: Artifact) -> ResidentSession | NeuronrtSession | NeuronrtProbe:
    if selection := taps.of_options(artifact.options, artifact.checkpoint.dims):
        return NeuronrtProbe(device, facts, artifact, selection)  # the runner's protocol covers ordinary files only
    mode = device.settings.mode
    if mode == "neuronrt":
        return NeuronrtSession(device, facts, artifact)
    try:
        return ResidentSession(device, facts, artifact)
    except ParityError as error:
        replaceable = isinstance(error, (BuildError, UnavailableError)) or (
            isinstance(error, DeviceError) and error.fault in UNFIT
        )
        if mode == "runner" or not replaceable:
            raise
        try:
            session = NeuronrtSession(device, facts, artifact)
        except DeviceError as fallback_error:
            raise fallback_error if fallback_error.fault is not Fault.NO_TOOL else error from error
        session.notes = (f"neuronrt was used, since the runner could not be started: {error}",)
        return session

"""What runs an artifact on a device: the resident runner where it can be started, else neuronrt."""

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
"""Faults of the runner's start with which neuronrt, which brings its own way to the runtime, may still do."""


class Running(Protocol):
    """**Protocol:** what answers on a device."""

    via: str
    """"runner 1.0 (NeuronRuntimeV2 8.2.31)" or "neuronrt 8.2.16"."""
    notes: tuple[str, ...]

    @property
    def temperature_c(self) -> float | None:
        """Of the device, where it can be read."""

    def encode(self, input_features: Float32) -> Float32:
        """As `whisper_parity.backend.contract.Session` has it."""

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """As `whisper_parity.backend.contract.Session` has it."""


@contextmanager
def started(device: Device, facts: Facts, artifact: Artifact) -> Iterator[Running | NeuronrtProbe]:
    """Start what the settings ask for; with `auto` the runner, and neuronrt where that cannot be, and for probes.

    Raises:
        DeviceError: neither could be started, or the files were refused.
        BuildError, UnavailableError: no runner for this device can be built, and only that was asked for.
    """
    session = _start(device, facts, artifact)
    try:
        yield session
    finally:
        session.close()


def _start(device: Device, facts: Facts, artifact: Artifact) -> ResidentSession | NeuronrtSession | NeuronrtProbe:
    if found := taps.of_options(artifact.options, artifact.checkpoint.dims):
        return NeuronrtProbe(device, facts, artifact, found)  # the runner's protocol knows ordinary files only
    mode = device.settings.mode
    if mode == "neuronrt":
        return NeuronrtSession(device, facts, artifact)
    try:
        return ResidentSession(device, facts, artifact)
    except ParityError as error:
        fits = isinstance(error, (BuildError, UnavailableError)) or (
            isinstance(error, DeviceError) and error.fault in UNFIT
        )
        if mode == "runner" or not fits:
            raise
        try:
            session = NeuronrtSession(device, facts, artifact)
        except DeviceError as second:
            raise second if second.fault is not Fault.NO_TOOL else error from error
        session.notes = (f"neuronrt was used, since the runner could not be started: {error}",)
        return session

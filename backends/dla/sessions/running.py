"""Choose what runs an artifact on a device: the resident runner if it starts, else neuronrt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Facts, Float32
from whisper_parity.backends.dla.link.device import Device
from whisper_parity.backends.dla.link.device import Facts as DeviceFacts
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.backends.dla.sessions.bystep import NeuronrtSteps
from whisper_parity.backends.dla.sessions.neuronrt import NeuronrtSession, Workplace
from whisper_parity.backends.dla.sessions.probe import NeuronrtProbe
from whisper_parity.backends.dla.sessions.resident import ResidentSession
from whisper_parity.backends.dla.sessions.stepped import ResidentSteps
from whisper_parity.backends.split import layouts
from whisper_parity.backends.split.slotted import SlottedSession
from whisper_parity.errors import BuildError, ParityError, UnavailableError

A = TypeVar("A")
B = TypeVar("B", bound=Workplace)
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


class Stepped:
    """A decoder with a KV cache on a device, with the lookups outside its files."""

    def __init__(self, steps: ResidentSteps | NeuronrtSteps, artifact: Artifact) -> None:
        """Map the tables.

        Raises:
            ArtifactError: a table is missing, or not of the checkpoint's shape.
        """
        self._steps = steps
        self.via, self.notes = steps.via, steps.notes
        notes = () if artifact.interface else steps.fitted.notes  # those of given files are the artifact's
        self.slotted = SlottedSession(steps.fitted, artifact, steps.encode, steps, Facts(steps.via, notes))

    @property
    def temperature_c(self) -> float | None:
        """The device's temperature; None if it cannot be read."""
        return self._steps.temperature_c

    def close(self) -> None:
        """End what runs there."""
        self._steps.close()


@contextmanager
def stepped(device: Device, facts: DeviceFacts, artifact: Artifact) -> Iterator[Stepped]:
    """Start a decoder with a KV cache, as `started` does one without.

    Raises:
        ArtifactError: the files fit no layout.
        DeviceError, BuildError, UnavailableError: as `started`.
    """
    known = layouts.known(device.settings.layouts)
    steps = _chosen(
        device,
        lambda: ResidentSteps(device, facts, artifact, known),
        lambda: NeuronrtSteps(device, facts, artifact, known),
    )
    try:
        yield Stepped(steps, artifact)
    finally:
        steps.close()


@contextmanager
def started(device: Device, facts: DeviceFacts, artifact: Artifact) -> Iterator[Running | NeuronrtProbe]:
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


def _start(device: Device, facts: DeviceFacts, artifact: Artifact) -> ResidentSession | NeuronrtSession | NeuronrtProbe:
    if selection := taps.of_options(artifact.options, artifact.checkpoint.dims):
        return NeuronrtProbe(device, facts, artifact, selection)  # the runner's protocol covers ordinary files only
    return _chosen(
        device, lambda: ResidentSession(device, facts, artifact), lambda: NeuronrtSession(device, facts, artifact)
    )


def _chosen(device: Device, runner: Callable[[], A], neuronrt: Callable[[], B]) -> A | B:
    """What `mode` asks for; "auto" is the runner, or neuronrt where that does not start."""
    if device.settings.mode == "neuronrt":
        return neuronrt()
    try:
        return runner()
    except ParityError as error:
        replaceable = isinstance(error, (BuildError, UnavailableError)) or (
            isinstance(error, DeviceError) and error.fault in UNFIT
        )
        if device.settings.mode == "runner" or not replaceable:
            raise
        try:
            session = neuronrt()
        except DeviceError as fallback_error:
            raise fallback_error if fallback_error.fault is not Fault.NO_TOOL else error from error
        session.notes = (f"neuronrt was used, since the runner could not be started: {error}",)
        return session

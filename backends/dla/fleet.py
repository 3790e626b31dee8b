"""Devices side by side, each with its own session, which survives faults of the link."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from whisper_parity.backend import taps
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.contract import Facts, Float32, Usage
from whisper_parity.backends.dla import placement
from whisper_parity.backends.dla.link import adb, device, lock
from whisper_parity.backends.dla.link.adb import Adb
from whisper_parity.backends.dla.link.device import Device, Meter
from whisper_parity.backends.dla.link.device import Facts as DeviceFacts
from whisper_parity.backends.dla.link.faults import AWAY, LINK_FAULTS, DeviceError, Fault
from whisper_parity.backends.dla.sessions import running
from whisper_parity.backends.dla.settings import Settings
from whisper_parity.backends.split.slotted import SlottedSession

R = TypeVar("R")
D = TypeVar("D", bound="DeviceLink")
CLOCK_SLACK_S = 86_400
AGAIN_S = 60.0
"""After so long a device that was lost is probed again: a run of a night does without it for a minute, not for good."""


@dataclass(eq=False)
class DeviceLink:
    """An artifact on one device, whatever runs it. A link fault gets one retry once the device is back, and a note."""

    device: Device
    artifact: Artifact
    threads: int
    lost: bool = False
    """It did not come back in time: from now on probe it, do not wait for it."""
    lost_at: float = 0.0
    """When, on the monotonic clock."""
    _stack: ExitStack = field(default_factory=ExitStack)
    _running: Any = None
    _device_facts: DeviceFacts | None = None
    _notes: list[str] = field(default_factory=list)

    @property
    def facts(self) -> Facts:
        """What really runs, and what the compiler's execution plan says about where."""
        return Facts(self.label, placement=placement.of_plan(self.artifact))

    @property
    def label(self) -> str:
        """The stage, the device, and what runs there."""
        name = self._device_facts.name if self._device_facts else "device not reached"
        via = self._running.via if self._running else "not started"
        return f"{self.artifact.stage} ({name} via {via})"

    def usage(self) -> Usage:
        """What was used since the last call."""
        spent: Meter = self.device.meter.take()
        notes, self._notes = tuple(self._notes), []
        temperature = self._running.temperature_c if self._running else None
        return Usage(
            f"{self._device_facts.name if self._device_facts else ''} {self.device.serial}".strip(),
            spent.device_s, spent.sent, spent.received, temperature, notes,
        )  # fmt: skip

    def ready(self) -> None:
        """Open the session unless it is open, so that its label is final.

        Raises:
            DeviceError: as `open`, after one retry if the link failed.
        """
        if self._running is None:
            self._retry_once(lambda session: session.via)

    def open(self) -> Any:
        """Start what runs the artifact on the device, unless it runs.

        Raises:
            DeviceError: the device cannot be reached, is used by another harness, or refuses the files.
        """
        if self._running is None:
            self._connect()
            try:
                facts = self._device_facts = self._note_changes(device.facts(self.device))
                self._stack.enter_context(lock.held(self.device, facts))
                self._running = self._stack.enter_context(self._started(facts))
                self._notes += self._running.notes
            except BaseException:
                self.close()
                raise
        return self._running

    def _started(self, facts: DeviceFacts) -> AbstractContextManager[Any]:
        """What runs the artifact, started: the runner or neuronrt."""
        return running.started(self.device, facts, self.artifact)

    def close(self) -> None:
        """Stop what runs there and release the device."""
        self._running = None
        stack, self._stack = self._stack, ExitStack()
        stack.close()

    def _connect(self) -> None:
        if self.lost or self._device_facts is None:
            self.device.present()
        else:  # it was reached before: give it time to come back
            self.device.require()
        self.lost = False

    def _note_changes(self, facts: DeviceFacts) -> DeviceFacts:
        """Note a reboot or a wrong clock."""
        if self._device_facts and facts.boot_id != self._device_facts.boot_id:
            self.note(f"{self.device.serial} was rebooted in between")
        if facts.clock_s >= 0 and abs(facts.clock_s - device.now()) > CLOCK_SLACK_S:
            self.note(f"{self.device.serial}: its clock is wrong ({device.date(facts.clock_s)}); no result uses it")
        return facts

    def lose(self) -> None:
        """Leave it out while there are others; after AGAIN_S it is probed once more."""
        self.lost, self.lost_at = True, time.monotonic()

    def note(self, text: str) -> None:
        """Add a note to the next clip's row."""
        self._notes.append(text)

    def _retry_once(self, operation: Callable[[Any], R]) -> R:
        try:
            return operation(self.open())
        except DeviceError as error:
            self.close()  # the next call starts from a known state
            if error.fault not in LINK_FAULTS or self.lost:
                raise
            first = error
        try:
            result = operation(self.open())
        except DeviceError as second:
            self.close()
            if second.fault in AWAY:
                self.lose()
            raise self._cause(first, second) from second
        self.note(f"second try after: [{first.fault.value}] {first.message}")
        return result

    def _cause(self, first: DeviceError, second: DeviceError) -> DeviceError:
        """Which of two failures to report: the first, if the second only says that the device is gone."""
        if second.fault not in (Fault.NO_DEVICE, Fault.OFFLINE, Fault.UNPLUGGED):
            return second
        limit_s = self.device.settings.reconnect_s
        return DeviceError(first.fault, self.device.serial, f"{first.message}; not back within {limit_s:.0f} s")


class DeviceSession(DeviceLink):
    """The halves on one device."""

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> encoder_output float32 [1, n_audio_ctx, n_audio_state]."""
        return self._retry_once(lambda session: session.encode(input_features))

    def decode(self, tokens: Sequence[int], encoder_output: Float32, rows: Sequence[int]) -> Float32:
        """Logits float32 [len(rows), n_vocab] of the requested positions."""
        return self._retry_once(lambda session: session.decode(tokens, encoder_output, rows))


class DeviceStepper(DeviceLink):
    """A decoder with a KV cache on one device: `whisper_parity.backend.facets.Slotted`.

    A cache is lost with its link: what is opened anew is fed again what was fed before.
    """

    _sound: Float32 | None = None
    _fed: tuple[int, ...] = ()
    _used: Any = None

    @property
    def facts(self) -> Facts:
        """What really runs; complete once the files are open."""
        notes = self._running.slotted.facts.notes if self._running else ()
        return Facts(self.label, notes, placement.of_plan(self.artifact))

    @property
    def n_slots(self) -> int:
        """Tokens that the cache has room for."""
        return self._retry_once(lambda session: int(session.slotted.n_slots))

    @property
    def position(self) -> int:
        """Tokens that were fed."""
        return len(self._fed)

    def encode(self, input_features: Float32) -> Float32:
        """float32 [1, n_mels, 3000] -> encoder_output float32 [1, n_audio_ctx, n_audio_state]."""
        return self._stepping(lambda slotted: slotted.encode(input_features))

    def begin(self, encoder_output: Float32) -> None:
        """See `whisper_parity.backend.contract.Stepper`."""
        self._sound, self._fed = None, ()
        self._stepping(lambda slotted: slotted.begin(encoder_output))
        self._sound = encoder_output.copy()

    def feed(self, token: int) -> Float32:
        """See `whisper_parity.backend.contract.Stepper`."""
        row = self._stepping(lambda slotted: slotted.feed(token))
        self._fed = (*self._fed, token)
        return row

    def rewind(self, count: int) -> None:
        """See `whisper_parity.backend.contract.Stepper`."""
        self._stepping(lambda slotted: slotted.rewind(count))
        self._fed = self._fed[: len(self._fed) - count]

    def written(self) -> dict[str, Float32]:
        """See `whisper_parity.backend.facets.Slotted`."""
        return self._stepping(lambda slotted: slotted.written())

    def cross(self) -> dict[str, Float32]:
        """See `whisper_parity.backend.facets.Slotted`."""
        return self._stepping(lambda slotted: slotted.cross())

    def fill(self, value: float) -> None:
        """See `whisper_parity.backend.facets.Slotted`."""
        self._stepping(lambda slotted: slotted.fill(value))

    def inputs(self) -> tuple[str, ...]:
        """See `whisper_parity.backend.facets.Slotted`."""
        return self._stepping(lambda slotted: slotted.inputs())

    @contextmanager
    def replaced(self, name: str, array: NDArray[Any]) -> Iterator[None]:
        """See `whisper_parity.backend.facets.Slotted`; not kept over a lost link, which ends it."""
        with self.open().slotted.replaced(name, array):
            yield

    def _started(self, facts: DeviceFacts) -> AbstractContextManager[Any]:
        return running.stepped(self.device, facts, self.artifact)

    def _stepping(self, operation: Callable[[SlottedSession], R]) -> R:
        return self._retry_once(lambda session: operation(self._caught_up(session)))

    def _caught_up(self, session: Any) -> SlottedSession:
        """What runs now, fed what another one was fed before the link was lost."""
        slotted: SlottedSession = session.slotted
        if session is not self._used and self._sound is not None:
            slotted.begin(self._sound)
            for token in self._fed:
                slotted.feed(token)
        self._used = session
        return slotted


class DeviceProbe(DeviceSession):
    """A probe on one device, with the same retry."""

    def tapped(self, component: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32]:
        """See `whisper_parity.backend.contract.Probing`."""
        return self._retry_once(lambda session: session.tapped(component, inputs))


class DeviceFleet(Generic[D]):
    """The sessions of all devices of a run."""

    def __init__(self, sessions: Sequence[D]) -> None:
        """Take unopened sessions: each one opens with its first clip."""
        self._sessions = tuple(sessions)
        self._busy: list[D] = []
        self._changed = threading.Condition()

    @property
    def size(self) -> int:
        """How many devices there are."""
        return len(self._sessions)

    @contextmanager
    def lease(self) -> Iterator[D]:
        """A device for one clip; a lost one only if no other is left.

        Raises:
            DeviceError: the last device cannot be used either.
        """
        session = self._take()
        try:
            while not self._usable(session):
                self._give_back(session)
                session = self._take()
            yield session
        finally:
            self._give_back(session)

    def _usable(self, session: D) -> bool:
        """Whether it runs. One that does not is marked lost while there are others, or it would fail their clips."""
        try:
            session.ready()
        except DeviceError as error:
            others = [other for other in self._sessions if other is not session and not other.lost]
            if not others:
                raise
            session.lose()
            others[0].note(f"not used: {error}")
            return False
        return True

    def _take(self) -> D:
        with self._changed:
            self._changed.wait_for(lambda: self._candidates)
            session = self._candidates[0]
            self._busy.append(session)
            return session

    def _give_back(self, session: D) -> None:
        with self._changed:
            self._busy.remove(session)
            self._changed.notify_all()

    @property
    def _candidates(self) -> list[D]:
        """Free sessions that may be used now."""
        free = [session for session in self._sessions if session not in self._busy]
        available = [session for session in self._sessions if not session.lost]
        due = time.monotonic() - AGAIN_S
        return [session for session in free if not session.lost or not available or session.lost_at < due]

    def close(self) -> None:
        """Close all sessions."""
        for session in self._sessions:
            session.close()


@contextmanager
def opened(
    settings: Settings, artifact: Artifact, *, simulated: bool, threads: int, stepped: bool = False
) -> Iterator[DeviceFleet[DeviceSession | DeviceStepper]]:
    """The devices of the settings, or a simulated one, ready for an artifact, whose decoder may have a KV cache.

    Raises:
        DeviceError: no device.
        UnavailableError: no adb client.
    """
    with ExitStack() as stack:
        client, serials = stack.enter_context(attached(settings, simulated=simulated, threads=threads))
        is_probe = bool((artifact.options or {}).get(taps.OPTION))
        kind = DeviceStepper if stepped else DeviceProbe if is_probe else DeviceSession
        links: list[DeviceSession | DeviceStepper] = [
            kind(Device(client, serial, settings), artifact, threads) for serial in serials
        ]
        yield stack.enter_context(of_links(links))


@contextmanager
def of_links(sessions: Sequence[D]) -> Iterator[DeviceFleet[D]]:
    """A fleet of unopened sessions, which are closed in the end."""
    fleet = DeviceFleet(sessions)
    try:
        yield fleet
    finally:
        fleet.close()


@contextmanager
def attached(settings: Settings, *, simulated: bool, threads: int = 2) -> Iterator[tuple[Adb, tuple[str, ...]]]:
    """An adb client with its server, and the serials to use.

    Raises:
        DeviceError: no device.
        UnavailableError: no adb client.
    """
    binary = adb.find(settings.adb)
    if simulated:
        from whisper_parity.backends.dla.simulator.outfit import keys_of, started

        with (
            adb.private_server(binary, usb=False) as client,
            started(threads=threads, keys=keys_of(client)) as simulated_device,
        ):
            yield client, (simulated_device.serial,)
        return
    with adb.server(binary, settings.serial) as client:
        yield client, device.chosen(client, settings)

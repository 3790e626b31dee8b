"""Scripted faults of the link and of the file system, as data; the stand-in tools have their own (PARITY_SIM_FAULT)."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(str, Enum):
    """What goes wrong."""

    UNPLUG_IN_PUSH = "unplug_in_push"
    UNPLUG_IN_PULL = "unplug_in_pull"
    UNPLUG_IN_RUN = "unplug_in_run"
    """In a shell, exec or local stream."""
    ADBD_RESTART = "adbd_restart"
    """The transport drops in a shell, exec or local stream; the adbd comes back, detached processes live on."""
    REBOOT = "reboot"
    """As ADBD_RESTART, and every process dies and the boot id changes."""
    GARBAGE = "garbage"
    """A local stream delivers random bytes in place of the real ones, from `after_bytes` to its end."""
    OFFLINE = "offline"
    """CNXN is never answered."""
    UNAUTHORIZED = "unauthorized"
    """No key is accepted."""
    DISK_FULL = "disk_full"
    """Pushes fail once `after_bytes` have arrived in all, and `df` then shows nothing free."""
    READ_ONLY = "read_only"
    """Pushes fail, and so do the commands that change files."""
    WRONG_CLOCK = "wrong_clock"
    """The clock started in 1970 when the device did: `date`, and the times of files pushed and made."""

    @property
    def is_standing(self) -> bool:
        """Whether it holds until it is healed; the others strike `times` times."""
        return self in _STANDING


RUNTIME_FAULTS = (
    "inference_error", "out_of_memory", "hang", "crash", "nan_output", "swapped_output", "short_output", "wrong_shape",
    "bad_data", "no_output", "stale_output",
)  # fmt: skip
"""What PARITY_SIM_FAULT may name; "hang:3" is from the third inference of a process on."""

_STANDING = frozenset({Kind.OFFLINE, Kind.UNAUTHORIZED, Kind.DISK_FULL, Kind.READ_ONLY, Kind.WRONG_CLOCK})

IN_RUN = frozenset({Kind.UNPLUG_IN_RUN, Kind.ADBD_RESTART, Kind.REBOOT})
BACK_AFTER_S = 0.5
"""How long a restart takes when `after_s` does not say."""


@dataclass(frozen=True, slots=True)
class LinkFault:
    """One fault and when it strikes.

    Raises:
        ValueError: a count below 1, or one for a standing fault, or negative bytes or times.
    """

    kind: Kind
    after_bytes: int = 0
    """Payload bytes that a matching stream or file carries before (see `Kind` for DISK_FULL and GARBAGE)."""
    times: int = 1
    """How often it strikes."""
    after_s: float | None = None
    """How long the device is away. None: unplugged for good (`plug_in` brings it back), restarts take 0.5 s."""
    service: str = ""
    """Text that the service ("shell,v2:neuronrt ...", "localabstract:...") or the path of the file must contain."""
    wait_s: float = 0.0
    """Time from `after_bytes` to the strike: long enough for a command that prints nothing to be at work."""

    def __post_init__(self) -> None:
        if self.times < 1 or (self.times != 1 and self.kind.is_standing):
            raise ValueError(f"{self.kind.value}: times is {self.times}, expected 1 or, unless it is standing, more")
        if min(self.after_bytes, self.after_s or 0.0, self.wait_s) < 0:
            raise ValueError(f"{self.kind.value}: bytes and seconds cannot be negative")

    @property
    def back_after_s(self) -> float | None:
        """Seconds until the device is back; None for never."""
        restarts = self.kind in (Kind.ADBD_RESTART, Kind.REBOOT)
        return BACK_AFTER_S if restarts and self.after_s is None else self.after_s


class Faults:
    """The faults of one device that have not struck yet. Thread-safe."""

    def __init__(self, faults: Iterable[LinkFault] = ()) -> None:
        self._lock = threading.Lock()
        self._left = [(fault, fault.times) for fault in faults]

    def standing(self, kind: Kind) -> LinkFault | None:
        """The standing fault of a kind; None when it is not there."""
        with self._lock:
            return next((fault for fault, _ in self._left if fault.kind is kind), None)

    def take(self, kinds: Iterable[Kind], service: str, carried: int) -> LinkFault | None:
        """The first fault that strikes now, counted as struck; None when none does."""
        wanted = frozenset(kinds)
        with self._lock:
            for index, (fault, left) in enumerate(self._left):
                if left and fault.kind in wanted and fault.service in service and carried >= fault.after_bytes:
                    self._left[index] = (fault, left - 1)
                    return fault
        return None

    def add(self, fault: LinkFault) -> None:
        """Script one more."""
        with self._lock:
            self._left.append((fault, fault.times))

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._left.clear()

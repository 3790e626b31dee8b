"""The cable of a simulated device: how fast it is, and what went over it."""

from __future__ import annotations

import threading
import time

SHORTEST_SLEEP_S = 0.0005
"""Shorter debts are carried over to the next message: a sleep costs about as much as it lasts."""


class Link:
    """One link that both directions share, as on USB 2. Thread-safe."""

    def __init__(self, rate_bytes_per_s: float | None = None, latency_s: float = 0.0) -> None:
        """Describe the link.

        Args:
            rate_bytes_per_s: payload bytes per second of both directions together; None: as fast as it goes.
            latency_s: added to every message with a payload.
        """
        self._rate = rate_bytes_per_s
        self._latency_s = latency_s
        self._lock = threading.Lock()
        self._free_at = 0.0
        self.sent_bytes = 0
        """Stream payload from the device to the host."""
        self.received_bytes = 0
        """Stream payload from the host to the device."""

    def carry(self, size: int, *, sending: bool, cut: threading.Event) -> None:
        """Count a payload and wait for as long as the link needs for it, or until `cut` is set."""
        with self._lock:
            if sending:
                self.sent_bytes += size
            else:
                self.received_bytes += size
            wait_s = self._latency_s + self._occupied_s(size)
        if wait_s > SHORTEST_SLEEP_S:
            cut.wait(wait_s)

    def _occupied_s(self, size: int) -> float:
        """Seconds from now until a payload that is sent now has arrived."""
        if self._rate is None:
            return 0.0
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + size / self._rate
        return self._free_at - now

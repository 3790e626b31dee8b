"""The cable of a simulated device: its speed and traffic."""

from __future__ import annotations

import threading
import time

SHORTEST_SLEEP_S = 0.0005
"""Shorter waits are deferred to the next message, since a sleep has about that overhead."""


class Link:
    """One link shared by both directions, as on USB 2. Thread-safe."""

    def __init__(self, rate_bytes_per_s: float | None = None, latency_s: float = 0.0) -> None:
        """Describe the link.

        Args:
            rate_bytes_per_s: payload bytes per second, both directions together; None for no limit.
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
        """Count a payload and wait while the link carries it, or until `cut` is set."""
        with self._lock:
            if sending:
                self.sent_bytes += size
            else:
                self.received_bytes += size
            wait_s = self._latency_s + self._occupied_s(size)
        if wait_s > SHORTEST_SLEEP_S:
            cut.wait(wait_s)

    def _occupied_s(self, size: int) -> float:
        """Seconds until a payload sent now has arrived."""
        if self._rate is None:
            return 0.0
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + size / self._rate
        return self._free_at - now

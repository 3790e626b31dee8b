"""The one thread in which a simulated device touches its files and starts its commands, confined to its folder.

Landlock and seccomp hold for a thread and for what it starts, so a command costs nothing more. All commands of a device
share one domain: they can signal each other, and nobody else. A link that a command plants leads the device's own file
requests nowhere either, since the kernel looks when they arrive, not before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from whisper_parity.system import confine
from whisper_parity.system.confine import Confinement

T = TypeVar("T")


class Inside:
    """Runs actions inside, one after the other."""

    def __init__(self, root: Path, readable: Sequence[Path]) -> None:
        """Confine the thread.

        Args:
            root: the device's folder.
            readable: what its programs read besides.
        """
        self._thread: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(1, "simulated-device")
        self.confinement: Confinement = self._pool.submit(self._enter, root, readable).result()
        """What is in force there."""

    def call(self, action: Callable[[], T]) -> T:
        """What `action` returns or raises, done inside."""
        if threading.current_thread() is self._thread:
            return action()
        return self._pool.submit(action).result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    def _enter(self, root: Path, readable: Sequence[Path]) -> Confinement:
        self._thread = threading.current_thread()
        return confine.confine_shells(root, readable)

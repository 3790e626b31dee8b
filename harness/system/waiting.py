"""How idle threads of OpenMP wait: asleep, so that other work gets the core.

By default libgomp spins for milliseconds after every parallel region. On a machine with other work each region then
waits for a thread that has lost its core to a spinning one. The library reads the policy once, when it is loaded; so
this is settled when `whisper_parity` is imported, whatever imports it, and child processes inherit it.
"""

from __future__ import annotations

import os
import sys

POLICY = "OMP_WAIT_POLICY"
PASSIVE = "PASSIVE"


def settle() -> str:
    """Let threads sleep, unless the environment already says how they wait; how they will, in words of a report."""
    if given := os.environ.get(POLICY):
        return "passive" if given.upper() == PASSIVE else f"active: {POLICY} is {given}"
    os.environ[POLICY] = PASSIVE
    return "active: torch was imported before whisper_parity" if "torch" in sys.modules else "passive"


HOW = settle()
"""How threads of this process wait: "passive", or "active: " and why."""


def spins() -> bool:
    """Whether idle threads of this process keep their core."""
    return HOW != "passive"

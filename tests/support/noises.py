"""Noise as if it had been measured."""

from __future__ import annotations

import math

from whisper_parity.judge.noise import NOISE_VERSION, Noise, SourceNoise, TensorNoise
from whisper_parity.system.machine import Machine

MACHINE = Machine("Linux", "a processor", 2, "3.11", {}, None, None)


def noise(checkpoint_sha256: str = "right", *, encoder_db: float = 100.0, logits_db: float = 100.0) -> Noise:
    """Three sources: "threads" moves both tensors, "mask" logits only, "repeat" not a bit."""
    logits = TensorNoise("logits", logits_db, 1e-5, 1e-8, 1e-3, 0, 0, 100)
    still = TensorNoise("logits", math.inf, 0.0, 0.0, 0.0, 0, 0, 100)
    sources = (
        SourceNoise("threads", "1 against 2", (TensorNoise("encoder_output", encoder_db, 1e-5), logits)),
        SourceNoise("mask", "-10000 against -inf", (logits,)),
        SourceNoise("repeat", "twice", (TensorNoise("encoder_output", math.inf, 0.0), still)),
    )
    return Noise(
        NOISE_VERSION, "tiny", checkpoint_sha256, "pytorch", "pytorch (test)", "whisper", ("one",), 2,
        "2026-01-02T03:04:05+00:00", 1.0, MACHINE, sources,
    )  # fmt: skip

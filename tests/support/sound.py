"""Sounds to test with."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def warble(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """A tone whose pitch and loudness wander, float32 [seconds * rate] in [-0.5, 0.5]."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    pitch = 220 * 2 ** (np.sin(2 * np.pi * t * rng.uniform(0.5, 2)) + rng.uniform(0, 1))
    loudness = 0.3 + 0.2 * np.sin(2 * np.pi * t * rng.uniform(1, 5))
    return (loudness * np.sin(2 * np.pi * np.cumsum(pitch) / rate)).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    """Write float32 samples [n] (mono) or [n, channels] as a float WAV, NaN and all."""
    return write(path, samples, rate, "pcm_f32le", "flt")


def write(path: Path, samples: np.ndarray, rate: int, codec: str, sample_format: str) -> Path:
    """Write samples by any of FFmpeg's codecs; the container follows the suffix."""
    samples = samples[:, None] if samples.ndim == 1 else samples
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.format = sample_format
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="flt", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=sample_format, layout=layout, rate=rate, frame_size=stream.frame_size or 0)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path

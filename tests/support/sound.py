"""Sounds to test with."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from av.stream import Disposition


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


def write(
    path: Path, samples: np.ndarray, rate: int, codec: str, sample_format: str, options: dict[str, str] | None = None
) -> Path:
    """Write samples by any of FFmpeg's codecs; the container follows the suffix, `options` are the muxer's."""
    samples = samples[:, None] if samples.ndim == 1 else samples
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.format = sample_format
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="flt", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=sample_format, layout=layout, rate=rate, frame_size=stream.frame_size or 0)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def write_streams(path: Path, channels: dict[int, int], default: int | None) -> Path:
    """Write a film with several sounds: channels of each stream by its number, and the number of the default one."""
    with av.open(str(path), "w") as container:
        streams = {}
        for number, n_channels in channels.items():
            layout = {1: "mono", 2: "stereo"}[n_channels]
            streams[number] = container.add_stream("pcm_s16le", rate=16_000, layout=layout)
            streams[number].disposition = Disposition.default if number == default else Disposition(0)
        for number, stream in streams.items():
            samples = (warble(1.0, seed=number) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(
                np.repeat(samples, channels[number])[None], format="s16", layout=stream.layout.name
            )
            frame.sample_rate = 16_000
            container.mux([*stream.encode(frame), *stream.encode(None)])
    return path

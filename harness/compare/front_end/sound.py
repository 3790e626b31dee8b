"""How a program may have read a sound file wrongly: bytes of its header, channels, widths and rates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whisper_parity.clips import audio, decoding
from whisper_parity.clips.recording import SAMPLE_RATE
from whisper_parity.clips.source import opened
from whisper_parity.errors import AudioError
from whisper_parity.system import inputs

Samples = NDArray[np.float32]
MAX_BYTES = 64 * inputs.MIB
"""Of files that are read in wrong ways: half an hour of mono sound at 16 kHz has 58 MB."""
HEADERS = (44, 40)
"""Bytes in front of the samples of the plainest WAV file, and in front of its last number, which some take for them."""


@dataclass(frozen=True)
class Reading:
    """One way to read a file."""

    samples: Samples
    """float32 [n_samples], taken for mono sound at 16 kHz."""
    kind: str = ""
    """One of `variants.KINDS`; "" for the right way."""
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class _Form:
    """What a WAV file's header says."""

    channels: int
    rate: int
    bits: int
    start: int
    """First byte of its samples."""
    end: int


def readings(path: Path) -> Iterator[Reading]:
    """The right way first, then wrong ones that give something else for this file.

    Raises:
        AudioError: see `clips.audio.read`.
    """
    yield Reading(audio.read(path).samples)
    if path.stat().st_size > MAX_BYTES:
        return
    content = inputs.read(path, MAX_BYTES, AudioError)
    form = _form(content)
    if form:
        yield from _raw(content, form)
    channels, rate = _decoded(path)
    yield from _converted(channels, rate)


def _raw(content: bytes, form: _Form) -> Iterator[Reading]:
    """The bytes of a file as 16-bit samples."""
    for header in HEADERS:
        if form.start > header:
            extra = f"{form.start - header} bytes of the file's header read as samples: they begin at byte {form.start}"
            yield Reading(_int16(content[header : form.end]), "header", f"{extra}, not {header}")
    yield Reading(_int16(content[: form.end]), "header", f"the {form.start} bytes of the file's header read as samples")
    if form.bits != 16:
        sentence = f"{form.bits}-bit samples read as 16-bit ones"
        yield Reading(_int16(content[form.start : form.end]), "width", sentence)


def _int16(content: bytes) -> Samples:
    return np.frombuffer(content[: len(content) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)


def _converted(channels: Samples, rate: int) -> Iterator[Reading]:
    """Channels and rate, each rightly or wrongly; float32 [n_channels, n_samples]."""
    for samples, what in _mixes(channels):
        if rate == SAMPLE_RATE:
            if what:
                yield Reading(samples, "channel", what)
        else:
            for converted, how in _rates(samples, rate):
                yield Reading(converted, "rate", "; ".join(filter(None, (what, how))))


def _mixes(channels: Samples) -> Iterator[tuple[Samples, str]]:
    yield channels.mean(axis=0), ""
    if len(channels) > 1:
        count = "stereo" if len(channels) == 2 else f"{len(channels)} channels"
        yield channels.T.reshape(-1), f"{count} read as mono, sample by sample in turn"
        yield channels[0], f"the first of {len(channels)} channels alone, where Whisper mixes them"
        yield channels[1], f"the second of {len(channels)} channels alone, where Whisper mixes them"


def _rates(samples: Samples, rate: int) -> Iterator[tuple[Samples, str]]:
    yield samples, f"{rate} Hz read as {SAMPLE_RATE} Hz"
    places = np.arange(0, len(samples) - 1, rate / SAMPLE_RATE)
    yield samples[places.astype(int)], f"{rate} Hz made {SAMPLE_RATE} Hz by leaving out samples, without a filter"
    if rate % SAMPLE_RATE == 0:
        return
    linear = np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
    yield linear, f"{rate} Hz made {SAMPLE_RATE} Hz by straight lines between samples, without a filter"


def _decoded(path: Path) -> tuple[Samples, int]:
    """float32 [n_channels, n_samples] at the file's own rate."""
    import av

    pieces: list[NDArray[Any]] = []
    with opened(path) as container:
        stream = decoding.best_stream(container, path)
        rate, channels = stream.sample_rate, stream.channels
        resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
        for frame in container.decode(stream):
            pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
    empty = np.zeros((channels, 0), np.float32)
    return np.concatenate([empty, *pieces], axis=1), rate


def _form(content: bytes) -> _Form | None:
    """The first data chunk of a RIFF file, and its format; None for other files."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    at, form = 12, b""
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"fmt ":
            form = content[at + 8 : at + 24]
        if content[at : at + 4] == b"data" and len(form) == 16:
            channels, rate, bits = (int.from_bytes(form[a:b], "little") for a, b in ((2, 4), (4, 8), (14, 16)))
            return _Form(channels, rate, bits, at + 8, min(at + 8 + size, len(content)))
        at += 8 + size + size % 2
    return None

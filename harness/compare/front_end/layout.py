"""How the numbers that a front end wrote may lie: every way in which they can be read as bands and frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from whisper_parity.compare.front_end.recipe import Floats

BANDS = (80, 128)
"""Mel bands of published models."""
MAX_FRAMES = 30_000
"""Of what is no window of the size that was expected."""

CLEAR = 0.4
"""Least correlation of changes in loudness that tells a delay."""


@dataclass(frozen=True)
class Layout:
    """One way to read the numbers."""

    bands_of_frames: Floats
    """float [n_mels, n_frames]; the last bands are missing where they were lost."""
    sentence: str = ""
    """What this says of the front end; "" for the way that was expected."""
    n_mels: int = 0
    """Bands of the spectrogram that the numbers come from."""


def layouts(array: Floats, n_mels: int, n_frames: int, whole: int = 0) -> Iterator[Layout]:
    """All ways, the expected one first where the shape or the size allows it.

    Args:
        array: as it was written.
        n_mels: bands that are expected.
        n_frames: frames that are expected.
        whole: frames of the whole sound, which may be more than those of a window.
    """
    shape = tuple(size for size in array.shape if size != 1)
    flat = array.reshape(-1)
    if shape == (n_mels, n_frames) or (len(shape) == 1 and array.size == n_mels * n_frames):
        yield Layout(flat.reshape(n_mels, n_frames), "", n_mels)
        yield from _same_size(flat, n_mels, n_frames, whole)
    elif len(shape) == 2:
        yield from _other_shape(array.reshape(shape), n_mels, n_frames)
    elif len(shape) == 1:
        for bands in dict.fromkeys((n_mels, *BANDS)):
            if array.size % bands == 0 and array.size:
                yield from _other_shape(flat.reshape(bands, -1), n_mels, n_frames)
                yield from _other_shape(flat.reshape(-1, bands), n_mels, n_frames)


def _same_size(flat: Floats, n_mels: int, n_frames: int, whole: int) -> Iterator[Layout]:
    transposed = f"written as [{n_frames}, {n_mels}] and taken for [{n_mels}, {n_frames}]: transposed"
    yield Layout(flat.reshape(n_frames, n_mels).T, transposed, n_mels)
    rows = f"rows of {n_frames + 1} frames taken for rows of {n_frames}: one frame too many"
    yield Layout(_rows_of(flat, n_frames + 1, n_frames), rows, n_mels)
    if whole > n_frames + 1 and whole <= len(flat):
        rows = (
            f"rows of {whole} frames, those of the whole sound, taken for rows of {n_frames}: it is not cut to a window"
        )
        yield Layout(_rows_of(flat, whole, n_frames), rows, n_mels)
    yield Layout(flat.reshape(n_mels, n_frames)[::-1], "the mel bands in reverse order", n_mels)


def _rows_of(flat: Floats, longer: int, n_frames: int) -> Floats:
    """The first frames of each row; rows that were cut off at the end are missing."""
    return flat[: len(flat) // longer * longer].reshape(-1, longer)[:, :n_frames]


def _other_shape(array: Floats, n_mels: int, n_frames: int) -> Iterator[Layout]:
    for turned, how in ((array, ""), (array.T, "transposed: frames by bands, where Whisper has bands by frames")):
        if turned.shape[0] in (n_mels, *BANDS) and 0 < turned.shape[1] <= MAX_FRAMES:
            reasons = [how, _bands(len(turned), n_mels), _frames(turned.shape[1], n_frames)]
            yield Layout(turned, "; ".join(filter(None, reasons)), len(turned))


def _bands(bands: int, n_mels: int) -> str:
    return "" if bands == n_mels else f"{bands} mel bands, where the model takes {n_mels}"


def _frames(frames: int, n_frames: int) -> str:
    if frames == n_frames:
        return ""
    if frames == n_frames + 1:
        return f"{frames} frames for {n_frames}: the last frame of the transform is to be dropped"
    return f"{frames} frames, where a window has {n_frames}"


def as_bands(array: Floats, n_mels: int, n_frames: int) -> Floats | None:
    """Bands by frames of an array of this shape, with or without a batch of one, or flat; None for others."""
    shape = tuple(size for size in array.shape if size != 1)
    is_expected = shape in ((n_mels, n_frames), (n_mels * n_frames,))
    return array.reshape(n_mels, n_frames) if is_expected else None


def delay(array: Floats, reference: Floats, most: int = 100) -> int:
    """Frames by which an array comes later than its reference, negative for earlier; 0 where that is not clear.

    By the course of the loudness: the lag at which its changes are most alike, if they are clearly more so than at 0.
    """
    one, other = (np.diff(part.mean(axis=0)) for part in (array, reference))
    length = min(len(one), len(other))
    most = min(most, length - 1)
    if most < 1:
        return 0
    size = 2 ** int(np.ceil(np.log2(2 * length + 1)))
    spectrum = np.fft.rfft(one[:length], size) * np.conj(np.fft.rfft(other[:length], size))
    products = np.fft.irfft(spectrum, size)
    steps = np.arange(-most, most + 1)
    best = int(steps[np.argmax(products[steps])])
    energy = float(np.sqrt(np.sum(one[:length] ** 2) * np.sum(other[:length] ** 2)))
    return best if products[best] > CLEAR * energy and products[best] > 1.5 * products[0] else 0


def likeness(array: Floats, reference: Floats) -> float:
    """Correlation of two spectrograms of equal shape, each band without its mean; 0 where one of them is constant."""
    one, other = (part - part.mean(axis=1, keepdims=True) for part in (array, reference))
    size = float(np.sqrt(np.sum(one**2) * np.sum(other**2)))
    return float(np.sum(one * other)) / size if size > 0 else 0.0

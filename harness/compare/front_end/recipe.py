"""How a log-mel may be computed, step by step: openai-whisper's way is the recipe in which nothing is changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Frames = NDArray[np.intp]

HOP, N_FFT, RATE = 160, 400, 16_000
HALF = N_FFT // 2
MAX_UNCUT = 600 * RATE
"""Samples of a sound whose whole spectrogram is taken: ten minutes have 200 MB."""
KEPT_BYTES = 1 << 27
"""Of spectra that recipes share."""
REFLECT, SYMMETRIC, ZEROS, REPEATED = "reflect", "symmetric", "zeros", "repeated"
EDGES = (REFLECT, SYMMETRIC, ZEROS, REPEATED)
"""What stands before the first sample, and behind the last one where a sound is not padded."""


@dataclass(frozen=True, slots=True)
class Clamp:
    """Where values end below."""

    drop: float | None = 8.0
    """How far below the maximum, in units of the logarithm; None for no clamp."""
    of: str = "window"
    """Whose maximum: "window", "frame" or "band"."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every step of a front end that is done in more than one way; the defaults are openai-whisper's."""

    gain: float = 1.0
    """Of the samples."""
    offset: float = 0.0
    """Added to every sample of the sound, not to the silence behind it."""
    is_centred: bool = False
    """Whether the sound's mean is taken off."""
    pre_emphasis: float = 0.0
    """a of y[n] = x[n] - a x[n - 1]."""
    window: str = "hann"
    """One of WINDOWS."""
    n_fft: int = N_FFT
    """Points of the transform; the window of 400 samples stands at its beginning."""
    late: int = 0
    """Samples by which every frame begins later; 200 where frames are not centred."""
    edges: str = REFLECT
    """One of EDGES."""
    is_unpadded: bool = False
    """Whether the sound ends where it ends: its last frames see `edges` there, not silence."""
    is_uncut: bool = False
    """Whether the window is taken out of the whole sound's spectrogram: it sees what stands before and behind it."""
    power: float = 2.0
    """Of the magnitudes, before the mel filters."""
    filters: str = "slaney"
    """One of FILTERS."""
    logarithm: str = "log10"
    """One of LOGARITHMS."""
    floor: float = 1e-10
    """Least value of which a logarithm is taken."""
    clamp: Clamp = Clamp()
    scale: str = "(x + 4) / 4"
    """One of SCALES."""
    factor: float = 1.0
    """Of the finished values."""
    shift: float = 0.0
    """Added to the finished values."""


WHISPER = Recipe()


def _hamming(points: int) -> Floats:
    return np.asarray(0.54 - 0.46 * np.cos(2 * np.pi * np.arange(N_FFT) / points))


def _hann(points: int) -> Floats:
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / points))


def _blackman(points: int) -> Floats:
    turn = 2 * np.pi * np.arange(N_FFT) / points
    return np.asarray(0.42 - 0.5 * np.cos(turn) + 0.08 * np.cos(2 * turn))


WINDOWS: dict[str, Callable[[], Floats]] = {
    "hann": lambda: _hann(N_FFT),
    "hann symmetric": lambda: _hann(N_FFT - 1),
    "hamming": lambda: _hamming(N_FFT),
    "hamming symmetric": lambda: _hamming(N_FFT - 1),
    "blackman": lambda: _blackman(N_FFT),
    "povey": lambda: _hann(N_FFT - 1) ** 0.85,
    "none": lambda: np.ones(N_FFT),
}
CLAMPS = (
    Clamp(), Clamp(None), Clamp(8, "frame"), Clamp(8, "band"), Clamp(80), Clamp(8 * math.log(10)),
    Clamp(8 * math.log2(10)),
)  # fmt: skip
"""Those that are tried: 80 for decibels, and 8 powers of ten in other logarithms."""
LOGARITHMS: dict[str, Callable[[Floats], Floats]] = {
    "log10": np.log10,
    "ln": np.log,
    "log2": np.log2,
    "10 log10": lambda x: 10 * np.log10(x),
    "20 log10": lambda x: 20 * np.log10(x),
    "none": lambda x: x,
}
SCALES: dict[str, Callable[[Floats], Floats]] = {
    "(x + 4) / 4": lambda x: (x + 4) / 4,
    "x": lambda x: x,
    "x + 4": lambda x: x + 4,
    "x / 4": lambda x: x / 4,
}


@dataclass(frozen=True, slots=True)
class FilterBank:
    """How mel filters are made."""

    scale: str = "slaney"
    """"slaney" or "htk"."""
    is_normalised: bool = True
    """Whether each filter has the same area."""
    lowest_hz: float = 0.0
    highest_hz: float = RATE / 2
    constant: float | None = None
    """One value for every coefficient."""


FILTERS: dict[str, FilterBank] = {
    "slaney": FilterBank(),
    "slaney, not normalised": FilterBank(is_normalised=False),
    "htk": FilterBank("htk"),
    "htk, not normalised": FilterBank("htk", is_normalised=False),
    "slaney from 20 Hz": FilterBank(lowest_hz=20.0),
    "htk from 20 Hz, not normalised": FilterBank("htk", is_normalised=False, lowest_hz=20.0),
    "slaney to 7600 Hz": FilterBank(highest_hz=7600.0),
    "slaney from 80 to 7600 Hz": FilterBank(lowest_hz=80.0, highest_hz=7600.0),
    "constant 0.01": FilterBank(constant=0.01),
}


@lru_cache(maxsize=64)
def filters(name: str, n_mels: int, n_fft: int = N_FFT) -> Floats:
    """Mel filters, float64 [n_mels, n_fft // 2 + 1]; those of Whisper itself are read from its package."""
    bank = FILTERS[name]
    if bank.constant is not None:
        return np.full((n_mels, n_fft // 2 + 1), bank.constant)
    if bank == FilterBank() and n_fft == N_FFT:
        from whisper.audio import mel_filters

        return np.asarray(mel_filters("cpu", n_mels).numpy(), np.float64)
    return _triangles(bank, n_mels, n_fft)


def _triangles(bank: FilterBank, n_mels: int, n_fft: int) -> Floats:
    """Triangles between n_mels + 2 points that stand evenly on the mel scale, as `librosa.filters.mel` makes them."""
    to_mel, to_hz = (_mel_htk, _hz_htk) if bank.scale == "htk" else (_mel_slaney, _hz_slaney)
    ends = to_mel(np.array([bank.lowest_hz, bank.highest_hz]))
    points = to_hz(np.linspace(ends[0], ends[1], n_mels + 2))
    distance = points[:, None] - np.fft.rfftfreq(n_fft, 1 / RATE)
    widths = np.diff(points)
    rising, falling = -distance[:-2] / widths[:-1, None], distance[2:] / widths[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * (2 / (points[2:] - points[:-2]))[:, None] if bank.is_normalised else triangles)


def _mel_htk(hz: Floats) -> Floats:
    return np.asarray(2595 * np.log10(1 + hz / 700))


def _hz_htk(mel: Floats) -> Floats:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))


_LOG_STEP = np.log(6.4) / 27
"""Slaney's scale: linear up to 1000 Hz = 15 mel, 200 / 3 Hz a mel, then 27 mel for a factor of 6.4."""


def _mel_slaney(hz: Floats) -> Floats:
    return np.where(hz < 1000, 3 * hz / 200, 15 + np.log(np.maximum(hz, 1e-9) / 1000) / _LOG_STEP)


def _hz_slaney(mel: Floats) -> Floats:
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp(_LOG_STEP * (mel - 15)))


@dataclass(frozen=True)
class Sound:
    """What a front end may have read, and the window of it that is looked at."""

    whole: NDArray[np.float32]
    """All samples."""
    window: int = 0
    n_frames: int = 3000
    """Of a window."""
    _spectra: dict[Any, Floats] = field(default_factory=dict, repr=False)

    @property
    def may_be_uncut(self) -> bool:
        """Whether there is more than the window, and not so much that its spectrogram would fill the memory."""
        return len(self.samples) < len(self.whole) <= MAX_UNCUT

    @property
    def n_frames_of_sound(self) -> int:
        """Whole hops that hold samples of the window."""
        return len(self.samples) // HOP

    @property
    def frames_inside(self) -> Frames:
        """Frames whose 400 samples all lie in the window's sound."""
        frames = np.arange(self.n_frames)
        return frames[(frames * HOP >= HALF) & (frames * HOP + HALF <= len(self.samples))]

    @property
    def frames_behind(self) -> Frames:
        """Frames that hear the silence behind the sound alone."""
        frames = np.arange(self.n_frames)
        return frames[frames * HOP - HALF >= len(self.samples)]

    @property
    def frames_at_edges(self) -> Frames:
        """Frames that hear the sound and what stands before or behind it."""
        return np.setdiff1d(np.arange(self.n_frames), np.append(self.frames_inside, self.frames_behind))

    @cached_property
    def samples(self) -> Floats:
        """Those of the window, float64, at most n_frames * HOP."""
        length = self.n_frames * HOP
        return self.whole[self.window * length : (self.window + 1) * length].astype(np.float64)

    def spectrum(self, recipe: Recipe, frames: Frames) -> Floats:
        """Magnitudes before gain, float64 [n_fft // 2 + 1, len(frames)]; kept, since many recipes share them."""
        key = (self._key(recipe), frames.tobytes())
        return self._spectra[key] if key in self._spectra else self._keep(key, self._transformed(recipe, frames))

    @staticmethod
    def _key(recipe: Recipe) -> tuple[Any, ...]:
        parts = (recipe.offset, recipe.is_centred, recipe.pre_emphasis, recipe.window, recipe.n_fft, recipe.late)
        return (*parts, recipe.edges, recipe.is_unpadded, recipe.is_uncut)

    def _keep(self, key: Any, array: Floats) -> Floats:
        """When too many are kept, all are forgotten."""
        size = sum(kept.nbytes for kept in self._spectra.values()) + array.nbytes
        if size > KEPT_BYTES:
            self._spectra.clear()
        self._spectra[key] = array
        return array

    def mels(self, recipe: Recipe, n_mels: int, frames: Frames) -> Floats:
        """Mel spectrogram before gain, float64 [n_mels, len(frames)]; kept as well."""
        key = (self._key(recipe), recipe.filters, recipe.power, n_mels, frames.tobytes())
        if key not in self._spectra:
            bank = filters(recipe.filters, n_mels, recipe.n_fft)
            return self._keep(key, _product(bank, self.spectrum(recipe, frames) ** recipe.power))
        return self._spectra[key]

    def _transformed(self, recipe: Recipe, frames: Frames) -> Floats:
        signal, first = self._signal(recipe)
        frames = frames + self.window * self.n_frames if recipe.is_uncut else frames
        starts = frames * HOP + recipe.late - HALF - first
        places = starts[:, None] + np.arange(N_FFT)
        is_inside = (places >= 0) & (places < len(signal))
        cut = np.where(is_inside, signal[np.clip(places, 0, len(signal) - 1)], 0.0)
        return np.asarray(np.abs(np.fft.rfft(cut * WINDOWS[recipe.window](), recipe.n_fft, axis=1)).T)

    def _signal(self, recipe: Recipe) -> tuple[Floats, int]:
        """The samples between their edges, and the place of the first one of these."""
        samples = self.whole.astype(np.float64) if recipe.is_uncut else self.samples
        if recipe.is_centred:
            samples = samples - samples.mean()
        samples = samples + recipe.offset
        if recipe.pre_emphasis:
            samples = np.append(samples[:1], samples[1:] - recipe.pre_emphasis * samples[:-1])
        if not recipe.is_unpadded:
            length = len(samples) + self.n_frames * HOP if recipe.is_uncut else self.n_frames * HOP
            samples = np.pad(samples, (0, length - len(samples)))
        return _between_edges(samples, recipe.edges), -HALF


def _product(bank: Floats, spectrum: Floats) -> Floats:
    """A few frames at a time: a larger product wakes other threads, and waits for them longer than it takes."""
    pieces = [bank @ spectrum[:, at : at + 12] for at in range(0, spectrum.shape[1], 12)]
    return np.concatenate([np.zeros((len(bank), 0)), *pieces], axis=1)


def _between_edges(samples: Floats, edges: str) -> Floats:
    modes = {REFLECT: "reflect", SYMMETRIC: "symmetric", ZEROS: "constant", REPEATED: "edge"}
    return np.pad(samples, HALF, mode=modes[edges])  # type: ignore[call-overload, no-any-return]


def render(recipe: Recipe, sound: Sound, n_mels: int, n_frames: int | None = None) -> Floats:
    """A recipe's log-mel of a window, float64 [n_mels, n_frames]; as many frames as the window has by default."""
    frames = np.arange(sound.n_frames if n_frames is None else n_frames)
    peak = None
    if recipe.is_uncut:
        everything = np.arange(len(sound.whole) // HOP) - sound.window * sound.n_frames
        peak = float(mel(recipe, sound, n_mels, everything).max())
    return values(recipe, mel(recipe, sound, n_mels, frames), peak)


def mel(recipe: Recipe, sound: Sound, n_mels: int, frames: Frames) -> Floats:
    """Mel spectrogram of frames, float64 [n_mels, len(frames)]."""
    return np.asarray(recipe.gain**recipe.power * sound.mels(recipe, n_mels, frames))


def values(recipe: Recipe, mels: Floats, peak: float | None = None) -> Floats:
    """What a recipe makes of a mel spectrogram: logarithm, clamp and scale; of the same shape.

    Args:
        recipe: the steps.
        mels: float64 [n_mels, n_frames].
        peak: maximum of the mel spectrogram for the clamp; that of `mels` where it is not given.
    """
    logarithm = LOGARITHMS[recipe.logarithm]
    logs = logarithm(np.maximum(mels, recipe.floor))
    if (drop := recipe.clamp.drop) is not None:
        axis = {"window": None, "frame": 0, "band": 1}[recipe.clamp.of]
        top = logs.max(axis=axis, keepdims=True) if peak is None else logarithm(np.maximum(peak, recipe.floor))
        logs = np.maximum(logs, top - drop)
    return np.asarray(SCALES[recipe.scale](logs) * recipe.factor + recipe.shift)


def changes(recipe: Recipe) -> tuple[str, ...]:
    """Names of the fields in which a recipe is not Whisper's."""
    return tuple(name for name in Recipe.__slots__ if getattr(recipe, name) != getattr(WHISPER, name))


def without(recipe: Recipe, name: str) -> Recipe:
    """A recipe that does one step as Whisper does it."""
    return replace(recipe, **{name: getattr(WHISPER, name)})

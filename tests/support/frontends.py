"""Front ends as programs have them, each step written from its definition and switchable to a way that is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FrontEnd:
    """A program's log-mel; the defaults are Whisper's."""

    int16: bool = False
    halved: bool = False
    minus_mean: bool = False
    offset: float = 0.0
    emphasis: float = 0.0
    window: str = "hann"
    edges: str = "reflect"
    centred: bool = True
    pads_sound: bool = True
    fill: float = 0.0
    repeats_last: bool = False
    cuts: bool = True
    amplitude: bool = False
    filters: str = "slaney"
    log: str = "log10"
    clamp: str = "max - 8"
    scaled: str = "both"
    shift: int = 0
    n_mels: int = 80

    def features(self, samples: np.ndarray, window: int = 0, n_frames: int = 3000) -> np.ndarray:
        """The log-mel, float32 [n_mels, n_frames] of int16 samples."""
        x = samples.astype(np.float64)
        if self.cuts:
            x = x[window * n_frames * 160 : (window + 1) * n_frames * 160]
        x = x if self.int16 else x / 32768.0
        x = x / 2 if self.halved else x
        x = x - np.mean(x) if self.minus_mean else x
        x = x + self.offset
        if self.emphasis:
            x = np.concatenate([x[:1], x[1:] - self.emphasis * x[:-1]])
        if self.pads_sound:
            extra = n_frames * 160 if not self.cuts else n_frames * 160 - len(x)
            x = np.concatenate([x, np.zeros(extra)])
        mels = self._mels(x)
        values = self._values(mels)
        values = values[:, window * n_frames :] if not self.cuts else values
        if self.shift > 0:
            values = np.hstack([np.repeat(values[:, -1:], self.shift, axis=1), values])
        elif self.shift < 0:
            values = np.hstack([values[:, -self.shift :], np.repeat(values[:, -1:], -self.shift, axis=1)])
        kept = min(values.shape[1], n_frames)
        out = np.full((self.n_mels, n_frames), self.fill)
        out[:, :kept] = values[:, :kept]
        if self.repeats_last:
            out[:, kept:] = values[:, kept - 1 : kept]
        return out.astype(np.float32)

    def _mels(self, x: np.ndarray) -> np.ndarray:
        n_frames = len(x) // 160
        if self.centred:
            head, tail = self._edge(x[:201]), self._edge(x[-201:][::-1])[::-1]
            x = np.concatenate([head, x, tail])
        else:
            x = np.concatenate([x, np.zeros(400)])
        n = np.arange(400)
        weights = {
            "hann": np.sin(np.pi * n / 400) ** 2,
            "symmetric": np.sin(np.pi * n / 399) ** 2,
            "hamming": 0.54 - 0.46 * np.cos(2 * np.pi * n / 400),
            "none": np.ones(400),
            "gauss": np.exp(-0.5 * ((n - 199.5) / 80) ** 2),
            "bartlett": 1 - np.abs(n - 200) / 200,
        }[self.window]
        bank = bank_of(self.filters, self.n_mels)
        mels = np.empty((self.n_mels, n_frames))
        for t in range(n_frames):
            spectrum = np.fft.fft(x[160 * t : 160 * t + 400] * weights)[:201]
            power = spectrum.real**2 + spectrum.imag**2
            mels[:, t] = bank @ (np.sqrt(power) if self.amplitude else power)
        return mels

    def _edge(self, near: np.ndarray) -> np.ndarray:
        """What stands before 201 samples, in order."""
        return {
            "reflect": near[1:201][::-1],
            "symmetric": near[0:200][::-1],
            "zeros": np.zeros(200),
            "repeated": np.full(200, near[0]),
        }[self.edges]

    def _values(self, mels: np.ndarray) -> np.ndarray:
        mels = np.where(mels < 1e-10, 1e-10, mels)
        logs = {
            "log10": np.log10(mels),
            "ln": np.log(mels),
            "log2": np.log2(mels),
            "10 log10": 10 * np.log10(mels),
        }[self.log]
        if self.clamp == "max - 8":
            logs = np.clip(logs, np.max(logs) - 8, None)
        elif self.clamp == "each frame":
            logs = np.stack([np.clip(row, row.max() - 8, None) for row in logs.T], axis=1)
        scales = {"both": (logs + 4) / 4, "none": logs, "quarter": logs / 4, "plus": logs + 4}
        return scales[self.scaled]


def bank_of(name: str, n_mels: int) -> np.ndarray:
    """Mel filters coefficient by coefficient, [n_mels, 201]."""
    if name == "constant":
        return np.full((n_mels, 201), 0.01)
    htk = name.startswith("htk")
    top = _mel(8000.0, htk)
    points = [_hertz(top * i / (n_mels + 1), htk) for i in range(n_mels + 2)]
    bank = np.zeros((n_mels, 201))
    for m in range(n_mels):
        low, middle, high = points[m : m + 3]
        for k in range(201):
            hertz = 40.0 * k
            up, down = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
            bank[m, k] = max(0.0, min(up, down)) * (1.0 if name.endswith("unnormalised") else 2 / (high - low))
    return bank


def _mel(hertz: float, htk: bool) -> float:
    if htk:
        return 1127.0 * math.log1p(hertz / 700)
    return hertz / (200 / 3) if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def _hertz(mel: float, htk: bool) -> float:
    if htk:
        return 700.0 * math.expm1(mel / 1127.0)
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

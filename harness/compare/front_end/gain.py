"""What a gain of the samples does to a log-mel: it adds a constant, and some constants have a name."""

from __future__ import annotations

import math

import numpy as np

from whisper_parity.compare.front_end.recipe import Recipe, Sound

NEAR = 1e-3
"""Two gains within this share of each other are the same one."""
_NATURAL = {
    "log10": 1 / math.log(10),
    "ln": 1.0,
    "log2": 1 / math.log(2),
    "10 log10": 10 / math.log(10),
    "20 log10": 20 / math.log(10),
    "none": 0.0,
}


def slope(recipe: Recipe) -> float:
    """What a gain of e adds to a recipe's values; 0 where it adds no constant."""
    return recipe.power * _NATURAL[recipe.logarithm] * (0.25 if "/ 4" in recipe.scale else 1.0)


def gain_of(recipe: Recipe, constant: float) -> float | None:
    """The gain of the samples that adds a constant to a recipe's values; None where no gain does."""
    exponent = constant / slope(recipe) if slope(recipe) else math.inf
    return math.exp(exponent) if abs(exponent) < 30 else None


def named(gain: float, sound: Sound) -> str:
    """What a gain is known as; "" for any other."""
    return next((words for number, words in _gains(sound) if abs(gain / number - 1) < NEAR), "")


def _gains(sound: Sound) -> list[tuple[float, str]]:
    samples = sound.samples
    gains = [
        (32768.0, "samples are the int16 numbers, where Whisper divides them by 32768"),
        (1 / 32768, "samples are divided by 32768 twice"),
    ]
    if samples.any():
        gains.append((1 / float(np.abs(samples).max()), "the sound is scaled to a peak of 1"))
    if samples.std() > 0:
        gains.append((1 / float(samples.std()), "the sound is scaled to a deviation of 1"))
    return gains

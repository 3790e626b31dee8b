"""A front end's changes in the words of an engineer."""

from __future__ import annotations

import math
from collections.abc import Callable

from whisper_parity.compare.front_end.gain import named, slope
from whisper_parity.compare.front_end.recipe import FILTERS, HOP, Recipe, Sound

KINDS = (
    "constant", "layout", "shape", "header", "width", "channel", "rate", "gain", "dc", "pre-emphasis", "window",
    "transform", "shift", "edges", "end", "uncut", "power", "filters", "logarithm", "floor", "clamp", "scale", "affine",
    "padding", "cut",
)  # fmt: skip
"""Of causes, in the order of the flow."""

_EDGES = {
    "symmetric": "edges mirrored with the sample at the edge, where Whisper mirrors without it (reflect)",
    "zeros": "zeros before the first sample, where Whisper mirrors the sound (reflect)",
    "repeated": "the first sample repeated before it, where Whisper mirrors the sound (reflect)",
}
_WINDOWS = {
    "hann symmetric": "symmetric Hann window (denominator 399), where Whisper's is periodic (400)",
    "hamming": "Hamming window, where Whisper has a Hann window",
    "hamming symmetric": "symmetric Hamming window, where Whisper has a periodic Hann window",
    "blackman": "Blackman window, where Whisper has a Hann window",
    "povey": "Povey window, where Whisper has a Hann window",
    "none": "no window before the transform, where Whisper has a Hann window",
}


def _late(recipe: Recipe) -> str:
    if recipe.late == 200:
        return "frames begin at their first sample, where Whisper centres them (200 samples late)"
    frames, rest = divmod(-recipe.late, HOP)
    if rest:
        return f"frames begin {abs(recipe.late)} samples too {'late' if recipe.late > 0 else 'early'}"
    return f"the sound comes {abs(frames)} frame{'s' * (abs(frames) > 1)} too {'late' if frames > 0 else 'early'}"


def _filters(recipe: Recipe) -> str:
    bank = FILTERS[recipe.filters]
    if bank.constant is not None:
        return f"every mel filter coefficient is {bank.constant:g}: the filters were not read"
    what = f"{'HTK' if bank.scale == 'htk' else 'Slaney'} mel filters"
    norm = "" if bank.is_normalised else ", not normalised by their area"
    hertz = "" if (bank.lowest_hz, bank.highest_hz) == (0, 8000) else (
        f" from {bank.lowest_hz:g} to {bank.highest_hz:g} Hz"
    )  # fmt: skip
    return f"{what}{hertz}{norm}, where Whisper has normalised Slaney filters from 0 to 8000 Hz"


def _clamp(recipe: Recipe) -> str:
    clamp = recipe.clamp
    if clamp.drop is None:
        return "no clamp at 8 below the maximum"
    if clamp.of != "window":
        return f"clamped below the maximum of each {clamp.of}, where Whisper takes that of the window"
    return f"clamped at {clamp.drop:.3g} below the maximum, where Whisper clamps at 8"


def _logarithm(recipe: Recipe) -> str:
    what = "no logarithm" if recipe.logarithm == "none" else f"{recipe.logarithm} of the mel spectrogram"
    return f"{what}, where Whisper takes log10"


def _scale(recipe: Recipe) -> str:
    return f"values are {recipe.scale} of the logarithm, where Whisper has (x + 4) / 4"


_SENTENCES: dict[str, tuple[str, str | Callable[[Recipe], str]]] = {
    "offset": ("dc", lambda recipe: f"a constant of {recipe.offset:.3g} on the samples (DC offset)"),
    "is_centred": ("dc", "the sound's mean is taken off"),
    "pre_emphasis": ("pre-emphasis", lambda recipe: f"pre-emphasis of {recipe.pre_emphasis:g}, which Whisper has not"),
    "window": ("window", lambda recipe: _WINDOWS[recipe.window]),
    "n_fft": ("transform", lambda recipe: f"a transform of {recipe.n_fft} points, where Whisper's has 400"),
    "late": ("shift", _late),
    "edges": ("edges", lambda recipe: _EDGES[recipe.edges]),
    "is_unpadded": ("end", "the sound's end is mirrored, where silence follows in Whisper"),
    "is_uncut": (
        "uncut",
        "the sound is not cut into windows of 30 s first: its spectrogram is, with one maximum for all",
    ),
    "power": ("power", "amplitudes under the mel filters, where Whisper has powers"),
    "filters": ("filters", _filters),
    "logarithm": ("logarithm", _logarithm),
    "floor": ("floor", lambda recipe: f"logarithm of at least {recipe.floor:g}, where Whisper has 1e-10"),
    "clamp": ("clamp", _clamp),
    "scale": ("scale", _scale),
}


def sentence(name: str, recipe: Recipe, sound: Sound) -> tuple[str, str]:
    """(kind, words) of what a recipe does in one of its fields."""
    if name == "gain":
        return "gain", _gain(recipe, sound)
    if name in ("shift", "factor"):
        return "affine", f"values are {recipe.factor:.4g} times Whisper's, plus {recipe.shift:.4g}"
    kind, words = _SENTENCES[name]
    return kind, words if isinstance(words, str) else words(recipe)


def _gain(recipe: Recipe, sound: Sound) -> str:
    constant = slope(recipe) * math.log(recipe.gain)
    unnamed = f"every value is off by {constant:.4g}, as by a gain of {recipe.gain:.4g} of the samples"
    return named(recipe.gain, sound) or unnamed

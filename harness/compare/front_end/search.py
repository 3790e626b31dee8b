"""Which recipe makes these values: the frames inside the sound first, where neither edges nor padding play a part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from whisper_parity.compare import tensor
from whisper_parity.compare.front_end.gain import gain_of, named, slope
from whisper_parity.compare.front_end.recipe import (
    CLAMPS,
    FILTERS,
    HOP,
    LOGARITHMS,
    SCALES,
    WHISPER,
    WINDOWS,
    Floats,
    Frames,
    Recipe,
    Sound,
    changes,
    mel,
    values,
    without,
)

FLOAT_NOISE_DB = 100.0
"""Two float32 front ends of the same recipe agree to 105 dB and better: nothing is searched above this."""
ENOUGH_DB = 90.0
"""What lies above counts as equal among recipes."""
COST_DB = 2.0
"""What a change costs among recipes that come equally near."""
NEEDED_DB = 10.0
"""What a change must bring to be named."""
SURE_DB = 55.0
"""A recipe that leaves less than this of the sound unexplained is the one: features in float16 stand at 65 to 75 dB."""
LIKELY_DB, GREAT_DB = 33.0, 20.0
"""Features in 8 bits end at 35 to 40 dB: there a recipe is named when it brings GREAT_DB, and ends above LIKELY_DB."""
MAX_FRAMES, MIN_FRAMES = 96, 12
"""Frames that are looked at; with fewer than MIN_FRAMES nothing is concluded."""
BEAM, ROUNDS = 12, 6
OFFSETS = tuple(sign * size for size in (0.002, 0.01, 0.05, 0.2) for sign in (1, -1))
"""Constants on the samples that are tried; the one that comes nearest is then made finer."""
FINER = tuple(0.5**halving for halving in range(1, 14))
"""Shares of an offset by which it is made larger and smaller in turn."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe, and how near it comes."""

    recipe: Recipe
    snr_db: float
    """What the recipe leaves of the features; their variance is the signal, so that a constant counts for nothing."""

    @property
    def score_db(self) -> float:
        """A recipe of fewer changes is preferred among equals."""
        fitted = (self.recipe.gain != 1) + (self.recipe.factor != 1)
        return min(self.snr_db, ENOUGH_DB) - COST_DB * (len(changes(self.recipe)) + fitted / 2)


def snr_db(reference: Floats, array: Floats) -> float:
    """SNR of an array against what it should be [dB]."""
    error = array.astype(np.float64) - reference
    return tensor.snr_db(float(np.sum(np.square(reference, dtype=np.float64))), float(np.sum(np.square(error))))


def options(recipe: Recipe, sound: Sound, delays: tuple[int, ...]) -> Iterator[Recipe]:
    """Every recipe that does one more step otherwise."""
    several: dict[str, tuple[Any, ...]] = {
        "window": tuple(WINDOWS),
        "n_fft": (512,),
        "late": (200, *(step * HOP // 2 for step in (-4, -2, -1, 1, 2, 4)), *delays),
        "pre_emphasis": (0.0, 0.97, 0.95),
        "is_centred": (True,),
        "offset": OFFSETS,
        "filters": tuple(FILTERS),
        "power": (1.0,),
        "logarithm": tuple(LOGARITHMS),
        "clamp": CLAMPS,
        "floor": (1e-5, 1e-6, 1e-8, 1e-12),
        "scale": tuple(SCALES),
    }
    if sound.may_be_uncut:
        several["is_uncut"] = (True,)
    for name, choices in several.items():
        for choice in choices:
            if choice != getattr(recipe, name):
                yield replace(recipe, **{name: choice})


def value_steps() -> Iterator[Recipe]:
    """All combinations of what is done to single values: one of them alone may bring nothing."""
    for power, logarithm, clamp, scale in product((2.0, 1.0), LOGARITHMS, CLAMPS, SCALES):
        yield replace(WHISPER, power=power, logarithm=logarithm, clamp=clamp, scale=scale)


def spectral_steps(recipe: Recipe) -> Iterator[Recipe]:
    """A recipe with all combinations of the coarse steps before the logarithm."""
    windows = ("hann", "hamming", "blackman", "none")
    banks = ("slaney", "slaney, not normalised", "htk", "htk, not normalised")
    for window, emphasis, bank, power, late in product(windows, (0.0, 0.97), banks, (2.0, 1.0), {recipe.late, 200}):
        yield replace(recipe, window=window, pre_emphasis=emphasis, filters=bank, power=power, late=late)


class Search:
    """The search for one array and one sound."""

    def __init__(self, array: Floats, sound: Sound, n_mels: int, delay: int = 0) -> None:
        """Look at frames of an array that are inside the sound, even when it came late.

        Args:
            array: float [<= n_mels, n_frames].
            sound: what was read.
            n_mels: bands of the spectrogram.
            delay: frames by which it comes late.
        """
        self._sound, self._n_mels, self._n_bands = sound, n_mels, len(array)
        self._delays = (160 * -delay,) if delay else ()
        self._frames = _chosen(array, sound, abs(delay))
        self._heard = np.append(self._frames, _loudest(sound, n_mels))
        self._target = array[:, self._frames].astype(np.float64)
        self._signal = float(np.sum(np.square(self._target - self._target.mean()))) if len(self._frames) else 0.0
        self._is_loud = self._target >= np.median(self._target) if len(self._frames) else self._target > 0
        self._start = replace(WHISPER, late=-160 * delay)

    @property
    def is_possible(self) -> bool:
        """Whether the sound is long enough to conclude anything."""
        return len(self._frames) >= MIN_FRAMES

    def unchanged(self) -> Candidate:
        """Whisper's own recipe."""
        return self._measured(WHISPER)

    def best(self) -> Candidate:
        """The recipe that comes nearest, with no change in it that brings less than NEEDED_DB."""
        beam = first = self._ranked([self._start, WHISPER])
        if beam[0].recipe not in (self._start, WHISPER) or beam[0].snr_db < ENOUGH_DB:
            beam = self._ranked([*value_steps(), *(replace(step, late=self._start.late) for step in value_steps())])
            beam = _best([*beam, self._with_offset()])
        was_stuck = False
        for _ in range(ROUNDS):
            if beam[0].snr_db >= FLOAT_NOISE_DB:
                break
            more = dict.fromkeys(
                option for one in (*beam, *first) for option in options(one.recipe, self._sound, self._delays)
            )
            first = []
            grown = _best(beam + self._ranked(list(more)))
            grown = _best([self._finer(grown[0]), *grown])
            if grown[0].score_db <= beam[0].score_db:
                if beam[0].snr_db >= SURE_DB or was_stuck:
                    break
                was_stuck = True
                grown = self._ranked([both for one in _best(beam)[:3] for both in spectral_steps(one.recipe)])
            beam = _best([*beam, *grown])[: BEAM // 3]
        if beam[0].snr_db < SURE_DB:
            beam = _best([*beam, *map(self._stretched, [self._measured(WHISPER), *beam])])
        return self._needed(self._told_apart(beam[0]))

    def _with_offset(self) -> Candidate:
        """Whisper's recipe with the constant on the samples that fits best."""
        tried = [self._measured(replace(self._start, offset=offset)) for offset in OFFSETS]
        return max(map(self._finer, tried), key=lambda one: one.snr_db)

    def _finer(self, candidate: Candidate) -> Candidate:
        """With the constant on the samples that fits best, where there is one."""
        for share in FINER if candidate.recipe.offset else ():
            sizes = [candidate.recipe.offset * (1 + share), candidate.recipe.offset * (1 - share)]
            others = [self._measured(replace(candidate.recipe, offset=size)) for size in sizes]
            candidate = max((candidate, *others), key=lambda one: one.snr_db)
        return candidate

    def _told_apart(self, candidate: Candidate) -> Candidate:
        """A constant in the scale and a gain are the same: a gain that has a name is the likelier one."""
        recipe = candidate.recipe
        if recipe.gain == 1 or named(recipe.gain, self._sound):
            return candidate
        scales = [replace(recipe, scale=scale) for scale in SCALES if scale != recipe.scale]
        others = [other for one in scales if slope(one) == slope(recipe) for other in self._fitted(one)]
        alike = [other for other in others if min(other.snr_db, ENOUGH_DB) >= min(candidate.snr_db, ENOUGH_DB) - 1]
        return next((other for other in alike if named(other.recipe.gain, self._sound)), candidate)

    def _stretched(self, candidate: Candidate) -> Candidate:
        """With the factor and the constant that fit best."""
        model = self._model(replace(candidate.recipe, factor=1.0, shift=0.0))
        spread = float(np.var(model))
        factor = (
            float(np.mean((model - model.mean()) * (self._target - self._target.mean()))) / spread if spread else 1.0
        )
        if not 1e-3 < factor < 1e3:
            return candidate
        shift = float(self._target.mean() - factor * model.mean())
        return self._measured(replace(candidate.recipe, factor=factor, shift=shift))

    def _ranked(self, recipes: list[Recipe]) -> list[Candidate]:
        return _best([candidate for recipe in recipes for candidate in self._fitted(recipe)])

    def _fitted(self, recipe: Recipe) -> Iterator[Candidate]:
        """A recipe as it is, and with the gain that fits the louder half of it best."""
        plain = replace(recipe, gain=1.0)
        rest = self._target - self._model(plain)
        yield self._candidate(plain, rest)
        constant = float(np.median(rest[self._is_loud]))
        gain = gain_of(recipe, constant)
        if abs(constant) > 1e-5 and gain is not None:
            yield self._measured(replace(recipe, gain=gain))

    def _measured(self, recipe: Recipe) -> Candidate:
        return self._candidate(recipe, self._target - self._model(recipe))

    def _candidate(self, recipe: Recipe, error: Floats) -> Candidate:
        return Candidate(recipe, tensor.snr_db(self._signal, float(np.sum(np.square(error)))))

    def _model(self, recipe: Recipe) -> Floats:
        mels = mel(recipe, self._sound, self._n_mels, self._heard)
        return values(recipe, mels)[: self._n_bands, : len(self._frames)]

    def _needed(self, candidate: Candidate) -> Candidate:
        """Without the changes that bring too little, the least first."""
        while names := changes(candidate.recipe):
            least = max((self._measured(without(candidate.recipe, name)) for name in names), key=lambda one: one.snr_db)
            if min(candidate.snr_db, FLOAT_NOISE_DB) - least.snr_db >= NEEDED_DB:
                break
            candidate = least
        return candidate


def is_explained(before: Candidate, after: Candidate) -> bool:
    """Whether what was found is named."""
    brought = min(after.snr_db, FLOAT_NOISE_DB) - before.snr_db
    is_plain = len(changes(after.recipe)) - len(changes(before.recipe)) <= 2 and after.recipe.factor == 1
    likely = is_plain and after.snr_db >= LIKELY_DB and brought >= GREAT_DB
    return brought >= NEEDED_DB and (after.snr_db >= SURE_DB or likely)


def _best(candidates: list[Candidate]) -> list[Candidate]:
    different = {candidate.recipe: candidate for candidate in candidates}
    return sorted(different.values(), key=lambda one: -one.score_db)[:BEAM]


def _chosen(array: Floats, sound: Sound, margin: int) -> Frames:
    """Frames inside the sound, spread over it."""
    inside = sound.frames_inside
    inside = inside[(inside >= margin + 4) & (inside < array.shape[1])]
    inside = inside[: max(0, len(inside) - margin - 4)]
    frames: Frames = inside[np.linspace(0, len(inside) - 1, min(len(inside), MAX_FRAMES)).astype(int)]
    return frames


def _loudest(sound: Sound, n_mels: int) -> Frames:
    """The frames in which each band is loudest, and those beside them: the clamp hangs on one of them."""
    mels = mel(WHISPER, sound, n_mels, np.arange(sound.n_frames_of_sound + 1))
    near = np.unique(mels.argmax(axis=1)[:, None] + np.arange(-2, 3))
    frames: Frames = near[(near >= 0) & (near < sound.n_frames)]
    return frames

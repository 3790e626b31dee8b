"""Why features are not Whisper's: variants of its front end, put together until the features come out.

The steps are told apart by what they touch. How the numbers lie and which sound was read shows in the course of the
loudness; what is done to window, filters and values in the frames inside the sound; edges in the few frames that reach
over them; padding in what follows. A cause is named where the features come out with it and do not without it (see
`front_end.search`), so that noise, rounding and features of something else have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from whisper_parity.compare.front_end import words
from whisper_parity.compare.front_end.layout import Layout, delay, layouts, likeness
from whisper_parity.compare.front_end.recipe import (
    EDGES,
    HOP,
    WHISPER,
    Clamp,
    Floats,
    Recipe,
    Sound,
    changes,
    render,
    without,
)
from whisper_parity.compare.front_end.search import (
    FLOAT_NOISE_DB,
    MIN_FRAMES,
    SURE_DB,
    Candidate,
    Search,
    is_explained,
    snr_db,
)
from whisper_parity.compare.front_end.sound import Reading, readings

KINDS = words.KINDS
LIKE = 0.5
"""Least likeness of a layout and a reading that are looked into."""
MAX_HYPOTHESES = 3
HEARD_DB = 20.0
"""SNR inside the sound from which on it is sure that the features are this sound's, so that padding is judged."""
NORMAL = 1e-3
"""How far mean and deviation of a normalised spectrogram are from 0 and 1 at most."""


class Explanation(NamedTuple):
    """One cause."""

    kind: str
    sentence: str
    explains_db: float
    """SNR of the features against Whisper's made with this cause and those before it [dB]."""


@dataclass(frozen=True)
class Fill:
    """Frames that hold no sound and were not computed from silence either."""

    first: int
    column: Floats
    """float [n_mels, 1]: what stands in each of them."""


@dataclass(frozen=True)
class Model:
    """Everything that is supposed of a front end."""

    layout: Layout
    reading: Reading
    sound: Sound
    recipe: Recipe = WHISPER
    fill: Fill | None = None
    repeats: bool = False
    """Whether the sound is played again and again up to the window's end."""

    @property
    def array(self) -> Floats:
        """The features, float [n_mels, n_frames]."""
        return self.layout.bands_of_frames

    def rendered(self) -> Floats:
        """What such a front end writes; of the array's shape."""
        sound = _repeated(self.sound) if self.repeats else self.sound
        whole = render(self.recipe, sound, self.layout.n_mels, self.array.shape[1])[: len(self.array)]
        if self.fill:
            whole[:, self.fill.first :] = self.fill.column
        return whole


def explain(array: Floats, path: Path, window: int, n_mels: int, n_frames: int) -> Iterator[Explanation]:
    """What a front end does otherwise, what matters most first; nothing where no variant explains its features.

    Args:
        array: its features of one window, of any shape, finite.
        path: the sound file that it was given.
        window: which one.
        n_mels: mel bands that the model takes.
        n_frames: frames of a window.

    Raises:
        AudioError: see `clips.audio.read`.
    """
    if array.size and np.ptp(array) == 0:
        yield Explanation(
            "constant", f"every value is {float(array.flat[0]) + 0.0:g}: nothing was computed", float("inf")
        )
        return
    model = _heard(array, path, window, n_mels, n_frames)
    if model is not None and (level := _by_band(model)) >= SURE_DB:
        yield Explanation("scale", "every mel band is normalised to mean 0 and deviation 1", level)
    elif model is not None:
        yield from _ordered(_padded(_edged(model)), n_mels, n_frames)


def _heard(array: Floats, path: Path, window: int, n_mels: int, n_frames: int) -> Model | None:
    """Layout, reading and recipe that come nearest inside the sound; None where nothing comes near."""
    reading = next(files := readings(path))
    ways = list(layouts(array, n_mels, n_frames, len(reading.samples) // HOP))
    first = [Model(way, reading, Sound(reading.samples, window, n_frames)) for way in ways if not way.sentence]
    searched = [_searched(model) for model in first]
    if searched and searched[0][1] >= SURE_DB:
        return searched[0][0]
    others = [Model(way, one, Sound(one.samples, window, n_frames)) for one in (reading, *files) for way in ways]
    likely = sorted(((_likeness(model), number) for number, model in enumerate(others)), reverse=True)
    for alike, number in likely[:MAX_HYPOTHESES]:
        if alike >= LIKE and (others[number].layout.sentence or others[number].reading.sentence):
            searched.append(_searched(others[number]))
    return _likeliest(searched)


def _likeliest(searched: Sequence[tuple[Model, float]]) -> Model | None:
    """The expected way unless another one explains clearly more."""
    if not searched:
        return None
    model, level = searched[0]
    is_expected = not (model.layout.sentence or model.reading.sentence)
    for other, other_db in searched[1:]:
        if other_db >= level + 10 and other_db >= HEARD_DB:
            model, level = other, other_db
            is_expected = False
    return model if is_expected or level >= HEARD_DB else None


def _likeness(model: Model) -> float:
    array, frames = model.array, model.sound.frames_inside
    shift = _delay(model)
    frames = frames[(frames + shift >= 0) & (frames + shift < array.shape[1])]
    if len(frames) < MIN_FRAMES:
        return 0.0
    reference = render(WHISPER, model.sound, model.layout.n_mels)[: len(array), frames]
    return likeness(array[:, frames + shift], reference)


def _delay(model: Model) -> int:
    inside = model.sound.frames_inside
    if len(inside) < MIN_FRAMES:
        return 0
    fill = _filled(model.array)
    end = min(inside[-1] + 1, fill.first if fill else inside[-1] + 1)
    return delay(model.array[:, :end], render(WHISPER, model.sound, model.layout.n_mels)[:, :end])


def _searched(model: Model) -> tuple[Model, float]:
    """With the recipe that explains what is inside the sound, and how well that does [dB]."""
    fill = _filled(model.array)
    array = model.array[:, : fill.first] if fill else model.array
    search = Search(array, model.sound, model.layout.n_mels, _delay(model))
    if not search.is_possible:
        return model, -float("inf")
    before = search.unchanged()
    after = before if before.snr_db >= FLOAT_NOISE_DB else search.best()
    if is_explained(before, after):
        return replace(model, recipe=after.recipe), after.snr_db
    return model, before.snr_db


def _by_band(model: Model) -> float:
    """SNR over Whisper's features with every band normalised [dB]; -inf for features that are not."""
    if np.abs(model.array.mean(axis=1)).max() > NORMAL or np.abs(model.array.std(axis=1) - 1).max() > NORMAL:
        return -float("inf")
    bands = replace(model, recipe=WHISPER).rendered()
    deviation = bands.std(axis=1, keepdims=True)
    return snr_db((bands - bands.mean(axis=1, keepdims=True)) / np.where(deviation > 0, deviation, 1), model.array)


def _edged(model: Model) -> Model:
    """With what it does at the edges of the sound."""
    frames = model.sound.frames_at_edges
    fill = _filled(model.array)
    frames = frames[frames < (fill.first if fill else model.array.shape[1])]
    if not len(frames) or model.recipe.late:  # what a late sound begins with is anybody's guess
        return model
    ways = [(edges, end) for edges, end in product(EDGES, (False, True))]
    recipes = [replace(model.recipe, edges=edges, is_unpadded=end) for edges, end in ways]
    if model.sound.may_be_uncut:
        recipes.append(replace(model.recipe, is_uncut=True))

    def level(recipe: Recipe) -> float:
        return snr_db(replace(model, recipe=recipe).rendered()[:, frames], model.array[:, frames])

    before = level(model.recipe)
    if before >= FLOAT_NOISE_DB:
        return model
    best = max(recipes, key=lambda recipe: level(recipe) - 6 * len(changes(recipe)))
    for name in set(changes(best)) - set(changes(model.recipe)):
        if min(level(best), FLOAT_NOISE_DB) - level(without(best, name)) < 10:
            best = without(best, name)
    is_named = is_explained(Candidate(model.recipe, before), Candidate(best, level(best)))
    return replace(model, recipe=best) if is_named else model


def _padded(model: Model) -> Model:
    """With what it does behind the sound."""
    rendered = model.rendered()
    fill = _filled(model.array)
    end = fill.first if fill else model.array.shape[1]
    inside = model.sound.frames_inside
    inside = inside[inside < end]
    if not len(inside) or snr_db(rendered[:, inside], model.array[:, inside]) < HEARD_DB:
        return model
    if fill is None:
        return _repeating(model)
    rest = float(np.sqrt(np.mean(np.square(model.array[:, inside] - rendered[:, inside]))))
    limit = max(1e-4, 5 * rest)

    def fits(supposed: Model) -> bool:
        return bool(np.abs(supposed.rendered()[:, end:] - fill.column).max() <= limit)

    if fits(model):
        return model
    unclamped = replace(model, recipe=replace(model.recipe, clamp=Clamp(None)))
    if fits(unclamped) and float(np.abs(unclamped.rendered()[:, inside] - rendered[:, inside]).max()) <= limit:
        return unclamped  # a sound without a quiet place tells nothing of the clamp, the silence behind it does
    return replace(model, fill=fill)


def _repeating(model: Model) -> Model:
    """With the sound played again, where that is what stands behind it."""
    behind = model.sound.frames_behind
    behind = behind[behind < model.array.shape[1]]
    other = replace(model, repeats=True)
    is_so = len(behind) and snr_db(other.rendered()[:, behind], model.array[:, behind]) >= HEARD_DB
    return other if is_so and snr_db(model.rendered()[:, behind], model.array[:, behind]) < HEARD_DB / 2 else model


def _filled(array: Floats) -> Fill | None:
    """The equal frames at the end of features; None where the last two differ."""
    column = array[:, -1:]
    is_other = (np.abs(array - column) > 1e-6 * np.maximum(1, np.abs(column))).any(axis=0)
    first = int(np.flatnonzero(is_other)[-1]) + 1 if is_other.any() else 0
    return Fill(first, column) if first < array.shape[1] - 1 else None


def _repeated(sound: Sound) -> Sound:
    length = sound.n_frames * 160
    return Sound(np.resize(sound.samples, length).astype(np.float32), 0, sound.n_frames)


def _ordered(model: Model, n_mels: int, n_frames: int) -> Iterator[Explanation]:
    """The causes in the order in which they bring the features nearest, each on top of those before it."""
    if model.layout.sentence:
        plain = replace(model, recipe=WHISPER, fill=None, repeats=False)
        level = snr_db(plain.rendered(), model.array)
        yield Explanation(_layout_kind(model, n_mels, n_frames), model.layout.sentence, level)
    if model.reading.sentence:
        level = snr_db(replace(model, recipe=WHISPER, fill=None, repeats=False).rendered(), model.array)
        yield Explanation(model.reading.kind, model.reading.sentence, level)
    supposed = replace(model, recipe=WHISPER, fill=None, repeats=False)
    steps = dict(_steps(model))
    while steps:
        levels = {name: snr_db(add(supposed).rendered(), model.array) for name, add in steps.items()}
        name = max(levels, key=lambda one: levels[one])
        supposed = steps.pop(name)(supposed)
        kind, sentence = _padding(model) if name == "fill" else words.sentence(name, model.recipe, model.sound)
        yield Explanation(kind, sentence, levels[name])


def _layout_kind(model: Model, n_mels: int, n_frames: int) -> str:
    return "layout" if model.array.shape[1] == n_frames and model.layout.n_mels == n_mels else "shape"


def _steps(model: Model) -> Iterator[tuple[str, Callable[[Model], Model]]]:
    names = [name for name in changes(model.recipe) if not (name == "shift" and model.recipe.factor != 1)]
    for name in names:
        fields = ("factor", "shift") if name == "factor" else (name,)
        yield name, _setting({field: getattr(model.recipe, field) for field in fields})
    if model.fill or model.repeats:
        yield "fill", lambda supposed: replace(supposed, fill=model.fill, repeats=model.repeats)


def _setting(values: dict[str, float | str | bool]) -> Callable[[Model], Model]:
    return lambda supposed: replace(supposed, recipe=replace(supposed.recipe, **values))  # type: ignore[arg-type]


def _padding(model: Model) -> tuple[str, str]:
    fill = model.fill
    if fill is None:
        return "padding", "the sound is played again and again up to 30 s, where Whisper pads it with silence"
    sound = model.sound.n_frames_of_sound
    if fill.first < sound - 3:
        return "cut", f"the features end at frame {fill.first}, the sound at frame {sound}"
    if np.ptp(fill.column) > 1e-6:
        return (
            "padding",
            f"the last frame is repeated from frame {fill.first} on, where Whisper pads the sound with silence",
        )
    value = float(fill.column[0, 0])
    text = f"{value:.1f}" if value == round(value, 1) else f"{value:.4g}"
    return "padding", (
        f"spectrogram padded with {text} from frame {fill.first} on, where Whisper pads the sound with silence"
    )

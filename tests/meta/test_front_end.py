"""Front ends that do one step otherwise, written apart from the harness: each is named, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import sound
from tests.support.checkout import CHECKOUT
from tests.support.frontends import FrontEnd
from whisper_parity.clips import audio, features
from whisper_parity.compare.front_end.difference import FrontEndDiff, is_whispers, measure

CLIPS = CHECKOUT / "fixtures" / "clips"
FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "padded": (
        {"pads_sound": False, "edges": "reflect"},
        "padding",
        "spectrogram padded with 0.0 from frame 350 on, where Whisper pads the sound with silence",
    ),
    "padded with -1": ({"pads_sound": False, "fill": -1.0}, "padding", "spectrogram padded with -1.0 from frame 350"),
    "last frame": ({"pads_sound": False, "repeats_last": True}, "padding", "the last frame is repeated from frame 349"),
    "symmetric": ({"window": "symmetric"}, "window", "symmetric Hann window (denominator 399)"),
    "hamming": ({"window": "hamming"}, "window", "Hamming window, where Whisper has a Hann window"),
    "no window": ({"window": "none"}, "window", "no window before the transform"),
    "edges": ({"edges": "symmetric"}, "edges", "edges mirrored with the sample at the edge"),
    "zeros": ({"edges": "zeros"}, "edges", "zeros before the first sample"),
    "repeated": ({"edges": "repeated"}, "edges", "the first sample repeated before it"),
    "not centred": ({"centred": False}, "shift", "frames begin at their first sample"),
    "late": ({"shift": 2}, "shift", "the sound comes 2 frames too late"),
    "early": ({"shift": -1}, "shift", "the sound comes 1 frame too early"),
    "int16": ({"int16": True}, "gain", "samples are the int16 numbers"),
    "halved": ({"halved": True}, "gain", "every value is off by -0.1505, as by a gain of 0.5 of the samples"),
    "mean": ({"minus_mean": True}, "dc", "the sound's mean is taken off"),
    "emphasis": ({"emphasis": 0.97}, "pre-emphasis", "pre-emphasis of 0.97"),
    "amplitude": ({"amplitude": True}, "power", "amplitudes under the mel filters"),
    "htk": ({"filters": "htk"}, "filters", "HTK mel filters, where"),
    "not normalised": ({"filters": "slaney unnormalised"}, "filters", "Slaney mel filters, not normalised"),
    "no filters": ({"filters": "constant"}, "filters", "every mel filter coefficient is 0.01"),
    "ln": ({"log": "ln"}, "logarithm", "ln of the mel spectrogram, where Whisper takes log10"),
    "log2": ({"log": "log2"}, "logarithm", "log2 of the mel spectrogram"),
    "decibels": ({"log": "10 log10"}, "logarithm", "10 log10 of the mel spectrogram"),
    "no clamp": ({"clamp": "none"}, "clamp", "no clamp at 8 below the maximum"),
    "clamp of frames": ({"clamp": "each frame"}, "clamp", "clamped below the maximum of each frame"),
    "no scale": ({"scaled": "none"}, "scale", "values are x of the logarithm, where Whisper has (x + 4) / 4"),
    "quarter": ({"scaled": "quarter"}, "scale", "values are x / 4 of the logarithm"),
    "plus": ({"scaled": "plus"}, "scale", "values are x + 4 of the logarithm"),
}


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3.5 s of speech that begins amid a word, at its loudest, with a mean that is not zero."""
    samples = audio.read(CLIPS / "en-medium-10s.flac").samples
    first = int(np.abs(samples[20_000:36_000]).argmax()) + 20_000
    samples = samples[first : first + 56_000] + 0.004
    return sound.write(tmp_path_factory.mktemp("loud") / "loud.wav", samples, 16_000, "pcm_s16le", "s16")


def pcm(path: Path) -> np.ndarray:
    return audio.read(path).pcm


def int16(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(np.asarray(samples, np.float64) * 32768), -32768, 32767).astype(np.int16)


def kinds(diff: FrontEndDiff) -> list[str]:
    return [cause.kind for cause in diff.causes]


def test_whispers_own_features_have_no_cause(loud: Path):
    """Bit for bit, and computed apart from it: 100 dB and better in every part, and nothing is searched."""
    same = measure(features.compute(loud, 80).windows[0].input_features, loud, 0, 80)
    apart = measure(FrontEnd().features(pcm(loud)), loud, 0, 80)
    assert same.whole_db == float("inf")
    assert min(apart.speech_db, apart.edges_db, apart.padding_db) > 100
    assert (same.causes, apart.causes) == ((), ())
    assert is_whispers(same)
    assert is_whispers(apart)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_and_nothing_else(loud: Path, fault: str):
    """With the parameter, in words; the features then come out to 60 dB and better."""
    options, kind, words = FAULTS[fault]
    diff = measure(FrontEnd(**options).features(pcm(loud)), loud, 0, 80)
    others = ["end"] if kind == "padding" else []  # where the sound is not padded its end is mirrored too
    assert sorted(set(kinds(diff)) - set(others)) == [kind]
    assert next(cause for cause in diff.causes if cause.kind == kind).sentence.startswith(words)
    assert diff.causes[-1].explains_db > (20 if kind == "shift" else 60)  # what a late sound begins with is not known
    assert not is_whispers(diff)


@pytest.mark.parametrize("offset", [0.02, -0.004])
def test_a_constant_on_the_samples_is_named(loud: Path, offset: float):
    """A DC offset of a microphone that the program keeps and Whisper never heard, with its size."""
    diff = measure(FrontEnd(offset=offset).features(pcm(loud)), loud, 0, 80)
    assert [cause.sentence for cause in diff.causes] == [f"a constant of {offset:g} on the samples (DC offset)"]
    assert diff.causes[0].explains_db > 60


def test_pairs_and_triples_of_faults_are_all_named(loud: Path):
    """Drawn by a seed, of different kinds; each has to show by itself on top of the others.

    Edges are not asked for where the sound comes late: what it begins with is anybody's guess.
    """
    draw = random.Random(18)
    names = [name for name in FAULTS if name not in ("no filters", "clamp of frames")]
    x = pcm(loud)
    for count in [2, 2, 2, 2, 3, 3, 3, 3]:
        chosen = _of_different_kinds(draw, names, count)
        options = [FAULTS[name][0] for name in chosen]
        array = FrontEnd(**_joined(options)).features(x)
        needed = {
            FAULTS[name][1]
            for place, name in enumerate(chosen)
            if not ("late" in chosen or "early" in chosen) or FAULTS[name][1] != "edges"
            if _level(array, FrontEnd(**_joined(options[:place] + options[place + 1 :])).features(x)) < 55
        }
        named = set(kinds(measure(array, loud, 0, 80)))
        assert needed <= named <= {FAULTS[name][1] for name in chosen} | {"end"}, chosen


def _of_different_kinds(draw: random.Random, names: list[str], count: int) -> list[str]:
    while True:
        chosen = draw.sample(names, count)
        if len({FAULTS[name][1] for name in chosen}) == count:
            return chosen


def _joined(options: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for one in options for name, value in one.items()}


def _level(reference: np.ndarray, array: np.ndarray) -> float:
    error = float(np.sum((array.astype(np.float64) - reference) ** 2))
    return 10 * np.log10(float(np.sum(reference.astype(np.float64) ** 2)) / max(error, 1e-30))


def _rounded(array: np.ndarray) -> np.ndarray:
    step = np.abs(array).max() / 127
    return np.round(array / step) * step


UNEXPLAINED: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "float16": lambda ours, draw: ours.astype(np.float16),
    "8 bits": lambda ours, draw: _rounded(ours),
    "noise at 40 dB": lambda ours, draw: ours + draw.normal(size=ours.shape) * np.sqrt(np.mean(ours**2)) / 100,
    "noise at 20 dB": lambda ours, draw: ours + draw.normal(size=ours.shape) * np.sqrt(np.mean(ours**2)) / 10,
    "noise alone": lambda ours, draw: draw.normal(size=ours.shape),
    "positive noise": lambda ours, draw: np.abs(draw.normal(size=ours.shape)),
    "a curve": lambda ours, draw: np.tanh(ours),
    "smoothed": lambda ours, draw: (ours + np.roll(ours, 1, -1) + np.roll(ours, -1, -1)) / 3,
    "shuffled frames": lambda ours, draw: ours[..., draw.permutation(3000)],
}


@pytest.mark.parametrize("case", UNEXPLAINED)
def test_what_no_variant_explains_has_a_level_and_no_cause(loud: Path, case: str):
    """Rounding, noise, a curve, features of nothing."""
    ours = features.compute(loud, 80).windows[0].input_features
    diff = measure(UNEXPLAINED[case](ours, np.random.default_rng(5)), loud, 0, 80)
    assert diff.causes == ()
    assert diff.whole_db is not None
    assert diff.whole_db < 90
    assert is_whispers(diff) == (case == "float16")


def test_features_of_another_sound_have_no_cause(loud: Path):
    """Padded or not: what is behind the sound is not judged where the sound itself is another."""
    other = CLIPS / "en-comma-03.flac"
    assert measure(FrontEnd().features(pcm(other)), loud, 0, 80).causes == ()
    assert measure(FrontEnd(pads_sound=False).features(pcm(other)), loud, 0, 80).causes == ()


def test_windows_and_speeds_that_are_no_variant_have_no_cause(loud: Path):
    """The nearest variant is not the cause."""
    slow = np.interp(np.arange(0, len(pcm(loud)) - 1, 0.99), np.arange(len(pcm(loud))), pcm(loud))
    assert measure(FrontEnd().features(np.rint(slow)), loud, 0, 80).causes == ()
    for window in ("gauss", "bartlett"):
        assert measure(FrontEnd(window=window).features(pcm(loud)), loud, 0, 80).causes == ()


def test_float16_and_8_bits_do_not_hide_a_fault(loud: Path):
    """A coarse fault stands out of the rounding, and is named; a fine one drowns in 8 bits, and is not."""
    coarse, fine = (FrontEnd(**FAULTS[name][0]).features(pcm(loud)) for name in ("ln", "symmetric"))
    assert kinds(measure(coarse.astype(np.float16), loud, 0, 80)) == ["logarithm"]
    assert kinds(measure(fine.astype(np.float16), loud, 0, 80)) == ["window"]
    assert kinds(measure(_rounded(coarse), loud, 0, 80)) == ["logarithm"]
    assert kinds(measure(_rounded(fine), loud, 0, 80)) == []


def test_numbers_that_are_not_finite_are_counted(loud: Path):
    """The parts without them are measured, the others are not, and no cause is looked for."""
    array = features.compute(loud, 80).windows[0].input_features.copy()
    array[0, 3, 100] = np.nan
    array[0, 4, 101] = np.inf
    diff = measure(array, loud, 0, 80)
    assert (diff.nonfinite, diff.whole_db, diff.speech_db, diff.padding_db) == (2, None, None, float("inf"))
    assert diff.causes == ()
    assert not is_whispers(diff)


def test_one_value_everywhere_is_named(loud: Path):
    diff = measure(np.zeros((1, 80, 3000), np.float32), loud, 0, 80)
    assert [cause.sentence for cause in diff.causes] == ["every value is 0: nothing was computed"]


LAYOUTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, str]] = {
    "transposed": (lambda ours: ours[0].T, "layout", "transposed: frames by bands"),
    "taken for": (lambda ours: ours[0].T.reshape(1, 80, 3000), "layout", "written as [3000, 80] and taken for"),
    "longer rows": (
        lambda ours: np.pad(ours[0], ((0, 0), (0, 1))).reshape(-1)[:240_000].reshape(80, 3000),
        "layout",
        "rows of 3001 frames taken for rows of 3000",
    ),
    "reversed": (lambda ours: ours[:, ::-1], "layout", "the mel bands in reverse order"),
    "one too many": (lambda ours: np.pad(ours[0], ((0, 0), (0, 1)), "edge"), "shape", "3001 frames for 3000"),
    "not padded": (lambda ours: ours[0, :, :350], "shape", "350 frames, where a window has 3000"),
    "not padded, transposed": (lambda ours: ours[0, :, :350].T, "shape", "transposed: frames by bands"),
    "flat, not padded": (lambda ours: ours[0, :, :350].reshape(-1), "shape", "350 frames, where a window has 3000"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts_are_named(loud: Path, case: str):
    """By what lies where: nothing is cut to the shorter of two shapes."""
    turn, kind, words = LAYOUTS[case]
    array = turn(features.compute(loud, 80).windows[0].input_features)
    diff = measure(array, loud, 0, 80)
    assert kinds(diff) == [kind]
    assert diff.causes[0].sentence.startswith(words)
    assert (diff.whole_db is None) == (array.size != 240_000 or array.shape[-1] == 80)


def test_another_number_of_bands_is_named(loud: Path):
    """80 for 128, and the reverse."""
    for given, expected in ((80, 128), (128, 80)):
        diff = measure(features.compute(loud, given).windows[0].input_features, loud, 0, expected)
        assert [cause.sentence for cause in diff.causes] == [f"{given} mel bands, where the model takes {expected}"]


def _stereo(folder: Path) -> tuple[Path, np.ndarray]:
    left = audio.read(CLIPS / "en-comma-01.flac").samples[:48_000]
    right = audio.read(CLIPS / "en-comma-02.flac").samples[:48_000] / 2
    both = np.stack([left, right], 1)
    return sound.write(folder / "stereo.wav", both, 16_000, "pcm_s16le", "s16"), both


def test_channels_are_named(tmp_path: Path):
    """One of two, and both in turn; also under another fault."""
    path, both = _stereo(tmp_path)
    first = measure(FrontEnd().features(int16(both[:, 0])), path, 0, 80)
    turns = measure(FrontEnd(pads_sound=False).features(int16(both.reshape(-1))), path, 0, 80)
    assert [cause.sentence for cause in first.causes] == ["the first of 2 channels alone, where Whisper mixes them"]
    assert kinds(turns)[:2] == ["channel", "padding"]
    assert turns.causes[0].sentence == "stereo read as mono, sample by sample in turn"
    assert measure(FrontEnd().features(pcm(path)), path, 0, 80).causes == ()


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_rates_are_named(tmp_path: Path, rate: int):
    """Samples of another rate read as they are, or thinned out without a filter."""
    speech = audio.read(CLIPS / "en-comma-01.flac").samples[:48_000]
    samples = np.interp(np.arange(0, 47_999, 16_000 / rate), np.arange(48_000), speech).astype(np.float32)
    path = sound.write(tmp_path / "rate.wav", samples, rate, "pcm_s16le", "s16")
    unread = measure(FrontEnd().features(int16(samples)), path, 0, 80)
    assert [cause.sentence for cause in unread.causes] == [f"{rate} Hz read as 16000 Hz"]
    thinned = int16(samples)[np.arange(0, len(samples) - 1, rate / 16_000).astype(int)]
    named = measure(FrontEnd().features(thinned), path, 0, 80)
    assert [cause.kind for cause in named.causes] == ["rate"]
    assert "by leaving out samples" in named.causes[0].sentence


@pytest.mark.parametrize(
    ("codec", "form", "width"), [("pcm_s24le", "s32", 24), ("pcm_f32le", "flt", 32), ("pcm_u8", "u8", 8)]
)
def test_widths_are_named(tmp_path: Path, codec: str, form: str, width: int):
    samples = audio.read(CLIPS / "en-comma-01.flac").samples[:48_000]
    path = sound.write(tmp_path / "width.wav", samples, 16_000, codec, form)
    content = path.read_bytes()
    start = content.index(b"data") + 8
    raw = np.frombuffer(content[start : start + 48_000 * width // 8 // 2 * 2], "<i2")
    diff = measure(FrontEnd().features(raw), path, 0, 80)
    assert [cause.sentence for cause in diff.causes] == [f"{width}-bit samples read as 16-bit ones"]


def test_header_bytes_are_named(tmp_path: Path):
    """A LIST chunk, read as samples from byte 44 on, and a whole header."""
    samples = audio.read(CLIPS / "en-comma-01.flac").samples[8000:56_000]
    path = sound.write(tmp_path / "list.wav", samples, 16_000, "pcm_s16le", "s16")
    content = path.read_bytes()
    assert b"LIST" in content[:44]
    start = content.index(b"data") + 8
    for first, words in ((44, f"{start - 44} bytes of the file's header read"), (0, f"the {start} bytes of the")):
        diff = measure(FrontEnd().features(np.frombuffer(content[first : len(content) // 2 * 2], "<i2")), path, 0, 80)
        assert kinds(diff) == ["header"]
        assert diff.causes[0].sentence.startswith(words)


def test_a_sound_that_is_not_cut_is_named():
    """One spectrogram of the whole sound, cut afterwards: its maximum and its edges are those of the whole."""
    path = CLIPS / "en-long-75s.flac"
    diff = measure(FrontEnd(cuts=False).features(pcm(path), 2), path, 2, 80)
    assert kinds(diff) == ["uncut"]
    assert measure(FrontEnd().features(pcm(path), 2), path, 2, 80).causes == ()


@pytest.mark.parametrize(
    ("clip", "whole_db", "speech_db"),
    [("audio/test_en.wav", 0.35, 53.3), ("clips/test_en_p1.wav", 12.34, 51.6), ("clips/test_ja.wav", 0.62, 52.5)],
)
def test_the_original_programs_front_end_is_explained(
    shared_folder: Path, clip: str, whole_db: float, speech_db: float
):
    """Padded with 0.0, a symmetric window, edges mirrored with their sample: the first alone leaves 46 dB and more."""
    path = shared_folder / clip
    if not path.is_file():
        pytest.skip(f"shared/{clip} is not here")
    diff = measure(FrontEnd(pads_sound=False, window="symmetric", edges="symmetric").features(pcm(path)), path, 0, 80)
    assert diff.whole_db == pytest.approx(whole_db, abs=0.01)
    assert diff.speech_db == pytest.approx(speech_db, abs=0.1)
    assert diff.causes[0].sentence.startswith("spectrogram padded with 0.0 from frame")
    assert diff.causes[0].explains_db > 45
    expected = {"padding", "window"} | ({"edges"} if clip == "audio/test_en.wav" else set())
    assert set(kinds(diff)) == expected  # the other two begin with silence: their edges are equal
    assert diff.causes[-1].explains_db > 100

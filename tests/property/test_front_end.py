"""What holds for features of any shape and value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import sound
from whisper_parity.clips import features
from whisper_parity.compare.front_end.difference import measure
from whisper_parity.compare.front_end.layout import as_bands, layouts


@pytest.fixture(scope="module")
def warble(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    path = sound.write_wav(tmp_path_factory.mktemp("warble") / "warble.wav", sound.warble(1.0))
    return path, features.compute(path, 80).windows[0].input_features


@settings(max_examples=15)
@given(level_db=st.floats(-10, 80), seed=st.integers(0, 100))
def test_noise_of_a_level_is_measured_at_that_level(warble, level_db: float, seed: int):
    """The whole SNR is what was put in; each part's is a number."""
    path, ours = warble
    noise = np.random.default_rng(seed).normal(size=ours.shape)
    noise *= np.sqrt(np.sum(ours.astype(np.float64) ** 2) / np.sum(noise**2)) * 10 ** (-level_db / 20)
    diff = measure(ours + noise, path, 0, 80, causes=False)
    assert diff.whole_db == pytest.approx(level_db, abs=0.01)
    assert None not in (diff.speech_db, diff.edges_db, diff.padding_db)


@settings(max_examples=10)
@given(shape=st.sampled_from([(1, 80, 3000), (80, 3000), (240_000,), (1, 1, 80, 3000), (1, 240_000)]))
def test_a_batch_of_one_and_a_flat_array_are_the_same_features(warble, shape: tuple[int, ...]):
    path, ours = warble
    diff = measure(ours.reshape(shape), path, 0, 80)
    assert (diff.whole_db, diff.shape, diff.expected, diff.causes) == (float("inf"), shape, (1, 80, 3000), ())


@settings(max_examples=25)
@given(shape=st.lists(st.integers(0, 200), max_size=4).map(tuple))
def test_any_other_shape_has_no_level(warble, shape: tuple[int, ...]):
    """Nothing is cut, and nothing raises."""
    path, _ = warble
    diff = measure(np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape), path, 0, 80)
    assert (diff.whole_db, diff.speech_db, diff.edges_db, diff.padding_db) == (None, None, None, None)


@given(n_mels=st.sampled_from([80, 128]), frames=st.integers(1, 40), turned=st.booleans())
def test_every_layout_holds_the_numbers_that_were_written(n_mels: int, frames: int, turned: bool):
    """Each is a view of them, without one twice."""
    array = np.arange(n_mels * frames, dtype=np.float64).reshape(n_mels, frames)
    array = array.T if turned else array
    for layout in layouts(array, n_mels, frames):
        numbers = layout.bands_of_frames.ravel()
        assert len(np.unique(numbers)) == len(numbers)
        assert set(numbers) <= set(array.ravel())
    assert (as_bands(array, n_mels, frames) is None) == (turned and frames != 1)

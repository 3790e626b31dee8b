"""Columns of the logits that are off at every step: found, told apart, and absent in sound noise."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.traces import N_VOCAB
from whisper_parity.compare import columns

COMMA, STOP = 11, 13
STEPS = 8


def logits(noise: float = 0.0, steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """The logits of a reference and of a candidate that is sound but for noise."""
    reference = 5 * np.random.default_rng(1).standard_normal((steps, N_VOCAB), dtype=np.float32)
    error = np.random.default_rng(2).standard_normal(reference.shape, dtype=np.float32)
    return reference, reference + np.float32(noise) * error


def found(*by: tuple[int | slice, float], noise: float = 1e-4, steps: int = STEPS) -> str:
    """What is said where columns are off by so much."""
    reference, candidate = logits(noise, steps)
    for column, shift in by:
        candidate[:, column] += np.float32(shift)
    shifted = columns.shifted([(reference, candidate)], N_VOCAB)
    return columns.describe(shifted) if shifted else ""


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ([(COMMA, 0.5)], "token ',' is +0.5 at every step"),
        ([(COMMA, -0.25), (STOP, 0.5)], "token '.' is +0.5, token ',' is -0.25 at every step"),
        ([(slice(51765, None), -0.5)], "tokens 51765 to 51864 are -0.5 at every step"),
        ([(COMMA, 0.5), (STOP, 0.5), (100, 0.4), (200, 0.3), (300, 0.2)], " and 2 more at every step"),
        ([], ""),
    ],
)
def test_what_is_off_at_every_step_is_named(by, words):
    """One token, two, a range; the largest first, the rest counted; nothing where there is noise alone."""
    assert found(*by).endswith(words)
    assert bool(found(*by)) == bool(by)


@pytest.mark.parametrize("noise", [0.0, 1e-5, 0.3])
def test_noise_alone_is_no_column(noise):
    """Identical, rounding, and that of 8 bits."""
    assert found(noise=noise) == ""


def test_a_column_inside_the_noise_is_none():
    """Off by 0.1 among errors of 0.3: nothing that could be told from chance."""
    assert found((COMMA, 0.1), noise=0.3) == ""


def test_a_shift_of_all_columns_is_none():
    """It changes no softmax; and beside it, the comma is found all the same."""
    assert found((slice(None), 3.0)) == ""
    assert found((slice(None), 3.0), (COMMA, 0.5)) == "token ',' is +0.5 at every step"


def test_a_column_that_is_off_now_and_then_is_none():
    """Half of the steps: large, and not constant."""
    reference, candidate = logits(1e-4)
    candidate[::2, COMMA] += np.float32(0.5)
    assert columns.shifted([(reference, candidate)], N_VOCAB) == ()


def test_too_few_steps_show_nothing():
    """Of three steps nobody can say "every"; windows are counted together."""
    assert found((COMMA, 0.5), steps=columns.MIN_STEPS - 1) == ""
    reference, candidate = logits(1e-4, 3)
    candidate[:, COMMA] += np.float32(0.5)
    (comma,) = columns.shifted([(reference, candidate)] * 2, N_VOCAB)
    assert (comma.first, comma.last, comma.shift) == (COMMA, COMMA, pytest.approx(0.5, abs=1e-3))

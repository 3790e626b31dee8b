"""The middle of a row of numbers is that of numpy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from whisper_parity.compare.median import median


@given(arrays.arrays(np.float64, st.integers(1, 50), elements=st.floats(-1e300, 1e300)))
def test_it_is_that_of_numpy(values):
    """Bit for bit."""
    assert median(values) == np.median(values)

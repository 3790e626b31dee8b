"""The gate itself: `pytest -m parity`, one item per clip and stage."""

import pytest

from whisper_parity.pytest_plugin import assert_parity


@pytest.mark.parity
def test_parity(parity_row):
    """Each stage is still the same model on each clip, within the tolerances of its edge."""
    assert_parity(parity_row)

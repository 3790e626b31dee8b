"""A backend from another package; docs/adding-a-backend.md installs, runs and judges it."""

from __future__ import annotations

import pytest

from tests.support.checkout import CHECKOUT

SAMPLE = CHECKOUT / "tests" / "e2e" / "plugin_sample"
GUIDE = CHECKOUT / "docs" / "adding-a-backend.md"


@pytest.mark.parametrize("name", ["pyproject.toml", "parity_sample_backend.py", "parity.toml"])
def test_the_guide_shows_the_sample_as_it_is(name: str):
    """Every file of the sample stands in docs/adding-a-backend.md, letter by letter."""
    assert (SAMPLE / name).read_text("utf-8") in GUIDE.read_text("utf-8")

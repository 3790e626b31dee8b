from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import detection


@pytest.fixture(scope="module")
def ports() -> Iterator[None]:
    """The backend `port`, registered as another package's would be."""
    with detection.registered():
        yield

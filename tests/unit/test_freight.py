"""Files that travel: by path where the same bytes are seen, else once, and never others than were meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from whisper_parity.errors import BackendError
from whisper_parity.run.freight import Freight, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def test_a_file_that_is_seen_stays_where_it_is(tmp_path, store):
    """A shared disk: nothing is sent."""
    path = tmp_path / "clip.wav"
    path.write_bytes(b"sound")
    freight = Freight.of(path)
    assert store.lacks([freight]) == []
    assert store.path(freight) == path


@pytest.mark.parametrize("there", [None, b"other", b"longer than it"])
def test_a_file_that_is_missing_or_another_is_sent_once(tmp_path, store, there):
    """The same path may hold other bytes there."""
    path = tmp_path / "clip.wav"
    path.write_bytes(b"sound")
    freight = Freight.of(path)
    if there is None:
        path.unlink()
    else:
        path.write_bytes(there)
    assert store.lacks([freight]) == [freight.sha256]
    with pytest.raises(BackendError, match="its bytes did not reach this machine"):
        store.path(freight)
    store.take(freight, b"sound")
    assert store.lacks([freight]) == []
    assert store.path(freight).read_bytes() == b"sound"
    assert store.path(freight) != path


def test_what_arrived_damaged_is_not_taken_for_the_file(tmp_path, store):
    """It is asked for again."""
    path = tmp_path / "clip.wav"
    path.write_bytes(b"sound")
    freight = Freight.of(path)
    path.unlink()
    store.take(freight, b"noise")
    assert store.lacks([freight]) == [freight.sha256]


def test_a_name_does_not_leave_the_store(tmp_path, store):
    """Nor is it in the way of the file system."""
    freight = Freight(Path("/elsewhere/..%2f..\n" + "x" * 200), "ab" * 32, 5)
    store.take(freight, b"sound")
    (kept,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert kept.parent == tmp_path / "cache" / "cluster" / ("ab" * 32)

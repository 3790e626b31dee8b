"""A journal that is cut or overwritten anywhere loses no line that was whole."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_parity.errors import RecordError
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.journal import Journal, Record

RECORDS = st.lists(
    st.builds(
        Record, st.sampled_from(["cell", "order"]), st.tuples(st.text(max_size=8), st.text(max_size=3)),
        st.sampled_from(['{"a":1}', '"],\\"value\\":"', "[]", '"ü"']),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


def written(place: str, records: list[Record]) -> tuple[RunFolder, bytes]:
    """A journal of these records, and its bytes."""
    folder = RunFolder(Path(place))
    with Journal.open(folder) as journal:
        for record in records:
            journal.append(record)
    return folder, folder.journal.read_bytes()


def last_of_each(records: list[Record]) -> dict[tuple[str, tuple[str, ...]], Record]:
    """What a reader is to find."""
    return {(record.kind, record.key): record for record in records}


@given(RECORDS, st.data())
def test_cut_at_any_byte(records, data):
    """Every line before the cut is there, and one more can be written."""
    with TemporaryDirectory() as place:
        folder, whole = written(place, records)
        at = data.draw(st.integers(0, len(whole)))
        folder.journal.write_bytes(whole[:at])
        left = records[: whole[:at].count(b"\n")]
        more = Record("cell", ("more",), "1")
        with Journal.open(folder) as journal:
            assert journal.dropped == at - sum(len(record.line()) for record in left)
            journal.append(more)
        found = {(record.kind, record.key): record for record in Journal.open(folder).records()}
        assert found == last_of_each([*left, more])


@given(RECORDS, st.data())
def test_zeros_behind_any_byte_as_a_failed_machine_leaves_them(records, data):
    """A group that had not reached the disk."""
    with TemporaryDirectory() as place:
        folder, whole = written(place, records)
        at = data.draw(st.integers(0, len(whole)))
        folder.journal.write_bytes(whole[:at].ljust(len(whole), b"\0"))
        found = {(record.kind, record.key): record for record in Journal.open(folder).records()}
        assert found == last_of_each(records[: whole[:at].count(b"\n")])


@given(RECORDS, st.data())
def test_one_wrong_byte_is_never_read_as_a_record(records, data):
    """In the last line it drops that line; before it is an error that names the line."""
    with TemporaryDirectory() as place:
        folder, whole = written(place, records)
        at = data.draw(st.integers(0, len(whole) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[at]))
        folder.journal.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
        line = whole[:at].count(b"\n")
        if line == len(records) - 1:
            found = {(record.kind, record.key): record for record in Journal.open(folder).records()}
            assert found == last_of_each(records[:line])
        else:
            with pytest.raises(RecordError, match=f"line {line + 1} "):
                Journal.open(folder)

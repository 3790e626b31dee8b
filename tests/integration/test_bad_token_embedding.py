"""A user's token embedding that is corrupt or does not fit is refused, and nothing in it is executed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.givenfiles import CORRUPT, Folder, dump, replace
from tests.support.refusals import Bomb


@pytest.mark.parametrize("corrupt", CORRUPT)
def test_a_corrupt_token_embedding_is_refused(artifacts: Folder, corrupt: str):
    """Also one that is merely cut short."""
    replace(artifacts.token_embedding, CORRUPT[corrupt](artifacts.token_embedding.read_bytes()))
    reason = artifacts.refused("torchscript")
    assert reason.startswith(f"{artifacts.token_embedding}: not a .npy table (")
    assert reason.endswith("Build or copy it again")


BAD_TABLES: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "another vocabulary": (lambda table: table[:-1], "expected float32 [51865, 64], found float32 [51864, 64]. Is it"),
    "another width": (lambda table: table[:, :32], "expected float32 [51865, 64], found float32 [51865, 32]. Is it"),
    "transposed": (lambda table: table.T, "expected float32 [51865, 64], found float32 [64, 51865]. It is transposed"),
    "whole numbers": (lambda table: table.astype(np.int64), "expected float32 [51865, 64], found int64 [51865, 64]."),
    "another byte order": (lambda table: table.astype(">f4"), "expected float32 [51865, 64], found >f4 [51865, 64]"),
    "one number": (lambda table: table[0, 0], "expected float32 [51865, 64], found float32 []. Is it the token"),
    "pickled objects": (
        lambda table: np.array([Bomb(Path("executed"))], dtype=object),
        "not a .npy table (Array can't be mem",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_token_embedding_that_does_not_fit_is_refused(artifacts: Folder, case: str):
    """The line says what was expected and found, and nothing is unpickled."""
    change, said = BAD_TABLES[case]
    dump(change(np.load(artifacts.token_embedding)), artifacts.token_embedding)
    assert artifacts.refused("torchscript").startswith(f"{artifacts.token_embedding}: {said}")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 64), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 64), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (51865, 64",
        b"{'descr': ',f4', 'fortran_order': False, 'shape': (51865, 64), }",
        b"__import__('os').mkdir('executed')",
    ],
)
def test_a_token_embedding_of_an_impossible_header_is_refused(artifacts: Folder, header: bytes):
    """More elements than any memory holds, a header cut short, an unknown type, code instead of a header."""
    replace(artifacts.token_embedding, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert artifacts.refused("torchscript").startswith(f"{artifacts.token_embedding}: not a .npy table (")
    assert not Path("executed").exists()


def test_an_archive_of_tables_is_no_token_embedding(artifacts: Folder):
    """What `np.savez` writes, under the name of a single table."""
    artifacts.token_embedding.unlink()
    with artifacts.token_embedding.open("wb") as file:
        np.savez(file, table=np.zeros((2, 2), np.float32))
    assert artifacts.refused("torchscript").startswith(
        f"{artifacts.token_embedding}: not a .npy table (an archive of several)"
    )

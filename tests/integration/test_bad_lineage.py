"""Lineage records that are broken or do not fit their files, and a cache that is damaged, are refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.givenfiles import Folder, replace
from tests.support.refusals import require_no_traceback, rows_of


@pytest.fixture
def recorded(artifacts: Folder, built_artifacts: Path) -> Path:
    """The lineage record of the torchscript files, laid beside them again."""
    record = artifacts.path / "torchscript.lineage.json"
    shutil.copy(built_artifacts / "artifacts" / record.name, record)
    return record


def test_files_that_changed_since_they_were_built_are_refused(artifacts: Folder, recorded: Path):
    """Their hash tells, whatever is in them."""
    path = artifacts.file("torchscript", "decoder")
    replace(path, path.read_bytes() + b"\0")
    reason = artifacts.refused("torchscript")
    assert reason.startswith(f"{path}: changed since it was built (sha256 ")
    assert reason.endswith("Build it again, or delete its lineage record to have it judged as a file of unknown origin")


def test_files_of_another_checkpoint_are_refused_by_their_lineage(artifacts: Folder, recorded: Path):
    """No number is compared; the line names the checkpoint that they belong to."""
    record = json.loads(recorded.read_text("utf-8"))
    recorded.write_text(json.dumps({**record, "checkpoint": "medium", "checkpoint_sha256": "0" * 64}), "utf-8")
    reason = artifacts.refused("torchscript")
    assert reason.startswith(f"{artifacts.path}: the torchscript files were built from another checkpoint than ")
    assert reason.endswith("Give their checkpoint medium, or build them again")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: "{",
        lambda record: "[]",
        lambda record: "[" * 100_000,
        lambda record: json.dumps({**record, "files": []}),
        lambda record: json.dumps({**record, "files": {"encoder": {"name": "../encoder.pt"}}}),
        lambda record: json.dumps({**record, "files": {"encoder": {"name": 5}}}),
        lambda record: json.dumps({**record, "tools": 5}),
        lambda record: json.dumps({**record, "options": [1]}),
        lambda record: json.dumps({**record, "build_seconds": "long"}),
        lambda record: json.dumps({key: value for key, value in record.items() if key != "parent_sha256"}),
    ],
)
def test_a_lineage_record_that_is_none_is_refused(artifacts: Folder, recorded: Path, spoil: Callable[[Any], str]):
    """It is not JSON, not complete, has wrong types, or names a file outside the folder."""
    recorded.write_text(spoil(json.loads(recorded.read_text("utf-8"))), "utf-8")
    reason = artifacts.refused("torchscript")
    assert reason.startswith(
        (f"{recorded}: not a lineage record (", f"{recorded}: not JSON (", f"{recorded}: nested too deep")
    )
    assert "Delete it, or build again" in reason
    assert reason.endswith("Delete it, or build again")


def test_a_damaged_cache_is_named_and_can_be_deleted(parity, clip, tmp_path):
    """The line names the folder to delete, and once that is gone it is built again."""
    cache = tmp_path / "cache"
    words = ("run", "--language", "en", "--stages", "torchscript", "--clips", clip, "--cache", cache)
    require_no_traceback(parity("build", "--stages", "torchscript", "--cache", cache), 0)
    (decoder,) = cache.rglob("decoder_*.pt")
    replace(decoder, decoder.read_bytes()[:-1])
    require_no_traceback(parity(*words, "--run-id", "two"), 2)
    reason = rows_of(tmp_path / "reports" / "two")["warble", "torchscript"].verdict.reason
    assert reason.startswith(f"cache damaged: {decoder}: changed since it was built (sha256 ")
    assert reason.endswith(f"Delete {decoder.parent}: it is built again")
    shutil.rmtree(decoder.parent)
    require_no_traceback(parity(*words, "--run-id", "three"), 0)

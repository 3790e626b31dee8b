"""Which files given ones were made from, or one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from whisper_parity.backend import origin
from whisper_parity.backend.artifact import GIVEN, Artifact, ArtifactFile
from whisper_parity.errors import UnavailableError


def artifact(stage: str, content: str, parent_sha256: str | None = None) -> Artifact:
    file = ArtifactFile(f"{content}.bin", content, 1)
    checkpoint: Any = None
    return Artifact(stage, Path("given"), {"encoder": file}, checkpoint, GIVEN, parent_sha256)


FRONT, OTHER = artifact("source:int8", "a"), artifact("source", "b")


def test_a_record_decides_and_nothing_is_assumed():
    """By hash, wherever the file stands among the candidates."""
    shipped = artifact("shipped", "s", OTHER.sha256)
    parent = origin.chosen(shipped, [FRONT, OTHER], "source")
    assert (parent.artifact, parent.assumed) == (OTHER, False)
    assert parent.sentence("shipped") == (
        "measured in shipped files that we made from the same source files, with their hidden states as outputs"
    )


def test_without_a_record_the_nearest_is_taken_and_said_to_be_assumed():
    """Of several."""
    parent = origin.chosen(artifact("shipped", "s"), [FRONT, OTHER], "source")
    assert (parent.artifact, parent.assumed) == (FRONT, True)
    assert "from the source:int8 files in given (that the shipped ones were made from them is assumed)" in (
        parent.sentence("shipped")
    )


@pytest.mark.parametrize(
    ("recorded", "candidates", "line"),
    [
        (None, [], r"made from are not in given: no layer is looked at\. Put the source files beside them"),
        ("0" * 64, [FRONT, OTHER], r"by their record \(sha256 000000000000\) are not here: no layer is looked at"),
    ],
)
def test_what_is_not_there_is_not_replaced(recorded, candidates, line):
    """Neither by what lies nearest, nor by a build of ours."""
    with pytest.raises(UnavailableError, match=line):
        origin.chosen(artifact("shipped", "s", recorded), candidates, "source")

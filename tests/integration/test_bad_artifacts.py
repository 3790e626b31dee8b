"""A user's artifacts that are corrupt or missing: a row that says so, never a crash, and nothing is built instead."""

from __future__ import annotations

import shutil

import pytest

from tests.support.givenfiles import CORRUPT, ROLES, Folder, replace
from tests.support.refusals import line_of
from whisper_parity.judge.verdict import Outcome


@pytest.mark.parametrize("stage", ROLES)
def test_whole_files_without_lineage_pass_as_external(artifacts: Folder, stage: str):
    """What the other tests spoil is good before: a user's files are first-class."""
    assert artifacts.judged(stage, 0).verdict.outcome is Outcome.PASS


@pytest.mark.parametrize("corrupt", CORRUPT)
@pytest.mark.parametrize(
    ("stage", "role", "said"),
    [
        ("torchscript", "encoder", ": not a TorchScript file ("),
        ("torchscript", "decoder", ": not a TorchScript file ("),
        ("tflite", "encoder", ": cannot be loaded as TFLite (The model is not a valid Flatbuffer buffer)"),
        ("tflite", "decoder", ": cannot be loaded as TFLite (The model is not a valid Flatbuffer buffer)"),
    ],
)
def test_a_corrupt_file_is_refused(artifacts: Folder, stage: str, role: str, said: str, corrupt: str):
    """The line has its path, what is wrong and what to do."""
    path = artifacts.file(stage, role)
    replace(path, CORRUPT[corrupt](path.read_bytes()))
    reason = artifacts.refused(stage)
    assert reason.startswith(f"{path}{said}")
    assert reason.endswith(("Build or copy it again", "MTKEXT ops need MediaTek's interpreter"))


@pytest.mark.parametrize("stage", ROLES)
@pytest.mark.parametrize("role", ["encoder", "decoder", "token_embedding"])
def test_a_missing_file_is_named(artifacts: Folder, stage: str, role: str):
    """Half a stage is an error; nothing is built in its place."""
    path = artifacts.token_embedding if role == "token_embedding" else artifacts.file(stage, role)
    path.unlink()
    assert artifacts.refused(stage) == f"{path}: the {role} file is missing or empty. Build or copy it again"


@pytest.mark.parametrize("stage", ROLES)
def test_an_empty_file_is_named(artifacts: Folder, stage: str):
    """0 bytes: a copy that broke off at once."""
    path = artifacts.file(stage, "decoder")
    replace(path, b"")
    assert artifacts.refused(stage) == f"{path}: the decoder file is missing or empty. Build or copy it again"


@pytest.mark.parametrize("stage", ROLES)
def test_files_under_another_checkpoints_name_are_not_passed_over(artifacts: Folder, stage: str):
    """The line says what was expected and what is there; nothing is built in their place."""
    expected = [artifacts.file(stage, role) for role in ("encoder", "decoder")]
    found = [path.rename(path.with_name(path.name.replace(artifacts.name, "base"))) for path in expected]
    names = f"expected {expected[0].name} and {expected[1].name}, found {found[1].name}, {found[0].name}. The middle"
    assert artifacts.refused(stage).startswith(f"{artifacts.path}: {names}")


def test_a_folder_that_is_not_there_is_named(artifacts: Folder):
    """Nothing is built in its place."""
    shutil.rmtree(artifacts.path)
    assert (
        artifacts.refused("torchscript")
        == f"{artifacts.path}: no such folder. Give the folder that holds the artifacts"
    )


def test_a_bad_artifact_is_refused_by_build_too(artifacts: Folder):
    """`parity build --artifacts` lists what it found, or says why it cannot."""
    artifacts.file("torchscript", "decoder").unlink()
    line = line_of(artifacts.run("build", "--artifacts", artifacts.path, "--stages", "torchscript"), 2)
    assert line.endswith("the decoder file is missing or empty. Build or copy it again")

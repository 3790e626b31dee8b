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
def test_files_under_other_names_are_taken_where_they_can_be_one_thing_only(artifacts: Folder, stage: str):
    """One encoder and one decoder by inputs and outputs; the report says which file was taken for what."""
    usual = [artifacts.file(stage, role) for role in ("encoder", "decoder")]
    given = [path.rename(path.with_name(f"{name}{path.suffix}")) for path, name in zip(usual, ("first", "second"))]
    report = artifacts.report(stage)
    assert report.exit_code == 0
    info = report.stages[-1]
    assert (info.origin, info.source) == ("given", "given")
    assert info.notes == (
        f"{given[0].name} taken as the encoder, by its inputs and outputs",
        f"{given[1].name} taken as the decoder, by its inputs and outputs",
    )


@pytest.mark.parametrize("stage", ROLES)
def test_one_half_under_another_name_is_taken_beside_the_other_half(artifacts: Folder, stage: str):
    """The encoder under its usual name is no reason to refuse the decoder."""
    path = artifacts.file(stage, "decoder")
    given = path.rename(path.with_name(f"second{path.suffix}"))
    report = artifacts.report(stage)
    assert report.exit_code == 0
    assert report.stages[-1].notes == (f"{given.name} taken as the decoder, by its inputs and outputs",)


@pytest.mark.parametrize("stage", ROLES)
def test_files_that_could_be_two_things_are_refused(artifacts: Folder, stage: str):
    """A second encoder under a name that says nothing: the line lists what fits which half."""
    for name, role in (("first", "encoder"), ("second", "decoder")):
        path = artifacts.file(stage, role)
        path.rename(path.with_name(f"{name}{path.suffix}"))
    suffix = path.suffix
    shutil.copy(artifacts.path / f"first{suffix}", artifacts.path / f"third{suffix}")
    named = f"which files are {stage}? By their inputs and outputs: encoder: first{suffix}, third{suffix}; decoder: "
    assert artifacts.refused(stage).startswith(f"{artifacts.path}: {named}second{suffix}. Name them encoder_")


@pytest.mark.parametrize("stage", ROLES)
def test_a_stage_without_files_is_red_unless_building_is_asked_for(artifacts: Folder, stage: str):
    """The line says what was expected and what is there."""
    usual = [artifacts.file(stage, role) for role in ("encoder", "decoder")]
    for path in usual:
        path.unlink()
    reason = artifacts.refused(stage)
    names = f"expected {usual[0].name} and {usual[1].name}; found: "
    assert reason.startswith(f"no files of {stage} in {artifacts.path}: {names}")
    assert "token_embedding.npy" in reason
    assert reason.endswith("Rename them, or build the stage by --build-missing")
    built = artifacts.report(stage, "--build-missing")
    assert (built.exit_code, built.stages[-1].source) == (0, "built")


def test_a_folder_that_is_not_there_is_refused_before_anything_runs(artifacts: Folder):
    """One line; no run's folder is made."""
    shutil.rmtree(artifacts.path)
    line = line_of(
        artifacts.run("run", "--artifacts", artifacts.path, "--stages", "torchscript", "--run-id", "other"), 2
    )
    assert line == f"{artifacts.path}: no such folder. Give the folder that holds the artifacts"
    assert not (artifacts.reports / "other").exists()


def test_a_bad_artifact_is_refused_by_build_too(artifacts: Folder):
    """`parity build --artifacts` lists what it found, or says why it cannot."""
    artifacts.file("torchscript", "decoder").unlink()
    line = line_of(artifacts.run("build", "--artifacts", artifacts.path, "--stages", "torchscript"), 2)
    assert line.endswith("the decoder file is missing or empty. Build or copy it again")

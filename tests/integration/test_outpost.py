"""A place of work that sees nothing of the run's machine: what was sent is enough, and its rows are the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from tests.support import sound
from whisper_parity import project
from whisper_parity.project import Project
from whisper_parity.run import conditions, schedule
from whisper_parity.run import plan as plans
from whisper_parity.run.freight import Freight
from whisper_parity.run.options import RunOptions
from whisper_parity.run.outpost import Orders, Outpost
from whisper_parity.run.tasks import Checked, Judged, batched, every_cell

STAGES = ("pytorch", "torchscript")
GONE = Path("/gone")


@pytest.fixture
def plan(tmp_path, scripted_checkpoint, cache_dir) -> plans.Plan:
    """Two stages, a clip, and a folder whose files will be gone."""
    there = tmp_path / "there"
    there.mkdir()
    clip = sound.write_wav(there / "a.wav", sound.warble(1.0))
    checkpoint = shutil.copyfile(scripted_checkpoint, there / "tiny.pt")
    options = RunOptions(
        checkpoint=str(checkpoint), stages=STAGES, clips=(str(clip),), language="en", threads=2, run_id="one",
        report_dir=tmp_path / "reports", cache=cache_dir,
    )  # fmt: skip
    return plans.make(options, Project(tmp_path))


def test_rows_and_traces_are_those_of_the_run_s_own_machine(plan, tmp_path, monkeypatch):
    """Checkpoint, converted files and sound are sent, for their folder is not there any more."""
    with schedule.opened(plan) as running:
        rows = {row.stage: row for row in running.rows(lambda _: None)}
        artifacts = {spec: running.sessions.artifact(spec) for spec in STAGES}
    freight = {spec: [Freight.of(found.path(role)) for role in found.files] for spec, found in artifacts.items()}
    checkpoint, clip = Freight.of(plan.checkpoint.path), Freight.of(plan.clips[0].path)
    sent = {file.sha256: file.path.read_bytes() for file in [checkpoint, clip, *chain(*freight.values())]}
    hidden = {
        spec: [replace(file, path=Path("/gone", file.path.name)) for file in own] for spec, own in freight.items()
    }
    shutil.rmtree(tmp_path / "there")
    monkeypatch.setenv(project.CACHE_VARIABLE, str(tmp_path / "cache"))
    outpost = Outpost(plan, conditions.recorded(plan.folder), checkpoint)
    assert outpost.unlike() == ""
    files = [checkpoint, clip, *chain(*hidden.values())]
    for sha256 in outpost.lacks(files):
        outpost.take(next(file for file in files if file.sha256 == sha256), sent[sha256])
    assert outpost.lacks(files) == []
    moved = {spec: replace(found, folder=GONE) for spec, found in artifacts.items()}
    for task in batched(plan.stages, every_cell(plan), 1):
        outpost.begin(task, Orders(moved, hidden, {plan.clips[0].name: clip}))
        for cell in task.cells:
            made, trace = outpost.cell(cell.key)
            assert isinstance(made.result, Judged)
            there, own = made.result.row, rows[cell.stage.spec]
            assert (there.verdict, there.token_ids, there.vs_parent) == (own.verdict, own.token_ids, own.vs_parent)
            assert made.result.decided_by
            assert abs(len(trace) - plan.folder.trace(*cell.key).stat().st_size) < 100
        if not task.cells:
            made = outpost.checks(task.stage)
            assert isinstance(made.result, Checked)
            assert [check.stateful for check in made.result.checks] == [False]
            assert "order" in {record.kind for record in made.records}
    outpost.close()


def test_a_machine_that_would_give_other_numbers_says_so(plan):
    """Another version of a package is named with both."""
    plan.folder.path.mkdir(parents=True)
    here = conditions.of_plan(plan)
    packages = {**here["packages"], "torch": "1.0"}
    outpost = Outpost(plan, {**here, "packages": packages}, Freight.of(plan.checkpoint.path))
    assert outpost.unlike() == f"torch (1.0 then, {here['packages']['torch']} now)"
    outpost.close()

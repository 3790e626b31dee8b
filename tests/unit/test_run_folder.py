"""Which run is meant, and what its folder is bound to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from whisper_parity import project
from whisper_parity.backend.stage import Stage
from whisper_parity.errors import ConfigError, RecordError, UsageError
from whisper_parity.project import Project
from whisper_parity.run import conditions
from whisper_parity.run import options as run_options
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.options import RunOptions


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Two runs, the second one newer."""
    for age, name in ((100, "old"), (0, "new")):
        report = RunFolder(tmp_path / name).report
        report.parent.mkdir()
        report.write_text("{}")
        os.utime(report, (report.stat().st_mtime - age,) * 2)
    return tmp_path


@pytest.mark.parametrize("given", ["old", "PATH", "PATH/report.json"])
def test_a_run_is_meant_by_name_by_path_or_by_its_report(reports: Path, given: str):
    """Every command takes each of them."""
    assert RunFolder.open(Path(given.replace("PATH", str(reports / "old"))), reports) == RunFolder(reports / "old")


def test_without_a_name_the_newest_run_is_meant(reports: Path):
    assert RunFolder.open(None, reports) == RunFolder(reports / "new")


def test_what_is_no_run_is_refused(reports: Path):
    with pytest.raises(RecordError, match=r"no run called nowhere: looked in .* and in .*The newest are new, old"):
        RunFolder.open(Path("nowhere"), reports)
    with pytest.raises(RecordError, match="no run yet"):
        RunFolder.open(None, reports / "empty")


class Site:
    """Installed packages and settings, as conditions ask for them."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def packages(self, stages: list[str]) -> tuple[str, ...]:
        return ("numpy",)

    def deciding_settings(self, stage: str) -> dict[str, Any]:
        return dict(self.settings)


def plan(folder: Path, site: Site | None = None, threads: int = 2) -> Any:
    return SimpleNamespace(
        folder=RunFolder(folder),
        stages=(Stage("pytorch", None),),
        checkpoint=SimpleNamespace(sha256="c0ffee"),
        policy=SimpleNamespace(name="plain", options={}),
        workshop=SimpleNamespace(options={"mask_value": "-inf"}),
        threads=threads,
        backends=site or Site(mode="auto"),
    )


def test_a_run_goes_on_under_the_conditions_that_it_was_made_under(tmp_path: Path):
    conditions.bind(plan(tmp_path))
    conditions.bind(plan(tmp_path))
    assert conditions.changes(plan(tmp_path)) == ""


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda folder: plan(folder, threads=1), r"threads \(2 then, 1 now\)"),
        (lambda folder: plan(folder, Site(mode="neuronrt")), r"pytorch\.mode \(auto then, neuronrt now\)"),
    ],
)
def test_a_run_under_other_conditions_is_refused_with_both_values(tmp_path: Path, other: Any, named: str):
    """Threads and settings decide numbers: no trace of before may stand under what is there now."""
    conditions.bind(plan(tmp_path))
    before = RunFolder(tmp_path).conditions.read_bytes()
    with pytest.raises(UsageError, match=named):
        conditions.bind(other(tmp_path))
    assert RunFolder(tmp_path).conditions.read_bytes() == before


def test_another_version_of_a_runtime_is_another_condition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`pip install -U` between two halves of a run."""
    conditions.bind(plan(tmp_path))
    monkeypatch.setattr(conditions, "versions", lambda *_: {"numpy": "99"})
    with pytest.raises(UsageError, match=r"numpy \(.* then, 99 now\)"):
        conditions.bind(plan(tmp_path))


def test_a_run_of_before_conditions_were_recorded_is_not_continued(tmp_path: Path):
    """It does not say with how many threads it was made."""
    conditions.bind(plan(tmp_path))
    record = json.loads(RunFolder(tmp_path).conditions.read_text())
    del record["threads"]
    RunFolder(tmp_path).conditions.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"threads \(unknown then, 2 now\)"):
        conditions.bind(plan(tmp_path))


def test_the_command_that_repeats_a_row_names_all_that_decides_its_numbers():
    """Threads always, since their default is the machine's; settings as they were given."""
    options = RunOptions(threads=3, settings=("dla.mode=neuronrt",), build_missing=True, mask_value="-100")
    command = run_options.command(options, "one", ["pytorch", "tflite"])
    assert command == (
        "parity run --clips one --stages pytorch,tflite --build-missing --threads 3 --mask-value -100 "
        "--set dla.mode=neuronrt"
    )


def test_the_record_of_a_run_is_portable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Paths inside the project are relative to it: the folder may be moved, and read from anywhere."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "clips").mkdir(parents=True)
        (folder / "parity.toml").touch()
    monkeypatch.chdir(first / "clips")
    options = run_options.read({"artifacts": "../models", "clips": str(first / "clips")}, project.find())
    assert options.artifacts == first / "models"
    run_options.write(options, RunFolder(first).options, project.find())
    moved = RunFolder(first).options.rename(RunFolder(second).options)
    again = run_options.load(moved, second)
    assert (again.artifacts, again.clips) == (second / "models", (str(second / "clips"),))


def test_options_of_another_version_are_refused_by_name(tmp_path: Path):
    path = RunFolder(tmp_path).options
    path.write_text('{"soc": "MT8371", "serial": []}')
    with pytest.raises(RecordError, match=r"written by another version of this program \(it has soc\)"):
        run_options.load(path, tmp_path)


def test_the_project_is_the_folder_of_the_nearest_parity_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From any folder below; its paths start there, and so do reports."""
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "parity.toml").write_text('[run]\nreport_dir = "out"\n')
    monkeypatch.chdir(below)
    site = project.find()
    assert site.folder == tmp_path
    assert run_options.read({}, site).report_dir == tmp_path / "out"
    assert run_options.read({}, Project(below)).report_dir == below / "reports"


@pytest.mark.parametrize("key", ["soc", "run_id", "stage"])
def test_keys_that_no_run_has_are_refused(tmp_path: Path, key: str):
    with pytest.raises(ConfigError, match=f"unknown key {key}. Known: .*settings of a backend go into"):
        run_options.read({}, Project(tmp_path, run={key: "x"}))

"""Traces out of the cache: taken when nothing that decides them changed, and never believed when they are not those."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import sound
from whisper_parity.backend import artifact as artifacts
from whisper_parity.backend.contract import Availability
from whisper_parity.backends.pytorch import PyTorchBackend, PyTorchSession
from whisper_parity.backends.split import modules
from whisper_parity.clips.clip import Clip
from whisper_parity.project import Project
from whisper_parity.run import deciding, kept, plan
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.run.kept import Kept
from whisper_parity.run.options import RunOptions
from whisper_parity.run.report import Report
from whisper_parity.trace import file

CLIPS = ("one", "two")
ROOT = ("whisper", "pytorch")


@pytest.fixture
def run(parity, tmp_path) -> Callable[..., Report]:
    """A run of the checkpoint's stages on two clips, in a cache of its own; its report."""
    (tmp_path / "clips").mkdir()
    for seed, name in enumerate(CLIPS):
        sound.write_wav(tmp_path / "clips" / f"{name}.wav", sound.warble(1.0, seed=seed))

    def of(name: str, *words: object) -> Report:
        result = parity(
            "run", "--clips", "clips", "--language", "en", "--stages", "whisper,pytorch", "--cache",
            tmp_path / "cache", "--run-id", name, *words,
        )  # fmt: skip
        assert result.exit_code in (0, 1, 3), result.output
        return records.load(RunFolder(tmp_path / "reports" / name))

    return of


@pytest.fixture
def kept_files(tmp_path) -> Callable[[], list[Path]]:
    """The kept traces."""
    return lambda: sorted((tmp_path / "cache" / "traces").glob("*.safetensors"))


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """What the root was asked to compute."""
    made: list[str] = []
    encode = PyTorchSession.encode

    def counted(self, input_features):
        made.append("encode")
        return encode(self, input_features)

    monkeypatch.setattr(PyTorchSession, "encode", counted)
    return made


def recorded_before(report: Report) -> dict[str, list[str]]:
    return {
        stage.spec: [row.clip for row in report.rows if row.stage == stage.spec and row.recorded]
        for stage in report.stages
    }


def tensors(run: Path, clip: str, stage: str) -> list[np.ndarray]:
    trace = file.load(RunFolder(run).trace(clip, stage))
    return [array for w in trace.windows for array in (w.encoder_output, w.teacher_forced.logits)]


def test_a_second_run_records_what_is_judged_and_reads_the_rest(run, calls, tmp_path, monkeypatch):
    """No model of the checkpoint is loaded, rows and traces are the same to the bit, and the report says which."""
    all_stages = ("--stages", "whisper,pytorch,torchscript")
    first = run("first", *all_stages)
    assert recorded_before(first) == {"whisper": [], "pytorch": [], "torchscript": []}
    calls.clear()
    monkeypatch.setattr(modules, "load_model", lambda _: pytest.fail("a model was loaded"))
    second = run("second", *all_stages)
    assert calls == []
    assert recorded_before(second) == {"whisper": list(CLIPS), "pytorch": list(CLIPS), "torchscript": []}
    for clip in CLIPS:
        for stage in ("pytorch", "torchscript"):
            pairs = zip(*(tensors(tmp_path / "reports" / name, clip, stage) for name in ("first", "second")))
            assert all(np.array_equal(one, other) for one, other in pairs)
    assert [row.seconds for row in second.rows if row.stage in ROOT] == [
        row.seconds for row in first.rows if row.stage in ROOT
    ]
    assert [stage.placement for stage in second.stages] == [stage.placement for stage in first.stages]
    assert [(check.stage, bool(check.recorded), check.runs) for check in second.states] == [
        ("whisper", True, 0), ("pytorch", True, 0), ("torchscript", False, 1),
    ]  # fmt: skip


def test_a_continued_run_does_not_take_its_own_traces_for_kept_ones(run):
    """They are of this run, whenever it began."""
    run("first")
    assert recorded_before(run("first")) == {"whisper": [], "pytorch": []}


def test_fresh_records_again_and_no_limit_keeps_nothing(run, calls, kept_files):
    """--fresh reads nothing; a limit of 0 leaves nothing."""
    run("first")
    calls.clear()
    assert recorded_before(run("second", "--fresh"))["pytorch"] == []
    assert len([call for call in calls if call == "encode"]) >= 2
    run("third", "--cache-limit", "0")
    assert kept_files() == []


def test_other_checks_run_again(run, monkeypatch):
    """What an older version of a check found says nothing of this one; the traces stay."""
    run("first")
    monkeypatch.setattr(kept, "sources_sha256", lambda _: "another version")
    report = run("second")
    assert recorded_before(report)["pytorch"] == list(CLIPS)
    assert [(check.stage, bool(check.recorded), check.runs > 0) for check in report.states] == [
        ("whisper", False, True), ("pytorch", False, True),
    ]  # fmt: skip


def test_a_changed_clip_is_recorded_anew_and_a_renamed_one_is_not(run, tmp_path):
    """By the bytes of the file; the trace carries the name that the run uses."""
    run("first")
    sound.write_wav(tmp_path / "clips" / "one.wav", sound.warble(1.0, seed=9))
    (tmp_path / "clips" / "two.wav").rename(tmp_path / "clips" / "three.wav")
    report = run("second")
    assert recorded_before(report)["pytorch"] == ["three"]
    assert file.load(RunFolder(tmp_path / "reports" / "second").trace("three", "pytorch")).header.clip == "three"


@pytest.mark.parametrize("how", ["a bit", "half", "another clip's", "another key's", "a folder", "a link to nothing"])
def test_a_poisoned_trace_is_not_believed(run, calls, kept_files, how, tmp_path):
    """Whatever lies there instead, the root runs again and its numbers are those of a fresh run."""
    run("first")
    poison(kept_files(), how)
    calls.clear()
    report = run("second")
    assert recorded_before(report)["pytorch"] == []
    assert len(calls) >= 2
    for clip in CLIPS:
        pairs = zip(*(tensors(tmp_path / "reports" / name, clip, "pytorch") for name in ("first", "second")))
        assert all(np.array_equal(one, other) for one, other in pairs)


def poison(paths: list[Path], how: str) -> None:
    """Put something else in the place of every kept trace; the run's own files are others from then on."""
    contents = [path.read_bytes() for path in paths]
    for i, path in enumerate(paths):
        trace = file.load(path)
        path.unlink()
        if how == "a bit":
            path.write_bytes(contents[i][:-5] + bytes([contents[i][-5] ^ 1]) + contents[i][-4:])
        elif how == "half":
            path.write_bytes(contents[i][: len(contents[i]) // 2])
        elif how == "another clip's":
            path.write_bytes(contents[i - 1])
        elif how == "another key's":  # whole, hashed anew, and of this very clip: of other threads, say
            file.save(dataclasses.replace(trace, header=dataclasses.replace(trace.header, decided_by="f" * 32)), path)
        elif how == "a folder":
            path.mkdir()
        else:
            path.symlink_to("nowhere")


def test_a_stage_that_cannot_run_here_is_not_hidden_by_a_kept_trace(run, monkeypatch):
    """Its row says what to install, as without a cache."""
    run("first")
    monkeypatch.setattr(PyTorchBackend, "availability", lambda self: Availability(False, "torch is not installed"))
    rows = [row for row in run("second").rows if row.stage == "pytorch"]
    assert ["torch is not installed" in row.verdict.reason for row in rows] == [True, True]


@pytest.fixture
def made(tmp_path, scripted_checkpoint) -> plan.Plan:
    """The plan of a run of the root on one clip."""
    clip = sound.write_wav(tmp_path / "one.wav", sound.warble(1.0))
    options = RunOptions(
        checkpoint=str(scripted_checkpoint), stages=("pytorch",), clips=(str(clip),), threads=2,
        report_dir=tmp_path, cache=tmp_path / "cache", run_id="r",
    )  # fmt: skip
    return plan.make(options, Project(tmp_path))


def key(made: Any, *, clip: Clip | None = None, audio: str = "a", fed: tuple[str, ...] = ("f",), **changes: Any) -> str:
    changed = dataclasses.replace(made, **changes)
    stage = artifacts.of_checkpoint("pytorch", changed.checkpoint)
    return Kept(changed).key(stage, clip or changed.clips[0], audio, fed)


def test_everything_that_decides_a_trace_is_in_its_key(made, monkeypatch, tmp_path):
    """One after the other: each gives another key, and the same again gives the same."""
    base = key(made)
    assert base == key(made)
    copied = shutil.copy(made.checkpoint.path, tmp_path / made.checkpoint.path.name)
    assert key(made, checkpoint=dataclasses.replace(made.checkpoint, path=Path(copied))) == base
    changed = {
        "audio": key(made, audio="b"),
        "features": key(made, fed=("g",)),
        "windows": key(made, fed=("f", "f")),
        "language": key(made, clip=dataclasses.replace(made.clips[0], language="de")),
        "threads": key(made, threads=1),
        "checkpoint": key(made, checkpoint=dataclasses.replace(made.checkpoint, sha256="0" * 64)),
        "policy": key(made, policy=dataclasses.replace(made.policy, name="other")),
        "options": key(made, policy=dataclasses.replace(made.policy, options={"language": "xx"})),
    }
    for name, target, attribute, value in (
        ("package", deciding.machine, "versions", lambda *_: {"torch": "99"}),
        ("code", deciding, "sources_sha256", lambda _: "edited"),
        ("processor", deciding.machine, "processor", lambda: ("other", "avx9")),
        ("python", deciding.platform, "python_version", lambda: "3.99"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, attribute, value)
            changed[name] = key(made)
    with monkeypatch.context() as patch:
        patch.setenv("MKL_CBWR", "COMPATIBLE")
        changed["environment"] = key(made)
    assert len({base, *changed.values()}) == len(changed) + 1
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")  # it decides times, not numbers
    assert key(made) == base


def test_an_artifact_is_never_kept(made):
    """What is under judgement is run."""
    stage = artifacts.of_checkpoint("pytorch", made.checkpoint)
    built = dataclasses.replace(stage, stage="torchscript", origin=artifacts.CACHED)
    assert Kept(made).key(built, made.clips[0], "a", ("f",)) == ""
    given = dataclasses.replace(stage, stage="pytorch", origin=artifacts.GIVEN)
    assert Kept(made).key(given, made.clips[0], "a", ("f",)) == ""

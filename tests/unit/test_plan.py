"""Stages in the order of the chain, options from their three sources, files that many write."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.support import sites
from whisper_parity.clips import selection
from whisper_parity.clips.filters import Filters
from whisper_parity.errors import ConfigError, UsageError
from whisper_parity.project import Project
from whisper_parity.run import options as run_options
from whisper_parity.run.options import RunOptions
from whisper_parity.system import files


def edges(*specs: str) -> list[str]:
    return [str(stage.edge or stage.spec) for stage in sites.backends().chain(specs)]


def test_stages_are_put_in_order_and_the_root_is_added():
    """However they were typed."""
    assert edges("tflite", "torchscript") == ["pytorch", "pytorch->torchscript", "torchscript->tflite"]


def test_a_parent_is_the_nearest_earlier_stage_of_the_run():
    """Without torchscript the edge of tflite starts at pytorch; a variant's at its base stage."""
    assert edges("tflite", "tflite:int8") == ["pytorch", "pytorch->tflite", "tflite->tflite:int8"]
    assert edges("whisper", "tflite:int8") == ["whisper", "whisper->pytorch", "pytorch->tflite:int8"]


@pytest.mark.parametrize("spec", ["onnx", "tflite:int4", "pytorch:x", "tflite:"])
def test_unknown_stages_are_refused(spec):
    """With what there is."""
    with pytest.raises(UsageError, match=r"no backend called|has no variant"):
        sites.backends().chain((spec,))


def test_what_is_typed_comes_before_parity_toml_and_that_before_defaults():
    """None means not typed."""
    options = run_options.read(
        {"policy": "plain", "stages": None}, Project(Path(), {"policy": "x", "stages": "pytorch, tflite"})
    )
    assert (options.policy, options.stages, options.language) == ("plain", ("pytorch", "tflite"), RunOptions().language)


def test_a_limit_that_is_typed_takes_the_place_of_a_sample_in_parity_toml():
    """And the other way round; both in one place are refused."""
    site = Project(Path.cwd(), {"sample": 5})
    assert (run_options.read({"limit": 3}, site).limit, run_options.read({"limit": 3}, site).sample) == (3, None)
    assert run_options.read({"seed": 2}, site).filters == Filters(sample=5, seed=2)
    with pytest.raises(UsageError, match="expected one of them"):
        run_options.read({"limit": 3, "sample": 4}, site)


def test_paths_are_absolute_since_workers_run_elsewhere():
    """A relative cache or folder of artifacts means the caller's."""
    options = run_options.read({"cache": "cache", "artifacts": Path("models")}, Project(Path.cwd()))
    assert options.cache == Path.cwd() / "cache"
    assert options.artifacts == Path.cwd() / "models"


@pytest.mark.parametrize(("key", "value"), [("stages", ""), ("clips", [1]), ("threads", 0), ("run_id", "../x")])
def test_values_that_make_no_sense_are_refused(key, value):
    """Before anything runs."""
    with pytest.raises(ConfigError):
        run_options.read({key: value}, Project(Path()))


def test_the_language_option_is_for_clips_that_do_not_name_theirs(tmp_path):
    """Clips of a manifest too."""
    lines = [{"audio_filepath": "a.wav"}, {"audio_filepath": "b.wav", "lang": "zh"}]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    selected = selection.select(("all",), manifest, "fr")
    assert [clip.language for clip in selected.clips] == ["fr", "zh"]


def write_often(path: Path) -> None:
    for i in range(50):
        files.write_text(path, json.dumps([i] * 1000))
        json.loads(path.read_text())


def test_files_that_several_processes_write_are_always_whole(tmp_path):
    """Workers of pytest-xdist share a run: readers see one version or another, never half."""
    with ProcessPoolExecutor(4) as pool:
        assert list(pool.map(write_often, [tmp_path / "shared.json"] * 4)) == [None] * 4

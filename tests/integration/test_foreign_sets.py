"""Sets of clips that their own packages wrote: datasets and lhotse, which this project does without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.clipsets import NAMES, wav
from whisper_parity.clips import audio, selection

pytestmark = pytest.mark.filterwarnings("ignore")  # of what these packages say of each other
REASON = "not installed: pip install 'whisper-parity[formats]'"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [wav(tmp_path / "made" / f"{name}.wav", 0.3, seed) for seed, name in enumerate(NAMES)]


def require_heard(path: Path, files: list[Path], tmp_path: Path, **options: Any) -> None:
    """The sounds and texts of a set are those that were put into it."""
    found = selection.select([str(path)], cache=tmp_path / "cache", **options)
    assert (found.bad, found.notes) == ((), ())
    assert [(clip.name, clip.text, clip.language) for clip in found.clips] == [(n, f"text {n}", "en") for n in NAMES]
    for clip, file in zip(found.clips, files):
        assert (audio.read(clip.path).pcm == audio.read(file).pcm).all()


@pytest.mark.parametrize("form", ["saved", "splits", "parquet"])
def test_what_datasets_writes(tmp_path, files, form, monkeypatch):
    """save_to_disk of one split and of several, and parquet, which keeps paths alone."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason=f"datasets is {REASON}")
    rows = {"audio": [str(file) for file in files], "text": [f"text {n}" for n in NAMES], "language": ["en"] * 3}
    made = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio())
    path = tmp_path / "set"
    if form == "saved":
        made.save_to_disk(str(path))
    elif form == "splits":
        parts = {"train": made.select([0]), "test": made.select([1, 2])}
        datasets.DatasetDict(parts).save_to_disk(str(path))
    else:
        path.mkdir()
        made.to_parquet(str(path / "train-00000-of-00001.parquet"))
    require_heard(path, files, tmp_path, roots=(tmp_path / "made",))


def test_what_lhotse_writes(tmp_path, files):
    """Cuts of whole recordings, packed."""
    lhotse = pytest.importorskip("lhotse", reason=f"lhotse is {REASON}")
    cuts = []
    for name, file in zip(NAMES, files):
        recording = lhotse.Recording.from_file(file)
        said = lhotse.SupervisionSegment(
            id=name, recording_id=recording.id, start=0.0, duration=recording.duration, text=f"text {name}",
            language="English",
        )  # fmt: skip
        cuts.append(lhotse.MonoCut(name, 0.0, recording.duration, 0, [said], recording=recording))
    lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    require_heard(tmp_path / "cuts.jsonl.gz", files, tmp_path, roots=(tmp_path / "made",))

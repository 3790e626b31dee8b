"""A name that is not there: the one that was meant is offered where it is close, and none where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from whisper_parity.backend.registry import Backends
from whisper_parity.clips import selection
from whisper_parity.clips.selection import EMBEDDED
from whisper_parity.decode import policy
from whisper_parity.errors import RecordError, UsageError
from whisper_parity.run.folder import REPORT, RunFolder
from whisper_parity.system import closeness

NAMES = ("whisper", "pytorch", "torchscript", "tflite", "dla")


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("tflit", "tflite"), ("TFLite", "tflite"), ("torchscipt", "torchscript"), ("pytroch", "pytorch"),
        ("onnx", ""), ("torch", "pytorch"), ("", ""), ("x" * 100_000, ""), ("dl", "dla"), ("coreml", ""),
    ],
)  # fmt: skip
def test_the_name_that_was_meant(word: str, name: str):
    """Close in letters, whatever the case; a long word costs no time."""
    assert closeness.closest(word, NAMES) == name
    assert closeness.meant(word, NAMES) == (f"Did you mean {name}?" if name else "")


def refused(call, *words) -> str:
    with pytest.raises(UsageError) as error:
        call(*words)
    return str(error.value)


def test_stages_variants_policies_clips_and_languages_are_offered():
    """Each in front of what there is; a name that is far from all of them gets no offer."""
    backends = Backends()
    assert "no backend called 'tflit'. Did you mean tflite? Use one of " in refused(backends.chain, ["tflit"])
    assert "Did you mean int8? Variants: " in refused(backends.chain, ["tflite:int"])
    assert "Did you mean whisper? Use one of whisper, plain" in refused(policy.named, "wisper")
    assert "Did you mean en-comma-01?" in refused(selection.select, ["en-coma-01"], EMBEDDED)
    assert "Did you mean near-tie?" in refused(selection.select, ["neartie"], EMBEDDED)
    assert "unknown language 'English'. Did you mean en? Use a" in refused(policy.check_language, "English")
    assert "Did you mean de?" in refused(policy.check_language, "germn")
    for call, word in ((policy.named, "beam"), (policy.check_language, "klingon")):
        assert "Did you mean" not in refused(call, word)
    assert "Did you mean" not in refused(backends.chain, ["onnx"])
    assert "Did you mean" not in refused(selection.select, ["monday.wav"], EMBEDDED)


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """Two runs, one that was cut off before it had anything, and an empty folder."""
    for name in ("first", "second"):
        (tmp_path / "reports" / name).mkdir(parents=True)
        (tmp_path / "reports" / name / REPORT).write_text("{}")
    (tmp_path / "reports" / "cut").mkdir()
    (tmp_path / "reports" / "cut" / "options.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    return tmp_path / "reports"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("frist", "no run called frist: looked in {here} and in {reports}. Did you mean first? The newest are "),
        ("nightly", "no run called nightly: looked in {here} and in {reports}. The newest are "),
        (
            "cut",
            "cut: a run that was cut off before its report. Go on with it: `parity run --run-id cut` ",
        ),
        ("{here}/empty", "{here}/empty: no run, an empty folder. The newest are "),
        ("{here}/reports", "{here}/reports: no run, a folder without report.json. The newest are "),
        ("gone.json", "gone.json: no such file. Give two result files, or two runs"),
        ("{here}/nowhere", "no run called {here}/nowhere: looked in {here}. The newest are "),
        ("{reports}/cut/options.json", "{reports}/cut/options.json: a file, and no report.json of a run"),
    ],
)
def test_what_is_no_run_says_what_is_there_and_where_it_was_looked_for(reports: Path, monkeypatch, given, words):
    """An empty folder is not "no such file", and a run that was cut off can be continued."""
    monkeypatch.chdir(reports.parent)
    places = {"here": reports.parent, "reports": reports}
    with pytest.raises(RecordError) as error:
        RunFolder.open(Path(given.format(**places)), reports)
    assert str(error.value).startswith(words.format(**places))

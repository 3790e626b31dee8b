"""`parity explain` as its users run it: a real divergence of the micro checkpoint, from the word to the layer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from tests.support import pages
from tests.support.checkout import CHECKOUT
from whisper_parity.explain import explain as explaining
from whisper_parity.explain.explanation import Explanations
from whisper_parity.report import explained as explained_view
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import serial
from whisper_parity.trace import file
from whisper_parity.trace.trace import Trace

WORD, COMMA = "en-near-tie-04", "en-number-01"
MICRO = CHECKOUT / "fixtures" / "micro" / "micro.pt"
ITEMS = {"parity.toml": "", "pytest.ini": "[pytest]\naddopts = -p no:anyio --strict-markers\n"}

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, parity_in: Callable[[Path], Cli]) -> Path:
    """int8 says another word; whisper.transcribe ends a segment where we write a comma."""
    folder = tmp_path_factory.mktemp("explain")
    found = parity_in(folder)(
        "run", "--checkpoint", MICRO, "--stages", "whisper,pytorch,tflite,tflite:int8", "--run-id", "one",
        "--clips", f"{WORD},{COMMA}",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    return folder / "reports" / "one"


@pytest.fixture
def explain(run: Path, parity_in: Callable[[Path], Cli]) -> Cli:
    return lambda *words: parity_in(run)("explain", "--run", run, *words)


def explained(run: Path, clip: str, stage: str) -> Explanations:
    return serial.read(Explanations, RunFolder(run).explanation(clip, stage))


def test_a_word_is_explained_down_to_the_layer(run, explain):
    """All five answers at the terminal, as JSON beside the run, and in the page."""
    shown = explain(WORD, "--stage", "tflite:int8")
    assert shown.exit_code == 0, shown.output
    said = [line.split()[0] for line in shown.stdout.splitlines()]
    assert said == [WORD, "1.", "edge", "part", "layer", "layer", "layer", "matters", "comes", "read"]
    found = explained(run, WORD, "tflite:int8")
    (each,) = found.found
    assert each.entry
    assert each.cross_feed
    assert each.weight
    assert (each.change.edit_class, each.change.reference_text, each.change.candidate_text) == ("word", "car", "carry")
    assert (each.entry.edge, each.cross_feed.part, each.weight.kind) == ("tflite->tflite:int8", "encoder", "tie")
    assert (found.edge, found.part, found.unit) == ("tflite->tflite:int8", "encoder", "")
    assert (found.spread, found.answered) == (True, True)
    assert each.layers[0].faithful
    assert 0 < each.weight.margin < 0.1 < each.weight.flip_probability < 0.5
    page = pages.whole(run / "index.html")
    assert "the encoder of tflite:int8 alone reproduces it" in page


def test_a_comma_is_a_segment_boundary(run, explain):
    """No layer is looked at: the same weights under another policy."""
    shown = explain(COMMA, "--stage", "pytorch")
    assert "the comma is a segment boundary in timestamp mode" in shown.stdout
    (each,) = explained(run, COMMA, "pytorch").found
    assert each.entry
    assert (each.change.edit_class, each.change.mark, each.entry.edge) == ("punctuation", ",", "whisper->pytorch")
    effects = {part.part: (part.removes, part.restores) for part in each.entry.policy}
    assert effects.pop("timestamps") == (True, True)
    assert set(effects.values()) == {(False, False)}
    assert (each.cross_feed, each.layers, each.weight) == (None, (), None)


def test_the_original_hears_another_silence(run, explain):
    """whisper.transcribe pads the last window with zeros of the spectrogram: told apart from its other habits."""
    explain(WORD, "--stage", "pytorch")
    (each,) = explained(run, WORD, "pytorch").found
    assert each.entry
    needed = {part.part for part in each.entry.policy if part.restores}
    assert (needed, each.entry.undone_by) == ({"timestamps", "window padding"}, "tflite->tflite:int8")


def test_everything_that_differs_is_explained_without_names(run, explain):
    """Rows whose tokens differ from what they are judged against, or that drift; equal ones are left out."""
    shown = json.loads(explain("--json").stdout)
    assert [(each["clip"], each["stage"]) for each in shown] == [
        (WORD, "pytorch"), (WORD, "tflite:int8"), (COMMA, "pytorch"), (COMMA, "tflite:int8"),
    ]  # fmt: skip
    assert [each["part"] for each in shown] == ["policy", "encoder", "policy", "both"]
    assert all(each["answered"] and not each["unit"] for each in shown)


def test_tensors_are_explained_where_no_token_differs(run, explain):
    """Asked for by name: the layer, and nothing about words."""
    shown = explain(COMMA, "--stage", "tflite:int8", "--detail")
    assert shown.stdout.startswith(f"{COMMA} · tflite:int8: no token differs")
    found = explained(run, COMMA, "tflite:int8")
    assert (found.found, found.part, found.unit) == ((), "both", "")
    assert found.causes[0].finding.startswith("each half passes alone, and both together do not: encoder: ")
    assert {unit.unit for layer in found.layers for unit in layer.units} >= {"encoder.blocks.0.attn", "decoder.logits"}


def test_a_trace_that_is_gone_is_recorded_again(run, explain):
    """Models run for what the record does not hold."""
    for path in RunFolder(run).traces.glob(f"{WORD}--tflite-int8*"):
        path.unlink()
    assert "car -> carry" in explain(WORD, "--stage", "tflite:int8").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nobody"], 2, "parity: run one has no clip nobody. It has "),
        (["--stage", "dla"], 2, "parity: run one has no stage 'dla'. It has whisper, pytorch, tflite, tflite:int8"),
        (["--run", "nowhere"], 2, "parity: no run called nowhere: looked in "),
        ([__file__, __file__, "--stage", "dla"], 2, "parity: --run, --stage and --detail are for clips of a run"),
    ],
)
def test_what_is_not_there_is_said_on_one_line(explain, words, code, said):
    """What was asked for, and what there is."""
    found = explain(*words)
    assert found.exit_code == code
    assert found.stderr.startswith(said)
    assert len(found.stderr.splitlines()) == 1


def test_nothing_to_explain(tmp_path, parity_in):
    """Said, and no failure."""
    parity = parity_in(tmp_path)
    parity("run", "--checkpoint", MICRO, "--stages", "pytorch,tflite", "--clips", WORD, "--run-id", "same")
    found = parity("explain", "--run", tmp_path / "reports" / "same")
    assert (found.exit_code, found.stdout) == (
        0, "nothing to explain: tokens are equal on every edge that was compared, and no stage left its limits\n",
    )  # fmt: skip


def test_rows_that_cannot_be_explained_are_said_and_counted(tmp_path, parity_in):
    """Two rows whose records are of other artifacts than there are now: no pass, and the records stay."""
    parity = parity_in(tmp_path)
    parity("run", "--checkpoint", MICRO, "--stages", "pytorch,tflite", "--clips", f"{WORD},{COMMA}", "--run-id", "old")
    run = tmp_path / "reports" / "old"
    for path in RunFolder(run).traces.glob("*--tflite.safetensors"):
        recorded = file.load(path)
        file.save(Trace(replace(recorded.header, artifact_sha256="0" * 64), recorded.windows), path)
    found = parity("explain", "--run", run, "--stage", "tflite")
    assert found.exit_code == 1, found.output
    assert found.stdout.count(" · tflite: not explained") == 2
    assert found.stdout.count("the run recorded it with another artifact than the present one") == 2


@pytest.mark.parametrize("answered", [True, False])
def test_the_exit_code_says_whether_what_diverged_has_an_answer(explain, monkeypatch, answered):
    """1 where one has none, which is said; else 0, whatever the verdict."""
    said = Explanations(WORD, "tflite", (), missing=("encoder or decoder: no device",), answered=answered)
    monkeypatch.setattr(explaining, "explain_all", lambda *_: iter([said]))
    found = explain(WORD)
    assert found.exit_code == (0 if answered else 1)
    assert (explained_view.UNANSWERED in found.stdout) is not answered


def test_result_files_are_explained_without_a_run(parity, shared_folder):
    """Real results of a Whisper base port: Mandarin commas are segment boundaries, the English one is not."""
    folder = shared_folder / "recorded" / "whisper_base"
    chinese = parity("explain", folder / "baseline_test_zh.json", folder / "pt_test_zh.json")
    assert chinese.stdout.count("is a segment boundary in timestamp mode") == 2
    english = parity("explain", folder / "baseline_jfk.json", folder / "pt_jfk.json")
    assert "the comma is not at a segment boundary of the reference" in english.stdout
    assert english.stdout.count("two result files hold no tensors") == 1


def test_pytest_explains_at_the_end(pytester, cache_dir):
    """One flag; the verdict stays the run's: a word that a tie turned is a drift."""
    for name, content in ITEMS.items():
        (pytester.path / name).write_text(content)
    result = pytester.runpytest_subprocess(
        "-m", "parity", "--parity-explain", "--parity-stages=pytorch,tflite,tflite:int8", f"--parity-clips={WORD}",
        f"--parity-cache={cache_dir}", "--parity-report-dir=reports", "--parity-run-id=run",
    )  # fmt: skip
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*= parity explain =*",
            f"{WORD} · tflite:int8: 1 difference(s) in tokens",
            "  comes from tflite->tflite:int8 · encoder · spread over all units",
            "report: *",
        ]
    )

"""`pytest -m parity` as its users run it: in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import sound
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder

FILES = {"parity.toml": "", "pytest.ini": "[pytest]\naddopts = -p no:anyio --strict-markers\n"}


@pytest.fixture
def gate(pytester: pytest.Pytester, scripted_checkpoint: Path, cache_dir: Path) -> Callable[..., pytest.RunResult]:
    """Run the gate on two clips (one named with a hyphen) through pytorch and torchscript."""
    for name, content in FILES.items():
        (pytester.path / name).write_text(content)
    lines = []
    for i, name in enumerate(("one", "two-b")):
        sound.write_wav(pytester.path / f"{name}.wav", sound.warble(1.0, seed=i))
        lines.append({"audio_filepath": f"{name}.wav", "lang": "en", "text": "", "tags": [name[:3]]})
    (pytester.path / "manifest.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")

    def run(*words: object) -> pytest.RunResult:
        options = {
            "checkpoint": scripted_checkpoint,
            "cache": cache_dir,
            "manifest": "manifest.jsonl",
            "threads": 2,
            "report-dir": "reports",
            "stages": "pytorch,torchscript",
            "run-id": "gate",
        }
        arguments = [f"--parity-{name}={value}" for name, value in options.items()]
        return pytester.runpytest_subprocess("-m", "parity", *arguments, *words)

    return run


def test_one_item_per_clip_and_stage_and_one_table(gate, pytester):
    """Header with versions, items in the order of the chain, the state of each stage after its clips, table, report."""
    result = gate("-v", "--parity-fresh")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(
        [
            "parity: stages pytorch, torchscript; policy whisper; *torch 2.13.0*",
            "parity.toml::pytorch-one PASSED*",
            "parity.toml::state-pytorch PASSED*",
            "parity.toml::torchscript-two-b PASSED*",
            "parity.toml::state-torchscript PASSED*",
            "*= parity =*",
            "parity pass: 2 pass, 2 reference",
            "*clip*pytorch*torchscript*",
            "state: nothing depends on what ran before: A B A (pytorch, torchscript)",
            "report: *report.json",
            "page:   *index.html",
        ]
    )
    assert (pytester.path / "reports" / "gate" / "index.html").is_file()
    report = records.load(RunFolder(pytester.path / "reports" / "gate"))
    assert (report.finished, len(report.rows)) == (True, 4)


def test_items_can_be_chosen_by_name_and_by_backend(gate):
    """-k and one marker per backend."""
    gate("-k", "torchscript-one").assert_outcomes(passed=1, deselected=5)
    gate("-m", "parity and pytorch").assert_outcomes(passed=3, deselected=3)


def test_workers_of_xdist_share_one_run(gate, pytester):
    """Every row is in one report, whoever recorded it, and nothing is recorded twice."""
    result = gate("-n", "2")
    result.assert_outcomes(passed=6)
    report = records.load(RunFolder(pytester.path / "reports" / "gate"))
    assert (report.finished, len(report.rows), report.exit_code) == (True, 4, 0)
    assert len(list((pytester.path / "reports").iterdir())) == 1
    assert [(check.stage, check.checked, check.stateful) for check in report.states] == [
        ("pytorch", True, False),
        ("torchscript", True, False),
    ]


def test_items_are_done_by_the_workers_of_a_session(gate, pytester):
    """Whoever asks for them; the report is the same as of one process."""
    gate("--parity-workers=2", "--parity-threads=1", "--parity-fresh").assert_outcomes(passed=6)
    report = records.load(RunFolder(pytester.path / "reports" / "gate"))
    assert (report.finished, len(report.rows), report.threads) == (True, 4, 1)


def test_a_divergence_fails_its_item_and_can_be_run_again(gate, pytester, parity_in):
    """Reason and reproducing command; --lf runs just the failed ones."""
    artifacts = pytester.path / "artifacts"
    assert parity_in(pytester.path)("build", "--stages", "torchscript", "--out", artifacts).exit_code == 0
    (artifacts / "torchscript.lineage.json").unlink()
    _swap_rows(artifacts / "token_embedding.npy")
    result = gate(f"--parity-artifacts={artifacts}")
    assert result.ret == 1
    result.assert_outcomes(passed=4, failed=2)
    result.stdout.fnmatch_lines(
        [
            "diverged: weights: token_embedding.npy: *",
            "parity run --clips one --stages pytorch,torchscript *",
            "parity diverged: *",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    gate(f"--parity-artifacts={artifacts}", "--lf").assert_outcomes(failed=2)


def test_a_bad_line_of_the_manifest_is_an_item_that_fails(gate, pytester):
    """The others still run."""
    with (pytester.path / "manifest.jsonl").open("a") as file:
        file.write("{not json\n")
    result = gate()
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["*manifest.jsonl:3: not JSON*"])


STALE = """
from whisper_parity.backends.torchscript import TorchScriptSession

encode, kept = TorchScriptSession.encode, []


def encode_late(self, input_features):
    kept.append(encode(self, input_features))
    return kept[-2] if len(kept) == 3 else kept[-1]


TorchScriptSession.encode = encode_late
"""


def test_a_stateful_stage_fails_its_own_item(gate, pytester):
    """The third pass says what the second one heard: both clips pass, the state item does not."""
    (pytester.path / "conftest.py").write_text(STALE)
    result = gate()
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(
        ["stateful: torchscript: A B A: encoder_output of one *", "parity diverged: *stateful*"]
    )


MUTE = """
from whisper_parity.backends.torchscript import TorchScriptSession

from whisper_parity.backend.contract import Facts

load = TorchScriptSession.__init__


def load_mute(self, *given):
    load(self, *given)
    self.facts = Facts(self.facts.label)


TorchScriptSession.__init__ = load_mute
"""


def test_a_placement_that_is_required_fails_the_item_of_its_stage(gate, pytester):
    """One stage does not say where it runs: its clips pass, its own item does not; without the flag all pass."""
    (pytester.path / "conftest.py").write_text(MUTE)
    gate("-k", "state-torchscript or torchscript-one").assert_outcomes(passed=2, deselected=4)
    result = gate("--parity-require-placement", "-k", "state-torchscript or torchscript-one")
    result.assert_outcomes(passed=1, failed=1, deselected=4)
    result.stdout.fnmatch_lines(["placement required: torchscript: placement unknown, its runtime does not report it"])


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("stages", "pytorch,onnx", "*no backend called 'onnx'*"),
        ("policy", "beam", "*no policy called 'beam'*"),
        ("clips", "nowhere", "*no clip, tag or audio file called 'nowhere'*"),
    ],
)
def test_unknown_names_are_usage_errors(gate, option, value, named):
    """One line, before or instead of any item."""
    result = gate(f"--parity-{option}={value}")
    assert result.ret != 0
    assert any(named.strip("*") in line for line in [*result.outlines, *result.errlines])


def _swap_rows(path: Path) -> None:
    import numpy as np

    table = np.load(path)
    table[[50258, 50259]] = table[[400, 370]]
    np.save(path, table)


def test_a_missing_folder_of_artifacts_is_refused_before_anything_runs(gate, pytester):
    """One line, the exit code of a wrong option, and no item."""
    result = gate("-q", "--parity-artifacts=nowhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*nowhere: no such folder. Give the folder that holds the artifacts"])
    assert not (pytester.path / "reports").exists()


def test_a_stage_without_files_is_red_and_not_called_uncompared(gate, pytester):
    """The reason is the missing files, not the selection."""
    (pytester.path / "models").mkdir()
    result = gate("--parity-artifacts=models", "-k", "torchscript-one")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*no files of torchscript in *models*"])
    result.stdout.no_fnmatch_line("*nothing was compared*")

"""The gate goes red where a run differs from the approved result; only complete runs are approved, and not in CI."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import runs, traces
from tests.support.gates import failed, noisy, rule
from whisper_parity.errors import RecordError, UsageError
from whisper_parity.gate import approved

pytestmark = pytest.mark.usefixtures("not_in_ci")


def test_no_approved_result(gate, tmp_path):
    """Missing is red, says what to do, and leaves what it found."""
    (tmp_path / "hand-plain.json").unlink()
    found = gate(runs.report())
    result = rule(found, "approved", "")
    assert result.actual == "no approved result hand-plain.json: look at the run, then `parity approve made`"
    assert not rule(found, "not_worse_than_approved").passed
    assert approved.load(tmp_path / "hand-plain.obtained.json") == approved.summarise(runs.report(), "hand-plain")
    assert found.diff[:4] == ("--- hand-plain.json", "+++ hand-plain.obtained.json", "@@ one · pytorch @@",
                              f"+text: {traces.TEXT!r}")  # fmt: skip


def test_a_changed_text_and_its_diff(gate, tmp_path):
    """The diff shows expected above obtained; the obtained file is removed once the run is as approved again."""
    found = gate(runs.report({("two", "tflite"): runs.saying("Ask not", (7, 8))}))
    result = rule(found, "approved", "")
    assert result.clips == ("two",)
    assert result.source.endswith("/hand-plain.json")
    assert list(found.diff) == [
        "--- hand-plain.json",
        "+++ hand-plain.obtained.json",
        "@@ two · tflite @@",
        f'-text: "{traces.TEXT}"',
        '+text: "Ask not"',
        f"-tokens: {list(traces.TOKENS)}",
        "+tokens: [7, 8]",
    ]
    assert (tmp_path / "hand-plain.obtained.json").exists()
    gate(runs.report())
    assert not (tmp_path / "hand-plain.obtained.json").exists()


@pytest.mark.parametrize("field", ["checkpoint_sha256", "policy", "policy_options"])
def test_another_premise_of_the_run(gate, field):
    """A run of another checkpoint or policy is not what was approved."""
    value = {"a": 1} if field == "policy_options" else "other"
    found = gate(runs.report(**{field: value}), approved="hand-plain")
    assert failed(found) == [("approved", "", "")]
    assert field in rule(found, "approved", "").actual


def test_cells_that_one_side_lacks(gate):
    """A clip that was dropped and one that was never approved fail; leaving out a stage is the run's choice."""
    whole = runs.report()
    dropped = replace(whole, rows=tuple(row for row in whole.rows if row.clip != "two"))
    assert rule(gate(dropped), "approved", "").clips == ("two",)
    assert "not in this run" in rule(gate(dropped), "approved", "").actual
    renamed = replace(whole, rows=tuple(replace(row, clip="new") if row.clip == "two" else row for row in whole.rows))
    assert set(rule(gate(renamed), "approved", "").clips) == {"two", "new"}
    fewer = replace(whole, stages=whole.stages[:2], rows=tuple(row for row in whole.rows if row.stage != "tflite"))
    assert failed(gate(fewer)) == []


def test_worse_than_approved(gate, tmp_path):
    """An SNR that falls by more than the margin, out of the pass band, fails; other processors may move it inside."""
    found = gate(runs.report({("two", "tflite"): noisy(4.5e-5)}))
    result = rule(found, "not_worse_than_approved")
    assert {name for name, *_ in failed(found)} == {"not_worse_than_approved"}
    assert result.clips == ("two",)
    assert result.limit == "flips and errors as approved, SNR at most 10 dB below"
    assert result.actual.startswith("2 worse, first two: encoder_output_snr_db 98 -> 86.")
    assert failed(gate(runs.report({("two", "tflite"): noisy(2e-5)}))) == []


def test_bits_that_were_identical(gate, tmp_path):
    """An infinite SNR is approved as such, and comparable."""
    same = runs.report({("two", "tflite"): lambda t: runs.trace_as("torchscript", t)})
    file, _ = approved.approve(same, tmp_path)
    assert '"logits_snr_db": "Infinity"' in file.read_text("utf-8")
    assert approved.load(file) == approved.summarise(same, "hand-plain")
    assert failed(gate(runs.report())) == []
    assert rule(gate(runs.report({("two", "tflite"): noisy(5e-4)})), "not_worse_than_approved").clips == ("two",)


def test_an_approved_result_that_cannot_be_read(gate, tmp_path):
    """It is an error that names the file, not a rule that passes."""
    (tmp_path / "hand-plain.json").write_text("{}")
    with pytest.raises(RecordError, match=r"hand-plain\.json"):
        gate(runs.report())


@pytest.mark.parametrize("value", ["1", "true", "yes please"])
def test_ci_cannot_approve(tmp_path, monkeypatch, value):
    """It is refused, and nothing is written."""
    monkeypatch.setenv("CI", value)
    with pytest.raises(UsageError, match="not written in CI") as caught:
        approved.approve(runs.report(), tmp_path / "approved")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "approved").exists()


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_an_environment_that_says_no_ci(tmp_path, monkeypatch, value):
    """Some tools set CI=false outside CI: approving works there."""
    monkeypatch.setenv("CI", value)
    assert approved.approve(runs.report(), tmp_path)[0].is_file()


def test_a_run_without_results_cannot_be_approved(tmp_path):
    """A run with a failed cell is refused, as is one that was cut off or whose rows do not hold their tokens."""
    for bad in (
        runs.failed(runs.report(), "one", "tflite"),
        runs.report(finished=False),
        runs.report(rows=()),
        runs.with_row(runs.report(), "one", "tflite", token_ids=()),
    ):
        with pytest.raises(UsageError, match="cells without a result"):
            approved.approve(bad, tmp_path)


@pytest.mark.parametrize("name", ["noise", "../up", "a.obtained", "a b", ""])
def test_names_that_belong_to_others(tmp_path, name):
    """noise.json is not an approved result, and no name leaves the folder."""
    with pytest.raises(UsageError):
        approved.path(tmp_path, name)


def test_an_approved_file_reads_well_in_a_diff(tmp_path):
    """One line for each cell, the same order whatever the run's, nothing invisible, the same when read back."""
    whole = runs.report()
    hidden = runs.with_row(whole, "one", "tflite", text="a\u202eb\nc")
    file, _ = approved.approve(hidden, tmp_path)
    lines = file.read_text("utf-8").splitlines()
    cells = [line for line in lines if line.startswith('  {"clip"')]
    assert len(cells) == 9
    assert cells == sorted(cells, key=lambda line: line.split('"')[3])
    assert r'"text": "a\u202eb\nc"' in cells[2]
    shuffled = replace(hidden, rows=tuple(reversed(hidden.rows)))
    approved.save(tmp_path / "again.json", approved.summarise(shuffled, "hand-plain"))
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()
    assert approved.load(file) == approved.summarise(hidden, "hand-plain")

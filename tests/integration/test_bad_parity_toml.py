"""A parity.toml that cannot be used is refused with the file, the key, what was expected and what was found."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tests.support.commands import RUN
from tests.support.refusals import line_of, require_line, require_no_traceback, rows_of
from whisper_parity.judge.verdict import Outcome

EXPECTED_TABLE = "must be a table, found 5. Write ["
BAD_TOML: dict[str, tuple[str, str]] = {
    "not TOML": ("stages pytorch", "parity.toml: not TOML ("),
    "cut short": ('[run]\nstages = "pyto', "parity.toml: not TOML ("),
    "unknown backend": (
        "[backends.dlaa]\nsoc = 1",
        "[backends.dlaa]: no such backend. Known: whisper, pytorch",
    ),
    "backend without settings": (
        "[backends.pytorch]\nx = 1",
        "[backends.pytorch]: pytorch has no settings",
    ),
    "unknown setting": ("[backends.dla]\nsok = 1", "[backends.dla]: unknown setting sok. Known: soc, arch, "),
    "unknown SoC": ('[backends.dla]\nsoc = "MT1"', "SoC 'MT1': expected one of MT8371"),
    "unknown section": ("[runs]\n", "parity.toml: unknown key runs. Known: backends, gate, policies, run, tolerances"),
    "unknown key": (
        "[run]\nstage = 'pytorch'\n",
        "parity.toml [run]: unknown key stage. Known: artifacts, audio_root, build_missing, cache, ",
    ),
    "run that is no table": ("run = 5\n", f"parity.toml: [run] {EXPECTED_TABLE}run]"),
    "policies that are no table": ("policies = 5\n", f"parity.toml: [policies] {EXPECTED_TABLE}policies]"),
    "tolerances that are no table": ("tolerances = 5\n", f"parity.toml: [tolerances] {EXPECTED_TABLE}tolerances]"),
    "a policy that is no table": ("[policies]\nx = 5\n", "every entry of [policies] must be a table. Write [policies."),
    "stages of a wrong type": ("[run]\nstages = 5\n", "parity.toml [run] stages: expected names separated by commas"),
    "clips of a wrong type": ("[run]\nclips = [1]\n", "parity.toml [run] clips: expected names separated by commas"),
    "threads of a wrong type": ("[run]\nthreads = '2'\n", "threads: expected a number from 1 to 1024, found '2'"),
    "threads that are true": ("[run]\nthreads = true\n", "threads: expected a number from 1 to 1024, found True"),
    "checkpoint of a wrong type": ("[run]\ncheckpoint = 5\n", "parity.toml [run] checkpoint: expected text, found 5"),
    "artifacts of a wrong type": ("[run]\nartifacts = 5\n", "parity.toml [run] artifacts: expected text, found 5"),
    "manifest of a wrong type": ("[run]\nmanifest = []\n", "parity.toml [run] manifest: expected text, found []"),
    "policy of a wrong type": ("[run]\npolicy = ['plain']\n", "parity.toml [run] policy: expected text, found ["),
    "language of a wrong type": ("[run]\nlanguage = {}\n", "parity.toml [run] language: expected text, found {}"),
    "mask of a wrong type": ("[run]\nmask_value = true\n", "parity.toml [run] mask_value: expected text, found True"),
    "policy that is unknown": (
        "[run]\npolicy = 'x'\n[policies.y]\n",
        "no policy called 'x'. Use one of whisper, plain, app, y",
    ),
    "option of a policy": ("[run]\npolicy = 'x'\n[policies.x]\nbeam = 5\n", "policy 'x': unknown option beam. Options"),
    "option of a wrong type": (
        "[run]\npolicy = 'x'\n[policies.x]\nsample_len = 'all'\n",
        "policy 'x': sample_len cannot be 'all'. Give int",
    ),
    "negative length": ("[run]\npolicy = 'x'\n[policies.x]\nsample_len = -1\n", "sample_len cannot be -1. Give int"),
    "policies in a circle": (
        "[run]\npolicy = 'x'\n[policies.x]\nbase = 'y'\n[policies.y]\nbase = 'x'\n",
        "no policy called 'x'",
    ),
    "unknown tolerance": ("[tolerances.default]\nwer = 5\n", "tolerance 'default', wer: expected one of the keys in"),
    "tolerance of a wrong type": (
        "[tolerances.default]\nkl_max = 'small'\n",
        "kl_max: expected two numbers, or multiples of noise as \"3 x threads\", [pass, drift], found 'small'",
    ),
}


@pytest.mark.parametrize("case", BAD_TOML)
def test_a_bad_parity_toml_is_refused(parity, cache_dir, scripted_checkpoint, clip, tmp_path, case):
    """The line has the file, the key, what was expected and found; no report is written."""
    text, said = BAD_TOML[case]
    (tmp_path / "parity.toml").write_text(text, "utf-8")
    words = {"clips": clip, "checkpoint": scripted_checkpoint, "threads": "2", "manifest": "no.jsonl"}
    given = [word for key, value in words.items() if f"\n{key} = " not in text for word in (f"--{key}", str(value))]
    from whisper_parity.cli import main

    found = CliRunner().invoke(main, ["run", *given, "--report-dir", str(tmp_path / "reports"), "--cache", "cache"])
    assert said in line_of(found, 2)
    assert not (tmp_path / "reports").exists()


def test_a_parity_toml_that_is_not_utf8_is_refused(refuse, tmp_path):
    """Its bytes are in another encoding."""
    (tmp_path / "parity.toml").write_bytes(b'[run]\npolicy = "\xe9"\n')
    assert "parity.toml: not UTF-8 text ('utf-8' codec can't decode" in refuse()


@pytest.mark.parametrize("option", ["suppress_tokens = [99999]", "prompt = [99999]", "suppress_tokens = 'x'"])
def test_a_policy_of_unknown_tokens_is_a_row(parity, clip, tmp_path, option):
    """This only shows once the vocabulary is known."""
    (tmp_path / "parity.toml").write_text(f"[policies.mine]\n{option}\n", "utf-8")
    result = parity(*RUN, "--clips", clip, "--policy", "mine", "--run-id", "one")
    require_no_traceback(result, 2)
    row = rows_of(tmp_path / "reports" / "one")["warble", "pytorch"]
    assert row.verdict.outcome is Outcome.INVALID_INPUT
    assert row.verdict.reason.startswith("policy 'mine': ")
    require_line(result, row)

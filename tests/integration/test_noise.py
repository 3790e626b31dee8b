"""`parity noise` on the tiny checkpoint, and a run whose tolerances are multiples of what it found."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from tests.support import sound
from tests.support.checkout import CHECKOUT
from tests.support.noises import noise
from whisper_parity.clips.selection import EMBEDDED
from whisper_parity.fixtures import scripted
from whisper_parity.judge import noise as floor
from whisper_parity.model import checkpoint
from whisper_parity.run import report as records
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import serial


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    """A checkpoint in single precision, so that rounding it to half does something."""
    folder = tmp_path_factory.mktemp("single")
    sound.write_wav(folder / "one.wav", sound.warble(1.0))
    return scripted.save(scripted.model(scripted.dimensions(), steps=4), folder / "single.pt")


def test_every_source_is_measured_with_its_provenance(parity, single, cache_dir, tmp_path):
    """What changes numbers has an SNR, what changes none an infinite one; the decoder's sources have no encoder."""
    out = tmp_path / "noise.json"
    words = ("--clips", single.parent / "one.wav", "--language", "en", "--threads", 2, "--cache", cache_dir)
    result = parity("noise", "--checkpoint", single, *words, "--out", out)
    assert result.exit_code == 0, result.output
    found = floor.load(out)
    assert (found.checkpoint, found.checkpoint_sha256) == ("single", checkpoint.describe(single).sha256)
    assert (found.stage, found.policy, found.clips, found.threads) == ("pytorch", "whisper", ("one",), 2)
    assert found.machine.packages["torch"].startswith("2.13.0")
    sources = {each.source: {tensor.name: tensor for tensor in each.tensors} for each in found.sources}
    assert {name: tuple(tensors) for name, tensors in sources.items()} == {
        "repeat": ("encoder_output", "logits"),
        "position": ("logits",),
        "fp16-io": ("encoder_output", "logits"),
        "fp16": ("encoder_output", "logits"),
        "attention": ("encoder_output", "logits"),
        "mask": ("logits",),
        "threads": ("encoder_output", "logits"),
    }
    assert sources["repeat"]["logits"].snr_db == math.inf
    assert 40 < sources["fp16"]["logits"].snr_db < sources["attention"]["logits"].snr_db < 160
    assert 60 < sources["fp16-io"]["encoder_output"].snr_db < 80
    logits = sources["fp16"]["logits"]
    assert logits.steps == 5
    assert logits.movement_rms > 0 < logits.kl_max
    assert "inf (no bit changed)" in result.stdout
    assert f"noise: {out}" in result.stderr


def test_a_run_by_multiples_shows_numbers_and_where_they_come_from(parity, scripted_checkpoint, tmp_path):
    """Limits of the table, of the row's reason and of the report are numbers; lines and report name the noise."""
    path, clip = tmp_path / "floor.json", sound.write_wav(tmp_path / "one.wav", sound.warble(1.0))
    serial.write(path, noise(checkpoint.describe(scripted_checkpoint).sha256, encoder_db=400.0))
    (tmp_path / "parity.toml").write_text(
        '[run]\nnoise = "floor.json"\n'
        '[tolerances."pytorch->torchscript"]\nencoder_output_snr_db = ["3 x threads", "10 x threads"]\n'
        'max_tie_margin = "3 x repeat"\nlogits_snr_db = ["3 x repeat", 60]\n'
    )
    words = ("--clips", clip, "--language", "en", "--stages", "pytorch,torchscript", "--run-id", "n")
    result = parity("run", *words)
    assert result.exit_code == 1, result.output
    assert (
        "tolerance pytorch->torchscript: encoder_output_snr_db [390.5, 380] = 3 x threads, 10 x threads "
        "(noise of tiny, measured 2026-01-02)" in result.stdout
    )
    assert "(pass from 390.458, drift from 380)" in result.stdout
    report = records.load(RunFolder(tmp_path / "reports" / "n"))
    assert report.tolerances["pytorch->torchscript"]["encoder_output_snr_db"] == pytest.approx(
        [390.458, 380.0], abs=0.01
    )
    assert report.tolerance_origins["pytorch->torchscript"]["max_tie_margin"].startswith("3 x repeat (noise of tiny")
    assert "logits_snr_db [inf, 60]" in parity("report", tmp_path / "reports" / "n").stdout
    assert parity("compare", tmp_path / "reports" / "n", tmp_path / "reports" / "n").exit_code == 0


def test_the_approved_noise_is_of_the_embedded_checkpoint():
    """It was measured on the default clips, by this version of the file."""
    found = floor.load(CHECKOUT / "fixtures" / "approved" / "noise.json")
    assert found.checkpoint_sha256 == checkpoint.resolve(None).sha256
    assert {each.source for each in found.sources} >= {"repeat", "threads", "fp16", "position", "mask"}
    assert len(found.clips) == EMBEDDED.read_text("utf-8").count('"default"')


def test_the_noise_of_one_checkpoint_does_not_replace_that_of_another(parity, scripted_checkpoint, tmp_path):
    """The project's approved file is the embedded checkpoint's; another one's noise needs a name."""
    approved = tmp_path / "fixtures" / "approved" / "noise.json"
    approved.parent.mkdir(parents=True)
    shutil.copy(CHECKOUT / "fixtures" / "approved" / "noise.json", approved)
    before = approved.read_bytes()
    result = parity("noise", "--checkpoint", scripted_checkpoint)
    assert result.exit_code == 2
    assert "noise.json holds the noise of micro, not of tiny-" in result.stderr
    assert approved.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("--clips", "nowhere"), 2, "no clip, tag or audio file called 'nowhere'"),
        (("--policy", "beam"), 2, "no policy called 'beam'"),
        (("--language", "xx"), 2, "unknown language 'xx'"),
        (("--checkpoint", "missing.pt"), 2, "missing.pt"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(parity, words, code, named):
    """As everywhere."""
    result = parity("noise", *words)
    assert result.exit_code == code
    assert named in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1

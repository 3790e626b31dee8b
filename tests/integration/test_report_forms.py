"""`parity report` in every form, the page of a real run, two runs side by side, plots as files, and the page's size."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support import pages, sound
from tests.support.browsing import pixels, share_near
from whisper_parity.errors import UnavailableError
from whisper_parity.project import Project
from whisper_parity.report import views
from whisper_parity.report.html import export, page
from whisper_parity.run import options as run_options
from whisper_parity.run import report
from whisper_parity.run.folder import RunFolder
from whisper_parity.system import machine, serial


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A run's folder, only to be read."""
    return pages.write(tmp_path_factory.mktemp("forms"), cache_dir)


@pytest.fixture
def run(by_hand: Path, tmp_path: Path) -> Path:
    """A copy of it, to be written into."""
    return shutil.copytree(by_hand, tmp_path / "reports" / "by-hand")


def test_a_run_writes_its_page(parity, tmp_path):
    """Without being asked, and says where it is."""
    clip = sound.write_wav(tmp_path / "warble.wav", sound.warble(2.0))
    result = parity("run", "--clips", clip, "--language", "en", "--stages", "pytorch,torchscript", "--run-id", "one")
    assert result.exit_code == 0, result.output
    written = tmp_path / "reports" / "one" / "index.html"
    assert f"page:   {written}" in result.stderr
    text = pages.whole(written)
    assert text.startswith("<!doctype html>")
    assert "data:audio/webm;base64," in text
    assert "data:image/png;base64," in text
    assert 'id="cell-warble--torchscript"' in text
    assert "no gate has judged this run" in text


def test_the_verdict_stands_without_a_page(parity, tmp_path, monkeypatch):
    """A page that cannot be made is said in a line, and changes no exit code."""
    monkeypatch.setattr(page, "render", lambda *_: 1 / 0)
    clip = sound.write_wav(tmp_path / "warble.wav", sound.warble(2.0))
    result = parity("run", "--clips", clip, "--language", "en", "--stages", "pytorch,torchscript", "--run-id", "one")
    assert result.exit_code == 0
    assert "page:   not written: " in result.stderr
    assert "ZeroDivisionError" in result.stderr


def test_json_is_the_report(parity, run):
    """As it stands in report.json; the exit code is the run's."""
    result = parity("report", run, "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == json.loads((RunFolder(run).report).read_text("utf-8"))


def test_console_goes_to_a_file_too(parity, run, tmp_path):
    """The table, without colour."""
    assert parity("report", run, "--out", tmp_path / "table.txt").exit_code == 1
    assert "parity diverged: 1 diverged" in (tmp_path / "table.txt").read_text("utf-8")


def test_html_goes_into_the_run_or_to_a_file(parity, run, tmp_path):
    """The place is printed."""
    assert parity("report", run, "--format", "html").stdout.strip() == str(run / "index.html")
    assert parity("report", run, "--format", "html", "--out", tmp_path / "x.html").exit_code == 1
    assert (tmp_path / "x.html").read_bytes() == (run / "index.html").read_bytes()


@pytest.mark.parametrize("form", ["markdown", "junit"])
def test_forms_of_the_gate(run, form):
    """Rendered by modules of their own."""
    pytest.importorskip(
        f"whisper_parity.report.{form}", reason=f"whisper_parity.report.{form} is not part of this checkout"
    )
    assert views.text(form, RunFolder(run))


def test_another_run_lies_beside(parity, run, tmp_path):
    """What changed is on the page: verdict, text, artifact, what is missing."""
    earlier = shutil.copytree(run, tmp_path / "reports" / "earlier")
    before = report.load(RunFolder(earlier))
    changed = dataclasses.replace(before.rows[0], text="Something else")
    lost = dataclasses.replace(before.rows[1], clip="only-before")
    stages = tuple(dataclasses.replace(stage, sha256="f" * 64) for stage in before.stages)
    rows = (changed, lost, *before.rows[1:])
    serial.write(RunFolder(earlier).report, dataclasses.replace(before, run="earlier", rows=rows, stages=stages))
    result = parity("report", run, "--format", "html", "--against", earlier)
    assert result.exit_code == 1
    text = (run / "index.html").read_text("utf-8")
    section = text[text.index('id="beside"') : text.index('id="gate"')]
    assert "13 rows compared, 1 changed, 1 worse, 1 missing" in section
    assert "Something else" in section
    assert "only-before · torchscript" in section
    assert "ffffffffffff → pytorchpytor" in section


def test_against_needs_the_page(parity, run):
    """One line, exit code 2."""
    result = parity("report", run, "--against", run)
    assert result.exit_code == 2
    assert "--against belongs to --format html" in result.stderr


def test_a_run_that_is_none(parity, tmp_path):
    """One line, exit code 2, for every form."""
    for form in views.FORMATS:
        assert parity("report", tmp_path, "--format", form).exit_code == 2


def test_plots_as_svg(parity, run, tmp_path):
    """Well-formed, and each holds its marks."""
    result = parity("report", run, "--plots", tmp_path / "plots")
    assert result.exit_code == 1
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {
        "snr-torchscript.svg", "snr-tflite-int8.svg", "scatter-torchscript.svg", "scatter-tflite-int8.svg",
        "layers-tflite-int8.svg", "margins.svg",
    }  # fmt: skip
    for path in (tmp_path / "plots").iterdir():
        assert str(path) in result.stdout
        assert len(list(ET.fromstring(path.read_text("utf-8")).iter("{http://www.w3.org/2000/svg}path"))) > 5


def test_plots_as_png(run, tmp_path):
    """Pixels of the marks' colour on white."""
    written = {path.name: path for path in export.export(RunFolder(run), tmp_path / "plots", "png")}
    picture = pixels(written["scatter-tflite-int8.png"].read_bytes())
    assert share_near(picture, "#ffffff", 1) > 0.5
    assert share_near(picture, "#3f7fd0", 90) > 1e-3


def test_a_stage_of_a_foreign_report_names_no_file_outside(run, tmp_path):
    """A report is a file of somebody's: what it calls its stages is no path."""
    spec = "../../escaped"
    found = (RunFolder(run).report).read_text("utf-8").replace("tflite:int8", spec)
    (RunFolder(run).report).write_text(found, "utf-8")
    written = export.export(RunFolder(run), tmp_path / "plots", "svg")
    assert {path.parent for path in written} == {tmp_path / "plots"}
    assert any("escaped" in path.name for path in written)
    assert not list(tmp_path.parent.glob("escaped*"))
    assert page.write(RunFolder(run)).is_file()


def test_a_large_run_stays_small(tmp_path, cache_dir):
    """50 clips of 10 s of noise, which no codec makes smaller: below 10 MB, with the sound of each."""
    run = pages.many(tmp_path, cache_dir, clips=50)
    started = time.process_time()
    written = page.write(RunFolder(run))
    spent = time.process_time() - started
    text = written.read_text("utf-8")
    assert 2_000_000 < written.stat().st_size < page.MAX_BYTES
    assert len(re.findall("data:audio/webm", text)) == 50
    assert "room for sound is used up" not in text
    assert len(re.findall("data:image/png", text)) == 50
    assert spent < 20, f"{spent:.1f} s of processor time"


def test_what_is_not_there_is_said(run):
    """Traces, options and explanations gone or broken: the page is written, and says what it lacks."""
    shutil.rmtree(RunFolder(run).traces)
    (run / "options.json").unlink()
    (run / "gate.json").write_text("{}")
    text = page.write(RunFolder(run)).read_text("utf-8")
    assert "options.json: cannot be read" in text
    assert "gate.json: cannot be read as a GateResult" in text
    assert "no log-mel picture: the clip&#39;s audio file was not found" in text
    assert "text and tokens only, or the traces are missing" in text
    assert "no device: &lt;script&gt;" in text


def test_without_what_draws_the_page_has_everything_else(run, monkeypatch):
    """The packages of an extra are missing: a gap that names it; plots as files are refused."""
    monkeypatch.setattr(machine, "versions", lambda *packages: {})
    text = page.write(RunFolder(run)).read_text("utf-8")
    assert "Run `pip install &#39;whisper-parity[pages]&#39;`" in text
    assert "data:image/png" in text
    with pytest.raises(UnavailableError, match=r"altair, vl-convert-python is not installed"):
        export.export(RunFolder(run), run / "plots", "svg")


def test_a_trace_that_cannot_be_read_is_a_gap(run):
    """Cut off, it is named with the reason; the clips beside it keep their pictures."""
    cut = sorted(RunFolder(run).traces.glob("*--tflite-int8.safetensors"))[-1]
    cut.write_bytes(cut.read_bytes()[:900])
    text = page.write(RunFolder(run)).read_text("utf-8")
    assert f"trace {cut.name}" in text
    assert "Delete it and run the clip again" in text
    assert "data:image/png" in text


def test_the_audio_of_another_day_is_not_pictured(run, tmp_path):
    """The log-mel's hash must be the recorded one."""
    options = page.load(RunFolder(run)).options
    assert options
    other = sound.write_wav(tmp_path / "warble.wav", sound.warble(2.0, seed=5))
    run_options.write(dataclasses.replace(options, clips=(str(other),)), RunFolder(run).options, Project(tmp_path))
    assert "the audio file is not the one that this run recorded" in page.write(RunFolder(run)).read_text("utf-8")

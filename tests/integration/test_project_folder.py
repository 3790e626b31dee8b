"""Where a project's runs are: every command looks where `parity run` wrote, from any folder of the project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support import sound
from whisper_parity.cli import main


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, scripted_checkpoint: Path, cache_dir: Path) -> Path:
    """A recorded run in a folder that parity.toml names, made from a folder below."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "clips").mkdir()
    sound.write_wav(folder / "clips" / "one.wav", sound.warble(1.0))
    (folder / "parity.toml").write_text(
        f'[run]\nreport_dir = "out"\nclips = "clips"\nstages = "pytorch,torchscript"\nlanguage = "en"\nthreads = 2\n'
        f'checkpoint = "{scripted_checkpoint}"\ncache = "{cache_dir}"\n[gate]\nfolder = "signed"\n'
    )
    (folder / "below").mkdir()
    return folder


@pytest.fixture(scope="module")
def parity(project: Path) -> Callable[..., Result]:
    """The command line in a folder below the project's."""

    def call(*words: object) -> Result:
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(project / "below")
            patched.delenv("CI", raising=False)
            return CliRunner().invoke(main, [str(word) for word in words])

    return call


@pytest.fixture(scope="module")
def run(parity: Callable[..., Result]) -> str:
    recorded = parity("run", "--run-id", "mine")
    assert recorded.exit_code == 0, recorded.output
    return "mine"


def test_a_run_is_written_where_parity_toml_says(run, project):
    """report_dir starts at the project's folder."""
    assert (project / "out" / run / "report.json").is_file()
    assert not (project / "below" / "reports").exists()


@pytest.mark.parametrize("command", ["report", "gate", "explain", "history", "compare"])
def test_every_command_finds_it_there(run, parity, command):
    """By name, and the newest."""
    named = {"explain": ("--run", run), "history": (), "compare": (run, run)}.get(command, (run,))
    found = parity(command, *named)
    assert found.exit_code in (0, 1), found.output
    assert "neither a run" not in found.output
    if command in ("report", "gate", "explain"):
        assert parity(command).exit_code in (0, 1)


def test_a_report_names_its_run_for_every_command(run, project, parity):
    """`--run RUN/report.json`, too."""
    path = project / "out" / run / "report.json"
    explained = parity("explain", "--run", path)
    assert (explained.exit_code, "nothing to explain" in explained.output) == (0, True), explained.output
    assert parity("report", path).exit_code == 0


def test_what_is_signed_lies_where_parity_toml_says(run, project, parity):
    """[gate] folder starts at the project's folder as well."""
    signed = parity("approve", run)
    assert signed.exit_code == 0, signed.output
    assert list((project / "signed").glob("*-whisper.json"))
    assert parity("gate", run).exit_code == 0
    assert list((project / "below").iterdir()) == []


def test_a_run_goes_on_under_its_own_conditions_only(run, parity):
    """Other threads would give other numbers under the same name."""
    other = parity("run", "--run-id", run, "--threads", 1)
    assert other.exit_code == 2
    assert "was made under other conditions: threads (2 then, 1 now). Choose another --run-id" in other.output

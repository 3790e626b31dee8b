"""Fixtures that several files share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import runners, sound
from tests.support.commands import RUN, Finished
from tests.support.givenfiles import Folder
from tests.support.refusals import files_of, line_of, require_no_traceback
from tests.support.runners import Models
from tests.support.simulated import Bench, bench_of
from whisper_parity.backends.dla import native
from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.link.adb import Adb
from whisper_parity.errors import BuildError, UnavailableError


@pytest.fixture(scope="module")
def adb_server() -> Iterator[Adb]:
    """A real adb server on a port of its own."""
    try:
        binary = adb.find(os.environ.get("ADB"))
    except UnavailableError as error:
        pytest.skip(str(error))
    with adb.private_server(binary, usb=False) as found:
        yield found


@pytest.fixture(params=["modern", "legacy"])
def bench(adb_server: Adb, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A simulated device of either mode, connected."""
    with bench_of(adb_server, legacy=request.param == "legacy") as found:
        yield found


@pytest.fixture
def modern(adb_server: Adb) -> Iterator[Bench]:
    """A simulated device of today's adbd, connected."""
    with bench_of(adb_server) as found:
        yield found


@pytest.fixture(scope="session")
def runner_built() -> None:
    """The runner and its runtimes, compiled before any time is taken; a machine without a compiler says so once."""
    try:
        native.runner()
        for api in ("both", "v1", "v2"):
            native.stand_in_runtime(api)
    except (BuildError, UnavailableError) as error:
        pytest.skip(f"no runner can be built here: {error}")


@pytest.fixture(scope="session")
def app_built(runner_built: None) -> None:
    """parity-whisper, compiled before any time is taken; a machine without a compiler says so once."""
    native.app()


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """Small files to start a runner on, for the stand-in runtime without a model."""
    return runners.small_models(tmp_path)


@pytest.fixture(scope="session")
def built_artifacts(parity_in, scripted_checkpoint, tmp_path_factory) -> Path:
    """Good torchscript and tflite files of the tiny checkpoint, and beside them a run of the root on a clip."""
    folder = tmp_path_factory.mktemp("built")
    parity = parity_in(folder)
    require_no_traceback(parity("build", "--stages", "torchscript,tflite", "--out", folder / "artifacts"), 0)
    good = sound.write_wav(folder / "good.wav", sound.warble(1.0))
    parity("run", "--language", "en", "--stages", "pytorch", "--clips", good, "--run-id", "one")
    return folder


@pytest.fixture
def artifacts(parity, built_artifacts, scripted_checkpoint, tmp_path, capfd) -> Folder:
    """A copy of the built artifacts to spoil: every file is a link that is replaced, never written through."""
    for name in ("artifacts", "reports"):
        shutil.copytree(built_artifacts / name, tmp_path / name, copy_function=os.link)
    os.link(built_artifacts / "good.wav", tmp_path / "good.wav")
    for record in (tmp_path / "artifacts").glob("*.lineage.json"):
        record.unlink()
    return Folder(tmp_path / "artifacts", scripted_checkpoint.stem, parity, tmp_path / "reports", capfd)


@pytest.fixture(scope="session")
def good_run(parity_in, tmp_path_factory) -> Finished:
    """A run of one good clip, made before anything goes wrong."""
    folder = tmp_path_factory.mktemp("kept")
    good = sound.write_wav(folder / "good.wav", sound.warble(1.0))
    result = parity_in(folder)(*RUN, "--clips", good, "--run-id", "kept")
    require_no_traceback(result, 0)
    return Finished(folder, result, folder / "reports" / "kept")


@pytest.fixture
def refuse(good_run: Finished, parity) -> Iterator[Callable[..., str]]:
    """The line with which a command is refused that would have continued the good run; that one stays as it is."""
    before = files_of(good_run.run)

    def refused(*words: object, exit_code: int = 2) -> str:
        defaults = {
            "--clips": good_run.folder / "good.wav",
            "--report-dir": good_run.folder / "reports",
            "--run-id": "kept",
        }
        missing = [word for option, value in defaults.items() if option not in words for word in (option, value)]
        return line_of(parity("run", *words, *missing), exit_code)

    yield refused
    assert files_of(good_run.run) == before

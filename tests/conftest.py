"""Shared by all tests: a small checkpoint, clips, and one cache of artifacts for every session."""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import settings

from tests.support import sound
from tests.support.checkout import CHECKOUT
from whisper_parity import project
from whisper_parity.backend import trust

SHARED = CHECKOUT.parent / "shared"

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")


@pytest.fixture(autouse=True, scope="session")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests trust the files that they write, and leave no trust behind; those of trust itself say otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(trust.VARIABLE, "1")
        patch.setenv(trust.FOLDER_VARIABLE, str(tmp_path_factory.mktemp("trusted")))
        yield


@pytest.fixture(autouse=True, scope="session")
def cache_dir() -> Iterator[Path]:
    """Artifacts, features and drafts: keyed by content, so that sessions can share them; of every command's."""
    folder = CHECKOUT / "build" / "test-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(project.CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="session")
def scripted_checkpoint(cache_dir: Path) -> Path:
    """A tiny scripted Whisper (n_state 64, one layer each, twelve tokens), multilingual vocabulary."""
    from whisper_parity.fixtures import scripted

    recipe = hashlib.sha256(Path(scripted.__file__).read_bytes()).hexdigest()[:8]
    return scripted.kept(cache_dir / f"tiny-{recipe}.pt", lambda: scripted.model(scripted.dimensions(), steps=12))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds of a warbling tone."""
    return sound.write_wav(tmp_path / "warble.wav", sound.warble(2.0))


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Presses it, also where the tests run in the background and their shell made them ignore it."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield partial(signal.pthread_kill, threading.main_thread().ident, signal.SIGINT)
    signal.signal(signal.SIGINT, kept)


Parity = Callable[..., Result]


@pytest.fixture(scope="session")
def parity_in(cache_dir: Path, scripted_checkpoint: Path) -> Callable[[Path], Parity]:
    """The command line for a folder: reports go there; `run` and `build` get the tiny checkpoint and the cache."""

    def for_folder(folder: Path) -> Parity:
        def call(*words: object) -> Result:
            from whisper_parity.cli import main

            arguments = [str(word) for word in words]
            defaults = {"--checkpoint": scripted_checkpoint, "--cache": cache_dir, "--threads": 2}
            if arguments[0] == "run":
                defaults["--report-dir"] = folder / "reports"
            if arguments[0] in ("run", "build"):
                for option, value in defaults.items():
                    arguments += [] if option in arguments else [option, str(value)]
            return CliRunner().invoke(main, arguments)

        return call

    return for_folder


@pytest.fixture
def parity(tmp_path: Path, parity_in: Callable[[Path], Parity], monkeypatch: pytest.MonkeyPatch) -> Parity:
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return parity_in(tmp_path)


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Real clips and recorded results that lie beside the project on some machines."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED.name}/ with real clips and recorded results beside the project")
    return SHARED

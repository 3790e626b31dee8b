from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import runs, sites
from tests.support.gates import Gate
from whisper_parity.backends.dla import native
from whisper_parity.errors import BuildError, UnavailableError
from whisper_parity.fixtures import ports as fixture_ports
from whisper_parity.gate import approved, judging, settings
from whisper_parity.gate.judging import Judgement
from whisper_parity.project import Project
from whisper_parity.run.report import Report


@pytest.fixture(scope="module")
def ports() -> Iterator[None]:
    """The backend `port`, registered as another package's would be."""
    with fixture_ports.installed():
        yield


@pytest.fixture
def not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's machine, unless a test says otherwise."""
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def gate(tmp_path: Path, not_in_ci: None) -> Gate:
    """Judges a run against the approved result of the unbroken one."""
    approved.approve(runs.report(), tmp_path)

    def judge(report: Report, **given: object) -> Judgement:
        return judging.judge(
            report, settings.of(Project(Path(), gate={"folder": str(tmp_path), **given}), sites.backends())
        )

    return judge


@pytest.fixture(scope="session")
def faulty() -> Path:
    """The build of parity-whisper whose faults PARITY_FAULT chooses; it never ships."""
    try:
        native.stand_in_runtime("both")
        return native.app(faults=True)
    except (BuildError, UnavailableError) as error:
        pytest.skip(f"no program can be built here: {error}")

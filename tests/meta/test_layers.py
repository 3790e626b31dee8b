"""The layer is found: one thing is broken in a model of real weights, and component and unit are named exactly."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from whisper_parity import project
from whisper_parity.backend import taps
from whisper_parity.errors import UnavailableError
from whisper_parity.explain import layers
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.explanation import LayerFinding
from whisper_parity.fixtures.breakages import BREAKAGES
from whisper_parity.run import plan
from whisper_parity.run.options import RunOptions

pytestmark = pytest.mark.usefixtures("ports")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the reference's trace, recorded once."""
    return tmp_path_factory.mktemp("reports")


@pytest.fixture
def bench(tmp_path: Path, reports: Path) -> Iterator[Bench]:
    """A run of the micro checkpoint on one sentence with a comma; what was built and measured goes with the test."""
    options = RunOptions(
        stages=("pytorch", "port", "port:unfaithful", *(f"port:{name}" for name in BREAKAGES)),
        clips=("en-comma-01",), policy="plain", language="en", threads=1, run_id="run",
        report_dir=reports, cache=tmp_path / "cache",
    )  # fmt: skip
    with ExitStack() as stack:
        found = Bench(plan.make(options, project.load(tmp_path)), stack)
        yield found
    gc.collect()  # modules refer to each other in circles, and hold all weights until somebody looks
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    shutil.rmtree(found.plan.folder.taps, ignore_errors=True)


def located(bench: Bench, variant: str, component: str, **how: bool) -> LayerFinding:
    spec = f"port:{variant}" if variant else "port"
    return layers.locate(bench, "pytorch", spec, bench.plan.clip("en-comma-01"), 0, component, **how)


def test_nothing_is_found_in_a_sound_model(bench):
    """A check that never passes is no check either."""
    for component in taps.COMPONENTS:
        found = located(bench, "", component)
        assert (found.culprit, found.faithful, found.probes) == ("", True, 2), found.finding
        assert found.finding.startswith("no unit fails: the worst is ")
        assert not any(unit.fails for unit in found.units)


def test_what_was_cut_off_goes_on(bench, monkeypatch):
    """The second probe fails, the next call runs that alone; a third runs none."""
    whole, calls = Bench.probe, []

    def cut_off(self, artifact):
        calls.append(artifact.stage)
        if calls.count("port:encoder-gelu") == 2:
            raise UnavailableError("the device went away")
        return whole(self, artifact)

    monkeypatch.setattr(Bench, "probe", cut_off)
    with pytest.raises(UnavailableError, match="went away"):
        located(bench, "encoder-gelu", "encoder")
    calls.clear()
    monkeypatch.setattr(Bench, "probe", lambda self, a: calls.append(a.stage) or whole(self, a))
    found = located(bench, "encoder-gelu", "encoder")
    assert found.culprit == "encoder.blocks.2"
    assert calls.count("port:encoder-gelu") == found.probes == 1
    assert located(bench, "encoder-gelu", "encoder") == replace(found, probes=0)


@pytest.mark.parametrize("variant", [name for name, each in BREAKAGES.items() if each.sublayer])
def test_detail_names_the_sublayer(bench, variant):
    """Attention and cross attention by name; the MLP under the name of its block."""
    breakage = BREAKAGES[variant]
    found = located(bench, variant, breakage.component, detail=True)
    assert found.culprit == breakage.sublayer, found.finding


def test_a_probe_that_is_not_the_shipped_file_says_so(bench):
    """Its layers are sound, the shipped file is not: neither is hidden."""
    found = located(bench, "unfaithful", "encoder")
    assert (found.culprit, found.faithful) == ("", False)
    assert "its final output is not the shipped file's (SNR " in found.finding
    assert "may not hold for the shipped one" in found.finding

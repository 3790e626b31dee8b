"""Probes of every representation: real artifacts whose final outputs are those of the shipped files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support import sites
from whisper_parity import project
from whisper_parity.backend import build, taps
from whisper_parity.backend.artifact import GIVEN, lineage_name
from whisper_parity.backend.contract import Availability, Float32
from whisper_parity.backend.registry import Backends
from whisper_parity.backends.dla.link.faults import DeviceError, Fault
from whisper_parity.errors import UnavailableError, UsageError
from whisper_parity.explain import layers
from whisper_parity.explain.bench import Bench
from whisper_parity.explain.measured import Measurer, Question
from whisper_parity.run import plan
from whisper_parity.run.options import RunOptions

STAGES = ("pytorch", "torchscript", "tflite", "tflite:fp16", "tflite:int8", "dla:simulated")
EXACT = STAGES[:-1]
"""A unit alone computes what it computes in the whole, bit for bit; an NPU rounds what it is fed."""
CLIP = "en-comma-01"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Iterator[Bench]:
    """A run of the micro checkpoint over all stages."""
    folder = tmp_path_factory.mktemp("probes")
    options = RunOptions(
        stages=("whisper", *STAGES), clips=(CLIP,), policy="plain", language="en", threads=2, run_id="run",
        report_dir=folder, cache=cache_dir,
    )  # fmt: skip
    with ExitStack() as stack:
        yield Bench(plan.make(options, project.load(folder)), stack)


def inputs(bench: Bench, component: str) -> dict[str, np.ndarray]:
    return Measurer(bench, Question("pytorch", "pytorch", bench.plan.clip(CLIP), 0, component)).inputs


def shipped(bench: Bench, stage: str, component: str) -> Float32:
    session, fed = bench.session(stage), inputs(bench, component)
    if component == "encoder":
        return session.encode(fed["input_features"])
    return session.decode(list(fed["tokens"]), fed["encoder_output"], range(len(fed["tokens"])))[None]


def tapped(bench: Bench, stage: str, kind: str, component: str, fed: dict[str, np.ndarray]) -> dict[str, Float32]:
    units = taps.units(bench.plan.checkpoint.dims, component)
    artifact = bench.artifact(stage, str(taps.make(kind, units, bench.plan.checkpoint.dims)))
    with bench.probe(artifact) as probe:
        return probe.tapped(component, fed)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("component", taps.COMPONENTS)
def test_a_probe_computes_what_the_shipped_file_computes(bench, stage, component):
    """Its final output is the shipped file's, bit for bit, and every unit alone gives what it gives in the whole."""
    dims, fed = bench.plan.checkpoint.dims, inputs(bench, component)
    entire = tapped(bench, stage, "entire", component, fed)
    assert list(entire) == list(taps.units(dims, component))
    np.testing.assert_array_equal(entire[taps.FINAL[component]], shipped(bench, stage, component))
    before = taps.previous(dims, component, entire)
    own = {f"{unit}.input": entire[before[unit]] for unit in entire if before[unit]}
    single = tapped(bench, stage, "single", component, {**own, **fed})
    for unit, hidden in single.items():
        signal, noise = np.sum(hidden.astype(np.float64) ** 2), np.sum((hidden - entire[unit]).astype(np.float64) ** 2)
        assert noise == 0 if stage in EXACT else noise < 1e-6 * signal, unit  # 60 dB


@pytest.mark.parametrize("stage", ["torchscript", "tflite"])
def test_a_given_probe_is_run_in_a_child_and_computes_the_same(bench, stage):
    """What a file with taps computes does not depend on where it runs."""
    dims, fed = bench.plan.checkpoint.dims, inputs(bench, "encoder")
    own = bench.artifact(stage, str(taps.make("entire", taps.units(dims, "encoder"), dims)))
    outputs = []
    for artifact in (own, replace(own, origin=GIVEN)):
        with bench.probe(artifact) as probe:
            outputs.append(probe.tapped("encoder", fed))
    assert list(outputs[0]) == list(outputs[1])
    for unit, hidden in outputs[0].items():
        np.testing.assert_array_equal(hidden, outputs[1][unit])


@pytest.mark.parametrize("component", taps.COMPONENTS)
def test_sublayers_add_up_to_their_blocks(bench, component):
    """With detail the hidden states behind the blocks are the same, and so is what comes out."""
    dims, fed = bench.plan.checkpoint.dims, inputs(bench, component)
    whole = tapped(bench, "torchscript", "entire", component, fed)
    artifact = bench.artifact("torchscript", str(taps.make("entire", taps.units(dims, component, detail=True), dims)))
    with bench.probe(artifact) as probe:
        found = probe.tapped(component, fed)
    assert set(found) - set(whole) == {unit for unit in taps.units(dims, component, detail=True) if unit not in whole}
    for unit, hidden in whole.items():
        np.testing.assert_array_equal(found[unit], hidden)


def test_files_that_show_what_is_inside_are_their_own_probes(bench):
    """Nothing is built: the shipped files, and the option that opens them with taps."""
    for stage in ("torchscript", "tflite", "tflite:int8"):
        probe, shipped = bench.artifact(stage, "entire:encoder.conv"), bench.artifact(stage)
        assert probe == replace(shipped, options={**shipped.options, "taps": "entire:encoder.conv"})


def test_probes_are_marked_and_ordinary_files_keep_their_keys(bench):
    """Files, folder and lineage say what they are; what decides probes does not decide ordinary files."""
    probe = bench.artifact("dla:simulated", "entire:encoder.conv")
    assert probe.files["encoder"].name == "encoder_micro_80x3000_MT8371_simulated_probe.dla"
    assert "-probe-" in probe.folder.name
    record = json.loads((probe.folder / lineage_name("dla:simulated")).read_text())
    assert record["options"]["taps"] == "entire:encoder.conv"
    assert record["parent_sha256"] == bench.artifact("tflite").sha256  # not of a probe, nor of the checkpoint
    assert "probes" in record["tools"]
    assert "probes" not in sites.backends().get("dla").tools()
    assert bench.artifact("tflite:int8").options == {"mask_value": "-inf"}


def test_files_with_a_record_are_probed_through_what_it_names(bench, tmp_path):
    """From the cache where the user's folder does not hold it; and where nothing has that hash, one line."""
    folder = build.export(bench.artifact("dla:simulated"), tmp_path / "given")
    options = {**bench.plan.workshop.options, "taps": "entire:encoder.conv"}
    workshop = replace(bench.plan.workshop, given=folder, options=options)
    probe = build.obtain(workshop, "dla:simulated")
    assert probe.sha256 == bench.artifact("dla:simulated", "entire:encoder.conv").sha256
    assert "from the same tflite files" in probe.notes[0]
    path = folder / lineage_name("dla:simulated")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "parent_sha256": "0" * 64}))
    with pytest.raises(UnavailableError, match=r"by their record \(sha256 000000000000\) are not here"):
        build.obtain(workshop, "dla:simulated")


class Foreign:
    """A backend that has never heard of taps."""

    name = "foreign"
    after = "pytorch"
    variants = ()
    is_root = False

    def availability(self):
        return Availability(True, "")

    def tools(self):
        return {}


def test_a_backend_without_probes_is_not_asked_for_one(bench, monkeypatch):
    """One line that says so, before anything is built."""
    monkeypatch.setattr(Backends, "get", lambda self, name: Foreign())
    workshop = replace(bench.plan.workshop, options={"taps": "entire:encoder.conv"})
    with pytest.raises(UnavailableError, match="foreign: backend foreign cannot make probes"):
        build.obtain(workshop, "foreign")


def test_text_alone_has_no_layers(bench):
    """On either side."""
    with pytest.raises(UnavailableError, match="whisper gives text only, so it has no layers"):
        layers.locate(bench, "pytorch", "whisper", bench.plan.clip(CLIP), 0, "encoder")
    with pytest.raises(UnavailableError, match="whisper gives text only, so no layer can be compared"):
        layers.locate(bench, "whisper", "pytorch", bench.plan.clip(CLIP), 0, "encoder")


@pytest.mark.parametrize(("window", "component"), [(1, "encoder"), (-1, "decoder"), (0, "embedding")])
def test_what_is_not_there_is_refused(bench, window, component):
    """A window or component that does not exist."""
    with pytest.raises(UsageError, match=r"has no window|no component"):
        layers.locate(bench, "pytorch", "torchscript", bench.plan.clip(CLIP), window, component)


def test_a_stage_that_the_run_does_not_have_is_refused(bench):
    """By name, with those that it has."""
    with pytest.raises(UsageError, match=r"run run has no stage 'dla'\. It has whisper, pytorch, "):
        layers.locate(bench, "pytorch", "dla", bench.plan.clip(CLIP), 0, "encoder")


@pytest.mark.parametrize(("reference", "candidate"), [("pytorch", "torchscript"), ("torchscript", "tflite")])
@pytest.mark.parametrize("component", taps.COMPONENTS)
def test_sound_files_have_no_culprit(bench, reference, candidate, component):
    """Every unit within the limit, the probe faithful, two probes."""
    found = layers.locate(bench, reference, candidate, bench.plan.clip(CLIP), 0, component)
    assert (found.culprit, found.faithful) == ("", True)
    assert found.finding.startswith("no unit fails")
    assert [unit.unit for unit in found.units] == list(taps.units(bench.plan.checkpoint.dims, component))


def test_int8_is_measured_unit_by_unit(bench):
    """Every unit that holds a matrix loses something, the sums around them nothing."""
    found = layers.locate(bench, "tflite", "tflite:int8", bench.plan.clip(CLIP), 0, "decoder")
    single = {unit.unit: unit.single_snr_db for unit in found.units}
    assert found.faithful
    assert 25 < single["decoder.blocks.0"] < 60
    assert single["decoder.positions"] == math.inf


def test_a_device_runs_two_probes_of_what_was_compiled(bench):
    """All units in both, the shipped file's output beside the copy's; a second call runs none."""
    strict = {**bench.plan.tolerances, "*->dla": {**bench.plan.tolerances["*->dla"], "encoder_output_snr_db": [90, 80]}}
    with ExitStack() as stack:
        strictly = Bench(replace(bench.plan, tolerances=strict), stack)
        found = layers.locate(strictly, "tflite", "dla:simulated", bench.plan.clip(CLIP), 0, "encoder")
    assert found.faithful
    assert "measured in dla:simulated files that we made from the same tflite files" in found.finding
    assert "and its final output equals the shipped file's bit for bit" in found.finding
    assert all(unit.fails for unit in found.units if unit.unit != "encoder.positions")  # all that round to fp16
    assert found.probes == 2
    with ExitStack() as stack:
        strictly = Bench(replace(bench.plan, tolerances=strict), stack)
        opened, probe = [], strictly.probe
        strictly.probe = lambda artifact: opened.append(artifact.stage) or probe(artifact)
        again = layers.locate(strictly, "tflite", "dla:simulated", bench.plan.clip(CLIP), 0, "encoder")
    assert opened == ["tflite"]  # the reference
    assert again == replace(found, probes=0)
    kept = [path.name for path in bench.plan.folder.taps.glob(f"{CLIP}--tflite--dla-simulated--encoder-0-*")]
    assert len(kept) == found.probes


@pytest.fixture
def reversed_handles(bench: Bench) -> Bench:
    """A compiler that numbers tensors from the last one, as the settings have it."""
    site = Backends({"dla": {"probe_order": "reversed"}})
    plan = replace(bench.plan, workshop=replace(bench.plan.workshop, backends=site))
    return Bench(plan, bench._stack)


def test_handles_in_another_order_are_found(reversed_handles):
    """By their shapes where those differ; where they do not, the final output is not the shipped file's."""
    bench = reversed_handles
    output = shipped(bench, "dla:simulated", "encoder")
    with bench.probe(bench.artifact("dla:simulated", "entire:encoder.blocks.0")) as probe:
        found = probe.tapped("encoder", inputs(bench, "encoder"))
    np.testing.assert_array_equal(found["encoder.blocks.0"], output)
    artifact = bench.artifact("dla:simulated", "entire:decoder.ln")
    with pytest.raises(DeviceError) as raised, bench.probe(artifact):
        pass
    assert raised.value.fault is Fault.SHAPE
    assert 'Try probe_order = "reversed"' in str(raised.value)

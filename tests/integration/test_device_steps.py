"""A decoder with a KV cache on a simulated device, a real adb in between: lost links, neuronrt, other stages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import sites
from whisper_parity.backend import build
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backends.dla.fleet import DeviceSession, DeviceStepper
from whisper_parity.backends.dla.link import adb
from whisper_parity.backends.dla.link.device import Device
from whisper_parity.backends.dla.link.faults import DeviceError
from whisper_parity.backends.dla.settings import read
from whisper_parity.backends.dla.simulator.device import SimulatedDevice
from whisper_parity.backends.dla.simulator.fault import Kind, LinkFault
from whisper_parity.backends.dla.simulator.outfit import keys_of, started, write_sdk
from whisper_parity.errors import ArtifactError

pytestmark = pytest.mark.usefixtures("runner_built")

TOKENS = (50258, 50259, 50359, 50363, 400)
FEATURES = np.random.default_rng(0).standard_normal((1, 80, 3000)).astype(np.float32)


@pytest.fixture(scope="module")
def artifact(scripted_checkpoint: Path, cache_dir: Path) -> Artifact:
    return build.obtain(sites.workshop(scripted_checkpoint, cache_dir), "dla:simulated-kv")


@contextmanager
def device_with(**how: Any) -> Iterator[tuple[SimulatedDevice, adb.Adb]]:
    """A simulated device, and a server that it lets in."""
    with (
        adb.private_server(adb.find(None), usb=False) as client,
        started(keys=keys_of(client), **how) as simulator,
    ):
        yield simulator, client


@contextmanager
def stepper(artifact: Artifact, place: tuple[SimulatedDevice, adb.Adb], **settings: Any) -> Iterator[DeviceStepper]:
    simulator, client = place
    link = DeviceStepper(Device(client, simulator.serial, read({"reconnect_s": 10.0, **settings})), artifact, 2)
    try:
        yield link
    finally:
        link.close()


def walked(session: DeviceStepper) -> dict[str, np.ndarray]:
    """Tokens, some of them taken back, and what lies in the cache then."""
    session.begin(session.encode(FEATURES))
    first = [session.feed(token) for token in TOKENS]
    session.rewind(2)
    again = [session.feed(token) for token in TOKENS[3:]]
    return {"first": np.stack(first), "again": np.stack(again), **session.written(), "cross": session.cross()["key.0"]}


def require_equal(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)


@pytest.fixture(scope="module")
def expected(artifact: Artifact) -> dict[str, np.ndarray]:
    """By the runner, over a link that holds."""
    with device_with() as place, stepper(artifact, place, mode="runner") as session:
        rows = walked(session)
        assert any("layout stacked: 8 inputs, 5 outputs" in note for note in session.facts.notes)
        usage = session.usage()
        assert usage.sent_bytes > 0
        np.testing.assert_array_equal(rows["first"][3:], rows["again"])
        return rows


def test_a_cache_that_was_lost_with_its_link_is_fed_again(artifact: Artifact, expected: dict[str, np.ndarray]):
    """In the middle of the tokens; the rows are those of a link that holds, and the next row says what happened."""
    fault = LinkFault(Kind.ADBD_RESTART, service="localabstract:", after_bytes=1_300_000)
    with device_with(faults=(fault,)) as place, stepper(artifact, place, mode="runner") as session:
        require_equal(expected, walked(session))
        assert any("second try after:" in note for note in session.usage().notes)


def test_neuronrt_keeps_the_cache_in_files(artifact: Artifact, expected: dict[str, np.ndarray]):
    """The same rows bit for bit, and no cache crosses the cable; filled and replaced as in the runner."""
    with device_with() as place, stepper(artifact, place, mode="neuronrt") as session:
        session.begin(session.encode(FEATURES))
        for token in TOKENS[:3]:
            session.feed(token)
        session.usage()
        row, usage = session.feed(TOKENS[3]), session.usage()
        np.testing.assert_array_equal(row, expected["first"][3])
        assert usage.sent_bytes + usage.received_bytes < 4 * 51865 + 16_000
        session.fill(1.0)
        np.testing.assert_array_equal(session.feed(TOKENS[4]), expected["first"][4])
        session.rewind(1)
        with session.replaced("mask", np.ones(1, np.float32)):
            assert np.abs(session.feed(TOKENS[4]) - expected["first"][4]).max() > 0
        session.rewind(1)
        np.testing.assert_array_equal(session.feed(TOKENS[4]), expected["first"][4])
        require_equal(
            {name: session.written()[name] for name in ("key.0", "value.0")},
            {name: expected[name] for name in ("key.0", "value.0")},
        )
        np.testing.assert_array_equal(session.cross()["key.0"], expected["cross"])


def test_files_of_the_other_form_are_named(artifact: Artifact, scripted_checkpoint: Path, cache_dir: Path):
    """One file name is used for both: what the runtime says tells them apart, and the line says which stage it is."""
    plain = build.obtain(sites.workshop(scripted_checkpoint, cache_dir), "dla:simulated")
    files = {role: file for role, file in plain.files.items() if role != "compilation"}
    with (
        device_with() as place,
        stepper(replace(plain, files=files), place, mode="runner") as session,
        pytest.raises(ArtifactError, match=r"this decoder has no KV cache: it has 2 inputs\. Name the stage dla$"),
    ):
        session.ready()
    with device_with() as (simulator, client):
        kept = Device(client, simulator.serial, read({"mode": "runner"}))
        link = DeviceSession(kept, replace(artifact, stage="dla"), 2)
        with pytest.raises(DeviceError, match=r"expected 2 inputs, the DLA has 8\. A decoder with a KV cache is"):
            link.ready()


def test_the_compiler_is_called_as_for_the_plain_decoder(scripted_checkpoint: Path, cache_dir: Path, tmp_path: Path):
    """ncc-tflite on the TFLite files with a cache; names are the original project's."""
    site = sites.workshop(scripted_checkpoint, cache_dir, dla={"ncc": str(write_sdk(tmp_path) / "host/bin/ncc-tflite")})
    built = build.obtain(site, "dla:kv")
    name = scripted_checkpoint.stem
    assert built.files["encoder"].name == f"encoder_{name}_80x3000_MT8371.dla"
    assert built.files["decoder"].name == f"decoder_{name}_448_MT8371.dla"
    record = json.loads(built.path("compilation").read_text("utf-8"))
    assert f"decoder_{name}_448_kv.tflite --arch=mdla5.3,edma3.6" in record["decoder"]["command"]
    assert "--relax-fp32 --opt-accuracy --opt-footprint" in record["decoder"]["command"]
    assert record["steps"]["fitted"]["layout"] == "stacked"


def test_a_record_of_other_files_is_refused(artifact: Artifact, tmp_path: Path):
    """The sizes that the runtime says are held against it."""
    record = json.loads(artifact.path("compilation").read_text("utf-8"))
    for one in record["steps"]["fitted"]["inputs"]:
        one[2][2] = [1, 1, 1, 450] if one[0] == "mask" else one[2][2]
    (tmp_path / artifact.files["compilation"].name).write_text(json.dumps(record))
    for role in ("encoder", "decoder", "token_embedding", "position_embedding"):
        (tmp_path / artifact.files[role].name).hardlink_to(artifact.path(role))
    with (
        device_with() as place,
        stepper(replace(artifact, folder=tmp_path), place, mode="runner") as session,
        pytest.raises(ArtifactError, match=r"its record of inputs and outputs cannot be used"),
    ):
        session.ready()


def test_two_stages_of_one_name_need_folders_of_their_own(parity, tmp_path: Path):
    """Neither is overwritten."""
    result = parity("build", "--stages", "dla:simulated,dla:simulated-kv", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "dla:simulated and dla:simulated-kv both have a file " in result.output
    assert not (tmp_path / "out").exists()

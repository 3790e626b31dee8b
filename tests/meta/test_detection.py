"""Known faults of ports, one at a time: each is caught, and blamed on its edge, part and unit; a sound port is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks import detection
from benchmarks.detection import Detection
from benchmarks.gates import GATES
from whisper_parity.fixtures.breakages import BREAKAGES
from whisper_parity.run.options import RunOptions

Detect = Callable[[Sequence[str], Sequence[str]], dict[str, Detection]]
"""(names, clips) -> detections by stage."""

STATEFUL = "state"
"""Shows on a second clip only."""
ON_ONE_CLIP = tuple(name for name in BREAKAGES if name != STATEFUL)


@pytest.fixture(scope="module")
def detect(ports: None, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Detect:
    """Judges and explains ports by name."""

    def call(names: Sequence[str], clips: Sequence[str]) -> dict[str, Detection]:
        stages = {"port": "traced"} | {f"port:{name}": name for name in names}
        options = RunOptions(
            stages=("pytorch", *stages), clips=tuple(clips), cache=cache_dir,
            report_dir=tmp_path_factory.mktemp("detection"),
        )  # fmt: skip
        made = detection.plan(options, names)
        return {found.stage: found for found in detection.detect(made, stages, lambda _: None)}

    return call


@pytest.fixture(scope="module")
def detections(detect) -> dict[str, Detection]:
    """Of all ports on one clip."""
    return detect(ON_ONE_CLIP, detection.CLIPS[:1])


def test_nothing_is_found_in_a_sound_port(detections):
    """A check that never passes is no check either; nor do the common gates complain."""
    assert detections["port"] == Detection("traced", "port", False, "", "", "", (False,) * len(GATES))


@pytest.mark.parametrize("name", ON_ONE_CLIP)
def test_a_breakage_is_caught_and_blamed(detections, name):
    """Edge, part and unit, exactly."""
    breakage, found = BREAKAGES[name], detections[f"port:{name}"]
    assert (found.caught, found.edge) == (True, f"port->port:{name}")
    assert (found.part, found.unit) == (breakage.part, breakage.unit)


def test_a_state_is_caught_and_blamed(detect):
    """The encoder output of the clip before: with the artifact opened afresh it is gone."""
    found = detect([STATEFUL], detection.CLIPS)[f"port:{STATEFUL}"]
    assert (found.caught, found.edge, found.part, found.unit) == (True, "port->port:state", "state", "")


def test_where_errors_add_up_the_part_is_named_and_no_unit(detect):
    """A drawn fault among 8-bit weights, in a block that passes alone: the encoder's output fails all the same."""
    name = "port:drawn-1-58-int8"
    found = detect([name.removeprefix("port:")], detection.CLIPS[1:])[name]
    assert (found.caught, found.edge, found.part, found.unit) == (True, f"port->{name}", "encoder", "")


@pytest.mark.parametrize(
    ("found", "right"),
    [
        (
            Detection("traced", "port", True, "pytorch->port", "encoder", "encoder.conv", ()),
            (True, None, None, None),
        ),
        (Detection("state", "port:state", True, "port->port:state", "state", "", ()), (True, True, True, None)),
        (Detection("state", "port:state", False, "", "", "", ()), (False, False, False, None)),
        (
            Detection("encoder-head", "torchscript", True, "pytorch->torchscript", "encoder", "encoder.blocks.0", ()),
            (True, True, True, False),
        ),
    ],
)
def test_what_is_counted_as_right(found, right):
    """What was not caught is right in nothing, and where no unit is at fault none is counted."""
    assert found.right == right


def test_the_catalogue_is_large_enough():
    """At least twenty, in every part."""
    assert len(BREAKAGES) >= 20
    assert {each.part for each in BREAKAGES.values()} == {"encoder", "decoder", "embedding", "state"}


@pytest.mark.parametrize("gate", ["texts equal", "PSNR above 35 dB"])
def test_the_common_gates_miss_what_is_found_here(detections, gate):
    """Why this is not a threshold on one number."""
    place = GATES.index(gate)
    assert sum(not found.alarms[place] for found in detections.values() if found.breakage) > len(ON_ONE_CLIP) / 5

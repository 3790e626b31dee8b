"""Names of stages and edges, and the installed backends behind them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import sites
from whisper_parity.backend import registry
from whisper_parity.backend.registry import Backends
from whisper_parity.backend.settings import of_words
from whisper_parity.backend.stage import Edge, StageName
from whisper_parity.errors import ConfigError
from whisper_parity.project import Project


@pytest.mark.parametrize(("text", "slug"), [("tflite", "tflite"), ("tflite:int8", "tflite-int8")])
def test_a_stage_is_named_as_it_is_typed(text: str, slug: str):
    name = StageName.parse(text)
    assert (str(name), name.slug, name.backend) == (text, slug, "tflite")


def test_an_edge_is_read_back_from_what_reports_write():
    edge = Edge("torchscript", "tflite:int8")
    assert Edge.parse(str(edge)) == edge
    assert edge.sections == ("torchscript->tflite:int8", "*->tflite:int8", "*->tflite", "default")
    assert Edge("*", "tflite").sections == ("*->tflite", "default")
    assert edge.is_among(["tflite", "torchscript"])
    assert not edge.is_among(["tflite"])


@pytest.mark.parametrize("text", ["default", "->tflite", "tflite->", "tflite"])
def test_what_is_no_edge_gives_none(text: str):
    assert Edge.parse(text) is None


def test_settings_of_the_command_line_lie_over_those_of_parity_toml():
    """Inner tables too; what the command line leaves out stays."""
    site = {"dla": {"soc": "MT8371", "boost": 50}, "tflite": {"assumptions": {"gelu": "tanh"}}}
    words = ("dla.boost=70", "dla.serial=a,b", "tflite.assumptions.gelu_option=x")
    backends = registry.load(Project(Path(), backends=site), words)
    settings = backends.get("dla").settings  # type: ignore[attr-defined]
    assert (settings.soc, settings.boost, settings.serial) == ("MT8371", 70, ("a", "b"))
    assumptions = backends.get("tflite").settings.assumptions  # type: ignore[attr-defined]
    assert (assumptions.gelu, assumptions.gelu_option) == ("tanh", "x")
    assert backends.width("dla") == 2
    assert backends.width("dla:simulated") == 1


def test_a_variant_of_a_variant_stands_behind_it():
    """On the simulated device the decoder follows the one on a real device, and that the TFLite files with a cache."""
    every = ("tflite", "tflite:kv", "dla", "dla:kv", "dla:simulated", "dla:simulated-kv")
    parents = {stage.spec: stage.parent for stage in Backends().chain(every)}
    assert (parents["dla:kv"], parents["dla:simulated-kv"]) == ("tflite:kv", "dla:kv")
    assert (parents["dla:simulated"], parents["dla"]) == ("dla", "tflite")
    few = {stage.spec: stage.parent for stage in Backends().chain(("tflite", "tflite:kv", "dla:simulated-kv"))}
    assert few["dla:simulated-kv"] == "tflite:kv"


@pytest.mark.parametrize("word", ["soc=MT8371", "dla.soc", ".soc=1", "dla.=1"])
def test_words_that_name_no_setting_are_refused(word: str):
    with pytest.raises(ConfigError, match=r"expected BACKEND\.KEY=VALUE"):
        of_words((word,))


def test_a_bad_setting_leaves_no_half_of_a_configuration():
    """What was configured before is another object, and stays as it is."""
    before = Backends({"dla": {"boost": 10}})
    with pytest.raises(ConfigError, match="no such backend"):
        Backends({"dla": {"boost": 20}, "onnx": {}})
    assert before.get("dla").settings.boost == 10  # type: ignore[attr-defined]
    assert sites.backends().get("dla").settings.boost == 100  # type: ignore[attr-defined]


def test_settings_that_decide_numbers_are_told_from_those_that_do_not():
    """A run is bound to the mode, not to the device's name or a time limit."""
    deciding = Backends({"dla": {"mode": "neuronrt", "serial": ["a"]}}).deciding_settings("dla")
    assert deciding["mode"] == "neuronrt"
    assert not {"serial", "run_limit_s", "adb"} & set(deciding)

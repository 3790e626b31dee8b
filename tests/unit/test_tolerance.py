"""Tolerances: looked up from the particular to the general, checked to the last key."""

from __future__ import annotations

import pytest

from tests.support import sites
from whisper_parity.backend.stage import Edge
from whisper_parity.errors import ConfigError
from whisper_parity.judge import tolerance
from whisper_parity.judge.tolerance import Limit


def test_an_edge_takes_its_own_value_before_more_general_ones():
    """Own edge, any reference, the backend without variant, default."""
    table = tolerance.load(
        sites.backends(),
        {
            "*->tflite": {"max_tie_margin": 0.1, "kl_max": [1.0, 2.0]},
            "*->tflite:int8": {"max_tie_margin": 0.2},
            "torchscript->tflite:int8": {"max_tie_margin": 0.3},
        },
    )
    margins = [
        tolerance.for_edge(table, Edge(reference, candidate)).max_tie_margin
        for reference, candidate in (("torchscript", "tflite:int8"), ("pytorch", "tflite:int8"), ("pytorch", "tflite"))
    ]
    assert margins == [0.3, 0.2, 0.1]
    assert tolerance.for_edge(table, Edge("pytorch", "tflite")).kl_max == Limit(1.0, 2.0)
    assert tolerance.for_edge(table, Edge("pytorch", "torchscript")).max_tie_margin == 3e-4


def test_every_section_of_the_reviewed_file_says_why():
    """A limit without a reason cannot be reviewed."""
    assert all(values["reason"] for values in sites.tolerances().values())


@pytest.mark.parametrize("edge", ["pytorhc->torchscript", "pytorch->tflight", "pytorch-torchscript", "tflite", "*->*"])
def test_a_misspelt_edge_is_refused(edge):
    """A tolerance that nobody applies would be worse than none."""
    with pytest.raises(ConfigError, match="no such edge"):
        tolerance.load(sites.backends(), {edge: {"max_tie_margin": 9.0}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kl_max", 1.0),
        ("kl_max", [1.0]),
        ("kl_max", [1.0, "a"]),
        ("max_tie_margin", True),
        ("snr", 3),
        ("token_difference", "pass"),
    ],
)
def test_a_value_of_the_wrong_form_is_refused(key, value):
    """Named with its edge and what was expected."""
    with pytest.raises(ConfigError, match=r"tolerance .pytorch->tflite., .*expected .*found"):
        tolerance.load(sites.backends(), {"pytorch->tflite": {key: value}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kl_max", [2.0, 1.0]),
        ("logits_snr_db", [40.0, 60.0]),
        ("text_rate", [float("nan"), 1.0]),
        ("kl_max", [0.1, float("nan")]),
    ],
)
def test_limits_that_judge_nothing_or_the_wrong_way_round_are_refused(key, value):
    """What passes has to be stricter than what drifts, in the direction of the metric; NaN is never exceeded."""
    with pytest.raises(
        ConfigError, match=rf"{key}: limits \[.*\]: expected \[pass, drift\], the first at (least|most)"
    ):
        tolerance.load(sites.backends(), {"pytorch->tflite": {key: value}})


@pytest.mark.parametrize(("limits", "better"), [((1.0, 2.0), True), ((2.0, 1.0), False)])
def test_a_limit_holds_its_own_order(limits, better):
    """The invariant stands in the dataclass, whoever makes one."""
    with pytest.raises(ConfigError):
        Limit(*limits, higher_is_better=better)

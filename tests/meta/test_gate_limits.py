"""Limits of the gate: their direction, where they come from, and settings that cannot be used."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.support import runs, sites, traces
from tests.support.gates import EDGE, rule
from whisper_parity.compare import logits, tensor, text
from whisper_parity.errors import ConfigError, UsageError
from whisper_parity.gate import measure
from whisper_parity.gate import settings as gate_settings
from whisper_parity.gate.result import UNJUDGED
from whisper_parity.project import Project

pytestmark = pytest.mark.usefixtures("not_in_ci")


def test_direction_of_each_metric():
    """Each one is declared, agrees with its own module, and a figure one step worse is never within its limit."""
    higher = {"features_snr_db", "encoder_output_snr_db", "logits_snr_db", "argmax_agreement", "no_regression_rate"}
    assert {name for name, up in measure.HIGHER_IS_BETTER.items() if up} == higher
    for name, up in measure.HIGHER_IS_BETTER.items():
        worse, better = (0.4, 0.6) if up else (0.6, 0.4)
        assert measure.within(name, better, 0.5), name
        assert measure.within(name, 0.5, 0.5), name
        assert not measure.within(name, worse, 0.5), name
        assert not measure.within(name, math.nan, 0.5), name
        assert measure.goodness(name, better) > measure.goodness(name, worse), name


def test_directions_are_those_of_the_metrics_themselves():
    """Measured on a pair and on a worse pair: the declared direction is what the numbers do."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((4, 30)).astype(np.float32)
    near, far = (reference + amount * rng.standard_normal((4, 30)).astype(np.float32) for amount in (0.01, 3.0))
    for module in (tensor, logits):
        a, b = (module.measure(reference=reference, candidate=each) for each in (near, far))
        for name, up in module.HIGHER_IS_BETTER.items():
            assert (getattr(a, name) > getattr(b, name)) is up, name
    good, bad = (text.word_errors(reference="a b c", hypothesis=each) for each in ("a b c", "x y c"))
    assert (good.rate > bad.rate) is text.HIGHER_IS_BETTER["wer"]


def test_limits_of_a_language_and_of_a_project(gate):
    """parity.toml overrides the reviewed file, a language overrides its edge, and the source says which one applied."""
    edges = {EDGE: {"steps_at_risk_per_thousand": 7, "en": {"faults": 2}}, "*->tflite": {"kl_max": "none"}}
    found = gate(runs.report({("one", "tflite"): lambda t: traces.flipped(t, 5, 13, 0.1)}), edges=edges)
    faults = rule(found, "faults", language="en")
    assert (faults.limit, faults.passed, faults.source) == ("at most 2", True, "parity.toml")
    assert rule(found, "steps_at_risk_per_thousand").limit == "at most 7 per thousand steps"
    assert (rule(found, "kl_max").limit, rule(found, "kl_max").source) == (UNJUDGED, "parity.toml")
    assert not rule(found, "faults", edge="pytorch->tflite").passed


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"edges": {"tflite->onnx": {"faults": 1}}}, "no such edge"),
        ({"edges": {EDGE: {"fault": 1}}}, "no rule 'fault'"),
        ({"edges": {EDGE: {"faults": "few"}}}, "expected a number"),
        ({"edges": {EDGE: {"faults": True}}}, "expected a number"),
        ({"edges": {EDGE: {"faults": math.nan}}}, "expected a number"),
        ({"edges": {EDGE: {"faults": "tolerance"}}}, "expected a number"),
        ({"edges": {EDGE: {"tlh": {"faults": 1}}}}, "unknown language 'tlh'"),
        ({"edges": {EDGE: 3}}, "expected a table"),
        ({"edges": 3}, "expected tables"),
        ({"stages": ["onnx"]}, "no backend called 'onnx'"),
        ({"stages": 3}, "expected names"),
        ({"approved": 3}, "expected a name"),
        ({"folder": 3}, "expected a path"),
    ],
)
def test_settings_that_cannot_be_used(given, named):
    """One line that names the place; a misspelt rule would be one that nobody applies."""
    with pytest.raises((ConfigError, UsageError), match=named):
        gate_settings.of(Project(Path(), gate=given), sites.backends())

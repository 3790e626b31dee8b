"""Limits that are multiples of noise go red where they should; steps at risk are counted where nothing flipped."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.support import sites
from tests.support.noises import noise
from tests.support.traces import N_VOCAB, changed, flipped, trace
from whisper_parity.backend.stage import Edge
from whisper_parity.compare import tensor
from whisper_parity.compare.comparison import compare
from whisper_parity.judge import noise as floor
from whisper_parity.judge import tolerance
from whisper_parity.judge.verdict import Grade, Outcome, judge
from whisper_parity.system import serial
from whisper_parity.trace.trace import Trace

EDGE = "pytorch->torchscript"


@pytest.fixture
def judged(tmp_path):
    """Judge a candidate by limits of 3 and 10 times noise whose SNR is that of `trace(noise=1e-5)`."""
    reference = trace("pytorch")
    measured = compare(reference, trace("torchscript", noise=1e-5), N_VOCAB)
    known = noise(encoder_db=measured.worst("encoder_output").snr_db, logits_db=measured.worst("logits").snr_db)
    path = tmp_path / "noise.json"
    serial.write(path, known)

    def judge_it(candidate: Trace, against: Trace = reference, **limits):
        table, _ = floor.resolve(tolerance.load(sites.backends(), {EDGE: limits}), path, "right")
        return judge(compare(against, candidate, N_VOCAB), tolerance.for_edge(table, Edge("pytorch", "torchscript")))

    return judge_it


BOTH = {"encoder_output_snr_db": ["3 x threads", "10 x threads"], "logits_snr_db": ["3 x threads", "10 x threads"]}


@pytest.mark.parametrize(
    ("times", "outcome"),
    [(2.9, Outcome.PASS), (3.1, Outcome.DRIFT), (9.9, Outcome.DRIFT), (10.1, Outcome.DIVERGED)],
)
def test_noise_inside_and_beyond_its_multiples(judged, times, outcome):
    """Another draw of noise of 2.9, 3.1, 9.9 and 10.1 times the size, each tensor on its own."""
    found = judged(trace("torchscript", seed=0, noise=times * 1e-5), **BOTH, kl_max=[1.0, 1.0])
    assert found.outcome is outcome, found.reason


@pytest.mark.parametrize(("times", "grade"), [(0.9, Grade.PASS), (1.1, Grade.FAIL)])
def test_kl_inside_and_beyond_its_multiple(judged, times, grade):
    """Measured 1e-8 nat; 10 times in amplitude are 1e-6: logits moved so that KL is 0.81 and 1.21 of that."""
    reference = trace("pytorch")
    logits = reference.windows[0].teacher_forced.logits
    step = np.zeros_like(logits)
    step[2, 13] = 1
    p = np.exp(logits[2].astype(np.float64) - logits[2].max())
    p = p[13] / p.sum()
    size = math.sqrt(2 * 1e-6 / (p * (1 - p)))  # KL = p (1 - p) e^2 / 2 for one logit that moves
    candidate = changed(trace("torchscript"), logits=(logits + times * size * step).astype(np.float32))
    found = judged(candidate, logits_snr_db=[0, 0], top_movement=[1, 1], kl_max=["10 x threads", "10 x threads"])
    assert {each.rung: each.grade for each in found.rungs}["logits"] is grade


@pytest.mark.parametrize(("margin", "grade"), [(0.0025, Grade.DRIFT), (0.0035, Grade.FAIL)])
def test_a_tie_inside_and_beyond_its_multiple(judged, margin, grade):
    """Movement was measured to be 0.001: up to 0.003 a flip is a tie, however noisy the stage is."""
    reference = trace("pytorch")
    close = reference.windows[0].teacher_forced.logits.copy()
    steps = np.arange(len(close))
    close[steps, 13] = close[steps, reference.windows[0].teacher_forced.choices] - np.float32(margin)
    moved = close.copy()
    moved[steps, 13] += np.where(steps % 2, 0.002, -0.002).astype(np.float32)
    candidate = flipped(changed(trace("torchscript"), logits=moved), 5, 13, 0.001)
    wide = {"max_tie_margin": "3 x threads", "kl_max": [1, 1], "top_movement": [1, 1]}
    found = judged(candidate, changed(reference, logits=close), **wide)
    assert {each.rung: each.grade for each in found.rungs}["token"] is grade


def test_a_multiple_of_nothing_passes_identical_bits_alone(judged):
    """One value moved by one unit in the last place is beyond every multiple of zero."""
    limits = {"encoder_output_snr_db": ["3 x repeat", "3 x repeat"]}
    assert judged(trace("torchscript"), **limits).outcome is Outcome.PASS
    values = trace("torchscript").windows[0].encoder_output.copy()
    values[0, 0, 0] = np.nextafter(values[0, 0, 0], np.float32(9))
    found = judged(changed(trace("torchscript"), encoder_output=values), **limits)
    assert (found.outcome, found.rung) == (Outcome.DIVERGED, "tensor")
    assert "(pass from inf, drift from inf)" in found.reason


def test_steps_at_risk_are_counted_where_nothing_flipped():
    """Four of nine steps have a margin of 0.02: at risk where a tie may have that, whatever the candidate moved."""
    reference = trace("pytorch")
    logits = reference.windows[0].teacher_forced.logits.copy()
    chosen = reference.windows[0].teacher_forced.choices
    logits[range(4), 13] = logits[range(4), chosen[:4]] - np.float32(0.02)
    moved = logits.copy()
    moved[range(9), 13] += np.where(np.arange(9) % 2, 0.01, -0.01).astype(np.float32)
    before = changed(reference, logits=logits)
    found = compare(before, changed(trace("torchscript"), logits=moved), N_VOCAB, 0.021)
    assert (found.steps, found.steps_at_risk, found.flips) == (9, 4, ())
    assert found.noise == pytest.approx(0.01, rel=1e-3)
    assert compare(before, changed(trace("torchscript"), logits=logits), N_VOCAB, 0.021).steps_at_risk == 4
    assert compare(before, changed(trace("torchscript"), logits=moved), N_VOCAB, 0.019).steps_at_risk == 0


def test_the_noise_of_the_traces_here_is_what_it_is_taken_for():
    """The candidates above stand on this: noise of k times the size is 20 log10(k) dB lower."""
    reference = trace("pytorch").windows[0].encoder_output
    found = [trace(noise=size).windows[0].encoder_output for size in (1e-5, 1e-4)]
    snr = [tensor.measure(reference=reference, candidate=each).snr_db for each in found]
    assert snr[0] - snr[1] == pytest.approx(20, abs=0.1)

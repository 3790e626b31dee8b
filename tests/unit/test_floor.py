"""Limits as multiples of measured noise: computed, checked, and told where they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.support import sites
from tests.support.noises import noise
from whisper_parity.backend.stage import Edge
from whisper_parity.compare import logits, tensor
from whisper_parity.errors import ConfigError
from whisper_parity.judge import noise as floor
from whisper_parity.judge import tolerance
from whisper_parity.system import serial

BACKENDS = ("pytorch", "torchscript", "tflite")
EDGE = "pytorch->torchscript"


@pytest.fixture
def resolve(tmp_path):
    """Resolve one edge's values over noise of the checkpoint "right"."""
    path = tmp_path / "noise.json"
    serial.write(path, noise())

    def values(**given):
        table = tolerance.load(sites.backends(), {EDGE: given})
        return floor.resolve(table, path, "right")

    return values


def test_each_limit_is_computed_by_its_own_rule(resolve):
    """SNR by the square of the factor in dB, KL by its square, a margin linearly; numbers beside them stay."""
    table, origins = resolve(
        encoder_output_snr_db=["1 x threads", "10 x threads"],
        logits_snr_db=["2 x threads", 40],
        kl_max=["10x mask", 1e-3],
        max_tie_margin="2.5 x threads",
    )
    found = tolerance.for_edge(table, Edge.parse(EDGE))
    assert (found.encoder_output_snr_db.passes, found.encoder_output_snr_db.drifts) == (100.0, 80.0)
    assert (found.logits_snr_db.passes, found.logits_snr_db.drifts) == (pytest.approx(93.979, abs=1e-3), 40)
    assert (found.kl_max.passes, found.kl_max.drifts) == (pytest.approx(1e-6), 1e-3)
    assert found.max_tie_margin == pytest.approx(2.5e-3)
    assert origins == {
        EDGE: {
            "encoder_output_snr_db": "1 x threads, 10 x threads (noise of tiny, measured 2026-01-02)",
            "logits_snr_db": "2 x threads, 40 (noise of tiny, measured 2026-01-02)",
            "kl_max": "10x mask, 0.001 (noise of tiny, measured 2026-01-02)",
            "max_tie_margin": "2.5 x threads (noise of tiny, measured 2026-01-02)",
        }
    }


def test_noise_that_is_k_times_as_large_has_the_numbers_that_the_rules_say():
    """The rules against the metrics themselves: logits moved by e, and by 3 e."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((20, 1000), dtype=np.float32) * 5
    error = rng.standard_normal(reference.shape).astype(np.float32) * 1e-2
    once, thrice = reference + error, reference + 3 * error
    snr = [tensor.measure(reference=reference, candidate=each).snr_db for each in (once, thrice)]
    kl = [logits.measure(reference=reference, candidate=each).kl_max for each in (once, thrice)]
    assert snr[0] - snr[1] == pytest.approx(20 * math.log10(3), abs=0.01)
    assert kl[1] / kl[0] == pytest.approx(9, rel=0.05)


def test_a_multiple_of_nothing_asks_for_identical_bits(resolve):
    """A source that changed no bit: infinite SNR, no KL, no tie."""
    table, _ = resolve(
        logits_snr_db=["3 x repeat", "3 x repeat"], kl_max=["3 x repeat", 1e-3], max_tie_margin="3 x repeat"
    )
    found = tolerance.for_edge(table, Edge.parse(EDGE))
    assert (found.logits_snr_db.passes, found.kl_max.passes, found.max_tie_margin) == (math.inf, 0.0, 0.0)


def test_numbers_alone_need_no_file(tmp_path):
    """The file is read when there is a multiple, and not before."""
    table = tolerance.load(sites.backends(), {})
    assert floor.resolve(table, tmp_path / "missing.json", "any") == (table, {})


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (
            {"kl_max": ["3 x thread", 1.0]},
            r"kl_max: '3 x thread': no source 'thread' \(there are threads, mask, repeat\)",
        ),
        ({"encoder_output_snr_db": ["3 x mask", 1]}, "'3 x mask': source 'mask' does not concern encoder_output"),
    ],
)
def test_a_source_that_is_not_there_is_refused(resolve, given, named):
    """With its edge, its limit and the file."""
    with pytest.raises(ConfigError, match=rf"tolerance .pytorch->torchscript., .*{named} in .*noise.json"):
        resolve(**given)


def test_a_missing_file_and_noise_of_another_checkpoint_are_refused(tmp_path):
    """One line each, with what to do."""
    table = tolerance.load(sites.backends(), {EDGE: {"max_tie_margin": "3 x threads"}})
    path = tmp_path / "noise.json"
    with pytest.raises(
        ConfigError, match=r"multiples of measured noise, but .*noise.json: cannot be read .*parity noise"
    ):
        floor.resolve(table, path, "right")
    serial.write(path, noise("other"))
    with pytest.raises(ConfigError, match=r"the noise of checkpoint tiny \(other\), this run is of right"):
        floor.resolve(table, path, "right")
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"cannot be read as a Noise"):
        floor.resolve(table, path, "right")


@pytest.mark.parametrize("value", ["0 x threads", "x threads", "-3 x threads", "3 threads", "1e9 x threads", "3 x "])
def test_what_is_no_multiple_is_refused_with_its_form(value):
    """Before any file is looked for."""
    with pytest.raises(ConfigError, match='multiples of noise as "3 x threads"'):
        tolerance.load(sites.backends(), {EDGE: {"logits_snr_db": [value, 40]}})


def test_rates_of_text_are_no_multiples_of_noise():
    """Noise has no words."""
    with pytest.raises(ConfigError, match=r"text_rate: expected two numbers, \[pass, drift\], found"):
        tolerance.load(sites.backends(), {EDGE: {"text_rate": ["3 x threads", 1]}})


@pytest.mark.parametrize("field", ["snr_db", "kl_max", "movement_rms"])
def test_noise_that_is_no_number_is_refused(tmp_path, field):
    """A file that was edited by hand does not make a limit that nothing can break."""
    import dataclasses

    whole = noise()
    bad = {"snr_db": -math.inf, "kl_max": math.inf, "movement_rms": -1.0}[field]
    source = whole.sources[1]
    tensors = (dataclasses.replace(source.tensors[0], **{field: bad}),)
    serial.write(
        tmp_path / "noise.json", dataclasses.replace(whole, sources=(dataclasses.replace(source, tensors=tensors),))
    )
    limits = {"logits_snr_db": ["1 x mask", 1], "kl_max": ["1 x mask", 1], "max_tie_margin": "1 x mask"}
    key = dict(zip(("snr_db", "kl_max", "movement_rms"), limits))[field]
    with pytest.raises(ConfigError):
        floor.resolve(tolerance.load(sites.backends(), {EDGE: {key: limits[key]}}), tmp_path / "noise.json", "right")

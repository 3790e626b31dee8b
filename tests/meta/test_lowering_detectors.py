"""Every check on MTKEXT ops goes red: one thing is wrong at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.support import mtkfiles
from tests.support.mtkfiles import Given, Node, normal
from whisper_parity.backends.tflite.mediatek import checking
from whisper_parity.backends.tflite.mediatek.checking import Fit
from whisper_parity.backends.tflite.mtkext import flatfile, inspection, recipes
from whisper_parity.backends.tflite.mtkext.inspection import Port, inspect
from whisper_parity.backends.tflite.mtkext.lowering import lower
from whisper_parity.backends.tflite.mtkext.ops import Assumptions
from whisper_parity.errors import ArtifactError, BackendError

SHAPE = (4, 256)
PORTS = [Port("x", SHAPE, "float32")]


def one(path: Path, name: str, options: Any = None, **held: Any) -> Path:
    node = Node(name, ["x", *held], ["y"], options)
    return mtkfiles.write(path, [node], {"x": Given(SHAPE), **held, "y": Given(SHAPE)}, ["x"], ["y"])


@pytest.fixture
def gelu(tmp_path: Path) -> Path:
    return one(tmp_path / "gelu.tflite", "MTKEXT_GELU")


def exact(arrays: list[Any]) -> list[np.ndarray]:
    """What an interpreter with exact GELU gives."""
    return [F.gelu(torch.from_numpy(arrays[0])).numpy()]


def spoilt(by: Callable[[np.ndarray], np.ndarray]) -> Callable[[list[Any]], list[np.ndarray]]:
    return lambda arrays: [by(exact(arrays)[0])]


def check(path: Path, execute: Any) -> tuple[Fit, ...]:
    return checking.check(path, PORTS, execute, 0, 1)


def test_nothing_wrong_fits(gelu):
    """A check that never passes is no check either; the other reading does not fit, by what is known of it."""
    best, other = check(gelu, exact)
    assert (best.fits, dict(best.changes)) == (True, {})
    assert (other.fits, dict(other.changes)) == (False, {"gelu": "tanh"})
    assert other.max_abs_err == pytest.approx(4.73e-4, abs=2e-6)


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("noise of 70 dB", lambda y: y + np.float32(3e-4) * np.abs(y).mean() * normal(*SHAPE)),
        ("one element", lambda y: np.where(np.arange(y.size).reshape(SHAPE) == 77, y + 0.1, y).astype(np.float32)),
        ("rows exchanged", lambda y: np.ascontiguousarray(y[::-1])),
        ("scaled", lambda y: y * np.float32(1.001)),
    ],
)
def test_another_computation_fits_no_reading(gelu, name, by):
    """Small, local, or of the right values in the wrong place."""
    assert not any(fit.fits for fit in check(gelu, spoilt(by)))


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (lambda y: y[:, :-1], r"\(4, 255\)"),
        (lambda y: y.astype(np.float64), "float64"),
    ],
)
def test_outputs_that_cannot_be_compared_do_not_fit(gelu, by, said):
    """Shape and dtype come before values."""
    for fit in check(gelu, spoilt(by)):
        assert (fit.fits, fit.snr_db) == (False, None)
        assert said.replace("\\", "") in fit.problem


def test_a_missing_output_does_not_fit(gelu):
    found = check(gelu, lambda arrays: exact(arrays) * 2)
    assert not any(fit.fits for fit in found)


@pytest.mark.parametrize("execute", [spoilt(lambda y: y * np.nan), spoilt(lambda y: y[:0]), lambda _: []])
def test_a_reference_without_numbers_is_an_error(gelu, execute):
    """NaN is never "not different"."""
    with pytest.raises(BackendError, match="not finite"):
        check(gelu, execute)


def _with_epsilon(value: float) -> Any:
    real = recipes._inverse_root

    def wrong(rewriter: Any, variance: int, shape: Any, assumption: str) -> int:
        rewriter.op = dataclasses.replace(rewriter.op, options={"epsilon": value})
        return real(rewriter, variance, shape, assumption)

    return wrong


FAULTS: dict[str, tuple[str, Any]] = {
    "another epsilon": ("_inverse_root", _with_epsilon(1e-2)),
    "sum instead of mean": ("MEAN", ("ReducerOptions", {"keepDims": False})),
    "gamma for beta": (
        "_scaled",
        lambda rewriter, x, factors, gamma, beta, real=recipes._scaled: real(rewriter, x, factors, beta, gamma),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_recipe_is_found(tmp_path, monkeypatch, fault):
    """The comparison with torch that the integration tests make goes red on each."""
    held = {"axis": np.array([-1], np.int32), "gamma": normal(256, seed=1) + 1, "beta": normal(256, seed=2)}
    path = one(tmp_path / "norm.tflite", "MTKEXT_LAYER_NORMALIZATION", {"epsilon": 1e-5}, **held)
    gamma, beta = torch.from_numpy(held["gamma"]), torch.from_numpy(held["beta"])

    def execute(arrays: list[Any]) -> list[np.ndarray]:
        return [F.layer_norm(torch.from_numpy(arrays[0]), (256,), gamma, beta, 1e-5).numpy()]

    assert check(path, execute)[0].fits
    monkeypatch.setattr(recipes, *FAULTS[fault])
    right = [fit for fit in check(path, execute) if not fit.changes]
    assert not right[0].fits


@pytest.mark.parametrize(
    ("value", "fatal"),
    [
        (65504.0, False),
        (-65504.0, False),
        (65520.0, True),
        (-65520.0, True),
        (np.inf, True),
        (-np.inf, True),
        (np.nan, True),
        (0.0, False),
    ],
)
@pytest.mark.parametrize("place", [0, inspection.CHUNK - 1, inspection.CHUNK, inspection.CHUNK + 4])
def test_one_fatal_constant_among_a_million_is_found(tmp_path, value, fatal, place):
    """At the ends of the chunks in which constants are looked at; float16's largest value is none."""
    values = np.zeros(inspection.CHUNK + 5, np.float32)
    values[place] = value
    held = {"x": Given((1,)), "w": values, "y": Given(values.shape)}
    path = mtkfiles.write(tmp_path / "file.tflite", [Node("ADD", ["x", "w"], ["y"])], held, ["x"], ["y"])
    found = inspect(path).fatal_constants
    assert bool(found) == fatal
    if fatal:
        assert found[0].beyond + found[0].minus_inf + found[0].plus_inf + found[0].nan == 1


def test_a_hostile_file_is_an_error_and_no_crash(tmp_path):
    """An operator that lost its input kills LiteRT itself; the process that dies is not ours."""
    path = tmp_path / "file.tflite"
    held = {"x": Given((1,)), "y": Given((1,))}
    mtkfiles.write(path, [Node("ADD", ["", ""], ["y"])], held, ["x"], ["y"])
    with pytest.raises(ArtifactError, match="cannot be run by LiteRT"):
        checking.replay(path, [np.zeros(1, np.float32)], 1)


def test_a_wrong_assumption_changes_the_numbers(gelu, tmp_path):
    """If it did not, checking it would mean nothing."""
    x = normal(*SHAPE)
    outputs = []
    for kind in ("erf", "tanh"):
        lower(gelu, tmp_path / f"{kind}.tflite", Assumptions(gelu=kind))
        outputs.append(mtkfiles.run(tmp_path / f"{kind}.tflite", x))
    assert 1e-4 < np.abs(outputs[0] - outputs[1]).max() < 4.74e-4


def test_another_copy_of_the_weights_is_seen(tmp_path):
    """A builder that has to grow copies everything: beyond what the integration test allows."""
    path = mtkfiles.write_large(tmp_path / "large.tflite", 16)
    _, grown_mib = mtkfiles.cost(path, tmp_path / "lowered.tflite", "flatfile._payload = lambda model, path: 1024")
    assert grown_mib > 2.5 * path.stat().st_size / 2**20


@pytest.mark.parametrize("counter", ["count_table", "count_payload"])
def test_reading_a_file_is_counted(tmp_path, monkeypatch, counter):
    """Every table, string and vector is charged: a schema module that went round the counters would be seen."""
    path, spent = one(tmp_path / "gelu.tflite", "MTKEXT_GELU"), []
    monkeypatch.setattr(flatfile.Mapped, counter, lambda self, *size: spent.append(size))
    flatfile.read(path)
    assert len(spent) > 5

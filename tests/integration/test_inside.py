"""Units inside files of other people's making: all found, final outputs untouched, each unit alone as in the whole."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import foreign, mtkpython, sites
from whisper_parity.backend import build, taps
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backend.build import Workshop
from whisper_parity.backends.split import inside
from whisper_parity.backends.tflite import session, surgery
from whisper_parity.backends.tflite.graph import Graph, Shapes
from whisper_parity.backends.tflite.mtkext.lowering import lower
from whisper_parity.backends.tflite.mtkext.ops import Assumptions
from whisper_parity.backends.tflite.tapping import CopyTaps
from whisper_parity.backends.torchscript.scripts import LoadedScripts, TapRequest
from whisper_parity.errors import UnavailableError
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model.checkpoint import Checkpoint
from whisper_parity.model.dims import Dims


@pytest.fixture(scope="module")
def tiny(scripted_checkpoint: Path) -> Checkpoint:
    """One block a side."""
    return checkpoints.describe(scripted_checkpoint)


def own_inputs(tiny: Checkpoint, component: str) -> list[np.ndarray]:
    rng, dims = np.random.default_rng(3), tiny.dims
    wanted = taps.ports(taps.make("entire", [taps.FINAL[component]], dims), component, dims).inputs
    return [rng.standard_normal(shape).astype(np.float32) for shape in wanted.values()]


@pytest.mark.parametrize("kind", foreign.KINDS)
def test_torchscript_of_any_making_is_told_apart(tiny, tmp_path, kind):
    """Checked and loaded as in the confined child; with taps the output is the same, bit for bit."""
    foreign.write(kind, tiny.path, tiny.dims, tmp_path)
    scripts = LoadedScripts(foreign=True)
    for component in taps.COMPONENTS:
        scripts.load(component, tmp_path / f"{component}.pt", None)
        arrays, units = own_inputs(tiny, component), taps.units(tiny.dims, component, detail=True)
        entire = scripts.tapped(TapRequest(component, "entire", units, (), tiny.dims), arrays, [])
        assert tuple(entire) == units
        final = scripts.rows(component, arrays, None, tiny.dims.n_text_ctx)
        np.testing.assert_array_equal(entire[taps.FINAL[component]], final)
        hidden = [inside.canonical(unit, entire[unit], *_sizes(unit, tiny.dims)) for unit in units[:-1]]
        request = TapRequest(component, "single", units, units[1:], tiny.dims)
        single = scripts.tapped(request, arrays, hidden)
        assert tuple(single) == units
        for unit in units:
            np.testing.assert_array_equal(single[unit], entire[unit], err_msg=unit)


def test_what_is_no_whisper_has_no_units(tiny, tmp_path):
    """One line, and no unit is guessed."""
    model = torch.jit.trace(torch.nn.Conv1d(80, 64, 3, stride=2, padding=1), torch.zeros(1, 80, 3000))
    model.save(str(tmp_path / "encoder.pt"))
    scripts = LoadedScripts(foreign=True)
    scripts.load("encoder", tmp_path / "encoder.pt", None)
    request = TapRequest("encoder", "entire", ("encoder.conv",), (), tiny.dims)
    with pytest.raises(UnavailableError, match=r"not told apart: expected 3 normalisations .* found 0$") as raised:
        scripts.tapped(request, own_inputs(tiny, "encoder"), [])
    assert len(str(raised.value).splitlines()) == 1


@pytest.fixture(scope="module")
def litert(tiny: Checkpoint, cache_dir: Path) -> Callable[[str], Artifact]:
    """LiteRT's files of a stage."""
    return lambda stage: build.obtain(Workshop(sites.backends(), tiny, cache_dir), stage)


def by_mediatek(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as MediaTek's converter is thought to write it: custom ops, and no name or signature of ours."""
    monkeypatch.syspath_prepend(mtkpython.STAND_IN)
    rewriting = importlib.import_module("mtk_converter.rewriting")
    rewriting.rewrite(source, target, [])
    return target


def lowered(path: Path) -> Path:
    """A file without custom ops that computes the same."""
    target = path.with_suffix(".lowered")
    assert lower(path, target, Assumptions()).replaced["MTKEXT_LAYER_NORMALIZATION"] > 1
    return target


@pytest.mark.parametrize("kind", ["tflite", "tflite:fp16", "tflite:int8", "lowered", "MTKEXT"])
@pytest.mark.parametrize("component", taps.COMPONENTS)
def test_tflite_of_any_making_is_told_apart(tiny, litert, tmp_path, monkeypatch, kind, component):
    """With taps the output is the file's own, bit for bit, and each unit alone gives what it gives in the whole.

    The tiny checkpoint's last norm has a gain of one: LiteRT leaves it out, so that it is not told from one that is
    inside the projection. A copy of a file with MTKEXT ops keeps them, as MediaTek's compiler wants it, and is lowered
    to be run here.
    """
    by_mtk = kind in ("lowered", "MTKEXT")
    path = litert("tflite" if by_mtk else kind).path(component)
    path = by_mediatek(path, tmp_path / "mtk.tflite", monkeypatch) if by_mtk else path
    path = lowered(path) if kind == "lowered" else path
    units = taps.units(tiny.dims, component, detail=True)
    names = taps.ports(taps.make("entire", units, tiny.dims), component, tiny.dims).inputs
    arrays = dict(zip(names, own_inputs(tiny, component)))
    runs = {}
    for taken in ("entire", "single"):
        copy = surgery.write(path, tmp_path / f"{taken}.tflite", taken, units, component, tiny.dims)
        run = lowered(copy.path) if kind == "MTKEXT" else copy.path
        runs[taken] = CopyTaps({component: copy}, {component: loaded(run, copy.inputs, copy.outputs)})
    path = lowered(path) if kind == "MTKEXT" else path
    entire = runs["entire"].entire(component, units, arrays)
    assert set(units) - set(entire) == ({"decoder.ln"} if (component, by_mtk) == ("decoder", False) else set())
    shipped = loaded(path, *session.shapes(tiny.dims)[component]).run(arrays)
    np.testing.assert_array_equal(entire[taps.FINAL[component]], shipped)
    hidden = {
        unit: inside.canonical(before, entire[before], *_sizes(before, tiny.dims))
        for before, unit in pairwise(units) if before in entire
    }  # fmt: skip
    single = runs["single"].single(component, units, arrays, hidden)
    assert set(single) == set(entire)
    for unit in entire:
        np.testing.assert_array_equal(single[unit], entire[unit], err_msg=unit)


def loaded(path: Path, inputs: Shapes, outputs: Shapes) -> Graph:
    return Graph(session.interpreter_module()[0], path, 1, session.in_file(inputs), session.in_file(outputs))


def _sizes(unit: str, dims: Dims) -> tuple[int, int]:
    """Rows and columns of a unit's output."""
    _, rows, columns = taps.ports(taps.make("entire", [unit], dims), unit.partition(".")[0], dims).outputs[unit]
    return rows, columns

"""Units inside files of other people's making: all found, final outputs untouched, each unit alone as in the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import foreign
from whisper_parity.backend import taps
from whisper_parity.backends.split import inside
from whisper_parity.backends.torchscript.scripts import LoadedScripts, TapRequest
from whisper_parity.errors import UnavailableError
from whisper_parity.model import checkpoint as checkpoints
from whisper_parity.model.checkpoint import Checkpoint


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
        hidden = [inside.canonical(unit, entire[unit], tiny.dims) for unit in units[:-1]]
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

"""Files of the stand-in at the dimensions of Whisper base, random weights: what lowering costs, and what it changes.

Built once into the tests' cache, which takes a minute or two; later sessions only lower and run them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import mtkfiles, mtkpython, sites
from tests.support.mtkfiles import normal
from whisper_parity.backend import build
from whisper_parity.backend.artifact import Artifact
from whisper_parity.backends.tflite.mediatek import checking
from whisper_parity.fixtures import scripted

SIZES_MIB = {"encoder": (70, 85), "decoder": (190, 210)}
"""As people know them: 79 and 200 MB."""
INPUTS = {"encoder": [(1, 80, 3000)], "decoder": [(1, 448, 512), (1, 1500, 512)]}
BASE_LAYERS, BASE_STATE, BASE_HEADS = 6, 512, 8


@pytest.fixture(scope="module")
def kept(cache_dir: Path) -> Path:
    return mtkpython.cache(cache_dir)


@pytest.fixture(scope="module")
def base(cache_dir: Path) -> Path:
    """A checkpoint of base's dimensions."""
    recipe = hashlib.sha256(Path(scripted.__file__).read_bytes()).hexdigest()[:8]
    dims = scripted.dimensions(n_state=BASE_STATE, n_layer=BASE_LAYERS)
    dims.n_audio_head = dims.n_text_head = BASE_HEADS
    return scripted.kept(cache_dir / f"base-{recipe}.pt", lambda: scripted.model(dims, steps=25).half())


@pytest.fixture(scope="module")
def built(kept: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Both files by the stand-in; LiteRT's own conversions lie beside, by the hash of their TorchScript file."""
    python = mtkpython.make(tmp_path_factory.mktemp("mtk") / "venv")
    (kept / "stock").mkdir(parents=True, exist_ok=True)
    site = {"converter": "mtk", "mtk_python": str(python)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MTK_STANDIN_STOCK", str(kept / "stock"))
        return build.obtain(sites.workshop(base, kept, tflite=site), "tflite")


def stock_of(kept: Path, base: Path, role: str) -> Path:
    """LiteRT's own conversion of the same TorchScript file."""
    parent = build.obtain(sites.workshop(base, kept), "torchscript")
    return kept / "stock" / f"{parent.files[role].sha256}.tflite"


@pytest.mark.parametrize("role", SIZES_MIB)
def test_base_is_lowered_in_seconds_and_computes_the_same(built, kept, base, role, tmp_path):
    """Under a gigabyte, a file of the size that people know, and outputs equal to the stock conversion's."""
    path, low = built.path(role), tmp_path / "lowered.tflite"
    size_mib = path.stat().st_size / 2**20
    seconds, grown_mib = mtkfiles.cost(path, low)
    arrays = [normal(*shape, seed=seed) for seed, shape in enumerate(INPUTS[role])]
    (reference,), (candidate,) = (checking.replay(each, arrays, 2) for each in (stock_of(kept, base, role), low))
    worst, largest = float(np.abs(reference - candidate).max()), float(np.abs(reference).max())
    converted = json.loads(built.path("conversion").read_text("utf-8"))[role]
    figures = {
        "size_mib": round(size_mib, 1), "converted_s": converted["seconds"], "lowered_s": round(seconds, 2),
        "grown_mib": round(grown_mib), "largest_difference": worst, "largest_value": largest,
    }  # fmt: skip
    sys.stdout.write(f"{role} {json.dumps(figures)}\n")  # for `pytest -s`
    low_mib, high_mib = SIZES_MIB[role]
    assert low_mib < size_mib < high_mib
    assert seconds < 30
    assert grown_mib < 1024
    assert worst <= 1e-5 * max(1.0, largest)

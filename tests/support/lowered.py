"""Small files to lower, of one op or of a block of Whisper, and the line with which a file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import mtkfiles
from tests.support.mtkfiles import Given, Node, normal
from whisper_parity.backends.tflite.mtkext.lowering import lower
from whisper_parity.errors import ArtifactError

LAST = np.array([-1], np.int32)
ORDER = ["x", "axis", "gamma", "beta"]


def one(folder: Path, name: str, held: dict[str, Any], options: Any = None, out: Any = None, given: str = "x") -> Path:
    """A file of one op that takes all of `held`; its output has x's shape unless `out` says otherwise."""
    shape = held["x"].shape
    node = Node(name, list(held), ["y"], options)
    return mtkfiles.write(folder / "one.tflite", [node], {**held, "y": out or Given(shape)}, [given], ["y"])


def norm_operands(size: int, axis: int = -1) -> dict[str, Any]:
    """Axis, gamma and beta of a normalization over `size` values."""
    return {"axis": np.array([axis], np.int32), "gamma": normal(size, seed=1) + 1, "beta": normal(size, seed=2)}


def block(path: Path, gelu_options: Any = None) -> Path:
    """LayerNorm, a linear layer, GELU: a piece of Whisper as MediaTek's converter is thought to write it."""
    width, operands = 16, norm_operands(16)
    held = {
        "x": Given((1, 4, width)),
        **operands,
        "weight": normal(width, width, seed=3),
        "bias": normal(width, seed=4),
    }
    held |= {name: Given((1, 4, width)) for name in ("normal", "linear", "y")}
    nodes = [
        Node("MTKEXT_LAYER_NORMALIZATION", ORDER, ["normal"], {"epsilon": 1e-5, "hint": 3}),
        Node("MTKEXT_FULLY_CONNECTED", ["normal", "weight", "bias"], ["linear"], {"keep_num_dims": True}),
        Node("MTKEXT_GELU", ["linear"], ["y"], gelu_options),
    ]
    return mtkfiles.write(path, nodes, held, ["x"], ["y"])


def refusal(path: Path) -> str:
    """The one line with which a file is refused; nothing is written."""
    with pytest.raises(ArtifactError) as caught:
        lower(path, path.with_name("refused.tflite"))
    assert len(str(caught.value).splitlines()) == 1
    assert not path.with_name("refused.tflite").exists()
    return str(caught.value)

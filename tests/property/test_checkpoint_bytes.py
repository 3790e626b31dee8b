"""Damaged bytes of any format are read or refused by our own error, whatever they are."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from tests.support import checkpoints
from whisper_parity.errors import CheckpointError
from whisper_parity.model.formats import source

FORMATS = ("model.bin", "m.safetensors", "m.pt", "weights.npz")
SPOILT = 4096
"""Bytes of a beginning, in which headers lie."""


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    """A tiny model in each format."""
    size = {"n_audio_state": 4, "n_text_state": 4}
    weights = {name: tensor.half() for name, tensor in checkpoints.state(**size).items()}
    file, archive = io.BytesIO(), io.BytesIO()
    torch.save({"dims": checkpoints.dims(**size), "model_state_dict": weights}, file)
    np.savez(archive, **{name: tensor.numpy() for name, tensor in weights.items()})
    contents = (checkpoints.ctranslate2(weights), save(checkpoints.hugging_face(weights)), file.getvalue(),
                archive.getvalue())  # fmt: skip
    return dict(zip(FORMATS, contents))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60)
@given(
    places=st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 255)), max_size=8),
    in_header=st.booleans(),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_bytes_are_read_or_refused(name, places, in_header, keep, whole, tmp_path_factory):
    """No other error, no warning, no end of the process."""
    content = bytearray(whole[name])
    for place, value in places:
        content[place % (SPOILT if in_header else len(content))] = value
    path = Path(tmp_path_factory.mktemp("damaged", numbered=True), name)
    path.write_bytes(content[: int(len(content) * keep)])
    refusal, weights = "", None
    try:
        weights = source.find(path).read()
    except CheckpointError as error:
        refusal = str(error)
    path.unlink()
    assert weights.dims.n_vocab == 51865 if weights else refusal.startswith(f"{path}: ")
    assert refusal.isprintable()
